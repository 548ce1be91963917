"""Who gets which variant: hashing, layers, segments, weights that move no unit needlessly, and compiled decisions."""
