"""`JobRunner`: works on one batch job at a time, on a thread of its own; predictions run where all others run.

Nothing is remembered that the database does not know: a job goes on after its last committed chunk, in this process or
in any other. A claim is renewed whenever the runner waits for something, so a job is taken over only from a process
that is gone or hangs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Coroutine, Iterator
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar

import msgspec

from crossfade.core.child import Limits, read_frames
from crossfade.core.hashing import sha256
from crossfade.core.tensors import Tensors, row_count
from crossfade.errors import (
    BatchRestsError,
    CorruptBlobError,
    CrossfadeError,
    InvalidInputError,
    MalformedRequestError,
    ModelCrashedError,
    OverloadedError,
    UnavailableError,
    UnsafeAnswerError,
)
from crossfade.jobs.chunks import READER, Chunk, ReadTask, decode_chunk
from crossfade.jobs.claims import Claim, Claims, LostClaimError, holder_of
from crossfade.jobs.results import Answers, Layout, render, require_packages
from crossfade.registry.registry import Registry
from crossfade.serving.holding import Terms
from crossfade.serving.prediction import PredictionService
from crossfade.serving.predictor import wanted_output
from crossfade.serving.waiting import Priority
from crossfade.settings import Settings
from crossfade.storage.database import Database

_log = logging.getLogger(__name__)

T = TypeVar("T")

_TERMS = Terms(timeout_seconds=math.inf, priority=Priority.BATCH)
"""Nobody waits for a row of a job, so it is not refused because others go first."""
_MOST_CRASHED_ROWS = 10
"""A job is given up when so many rows in a row ended the process of the model, each of them alone."""
_PAUSE_SECONDS = 1.0
"""Before a job that waits for something is tried again."""
_LONGEST_PAUSE_SECONDS = 5.0
"""Before rows are sent again to a model that is too busy."""
_END_SECONDS = 10.0
_SWEEP_SECONDS = 60.0
_COPY_BYTES = 2**20


class _StoppedError(Exception):
    """This process ends."""


class _HopelessError(Exception):
    """The model ends its process whatever it is asked."""


class JobRunner:
    """Runs the jobs of one process.

    Args:
        registry: Where versions and blobs are.
        database: Where jobs are.
        predictions: What answers.
        settings: `jobs`, `serving` and `registry` matter here.

    Example:
        >>> runner.start(asyncio.get_running_loop())  # doctest: +SKIP
    """

    def __init__(
        self, registry: Registry, database: Database, predictions: PredictionService, settings: Settings
    ) -> None:
        self._backend = registry.backend
        self._predictions = predictions
        self._settings = settings
        self._claims = Claims(database, settings.jobs)
        self._renew_seconds = settings.jobs.lease_seconds / 3
        self._renewed_at = 0.0
        self._crashed_rows = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for jobs; their predictions run on this event loop."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="crossfade-jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give back what is under way, so that another process goes on with it, and stop."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        away, sweep_at = False, 0.0
        while not self._ending.is_set():
            worked = False
            try:
                if time.monotonic() >= sweep_at:
                    self._claims.sweep()
                    sweep_at = time.monotonic() + _SWEEP_SECONDS
                claim = self._claims.take()
                if claim is not None:
                    self._work(claim)
                    worked = True
                away = False
            except LostClaimError as error:
                _log.info("batch job `%s` was cancelled, or another process claimed it", error)
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever happens to a job or the database
                if not away:
                    bug = not isinstance(error, UnavailableError)
                    _log.warning("batch jobs cannot be worked on: %s", error, exc_info=bug)
                away = True
            if not worked:
                self._ending.wait(self._settings.jobs.poll_seconds)

    def _work(self, claim: Claim) -> None:
        self._renewed_at = time.monotonic()
        self._crashed_rows = 0
        try:
            layout = self._layout(claim)
            self._wait_for(claim, self._check_served(claim))
            self._check_file(claim)
            self._answer_rest(claim, layout)
            self._assemble(claim, layout)
        except _StoppedError:
            self._claims.give_back(claim, "", 0.0)
        except UnavailableError as error:
            self._wait_or_fail(claim, error)
        except _HopelessError as error:
            self._claims.fail(claim, str(error))
        except MalformedRequestError as error:
            self._claims.fail(claim, f"the file cannot be read: {error.facts['problem']}")
        except CrossfadeError as error:
            self._claims.fail(claim, error.message)
        except LostClaimError:
            raise
        except Exception:  # noqa: BLE001 - the thread goes on with the next job
            _log.exception("batch job `%s` met a bug", claim.job)
            self._claims.fail(claim, "a bug of the server; its log says more")

    def _wait_or_fail(self, claim: Claim, error: CrossfadeError) -> None:
        """Try again later, unless nothing has moved for too long."""
        patience = self._settings.jobs.patience_seconds
        if self._claims.waited_seconds(claim) > patience:
            self._claims.fail(claim, f"no progress for {patience:g} s: {error.message}")
        else:
            self._claims.give_back(claim, error.message, _PAUSE_SECONDS)

    def _layout(self, claim: Claim) -> Layout:
        request = claim.request
        require_packages(request)  # this process may lack what the one that accepted the job has
        version = self._backend.find_version(claim.model, claim.version)
        assert version is not None  # noqa: S101 - a version with an unfinished job cannot be deleted
        signature = self._backend.manifest(version).signature
        label = wanted_output(signature, probabilities=False)
        return Layout(signature, label, request.keep, request.probabilities)

    def _check_file(self, claim: Claim) -> None:
        """Make sure that the file is what was uploaded, which takes as long as reading it."""
        digest, blobs = claim.request.input_digest, self._backend.blobs
        if self._wait_for(claim, asyncio.to_thread(blobs.find_intact, digest)) is None:
            damage = "missing" if blobs.find(digest) is None else "damaged"
            raise CorruptBlobError(digest=digest, path="file", ref=f"job {claim.job}", damage=damage)

    # --- chunks ---

    def _answer_rest(self, claim: Claim, layout: Layout) -> None:
        first_row = claim.rows_done
        started = time.monotonic()
        for chunk, pieces in self._chunks(claim, layout):
            if chunk.rows:
                answers = Answers(layout)
                for piece in pieces:
                    self._answer(claim, layout, piece, answers)
                part = answers.lines(first_row, chunk)
                self._backend.lease_blobs([sha256(part)], holder_of(claim))
                digest = self._backend.blobs.put([part], limit_bytes=len(part)).digest
                self._claims.commit_part(
                    claim,
                    digest,
                    first_row=first_row,
                    rows=chunk.rows,
                    failed=answers.failed,
                    bytes_done=min(chunk.bytes_done, claim.input_bytes),
                    milliseconds=round(1000 * (time.monotonic() - started)),
                )
                self._renewed_at = started = time.monotonic()
                first_row += chunk.rows
            self._keep(claim)

    def _chunks(self, claim: Claim, layout: Layout) -> Iterator[tuple[Chunk, list[Tensors]]]:
        request, jobs = claim.request, self._settings.jobs
        task = ReadTask(
            format=request.format,
            signature=layout.signature,
            keep=request.keep,
            chunk_rows=request.chunk_rows or jobs.chunk_rows,
            skip_rows=claim.rows_done,
            input_bytes=claim.input_bytes,
        )
        limits = Limits(memory_bytes=jobs.reader_memory_bytes)
        with _as_file(self._backend.blobs.open(request.input_digest)) as source:
            encoded = msgspec.json.encode(task)
            for frame in read_frames(READER, encoded, source, limits, lambda: self._keep(claim)):
                yield decode_chunk(frame)

    def _answer(self, claim: Claim, layout: Layout, tensors: Tensors, answers: Answers) -> None:
        """Answer rows that fit the signature, in calls as large as one batch, so that nobody waits longer for them."""
        size = self._settings.serving.of_model(claim.model).max_batch_rows
        for start in range(0, row_count(tensors), size):
            piece = {name: value[start : start + size] for name, value in tensors.items()}
            self._answer_piece(claim, layout, piece, answers)

    def _answer_piece(self, claim: Claim, layout: Layout, tensors: Tensors, answers: Answers) -> None:
        """Answer what the model takes.

        What is refused, or ends the model's process, is halved until the rows are found that do so alone.
        """
        rows = row_count(tensors)
        try:
            answers.add(self._ask(claim, layout, tensors))
        except (InvalidInputError, UnsafeAnswerError, ModelCrashedError) as error:
            if rows == 1:
                self._count_crash(error)
                answers.refuse(error.message)
                return
            for half in (slice(0, rows // 2), slice(rows // 2, rows)):
                self._answer_piece(claim, layout, {name: value[half] for name, value in tensors.items()}, answers)
        else:
            self._crashed_rows = 0

    def _count_crash(self, error: CrossfadeError) -> None:
        """Count a row that has no answer; too many that ended the model's process are enough."""
        self._crashed_rows = self._crashed_rows + 1 if isinstance(error, ModelCrashedError) else 0
        if self._crashed_rows >= _MOST_CRASHED_ROWS:
            raise _HopelessError(f"{self._crashed_rows} rows in a row ended the model's process: {error.message}")

    def _ask(self, claim: Claim, layout: Layout, tensors: Tensors) -> Tensors:
        """Ask until the model has time. A single row is asked twice: its process may have ended for another reason."""
        crashed = False
        while True:
            try:
                return self._wait_for(claim, self._predict(claim, layout, tensors))
            except (OverloadedError, BatchRestsError) as error:
                self._pause(claim, float(str(error.facts["retry_after_seconds"])))
            except ModelCrashedError:
                if crashed or row_count(tensors) > 1:
                    raise
                crashed = True

    async def _check_served(self, claim: Claim) -> None:
        """Make sure that the version answers here, before a process is started that reads the file."""
        with await self._predictions.hold(claim.pinned):
            pass

    async def _predict(self, claim: Claim, layout: Layout, tensors: Tensors) -> Tensors:
        with await self._predictions.hold(claim.pinned) as held:
            return (await held.predict(tensors, layout.wanted, _TERMS)).outputs

    # --- the result ---

    def _assemble(self, claim: Claim, layout: Layout) -> None:
        """Make the result of the parts; doing it again gives the same bytes."""
        blobs = self._backend.blobs
        limit = self._settings.registry.max_blob_bytes

        def result() -> Iterator[bytes]:
            for piece in render(claim.request.output, map(blobs.read, self._claims.parts(claim)), layout):
                self._keep(claim)
                yield piece

        blob = blobs.put(result(), limit_bytes=limit)
        # between these lines nothing protects it but its age, so look again once it is protected
        self._backend.lease_blobs([blob.digest], holder_of(claim))
        if blobs.find(blob.digest) is None:
            blob = blobs.put(result(), limit_bytes=limit)
        self._claims.succeed(claim, blob.digest, blob.size)

    # --- waiting ---

    def _wait_for(self, claim: Claim, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where predictions run, and keep the claim meanwhile."""
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return asked.result(timeout=min(self._renew_seconds, 0.5))
            except TimeoutError:
                if asked.done():  # it ended just now, or with a TimeoutError of its own
                    return asked.result()
                try:
                    self._keep(claim)
                except BaseException:
                    asked.cancel()
                    raise

    def _pause(self, claim: Claim, seconds: float) -> None:
        until = time.monotonic() + min(seconds, _LONGEST_PAUSE_SECONDS)
        while time.monotonic() < until:
            self._keep(claim)
            self._ending.wait(min(self._renew_seconds, 0.5))

    def _keep(self, claim: Claim) -> None:
        """Stop when this process ends, and renew the claim when that is due."""
        if self._ending.is_set():
            raise _StoppedError
        if time.monotonic() - self._renewed_at > self._renew_seconds:
            self._claims.renew(claim)
            self._renewed_at = time.monotonic()


def _as_file(stream: BinaryIO) -> BinaryIO:
    """Return a file that another process can read: the stream itself, or what it holds on this machine's disk."""
    try:
        stream.fileno()
    except (OSError, AttributeError):
        pass
    else:
        return stream
    copy = TemporaryFile()  # noqa: SIM115 - the caller closes it
    with stream:
        while piece := stream.read(_COPY_BYTES):
            copy.write(piece)
    copy.seek(0)
    return copy
