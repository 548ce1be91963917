"""`crossfade demo`: real models are registered, served, replaced and rolled back under live traffic."""

from crossfade.cli.demo.command import demo

__all__ = ["demo"]
