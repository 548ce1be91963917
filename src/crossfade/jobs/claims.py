"""Claims: which process works on which job, and every write that depends on it.

A claim has an epoch. Whoever claims a job raises it, and every write of a claim says which epoch it belongs to: a
process that was away for so long that its job was given to another can do nothing to it any more. Progress and the part
that it stands for are one transaction.

Source: fencing tokens (Kleppmann, How to do distributed locking, 2016,
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import sha256
from crossfade.core.identity import ModelRef
from crossfade.core.wording import in_one_line
from crossfade.jobs.records import JobRequest
from crossfade.jobs.store import finish, request_of
from crossfade.settings import JobSettings
from crossfade.storage.database import Database
from crossfade.storage.tables import blob_leases, job_parts, jobs
from crossfade.storage.times import from_text, to_text

MOST_ATTEMPTS = 5
"""A job is given up when so many processes in a row died, or hung, while they worked on the same rows."""
RUNNER = "batch-jobs"
"""The principal of what no person did."""


class LostClaimError(Exception):
    """The job was cancelled, or another process has claimed it."""


@dataclass(frozen=True)
class Claim:
    """One process's right to work on one job, and how far the job was.

    Attributes:
        job: Its id.
        epoch: Of this claim.
        model: Who answers.
        version: Its semver.
        request: What was asked for.
        input_bytes: Size of the file.
        rows_done: Rows whose answers are stored.
        progressed_at: When the last of them was.
    """

    job: str
    epoch: int
    model: str
    version: str
    request: JobRequest
    input_bytes: int
    rows_done: int
    progressed_at: datetime

    @property
    def pinned(self) -> ModelRef:
        """The version as a reference."""
        return ModelRef(self.model, version=self.version)


class Claims:
    """The claims of this process."""

    def __init__(self, database: Database, settings: JobSettings, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._retention = timedelta(seconds=settings.retention_seconds)
        self._clock = clock

    def take(self) -> Claim | None:
        """Claim the oldest job that nobody works on; None when there is none."""
        now = self._clock()
        with self._database.read() as connection:  # looking costs the others nothing
            if self._waiting(connection, now) is None:
                return None
        with self._database.write() as connection:
            row = self._waiting(connection, now)
            if row is None:
                return None
            if row.attempts >= MOST_ATTEMPTS:
                problem = f"{row.attempts} processes in a row died after row {row.rows_done}, or hung"
                finish(connection, row, "failed", problem, {"problem": problem}, principal=RUNNER, now=now)
                return None
            begun = {"started_at": to_text(now), "progressed_at": to_text(now)} if row.started_at is None else {}
            mine = update(jobs).where(jobs.c.id == row.id)
            connection.execute(
                mine.values(
                    state="running",
                    epoch=row.epoch + 1,
                    lease_until=to_text(now + self._lease),
                    attempts=row.attempts + 1,
                    **begun,
                )
            )
        return Claim(
            job=row.id,
            epoch=row.epoch + 1,
            model=row.model,
            version=row.semver,
            request=request_of(row),
            input_bytes=row.input_bytes,
            rows_done=row.rows_done,
            progressed_at=from_text(begun.get("progressed_at", row.progressed_at)),
        )

    def renew(self, claim: Claim) -> None:
        """Keep a claim for another while.

        Raises:
            LostClaimError: It is not ours any more.
        """
        with self._fenced(claim):
            pass

    def commit_part(
        self, claim: Claim, digest: str, *, first_row: int, rows: int, failed: int, bytes_done: int, milliseconds: int
    ) -> None:
        """Record the answers to a chunk, in one transaction with the progress that they are.

        Raises:
            LostClaimError: It is not ours any more; nothing is recorded.
        """
        with self._fenced(
            claim,
            rows_done=first_row + rows,
            rows_failed=jobs.c.rows_failed + failed,
            busy_ms=jobs.c.busy_ms + milliseconds,
            bytes_done=bytes_done,
            progressed_at=to_text(self._clock()),
            attempts=0,
            problem="",
        ) as connection:
            connection.execute(insert(job_parts).values(job=claim.job, first_row=first_row, digest=digest))
            connection.execute(delete(blob_leases).where(blob_leases.c.holder == holder_of(claim)))

    def parts(self, claim: Claim) -> list[str]:
        """Return the digests of all parts, in the order of the rows."""
        query = select(job_parts.c.digest).where(job_parts.c.job == claim.job).order_by(job_parts.c.first_row)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def succeed(self, claim: Claim, digest: str, size: int) -> None:
        """End a job with its result.

        Raises:
            LostClaimError: It is not ours any more.
        """
        with self._fenced(claim, bytes_done=claim.input_bytes) as connection:
            row = _row(connection, claim)
            details = {"rows": row.rows_done, "failed": row.rows_failed, "result": digest}
            now = self._clock()
            finish(connection, row, "succeeded", "", details, principal=RUNNER, now=now, result=(digest, size))
            connection.execute(delete(blob_leases).where(blob_leases.c.holder == holder_of(claim)))

    def fail(self, claim: Claim, problem: str) -> None:
        """End a job without a result.

        Raises:
            LostClaimError: It is not ours any more.
        """
        with self._fenced(claim) as connection:
            row = _row(connection, claim)
            problem = in_one_line(problem)
            details = {"rows": row.rows_done, "problem": problem}
            finish(connection, row, "failed", problem, details, principal=RUNNER, now=self._clock())

    def give_back(self, claim: Claim, problem: str, pause_seconds: float) -> None:
        """Let any process claim the job after a pause; it goes on where it is.

        Raises:
            LostClaimError: It is not ours any more.
        """
        until = to_text(self._clock() + timedelta(seconds=pause_seconds))
        with self._fenced(claim, problem=in_one_line(problem), lease_until=until, attempts=0):
            pass

    def waited_seconds(self, claim: Claim) -> float:
        """Return how long ago the job moved last, or was accepted."""
        return (self._clock() - claim.progressed_at).total_seconds()

    def sweep(self) -> int:
        """Let go of files and results whose time is over; garbage collection deletes them. Returns of how many jobs."""
        cutoff = to_text(self._clock() - self._retention)
        old = jobs.c.kept & (jobs.c.finished_at < cutoff)
        with self._database.read() as connection:
            if connection.execute(select(jobs.c.id).where(old).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(update(jobs).where(old).values(kept=False)).rowcount

    @contextmanager
    def _fenced(self, claim: Claim, **values: Any) -> Iterator[Connection]:
        """Open a write transaction that changes the job, and whatever the block adds, only while the claim holds."""
        values.setdefault("lease_until", to_text(self._clock() + self._lease))
        ours = (jobs.c.id == claim.job) & (jobs.c.epoch == claim.epoch) & (jobs.c.state == "running")
        with self._database.write() as connection:
            if connection.execute(update(jobs).where(ours).values(**values)).rowcount != 1:
                raise LostClaimError(claim.job)
            yield connection

    def _waiting(self, connection: Connection, now: datetime) -> Row[tuple[object, ...]] | None:
        free = or_(jobs.c.state == "queued", (jobs.c.state == "running") & (jobs.c.lease_until <= to_text(now)))
        return connection.execute(select(jobs).where(free).order_by(jobs.c.number).limit(1)).first()


def holder_of(claim: Claim) -> str:
    """Return the holder that protects what a claim stores until a job refers to it."""
    return f"job-{sha256(claim.job.encode())[:40]}-{claim.epoch}"


def _row(connection: Connection, claim: Claim) -> Row[tuple[object, ...]]:
    return connection.execute(select(jobs).where(jobs.c.id == claim.job)).one()
