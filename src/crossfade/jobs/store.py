"""`JobStore`: what people do with batch jobs: submit, look, cancel, take the result. Works without a server, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import BinaryIO

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import canonical_json, is_digest
from crossfade.core.identity import check_name
from crossfade.core.tensors import Signature
from crossfade.errors import (
    BlobNotFoundError,
    InvalidJobError,
    JobConflictError,
    JobNotFoundError,
)
from crossfade.jobs.records import FINISHED, MEDIA_TYPES, RESERVED, Job, JobRequest, JobResult, State
from crossfade.jobs.results import require_packages
from crossfade.registry.acceptance import attribution
from crossfade.registry.garbage import unmark
from crossfade.registry.native_records import require_version
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.publication import leased
from crossfade.registry.registry import LOCAL, Registry
from crossfade.registry.versions import Page, Version
from crossfade.serving.predictor import PROBABILITIES
from crossfade.settings import JobSettings
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import job_parts, jobs
from crossfade.storage.times import from_text, to_text

_ID = re.compile(r"[0-9A-Za-z-]{8,64}")
_MAX_CHUNK_ROWS = 100_000
_MAX_KEPT = 100
_KIND = "jobs"


class JobStore:
    """The jobs of a platform.

    Args:
        registry: Where versions and blobs are.
        database: Where jobs are.
        settings: How long results are kept.
        clock: What time it is.

    Example:
        >>> store.submit(JobRequest(new_id(), "churn", digest, "csv"))[0].state  # doctest: +SKIP
        'queued'
    """

    def __init__(self, registry: Registry, database: Database, settings: JobSettings, clock: Clock = utc_now) -> None:
        self._registry = registry
        self._database = database
        self._retention = timedelta(seconds=settings.retention_seconds)
        self._clock = clock

    def submit(self, request: JobRequest, *, principal: str = LOCAL, dry_run: bool = False) -> tuple[Job, bool]:
        """Accept a job: its reference becomes one version here, for every row.

        Returns:
            The job, and whether it is new: the same request again returns the job that there is.

        Raises:
            InvalidJobError: The request makes no sense.
            MissingExtraError: A package is not installed here.
            NotFoundError: The version or the file does not exist.
            SignatureMismatchError: The version has no probabilities.
            JobConflictError: The id is taken by another request.
        """
        _check(request)
        require_packages(request)
        principal = attribution(principal, "")["principal"]
        text = _canonical(request)
        known = self._find(request.id)
        if known is not None:
            return self._same(known, text), False
        version = self._registry.resolve(request.ref)
        if request.probabilities:
            _require_probabilities(self._registry.manifest(version.ref).signature)
        if dry_run:  # which sends no file
            return _rehearsed(request, version, principal, self._clock()), True
        with leased(self._registry.backend, [request.input_digest]):
            blob = self._registry.backend.blobs.find(request.input_digest)
            if blob is None:
                raise BlobNotFoundError(digest=request.input_digest)
            with self._database.write() as connection:
                known = _row(connection, request.id)
                if known is None:
                    _insert(connection, request, text, version, blob.size, principal, self._clock())
        return (self.find(request.id), True) if known is None else (self._same(known, text), False)

    def find(self, job: str) -> Job:
        """Return a job.

        Raises:
            JobNotFoundError: There is none with this id.
        """
        row = self._find(job) if _ID.fullmatch(job) else None
        if row is None:
            raise JobNotFoundError(id=job[:64])
        return self._job(row)

    def list(self, *, model: str = "", state: str = "", cursor: str = "", limit: int = 100) -> Page[Job]:
        """List jobs, newest first."""
        where: ColumnElement[bool] = jobs.c.number < number_cursor(_KIND, cursor)
        if model:
            where &= jobs.c.model == check_name(model)
        if state:
            where &= jobs.c.state == state
        query = select(jobs).where(where).order_by(jobs.c.number.desc()).limit(check_limit(limit) + 1)
        with self._database.read() as connection:
            rows: Sequence[Row[tuple[object, ...]]] = connection.execute(query).all()
        page = page_of(_KIND, rows, limit, lambda row: row.number)
        return Page(tuple(map(self._job, page.items)), page.next_cursor)

    def cancel(self, job: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Job:
        """Stop a job; what it has answered is let go of. Cancelling again changes nothing.

        Raises:
            JobNotFoundError: There is none with this id.
            JobConflictError: It has succeeded or failed already.
        """
        said = attribution(principal, reason)
        self.find(job)
        with self._database.write() as connection:
            row = _row(connection, job)
            assert row is not None  # noqa: S101 - jobs are never deleted
            if row.state in FINISHED and row.state != "cancelled":
                raise JobConflictError(id=job, problem=f"has {row.state} already")
            if row.state != "cancelled" and not dry_run:
                details = {"reason": reason, "rows_done": row.rows_done}
                finish(connection, row, "cancelled", reason, details, principal=said["principal"], now=self._clock())
        return self.find(job)

    def open_result(self, job: str) -> tuple[Job, JobResult, BinaryIO]:
        """Return the result of a job; the caller closes the stream.

        Raises:
            JobNotFoundError: There is none with this id.
            JobConflictError: It has not succeeded, or its result was let go of.
        """
        found = self.find(job)
        if found.result is None:
            why = "its time is over" if found.state == "succeeded" else f"it is {found.state}"
            raise JobConflictError(id=found.id, problem=f"has no result: {why}")
        try:
            return found, found.result, self._registry.backend.blobs.open(found.result.digest)
        except BlobNotFoundError as error:
            raise JobConflictError(id=found.id, problem="has lost its result: the file is missing") from error

    def _find(self, job: str) -> Row[tuple[object, ...]] | None:
        with self._database.read() as connection:
            return _row(connection, job)

    def _same(self, row: Row[tuple[object, ...]], text: str) -> Job:
        if row.request != text:
            raise JobConflictError(id=row.id, problem="was asked for something else")
        return self._job(row)

    def _job(self, row: Row[tuple[object, ...]]) -> Job:
        request = request_of(row)
        result = None
        if row.result_digest is not None and row.kept:
            result = JobResult(row.result_digest, row.result_bytes, MEDIA_TYPES[request.output])
        finished_at = None if row.finished_at is None else from_text(row.finished_at)
        return Job(
            id=row.id,
            model=row.model,
            version=row.semver,
            ref=request.ref,
            state=row.state,
            format=request.format,
            output=request.output,
            rows_done=row.rows_done,
            rows_failed=row.rows_failed,
            rows_per_second=round(1000 * row.rows_done / row.busy_ms, 1) if row.busy_ms else 0.0,
            input_digest=row.input_digest,
            input_bytes=row.input_bytes,
            bytes_done=row.bytes_done,
            problem=row.problem,
            result=result,
            created_at=from_text(row.created_at),
            created_by=row.created_by,
            started_at=None if row.started_at is None else from_text(row.started_at),
            finished_at=finished_at,
            kept_until=None if finished_at is None else finished_at + self._retention,
        )


def request_of(row: Row[tuple[object, ...]]) -> JobRequest:
    """Return what a job was asked for."""
    return msgspec.json.decode(row.request, type=JobRequest)


def finish(
    connection: Connection,
    row: Row[tuple[object, ...]],
    state: State,
    problem: str,
    details: dict[str, object],
    *,
    principal: str,
    now: datetime,
    result: tuple[str, int] | None = None,
) -> None:
    """End a job inside a write transaction: nobody's claim holds any more, and its parts are let go of."""
    digest, size = result or (None, 0)
    ended = update(jobs).where(jobs.c.id == row.id)
    connection.execute(
        ended.values(
            state=state,
            problem=problem,
            epoch=jobs.c.epoch + 1,
            finished_at=to_text(now),
            result_digest=digest,
            result_bytes=size,
        )
    )
    if digest is not None:
        unmark(connection, [digest])
    connection.execute(delete(job_parts).where(job_parts.c.job == row.id))
    _commit(connection, row.id, row.model, row.semver, f"job.{state}", details, principal, now)


def _row(connection: Connection, job: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(jobs).where(jobs.c.id == job)).first()


def _insert(
    connection: Connection, request: JobRequest, text: str, version: Version, size: int, principal: str, now: datetime
) -> None:
    require_version(connection, version.model, version.version)  # it may have been deleted since it was resolved
    details: dict[str, object] = {"ref": request.ref, "input": request.input_digest}
    number = _commit(connection, request.id, version.model, version.version, "job.submit", details, principal, now)
    connection.execute(
        insert(jobs).values(
            id=request.id,
            number=number,
            model=version.model,
            semver=version.version,
            request=text,
            state="queued",
            input_digest=request.input_digest,
            input_bytes=size,
            lease_until=to_text(now),
            created_at=to_text(now),
            created_by=principal,
            progressed_at=to_text(now),
        )
    )
    unmark(connection, [request.input_digest])


def _commit(
    connection: Connection,
    job: str,
    model: str,
    semver: str,
    action: str,
    details: dict[str, object],
    principal: str,
    now: datetime,
) -> int:
    details = {"version": f"{model}:{semver}", **details}
    return commit_change(
        connection,
        kind="job",
        model=model,
        subject=job,
        principal=principal,
        action=action,
        details=details,
        now=now,
    )


def _check(request: JobRequest) -> None:
    problem = ""
    if not _ID.fullmatch(request.id):
        problem = "`id` is 8 to 64 letters, digits and hyphens"
    elif not is_digest(request.input_digest):
        problem = "`input_digest` is not a SHA-256 in lower-case hexadecimal"
    elif not 0 <= request.chunk_rows <= _MAX_CHUNK_ROWS:
        problem = f"`chunk_rows` is not 0 to {_MAX_CHUNK_ROWS}"
    elif len(set(request.keep)) != len(request.keep) or len(request.keep) > _MAX_KEPT:
        problem = f"`keep` is at most {_MAX_KEPT} different columns"
    elif taken := set(request.keep) & set(RESERVED):
        problem = f"`keep` cannot have the column `{min(taken)}`: the result has one of its own"
    if problem:
        raise InvalidJobError(problem=problem)


def _canonical(request: JobRequest) -> str:
    """Return what makes two requests the same: everything but the upload that brought the file."""
    return canonical_json(msgspec.structs.replace(request, holder="")).decode()


def _require_probabilities(signature: Signature) -> None:
    signature.output(PROBABILITIES)


def _rehearsed(request: JobRequest, version: Version, principal: str, now: datetime) -> Job:
    return Job(
        id=request.id,
        model=version.model,
        version=version.version,
        ref=request.ref,
        state="queued",
        format=request.format,
        output=request.output,
        rows_done=0,
        rows_failed=0,
        rows_per_second=0.0,
        input_digest=request.input_digest,
        input_bytes=0,
        bytes_done=0,
        problem="",
        result=None,
        created_at=now,
        created_by=principal,
    )
