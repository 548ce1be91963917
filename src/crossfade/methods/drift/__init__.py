"""Whether values still look like those of a reference."""
