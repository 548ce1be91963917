"""Measurements. `make bench` runs all, `make bench ARGS=NAME` one; each prints JSON objects, one per line."""
