"""Content-addressed bytes: a blob's name is its digest."""
