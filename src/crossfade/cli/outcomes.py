"""`crossfade outcomes`: recording what became of decisions, from files."""

from __future__ import annotations

from pathlib import Path

import click

from crossfade.cli.output import facts
from crossfade.cli.session import Session, command

AT_ONCE = 5_000
"""Outcomes in one request."""
_TEXTS = frozenset({"id", "name", "happened_at", "decision", "experiment", "unit"})


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def outcomes() -> None:
    """Record what became of decisions, so that experiments can be judged."""


@command(outcomes)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def record(session: Session, file: Path) -> None:
    """Record the outcomes in FILE, a CSV or JSON lines file, or `-` for stdin.

    Each has `id`, `name`, perhaps `value` (default 1) and `happened_at` (with a time zone; default now), and either
    `decision`, or `experiment` and `unit`. After a failure the same file may be recorded again: an id counts once.
    """
    from crossfade.cli.rows import read_rows
    from crossfade.errors import MalformedRequestError
    from crossfade.ledger.requests import SEE_OUTCOMES, Recorded

    rows = read_rows(file, SEE_OUTCOMES, _TEXTS)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MalformedRequestError(
            problem=f"`{file}` is not a table of outcomes in CSV or JSON lines", see=SEE_OUTCOMES
        )
    reported = [{name: value for name, value in row.items() if value is not None} for row in rows]
    done = 0
    with session.client() as client:
        for start in range(0, len(reported), AT_ONCE):
            done += client.record_outcomes(reported[start : start + AT_ONCE]).recorded
    session.show(Recorded(done), facts([("recorded", str(done))], name=str(done)))
    session.hint("record a later file with `crossfade outcomes record FILE`")
