"""What a batch job is: what a client asks for, and what is known about it. One schema for both ends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

InputFormat = Literal["csv", "jsonl", "parquet", "arrow"]
"""`arrow` is an IPC file or an IPC stream: the first bytes tell."""
OutputFormat = Literal["jsonl", "csv", "parquet"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: tuple[State, ...] = ("succeeded", "failed", "cancelled")
RESERVED = ("row", "prediction", "probabilities", "error")
"""Columns of every result, whose names no column that is kept can have."""
MEDIA_TYPES: dict[OutputFormat, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file to predict. Asking again with the same `id` changes nothing.

    Args:
        id: Chosen by the client: 8 to 64 letters, digits and hyphens.
        ref: Who shall answer; it is resolved to one version when the job is accepted.
        input_digest: SHA-256 of the file, which has been uploaded.
        format: Of the file.
        output: Format of the result.
        probabilities: Answer the probability of each class, too.
        keep: Columns of the file that are copied to the result, such as ids.
        chunk_rows: Rows between two commits of progress; 0 = as the server's settings say.
        holder: Of the upload; it is released when the job is accepted.
    """

    id: str
    ref: str
    input_digest: str
    format: InputFormat
    output: OutputFormat = "jsonl"
    probabilities: bool = False
    keep: tuple[str, ...] = ()
    chunk_rows: int = 0
    holder: str = ""


class JobResult(msgspec.Struct, frozen=True):
    """The file with the answers: its SHA-256, its size, its media type."""

    digest: str
    size_bytes: int
    media_type: str


class Job(msgspec.Struct, frozen=True):
    """A job and how far it is.

    Args:
        id: Chosen by the client.
        model: Who answers.
        version: Its semver, the same for every row.
        ref: The reference as it was asked for.
        state: `queued`, `running`, `succeeded`, `failed`, `cancelled`.
        format: Of the file.
        output: Format of the result.
        rows_done: Rows that have an answer or an error.
        rows_failed: Those of them that have an error.
        rows_per_second: Over the time that was spent on it.
        input_digest: SHA-256 of the file.
        input_bytes: Its size.
        bytes_done: How much of the file has been read, about.
        problem: Why it failed, or what it waits for; empty when all is well.
        result: Where it ends, when it has succeeded and until `kept_until`.
        kept_until: When file and result are let go of.
    """

    id: str
    model: str
    version: str
    ref: str
    state: State
    format: InputFormat
    output: OutputFormat
    rows_done: int
    rows_failed: int
    rows_per_second: float
    input_digest: str
    input_bytes: int
    bytes_done: int
    problem: str
    result: JobResult | None
    created_at: datetime
    created_by: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    kept_until: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINISHED
