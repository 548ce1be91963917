"""Releases: how versions run, and how traffic moves to them."""
