"""Ready-made uses of Crossfade on real problems."""
