"""Published algorithms, usable alone: arrays in, frozen results out, each with its source."""
