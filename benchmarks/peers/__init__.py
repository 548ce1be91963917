"""The same model behind other servers. `make peers` runs all, `make peers ARGS="litserve ray"` some, by hand."""
