"""`crossfade jobs`: have whole files predicted, watch it happen, take the results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from crossfade.cli import sheets
from crossfade.cli.output import facts
from crossfade.cli.session import Session, command
from crossfade.jobs.records import InputFormat, OutputFormat, State

if TYPE_CHECKING:
    from crossfade.jobs.records import Job

_FIRST_LOOK_SECONDS = 0.1
_LONGEST_LOOK_SECONDS = 2.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def jobs() -> None:
    """Have whole files predicted by one version, row by row, whatever happens meanwhile."""


@command(jobs, changes=True)
@click.argument("ref")
@click.argument("rows", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--input", "kind", type=click.Choice(get_args(InputFormat)), help="Format of ROWS; default: by its name.")
@click.option(
    "--output",
    type=click.Choice(get_args(OutputFormat)),
    default="jsonl",
    show_default=True,
    help="Format of the result.",
)
@click.option("--probabilities", is_flag=True, help="Answer the probability of each class, too.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column to the result; may be repeated.")
@click.option(
    "--id",
    "job",
    default="",
    help="Of the job, so that it is never made twice: 8 to 64 letters, digits and hyphens; default: a new one.",
)
def submit(
    session: Session,
    ref: str,
    rows: Path,
    kind: InputFormat | None,
    output: OutputFormat,
    probabilities: bool,
    keep: tuple[str, ...],
    job: str,
) -> None:
    """Send ROWS, a CSV, JSON lines, Parquet or Arrow file, and have it predicted by the version that REF means now."""
    from crossfade.client.submission import JobOptions, rehearsal

    options: JobOptions = {
        "format": kind,
        "output": output,
        "probabilities": probabilities,
        "keep": keep,
        "id": job,
    }
    with session.client() as client:
        if session.dry_run:
            session.rehearsed(client.send(rehearsal(ref, rows, options)).would)
            return
        with session.output.progress(rows.name) as progress:
            made = client.submit_job(ref, rows, progress=progress, **options)
    session.show(made, sheets.one_job(made))
    session.hint(f"watch it with `crossfade jobs watch {made.id}`")


@command(jobs, "list")
@click.option("--model", default="", help="Only jobs of this model.")
@click.option("--state", type=click.Choice(get_args(State)), default=None, help="Only jobs in this state.")
@click.option("--cursor", default="", help="`next_cursor` of the page before.")
@click.option("--limit", default=100, show_default=True, help="How many at most, 1 to 1000.")
def list_(session: Session, model: str, state: State | None, cursor: str, limit: int) -> None:
    """List jobs, newest first."""
    with session.client() as client:
        page = client.jobs(model=model, state=state or "", cursor=cursor, limit=limit)
    session.show(page, sheets.job_sheet(page.items).narrowed(model, state))
    if page.next_cursor:
        session.hint(f"more with `crossfade jobs list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade jobs show {page.items[0].id}`")
    else:
        session.hint("make one with `crossfade jobs submit REF ROWS_FILE`")


@command(jobs)
@click.argument("job")
def show(session: Session, job: str) -> None:
    """Show a job and how far it is."""
    with session.client() as client:
        found = client.job(job)
    session.show(found, sheets.one_job(found))
    session.hint(_next(found))


@command(jobs)
@click.argument("job")
def watch(session: Session, job: str) -> None:
    """Wait until a job has ended; exits with 1 unless it has succeeded."""
    pause = _FIRST_LOOK_SECONDS
    with session.client() as client, session.output.progress(job) as progress:
        while not (found := client.job(job)).finished:
            if progress is not None:
                progress(found.bytes_done, found.input_bytes)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)
    session.show(found, sheets.one_job(found))
    session.hint(_next(found))
    if found.state != "succeeded":
        raise SystemExit(1)


@command(jobs, changes=True)
@click.argument("job")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def cancel(session: Session, job: str, reason: str) -> None:
    """Stop a job; what it has answered so far is let go of."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.cancel_job(job, reason=reason), sheets.one_job, _next)


@command(jobs)
@click.argument("job")
@click.option(
    "--to", "target", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: `JOB.FORMAT` here."
)
def download(session: Session, job: str, target: Path | None) -> None:
    """Download the result of a job; it is checked against its digest."""
    with session.client() as client:
        found = client.job(job)
        target = target or Path(f"{found.id}.{found.output}")
        with session.output.progress(target.name) as progress:
            client.download_result(job, target, progress=progress)
    session.show(str(target), facts([("file", str(target))], name=str(target)))
    session.hint(f"see what answered with `crossfade models show {found.model}:{found.version}`")


def _next(job: Job) -> str:
    if job.state == "succeeded":
        return f"take the result with `crossfade jobs download {job.id}`"
    if not job.finished:
        return f"watch it with `crossfade jobs watch {job.id}`; a running `crossfade serve` works on it"
    if job.state == "failed":
        return f"see what its file has to hold with `crossfade models show {job.model}:{job.version}`"
    return "see all with `crossfade jobs list`"
