"""`crossfade experiments`: planning, and rehearsing who gets what, on this machine."""

from __future__ import annotations

import click

from crossfade.cli.assigning import assign
from crossfade.cli.planning import power


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def experiments() -> None:
    """Plan experiments, and see who would get what; servers do not route by them yet."""


experiments.add_command(assign)
experiments.add_command(power)
