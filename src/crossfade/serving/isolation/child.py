"""The model process: confines itself, becomes one version, and answers until the server hangs up.

Started as `python -P -m crossfade.serving.isolation.child '<Orders as JSON>'`.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from itertools import accumulate

import msgspec

from crossfade.core.child import end_with
from crossfade.core.memory import private_bytes, size
from crossfade.errors import LoadFailedError, PredictionError
from crossfade.registry.loading import load_pipeline
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.versions import Manifest
from crossfade.serving.frames import decode_frame, encode_frame
from crossfade.serving.isolation.confinement import Limits, confine, limit_memory
from crossfade.serving.isolation.messages import (
    MAX_FRAME_BYTES,
    MAX_PACKET_BYTES,
    Answered,
    Ask,
    Blob,
    Crowded,
    Load,
    Loaded,
    Reply,
    Request,
    Started,
    decode_contents,
    decode_request,
    encode,
    failure_of,
)
from crossfade.serving.isolation.region import Region

_FD = struct.Struct("i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_FD.size)
_NOBODY = "MODEL"


class Orders(msgspec.Struct, frozen=True):
    """What a model process is started with.

    Args:
        fd: Of its socket.
        parent: Process id of the server.
        packages: What to import before the model is there.
        limits: What it may use.
    """

    fd: int
    parent: int
    packages: tuple[str, ...]
    limits: Limits


class ModelServer:
    """Answers one server about one version.

    Args:
        channel: A socket of packets.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = memoryview(bytearray(MAX_PACKET_BYTES))
        self._ref = _NOBODY
        self._pipeline: Pipeline | None = None
        self._region: Region | None = None
        self._pending = b""

    def run(self) -> None:
        """Answer until the server hangs up."""
        while True:
            size, ancillary, _, _ = self._channel.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
            if size == 0:
                return
            fds = [_FD.unpack(data)[0] for _, _, data in ancillary]
            self._channel.send(encode(self._reply(decode_request(self._buffer[:size]), fds)))

    def _reply(self, request: Request, fds: list[int]) -> Reply:
        try:
            if isinstance(request, Load):
                return self._load(request, fds[0])
            if fds:
                self._exchange_region(fds[0])
            if isinstance(request, Ask):
                return self._packed(self._predict(request))
            return self._packed(self._pending)
        except SystemExit as error:  # a model is foreign code, and exiting is no answer
            return failure_of(PredictionError(ref=self._ref, problem=f"it tried to exit ({error})"), self._ref)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is reported
            return failure_of(error, self._ref)

    def _load(self, request: Load, fd: int) -> Reply:
        if request.memory_bytes:
            self._live_within(request.memory_bytes)
        if request.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(request.gpus)  # read when the first of them is used
        contents = decode_contents(_read_all(fd, 0, request.size))
        manifest = msgspec.json.decode(contents.manifest, type=Manifest)
        self._ref = manifest.ref
        before = set(sys.modules)
        blobs = _HandedBlobs(fd, request.size, contents.blobs)
        self._pipeline = load_pipeline(manifest, blobs, contents.policy, contents.placement)
        os.close(fd)
        return Loaded(tuple(sorted(_roots(set(sys.modules) - before))))

    def _live_within(self, memory_bytes: int) -> None:
        """Take a limit; refuse one that is exceeded already: as nothing is taken back, some models would run in it."""
        taken = private_bytes()
        limit_memory(memory_bytes)
        if taken > memory_bytes:
            problem = f"it may have {size(memory_bytes)} of memory, and takes {size(taken)} without its model"
            raise LoadFailedError(ref=self._ref, problem=problem)

    def _predict(self, request: Ask) -> bytes:
        if self._pipeline is None:
            raise PredictionError(ref=self._ref, problem="no model has been loaded")
        frame = request.frame
        if request.in_region and self._region is not None:
            frame = self._region.read(request.in_region)
        answer = encode_frame(self._pipeline.predict(decode_frame(frame), frozenset(request.wanted)))
        if answer is None:
            raise PredictionError(ref=self._ref, problem="an output holds objects that are neither text nor bytes")
        return answer

    def _packed(self, frame: bytes) -> Reply:
        preprocess = 0.0 if self._pipeline is None else self._pipeline.preprocess_seconds
        counts = {} if self._pipeline is None else self._pipeline.member_rows
        members = tuple((member, outcome, rows) for (member, outcome), rows in counts.items())
        if len(frame) <= MAX_FRAME_BYTES:
            return Answered(frame, 0, preprocess, members)
        if self._region is None or len(frame) > self._region.size:
            self._pending = frame
            return Crowded(len(frame))
        self._region.write(frame)
        self._pending = b""
        return Answered(b"", len(frame), preprocess, members)

    def _exchange_region(self, fd: int) -> None:
        former, self._region = self._region, None
        if former is not None:
            former.close()
        try:
            self._region = Region(fd)
        except OSError:
            os.close(fd)
            raise


class _HandedBlobs:
    """The bytes that came with a version. The server has checked them, and nobody can change them any more."""

    def __init__(self, fd: int, start: int, blobs: tuple[Blob, ...]) -> None:
        starts = accumulate((blob.size for blob in blobs), initial=start)
        self._places = {blob.digest: (start, blob.size) for blob, start in zip(blobs, starts, strict=False)}
        self._fd = fd

    def read(self, digest: str) -> bytes:
        start, size = self._places[digest]
        return _read_all(self._fd, start, size)


def _read_all(fd: int, start: int, size: int) -> bytes:
    """Read from a place, however large: one call returns 2 GiB at most."""
    parts: list[bytes] = []
    while size:
        parts.append(os.pread(fd, min(size, 2**30), start))
        start, size = start + len(parts[-1]), size - len(parts[-1])
    return b"".join(parts)


def _roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def main() -> None:
    """Start: import what is known to be needed, give up everything else, and say so."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    end_with(orders.parent)
    for package in orders.packages:
        with suppress(Exception):  # it was there when the server looked; loading the model will say what is wrong
            import_module(package)
    channel = socket.socket(fileno=orders.fd)
    channel.send(encode(Started(confine(orders.limits))))
    ModelServer(channel).run()


if __name__ == "__main__":
    main()
