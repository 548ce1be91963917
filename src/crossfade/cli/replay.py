"""`crossfade replay`: captured predictions, put to another version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossfade.cli.output import Sheet
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.serving.predictor import Predictor
    from crossfade.serving.replay import OutputReport, ReplayReport


@command(name="replay")
@click.argument("capture", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "ref", required=True, metavar="REF", help="Who shall answer: `name:1.3.0` or `name@alias`.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Numbers are equal when they differ by at most this times (1 + the captured one).",
)
@click.option(
    "--max-different",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the rows that may differ before the exit code is 1.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1000, show_default=True, help="Rows per request.")
def replay(session: Session, capture: Path, ref: str, tolerance: float, max_different: float, batch_size: int) -> None:
    """Put captured predictions to another version, and compare the answers row by row.

    CAPTURE is a file, or a folder of files, that the settings `capture.*` made a server write. The exit code is 0 when
    the answers are the same, 1 when more rows differ than `--max-different` allows, and that of the error otherwise.
    """
    from crossfade.client import Client
    from crossfade.platform import load

    def compare(predictor: Predictor) -> ReplayReport:
        from crossfade.serving.replay import replay as compare_answers

        return compare_answers(capture, predictor, batch_size=batch_size, tolerance=tolerance)

    if session.server:
        with Client(session.server) as client:
            report = compare(client.load(ref, replay=True))
    else:
        report = compare(load(ref))
    session.show(report, _sheet(report))
    differs = report.different > max_different * report.rows
    session.output.note(_summary(report))
    sys.exit(1 if differs else 0)


def _sheet(report: ReplayReport) -> Sheet:
    headings = ("output", "rows", "equal", "mean |d|", "max |d|", "median |d|", "p90 |d|", "p99 |d|", "changes")
    return Sheet(headings, [_row(name, output) for name, output in report.outputs.items()], empty="nothing to compare")


def _row(name: str, output: OutputReport) -> tuple[str, ...]:
    numbers = (output.mean_absolute, output.max_absolute, *(output.quantiles.get(q) for q in ("0.5", "0.9", "0.99")))
    changes = ", ".join(f"{change.before} -> {change.after}: {change.rows}" for change in output.changes[:3])
    share = f"{output.equal / output.rows:.2%}" if output.rows else ""
    return (name, str(output.rows), share, *("" if n is None else f"{n:.4g}" for n in numbers), changes)


def _summary(report: ReplayReport) -> str:
    before = ", ".join(f"{rows} rows of {ref}" for ref, rows in report.captured.items())
    text = f"{report.ref} answers {report.different} of {report.rows} rows differently ({before})"
    if report.failed:
        text += f"; {report.failed} not at all: {report.problem}"
    return text + (f"; it has no {', '.join(report.missing)}" if report.missing else "")
