"""`crossfade experiments`: decide between versions on live traffic, and be right."""

from __future__ import annotations

import click

from crossfade.cli.assigning import assign
from crossfade.cli.planning import power


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def experiments() -> None:
    """Decide between versions on live traffic."""


experiments.add_command(assign)
experiments.add_command(power)
