"""`crossfade outcomes`: recording what became of decisions, from files."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossfade.cli.output import facts
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.ledger.requests import ReportedOutcome

AT_ONCE = 5_000
"""Outcomes in one request."""
_TEXTS = frozenset({"id", "name", "value", "happened_at", "decision", "experiment", "unit"})
"""Columns of a CSV file that are read as they are written; of a value, so that it can be shown as it is written."""
_NOTHING = "nothing of the file was recorded"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def outcomes() -> None:
    """Record what became of decisions, so that experiments can be judged."""


@command(outcomes)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def record(session: Session, file: Path) -> None:
    """Record the outcomes in FILE, a CSV or JSON lines file, or `-` for stdin.

    Each has `id`, `name`, perhaps `value` (default 1) and `happened_at` (with a time zone; default now), and either
    `decision`, or `unit` and `experiment`, the name of an experiment or a rollout. After a failure the same file may be
    recorded again: an id counts once.
    """
    from crossfade.errors import CrossfadeError, InvalidOutcomesError, InvalidOutcomesFileError
    from crossfade.ledger.requests import Recorded

    reported = _read(file)
    done = 0
    with session.client() as client:
        for start in range(0, len(reported), AT_ONCE):
            so_far = f"the first {start:,} rows were recorded, the rest was not" if start else _NOTHING
            try:
                done += client.record_outcomes(reported[start : start + AT_ONCE]).recorded
            except InvalidOutcomesError as error:
                row, problem = start + int(str(error.facts["index"])) + 1, error.facts["problem"]
                raise InvalidOutcomesFileError(row=row, file=str(file), problem=problem, recorded=so_far) from error
            except CrossfadeError as error:
                if start:
                    error.message += f"; the first {start:,} rows were recorded, and may be sent again with the rest"
                raise
    session.show(Recorded(done), facts([("recorded", str(done))], name=str(done)))
    session.hint("record a later file with `crossfade outcomes record FILE`")


def _read(file: Path) -> list[ReportedOutcome]:
    """Read all of a file, so that what can be seen of it is wrong before anything is recorded."""
    from crossfade.cli.rows import read_rows
    from crossfade.errors import InvalidOutcomesFileError, MalformedRequestError
    from crossfade.ledger.requests import SEE_OUTCOMES
    from crossfade.ledger.validation import find_conflict

    rows = read_rows(file, SEE_OUTCOMES, _TEXTS)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MalformedRequestError(
            problem=f"`{file}` is not a table of outcomes in CSV or JSON lines", see=SEE_OUTCOMES
        )
    reported = [_outcome(row, number, file) for number, row in enumerate(rows, 1)]
    if conflict := find_conflict(reported):
        index, first = conflict
        problem = f"it has the id of row {first + 1} and says something else, and an id is one outcome"
        raise InvalidOutcomesFileError(row=index + 1, file=str(file), problem=problem, recorded=_NOTHING)
    return reported


def _outcome(row: dict[str, Any], number: int, file: Path) -> ReportedOutcome:
    """Return what one row says; an empty cell says nothing."""
    import msgspec

    from crossfade.core.decoding import problem_of
    from crossfade.errors import InvalidOutcomesFileError
    from crossfade.ledger.requests import ReportedOutcome

    given = {name: value for name, value in row.items() if value is not None}
    try:
        if isinstance(text := given.get("value"), str):
            given["value"] = float(text)
        outcome = msgspec.convert(given, ReportedOutcome)
        if isfinite(outcome.value):
            return outcome
        problem = f"its value is `{row['value']}`, which no sum can be made of"
    except msgspec.ValidationError as error:
        problem = problem_of(error, ReportedOutcome)
    except ValueError:
        problem = f"its value is `{row['value'][:80]}`, which is no number"
    raise InvalidOutcomesFileError(row=number, file=str(file), problem=problem, recorded=_NOTHING)
