"""`crossfade experiments`: planning, rehearsing who gets what, and evaluating policies on logs, on this machine."""

from __future__ import annotations

import click

from crossfade.cli.assigning import assign
from crossfade.cli.off_policy import evaluate_policy
from crossfade.cli.planning import power


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def experiments() -> None:
    """Plan experiments, see who would get what, evaluate policies on logs; servers do not route by them yet."""


experiments.add_command(assign)
experiments.add_command(evaluate_policy)
experiments.add_command(power)
