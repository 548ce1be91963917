"""Releases: what runs, and how a version replaces another one gradually, by evidence, and comes back by itself."""
