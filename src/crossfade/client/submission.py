"""Submitting a batch job from afar: what to send in which order, without sending anything."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any, TypedDict

from msgspec.structs import replace

from crossfade.client import verbs
from crossfade.client.calls import Call, Progress
from crossfade.core.identity import new_id
from crossfade.errors import MalformedRequestError
from crossfade.jobs.records import InputFormat, Job, JobRequest, OutputFormat
from crossfade.registry.requests import Rehearsal, Upload

SUFFIXES: dict[str, InputFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
"""Ending of a file's name -> its format."""


class JobOptions(TypedDict, total=False):
    """How a file becomes a job.

    Attributes:
        format: Of the file; by default its name tells.
        output: Format of the result.
        probabilities: Answer the probability of each class, too.
        keep: Columns of the file that are copied to the result, such as ids.
        chunk_rows: Rows between two commits of progress.
        id: Of the job, for one that shall never be made twice.
    """

    format: InputFormat | None
    output: OutputFormat
    probabilities: bool
    keep: tuple[str, ...]
    chunk_rows: int
    id: str


def submission(ref: str, rows: Path, progress: Progress | None, options: JobOptions) -> Generator[Call[Any], Any, Job]:
    """Yield the calls that submit a job.

    Args:
        ref: Who shall answer.
        rows: The file.
        progress: Told (bytes sent, bytes in all).
        options: Everything else.

    Raises:
        MalformedRequestError: The name of the file does not tell its format.
    """
    holder, request = new_id(), job_request(ref, rows, options)
    answer: Upload = yield verbs.upload(holder, (request.input_digest,))
    if answer.missing:
        size = rows.stat().st_size
        sent = None if progress is None else partial(_report, progress, size)
        yield verbs.put_blob(request.input_digest, rows, holder=holder, sent=sent)
    job: Job = yield verbs.submit_job(replace(request, holder=holder))
    return job


def rehearsal(ref: str, rows: Path, options: JobOptions) -> Call[Rehearsal]:
    """Return the call that tells whether a job would be accepted; its file is not sent."""
    return verbs.dry_run(verbs.submit_job(job_request(ref, rows, options)))


def job_request(ref: str, rows: Path, options: JobOptions) -> JobRequest:
    """Return the request for a file, without an upload."""
    kind = options.get("format") or SUFFIXES.get(rows.suffix.lower())
    if kind is None:
        problem = f"the name of `{rows.name}` does not tell its format; say `format`"
        raise MalformedRequestError(problem=problem, see="crossfade jobs submit --help")
    with rows.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    return JobRequest(
        id=options.get("id") or new_id(),
        ref=ref,
        input_digest=digest,
        format=kind,
        output=options.get("output", "jsonl"),
        probabilities=options.get("probabilities", False),
        keep=tuple(options.get("keep", ())),
        chunk_rows=options.get("chunk_rows", 0),
    )


def _report(progress: Progress, total: int, sent: int) -> None:
    progress(sent, total)
