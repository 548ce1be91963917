"""Reading the outside world: series of Prometheus."""
