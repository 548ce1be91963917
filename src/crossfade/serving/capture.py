"""`Capture`: a sample of predictions, kept with their inputs and outputs to be put to other versions later.

A captured prediction costs its request a copy of small arrays and a place in a queue that is bounded in bytes; one
thread does everything else. When the queue is full, because the disk is slow, what comes is dropped, and counted.
A crash loses what has not been written yet, at most what `capture.file_seconds` gathered.

Nothing is kept of a version that lacks a field which the policy names: it may be misspelt, and was to be kept from us.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from hashlib import blake2b
from pathlib import Path

import msgspec

from crossfade.core.tensors import Array, Tensors, row_count
from crossfade.serving.capture_files import Captured, Origin, check_installed, delete_old, write_file
from crossfade.serving.naming import unfit_policy, unknown_fields
from crossfade.serving.slots import Slot
from crossfade.settings import CaptureRules, CaptureSettings

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often the queue is emptied."""
PRUNE_SECONDS = 60.0
_END_SECONDS = 5.0
_HASH_BYTES = 16
_PURPOSE = b"crossfade-field"


class _File:
    """What will be the next file of one version."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.began_at = time.monotonic()
        self.captured: list[Captured] = []
        self.rows = 0
        self.size_bytes = 0


class Capture:
    """Captures on the event loop, writes on a thread of its own.

    Args:
        settings: Of which models, how much, where.
        folder: Where to.
        secret: Of the deployment, for hashes of fields: equal values have equal hashes, and nobody else can try values.

    Attributes:
        rows: How many rows were `written`, were `dropped` because too much waited, `failed` to be written, or were
            `refused` because the policy does not fit the version.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, settings: CaptureSettings, folder: Path, secret: bytes) -> None:
        check_installed()
        self.rows: Counter[str] = Counter(written=0, dropped=0, failed=0, refused=0)
        self._settings = settings
        self._folder = folder
        self._hash = blake2b(key=secret, digest_size=_HASH_BYTES, person=_PURPOSE)
        self._queue: deque[tuple[Slot, Captured, int]] = deque()
        self._unfit: dict[str, str] = {}
        """Digest of a version -> why nothing of it is captured; empty when its policy fits."""
        self._offered_bytes = 0
        self._done_bytes = 0
        """The difference is what waits: one is touched by the event loop only, the other by the thread only."""
        self._files: dict[str, _File] = {}
        self._prune_at = 0.0
        self._writes = True
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-capture", daemon=True)
        self._thread.start()

    def offer(self, slot: Slot, inputs: Tensors, outputs: Tensors, request_id: str) -> None:
        """Capture a prediction, if it is one of the sample and there is room; its inputs passed `signature.check`."""
        rules = self._settings.models.get(slot.name)
        if rules is None or random.random() >= rules.ratio or not row_count(inputs):  # noqa: S311 - a sample
            return
        if self._problem(slot, rules):
            self.rows["refused"] += row_count(inputs)
            return
        size = sum(map(_size, (*inputs.values(), *outputs.values())))
        if self._offered_bytes - self._done_bytes + size > self._settings.max_waiting_bytes:
            self.rows["dropped"] += row_count(inputs)
            return
        self._offered_bytes += size
        self._queue.append((slot, Captured(request_id, time.time_ns(), _own(inputs), _own(outputs)), size))

    def problems(self) -> list[str]:
        """Say why nothing is captured of some versions."""
        return sorted(filter(None, self._unfit.values()))

    def close(self) -> None:
        """Write what waits, within five seconds."""
        self._ending.set()
        self._thread.join(_END_SECONDS)

    def _problem(self, slot: Slot, rules: CaptureRules) -> str:
        known = self._unfit.get(slot.digest)
        if known is None:
            fields = unknown_fields(rules, slot.signature)
            known = self._unfit[slot.digest] = unfit_policy(f"{slot.name}:{slot.version}", fields) if fields else ""
            if known:
                _log.warning(known)
        return known

    # --- on the thread ---

    def _run(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self._step(time.monotonic())
        self._step(float("inf"))

    def _step(self, now: float) -> None:
        try:
            self._gather()
            crowded = 2 * sum(file.size_bytes for file in self._files.values()) > self._settings.max_waiting_bytes
            for digest, file in list(self._files.items()):
                if crowded or now - file.began_at >= self._settings.file_seconds:
                    del self._files[digest]
                    self._write(file)
            if self._prune_at <= now:
                self._prune_at = now + PRUNE_SECONDS
                delete_old(self._folder, time.time() - self._settings.retention_seconds)
        except Exception:  # noqa: BLE001 - a capture is worth less than answers
            _log.exception("the capture is interrupted")

    def _gather(self) -> None:
        while self._queue:
            slot, captured, size = self._queue.popleft()
            try:
                self._add(slot, captured, size)
            except Exception:  # noqa: BLE001 - one that cannot be kept must not keep its place in the budget
                _log.exception("a captured prediction of `%s` cannot be kept", slot.ref)
                self.rows["failed"] += row_count(captured.inputs)
                self._done_bytes += size

    def _add(self, slot: Slot, captured: Captured, size: int) -> None:
        file = self._files.get(slot.digest)
        if file is None:
            file = self._files[slot.digest] = _File(self._origin(slot))
        file.captured.append(msgspec.structs.replace(captured, inputs=slot.signature.check(captured.inputs)))
        file.rows += row_count(captured.inputs)
        file.size_bytes += size
        if file.rows >= self._settings.max_file_rows or file.size_bytes >= self._settings.max_file_bytes:
            del self._files[slot.digest]
            self._write(file)

    def _write(self, file: _File) -> None:
        try:
            write_file(self._folder, file.origin, file.captured, self._hashed)
        except Exception as error:  # noqa: BLE001 - whatever a disk or a library does, predictions go on
            self.rows["failed"] += file.rows
            if self._writes:
                _log.warning("captured predictions cannot be written: %s", error)
            self._writes = False
        else:
            self.rows["written"] += file.rows
            self._writes = True
        finally:
            self._done_bytes += file.size_bytes

    def _origin(self, slot: Slot) -> Origin:
        rules = self._settings.models[slot.name]
        return Origin.of(slot.name, slot.version, slot.digest, slot.signature, lambda name: _keeps(rules, name))

    def _hashed(self, value: bytes) -> str:
        state = self._hash.copy()
        state.update(value)
        return state.hexdigest()


def _keeps(rules: CaptureRules, name: str) -> bool | None:
    """Tell whether a field is kept; None: only a hash of it."""
    if name in rules.exclude or (rules.include and name not in rules.include):
        return False
    return None if name in rules.hashed else True


def _own(tensors: Tensors) -> Tensors:
    """Copy views, so that a few rows do not keep the whole batch that they are part of."""
    return {name: value if value.base is None else value.copy() for name, value in tensors.items()}


def _size(value: Array) -> int:
    texts = sum(len(item) for item in value.flat if item is not None) if value.dtype == object else 0
    return value.nbytes + texts
