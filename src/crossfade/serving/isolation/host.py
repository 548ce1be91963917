"""`IsolatedModel`: one version in a model process, started again when it ends, and given up when it ends too often."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from crossfade.core.tensors import Label, Signature, Tensors, TensorSpec
from crossfade.errors import LoadFailedError, ModelCrashedError, NotServedError, PredictionError
from crossfade.registry.flavors.port import Runnable, TrustPolicy
from crossfade.registry.loading import read_files
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import Placement
from crossfade.registry.versions import Manifest, Role
from crossfade.serving.fingerprints import Fingerprints
from crossfade.serving.frames import decode_frame, encode_frame
from crossfade.serving.isolation.messages import (
    MAX_FRAME_BYTES,
    Answered,
    Ask,
    Blob,
    Contents,
    Crowded,
    Failed,
    Load,
    Loaded,
    Message,
    Reply,
    encode,
    error_of,
    member_rows_of,
)
from crossfade.serving.isolation.messages import Region as NewRegion
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.isolation.process import ModelProcess, ProcessEndedError
from crossfade.serving.isolation.region import Region, sealed_bytes
from crossfade.serving.isolation.suspects import Suspects
from crossfade.settings import ServingSettings
from crossfade.storage.blobs.port import BlobReader

_log = logging.getLogger(__name__)

CRASHES = 5
WITHIN_SECONDS = 60.0
"""A version whose process ended so often in so many seconds is given up: what asks it harms those who ask others."""
_HANGS_COUNT = 2
"""A process that had to be ended counts as so many: while it hung, nobody was answered."""
GRACE_SECONDS = 1.0
"""A process is ended so long after the deadline of its request, who has heard by then that it is too late."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a process is started again, doubled each time, and up to half of it more at random."""
_NOT_LOADED: set[Role] = {"golden", "card", "code"}
"""Files that loading a version does not read."""
_LOAD_SHARE = 0.9
"""Of the time a version has to become ready: the rest is for its golden requests."""
_MAX_ANSWER_BYTES = 256 * 2**20


class Allowance(msgspec.Struct, frozen=True):
    """What one model process gets of the machine; by default no less than every other.

    Args:
        memory_bytes: Private memory; 0 = as the settings say.
        processors: Which processors its threads run on; none = all.
        gpus: Which GPUs it sees; None = all.
    """

    memory_bytes: int = 0
    processors: frozenset[int] = frozenset()
    gpus: tuple[str, ...] | None = None


class IsolatedModel:
    """A version that runs in a process of its own. As a flavor's `Runnable`, it is called from one thread at a time.

    Args:
        load: What makes a process this version.
        files: File descriptor of the sealed memory that goes with it; closed with the model.
        ref: What errors call it.
        signature: Of the version.
        nursery: Where processes come from.
        load_seconds: How long loading may take.
        hang_seconds: How long an answer may take before the process is ended, unless somebody waits longer for it.

    Attributes:
        ends: How often a process ended, by reason.
        signature: Of the version.
        suspects: Requests that ended its process; may be shared with other processes of the version.
        hang_seconds: How long an answer may take before the process is ended.
        preprocess_seconds: How long the last call took until the model itself was called, as its process says.
        member_rows: Of an ensemble: what became of the rows of the last call with each member, as its process says.
        given_up: Why it is not tried any more, in words; empty while it is.
        on_given_up: Called then, on the thread that asked.
    """

    inputs: tuple[TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[Label, ...] = ()
    matrix = False

    def __init__(
        self,
        load: Load,
        files: int,
        *,
        ref: str,
        signature: Signature,
        digest: str,
        nursery: Nursery,
        load_seconds: float,
        hang_seconds: float,
    ) -> None:
        self.outputs = signature.outputs
        self.ends: dict[str, int] = {}
        self.given_up = ""
        self.preprocess_seconds = 0.0
        self.member_rows: dict[tuple[str, str], int] = {}
        self.on_given_up: Callable[[], None] = _nothing
        self.signature = signature
        self._load = load
        self._processors: frozenset[int] = frozenset()
        self._digest = digest
        self._files = files
        self._file_bytes = os.fstat(files).st_size  # who asks later may come when they are closed
        self._ref = ref
        self._nursery = nursery
        self._load_seconds = load_seconds
        self.hang_seconds = hang_seconds
        self.suspects = Suspects(Fingerprints(os.urandom(32), digest, 0, signature), ref)
        self._waited_seconds = 0.0
        self._spared = False
        self._start_seconds = 0.0
        self._crashes: deque[float] = deque()
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0
        self._region: Region | None = None
        self._holding = threading.Lock()
        self._closing = threading.Event()
        self._running: list[ModelProcess] = []
        self._end = weakref.finalize(self, _end, self._running, files)

    @property
    def pid(self) -> int | None:
        """Of its process, while it has one."""
        return self._running[0].pid if self._running else None

    @property
    def size_bytes(self) -> int:
        """The memory of its process, and its files, which are kept to start it again."""
        return sum(process.size_bytes for process in self._running) + self._file_bytes

    def start(self) -> None:
        """Start the process, and load the version.

        Raises:
            CrossfadeError: It cannot be loaded; the error is the one that loading raised.
        """
        started = time.monotonic()
        try:
            process = self._nursery.take(self._ref)
            self._adopt(process)
            reply = process.receive(seconds=self._load_seconds)
        except (ProcessEndedError, OSError) as error:
            self._drop()
            raise LoadFailedError(ref=self._ref, problem=str(error)) from error
        if isinstance(reply, Loaded):
            self._nursery.learn(reply.packages)
            self._start_seconds = time.monotonic() - started
            return
        self._drop()
        if isinstance(reply, Failed):
            raise error_of(reply, self._ref)
        raise LoadFailedError(ref=self._ref, problem="its process did not say that it has loaded")

    def another(self, allowance: Allowance) -> IsolatedModel:
        """Return the same version for one more process: it shares the files, which lie in memory once, and suspects."""
        model = IsolatedModel(
            msgspec.structs.replace(self._load, memory_bytes=allowance.memory_bytes, gpus=allowance.gpus),
            os.dup(self._files),
            ref=self._ref,
            signature=self.signature,
            digest=self._digest,
            nursery=self._nursery,
            load_seconds=self._load_seconds,
            hang_seconds=self.hang_seconds,
        )
        model._processors = allowance.processors
        model.suspects = self.suspects
        return model

    def end(self, problem: str) -> None:
        """End a process that lives and is of no use; the next one follows as after a crash. On the asking thread."""
        self._crashed(ProcessEndedError("probe", problem))

    def lost(self) -> str:
        """Say how its process ended while nobody asked it anything; empty when it lives. On the asking thread."""
        if not self._running:
            return self.given_up or "it has no process yet"
        error = self._running[0].end()
        if error is None:
            return ""
        self._crashed(error)
        return error.problem

    @contextmanager
    def bounded(self, seconds: float, *, spared: bool) -> Iterator[None]:
        """Say of the calls of a `with` block how long somebody waits for them, and whether their end is forgiven.

        One that is spared does not count towards being given up; others of its kind rest for a while instead.
        """
        self._waited_seconds, self._spared = seconds, spared
        try:
            yield
        finally:
            self._waited_seconds, self._spared = 0.0, False

    def pipeline(self) -> Pipeline:
        """Return what holds the answers of the model to its signature; it arranges its inputs itself."""
        return self.pipeline_of(self)

    def pipeline_of(self, runnable: Runnable) -> Pipeline:
        """Return the same around something that asks the model."""
        return Pipeline(msgspec.structs.replace(self.signature, layout="tensors"), runnable, ref=self._ref)

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs, unchecked.

        Args:
            inputs: Tensors by name.
            wanted: Names of outputs.

        Raises:
            ModelCrashedError: Its process ended, or had to be ended.
            NotServedError: It has been given up.
            PredictionError, SignatureMismatchError: What the model says.
        """
        if not isinstance(inputs, dict):
            raise PredictionError(ref=self._ref, problem="it takes tensors")
        frame = encode_frame(inputs)
        if frame is None:
            raise PredictionError(ref=self._ref, problem="an input holds objects that are neither text nor bytes")
        self.restart()
        asked = time.monotonic()
        try:
            return self._ask(frame, wanted)
        except ProcessEndedError as error:
            self.suspects.add(inputs, wanted)
            if self._spared:
                self.suspects.rest(time.monotonic() - asked + self._start_seconds)
            self._crashed(error, counted=not self._spared)
            raise ModelCrashedError(ref=self._ref, problem=error.problem) from error

    def restart(self) -> None:
        """Start the process again if it has ended, after a pause that grows.

        Raises:
            ModelCrashedError: It cannot be started.
            NotServedError: It has been given up.
        """
        if self._running:
            return
        if not self.given_up:
            self._closing.wait(max(0.0, self._not_before - time.monotonic()))
        if self.given_up:
            raise NotServedError(ref=self._ref, problem=self.given_up)
        try:
            self.start()
        except LoadFailedError as error:
            self._crashed(ProcessEndedError("load", str(error.facts["problem"])))
            raise ModelCrashedError(ref=self._ref, problem=f"it cannot be started again: {error}") from error

    def try_again(self) -> None:
        """Forget that it was given up: it has rested. On the asking thread."""
        if not self._closing.is_set():
            self._crashes.clear()
            self.given_up = ""

    def refusal(self, tensors: Tensors, wanted: frozenset[str]) -> Exception | None:
        """Say why a request must not be put to it, or None."""
        return self.suspects.refusal(tensors, wanted)

    def rest_seconds(self) -> float:
        """Return how long batch requests have to wait, because one of them has just ended its process."""
        return self.suspects.rest_seconds

    def kill(self) -> None:
        """End the process, from any thread, and start no other; whoever waits for an answer gets an error."""
        self.given_up = self.given_up or "it is unloaded"
        self._closing.set()
        with self._holding:
            for process in self._running:
                process.kill()

    def close(self) -> None:
        """End the process, and let go of everything. Nobody may be waiting for an answer."""
        self.kill()
        self._drop()
        self._end()

    def _adopt(self, process: ModelProcess) -> None:
        """Make a process this version's, unless that has been closed meanwhile."""
        with self._holding:
            if self._closing.is_set():
                process.close()
                raise ProcessEndedError("exit", self.given_up)
            self._running.append(process)
            process.run_on(self._processors)
            process.send(self._load, self._files, seconds=self._load_seconds)

    def _ask(self, frame: bytes, wanted: frozenset[str]) -> Tensors:
        started = time.perf_counter()
        if len(frame) <= MAX_FRAME_BYTES:
            reply = self._exchange(Ask(tuple(wanted), frame))
        else:
            fd = self._region_for(len(frame))
            assert self._region is not None  # noqa: S101 - it has just been made
            self._region.write(frame)
            reply = self._exchange(Ask(tuple(wanted), b"", len(frame)), fd)
        if isinstance(reply, Crowded):
            if reply.size > _MAX_ANSWER_BYTES:
                raise PredictionError(ref=self._ref, problem=f"its answer has more than {_MAX_ANSWER_BYTES} bytes")
            reply = self._exchange(NewRegion(), self._region_for(reply.size))
        if isinstance(reply, Failed):
            raise error_of(reply, self._ref)
        if not isinstance(reply, Answered):
            raise ProcessEndedError("protocol", "its process did not answer what it was asked")
        # what a process says about time is believed as far as it is possible
        self.preprocess_seconds = min(max(0.0, reply.preprocess_seconds), time.perf_counter() - started)
        self.member_rows = member_rows_of(reply)
        return self._unpacked(reply)

    def _unpacked(self, reply: Answered) -> Tensors:
        try:
            if reply.in_region and self._region is not None:
                return decode_frame(self._region.read(reply.in_region))
            return decode_frame(reply.frame)
        except ValueError as error:
            raise ProcessEndedError("protocol", f"its process sent something that is {error}") from error

    def _exchange(self, message: Message, fd: int | None = None) -> Reply:
        process = self._running[0]
        limit = self.hang_seconds
        if self._waited_seconds:
            limit = max(limit, self._waited_seconds + GRACE_SECONDS)
        process.send(message, fd, seconds=limit)
        return process.receive(seconds=limit)

    def _region_for(self, size: int) -> int | None:
        """Make sure of a region of so many bytes; returns its file descriptor when the process must be given it."""
        if self._region is not None and self._region.size >= size:
            return None
        if self._region is not None:
            self._region.close()
        self._region = None
        try:
            self._region = Region.create(size)
        except OSError as error:
            problem = f"there is no memory to share {size} bytes with its process ({error})"
            raise ModelCrashedError(ref=self._ref, problem=problem) from error
        return self._region.fd

    def _crashed(self, error: ProcessEndedError, *, counted: bool = True) -> None:
        self._drop()
        self.ends[error.reason] = self.ends.get(error.reason, 0) + 1
        now = time.monotonic()
        if counted:
            self._crashes.extend([now] * (_HANGS_COUNT if error.reason == "timeout" else 1))
        while self._crashes and self._crashes[0] < now - WITHIN_SECONDS:
            self._crashes.popleft()
        self._pause = _FIRST_PAUSE if len(self._crashes) <= 1 else min(_LONGEST_PAUSE, 2 * self._pause)
        self._not_before = now + self._pause * random.uniform(1.0, 1.5)  # noqa: S311 - not a secret
        _log.warning("`%s`: %s", self._ref, error.problem)
        if len(self._crashes) >= CRASHES and not self.given_up:
            self.given_up = f"it is quarantined: it crashed or hung too often within a minute, lastly: {error.problem}"
            self.on_given_up()

    def _drop(self) -> None:
        """Let go of a process that has ended; it may still have the region, so the next one gets another."""
        with self._holding:
            while self._running:
                self._running.pop().close()
            if self._region is not None:
                self._region.close()
                self._region = None


def isolate(
    manifest: Manifest,
    blobs: BlobReader,
    policy: TrustPolicy,
    settings: ServingSettings,
    nursery: Nursery,
    *,
    placement: Placement | None = None,
) -> IsolatedModel:
    """Return a version that will run in a process of its own; `start` it, and close it.

    Args:
        manifest: The version.
        blobs: Its bytes.
        policy: What is trusted.
        settings: How long it may take, and where it runs unless `placement` says so.
        nursery: Where processes come from.
        placement: Where it runs.

    Raises:
        CorruptBlobError: A blob is missing or damaged.
        LoadFailedError: There is no memory for its files.
        UnavailableError: The blob store does not answer.
    """
    roles = sorted({entry.role for entry in manifest.files} - _NOT_LOADED)
    contents = {
        entry.digest: data
        for role in roles
        for entry, data in zip(manifest.files_of(role), read_files(manifest, blobs, role).values(), strict=True)
    }
    blobs_of = tuple(Blob(digest, len(data)) for digest, data in contents.items())
    rules = settings.of_model(manifest.name)
    head = encode(Contents(manifest.encode(), blobs_of, policy, placement or Placement(rules.device, rules.threads)))
    try:
        files = sealed_bytes([head, *contents.values()])
    except OSError as error:
        raise LoadFailedError(ref=manifest.ref, problem=f"there is no memory for its files ({error})") from error
    return IsolatedModel(
        Load(len(head)),
        files,
        ref=manifest.ref,
        signature=manifest.signature,
        digest=manifest.digest,
        nursery=nursery,
        load_seconds=_LOAD_SHARE * settings.ready_timeout_seconds,
        hang_seconds=rules.request_timeout_seconds + GRACE_SECONDS,
    )


def _end(processes: list[ModelProcess], files: int) -> None:
    """End what a model leaves behind, even when nobody closed it."""
    while processes:
        processes.pop().close()
    with suppress(OSError):
        os.close(files)


def _nothing() -> None:
    """Nobody wants to know."""
