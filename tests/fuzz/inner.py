"""Targets: what the server reads from its own surroundings: model processes, stores, files, and uploaded documents."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pyarrow as pa

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import (
    CrossfadeError,
    InvalidPageError,
    LoadFailedError,
    MalformedRequestError,
    ModelCrashedError,
    PredictionError,
)
from crossfade.jobs.chunks import Chunk, ReadTask, decode_chunk, encode_chunk
from crossfade.jobs.reading import read_chunks
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.mending import mended
from crossfade.ledger.records import Began, Ended, Exposures, Outcomes, decode_record, encode_record, salvage
from crossfade.ledger.store import sound
from crossfade.registry.acceptance import check_golden, read_card, read_manifest
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.pages import number_cursor, page_of, text_cursor
from crossfade.registry.versions import Card, FileEntry, Manifest
from crossfade.serving.frames import decode_frame, encode_frame
from crossfade.serving.isolation.host import IsolatedModel
from crossfade.serving.isolation.messages import (
    MAX_PACKET_BYTES,
    Answered,
    Ask,
    Crowded,
    Failed,
    Load,
    Loaded,
    Started,
    decode_reply,
    decode_request,
    encode,
    error_of,
)
from crossfade.serving.isolation.process import ModelProcess
from crossfade.serving.isolation.region import Region, sealed_bytes
from crossfade.storage.frames import Damage, Frame, marker_of, pack_frame, read_frames
from crossfade.traffic.last_known_good import FILE_NAME, LastKnownGood
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from tests.fuzz.target import Target, refuse

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))
MIXED = Signature(
    (TensorSpec("a", "FP64", (-1,), missing=True), TensorSpec("b", "BYTES", (-1,)), TensorSpec("c", "INT64", (-1,))),
    (TensorSpec("predict", "FP64", (-1,)),),
)
WANTED = frozenset({"predict"})


def frames(data: bytes) -> None:
    outputs = decode_frame(data)
    again = encode_frame(outputs)
    assert again is None or list(decode_frame(again)) == list(outputs)


def replies(data: bytes) -> None:
    reply = decode_reply(memoryview(data))
    if isinstance(reply, Failed):
        raise error_of(reply, "m:1.0.0")


def orders(data: bytes) -> None:
    """What a model process reads; the server wrote it, so an exception would end a process that did nothing wrong."""
    decode_request(data)


# --- a hostile model process -----------------------------------------------------------------------------------------


class _Said(ModelProcess):
    """A model process of which only what it says is real; it has ended already."""

    def __init__(self, packets: list[bytes]) -> None:
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._seconds = -1.0
        self._buffer = _BUFFER
        self._process = SimpleNamespace(pid=0, poll=lambda: 0, wait=lambda: 0)  # type: ignore[assignment]
        for packet in filter(None, packets):
            self._theirs.send(packet)
        self._theirs.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        super().close()
        self._theirs.close()


_BUFFER = memoryview(bytearray(MAX_PACKET_BYTES))
_SPLIT = b"\xfe|\xfe"


def hostile_process(data: bytes) -> None:
    """Three packets and what is in the shared memory, with a separator between them."""
    *packets, shared = [*data.split(_SPLIT, 3), b""][:4] if data.count(_SPLIT) < 3 else data.split(_SPLIT, 3)
    nursery = SimpleNamespace(take=lambda _: _Said([encode(Loaded(())), *packets]), learn=lambda _: None)
    host = IsolatedModel(
        Load(0),
        sealed_bytes([b""]),
        ref="m:1.0.0",
        signature=SIGNATURE,
        digest="d",
        nursery=nursery,  # type: ignore[arg-type]
        load_seconds=1.0,
        hang_seconds=1.0,
    )
    try:
        host.start()
        host._region = Region.create(len(shared))
        host._region.write(shared)
        answer = host.pipeline().predict({"x": np.array([1.0])}, WANTED)
        assert answer["predict"].dtype == np.float64
    finally:
        host.close()


# --- documents of a version ------------------------------------------------------------------------------------------


def manifest(data: bytes) -> None:
    try:
        sent = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    else:
        _refused(read_manifest, sent)
    found = read_manifest(data)
    assert read_manifest(found.encode()) == found


def card(data: bytes) -> None:
    found = read_card(data, "m:1.0.0")
    assert read_card(canonical_json(found), "m:1.0.0") == found


def golden(data: bytes) -> None:
    first, second = _MANIFESTS
    _refused(check_golden, data, first)
    check_golden(data, second)


def _refused(check: Callable[..., object], *arguments: object) -> None:
    """Check something that may be refused."""
    try:
        check(*arguments)
    except CrossfadeError as error:
        refuse(error)


def _manifest(signature: Signature) -> Manifest:
    digest = sha256(b"")
    files = (
        FileEntry("card.json", digest, 2, "application/json", "card"),
        FileEntry("model/model.onnx", digest, 0, "application/octet-stream", "model"),
    )
    return Manifest("churn", "1.2.0", "onnx", files, signature)


_MANIFESTS = [_manifest(SIGNATURE), _manifest(MIXED)]
_TEXT = np.array(["ab", ""], dtype=object)
_GOLDEN = (
    GoldenRequests({"x": np.array([1.0, 2.5])}, {"predict": np.array([0.1, np.nan])}).encode(),
    GoldenRequests(
        {"a": np.array([1.0, np.nan]), "b": _TEXT, "c": np.array([1, 2])}, {"predict": np.array([1.0, 2.0])}
    ).encode(),
)
_CARD = Card(
    description="what it is",
    evaluation={"auc": 0.9},
    tags={"team": "growth"},
    parameters={"depth": 3, "weights": [0.1, None], "nested": {"a": True}},
    parents=("m:1.0.0",),
    source="models:/m/3",
)

# --- lists, snapshots, jobs ------------------------------------------------------------------------------------------


def cursors(data: bytes) -> None:
    text = data.decode("latin-1")
    for read in (text_cursor, number_cursor):
        with contextlib.suppress(InvalidPageError):
            key = read("jobs", text)
            assert read("jobs", page_of("jobs", [key] * 2, 1, str).next_cursor) == key or not text


def last_known_good(data: bytes) -> None:
    (_HOME / FILE_NAME).write_bytes(data)
    found = LastKnownGood(_HOME, _URL).find()
    if found is not None:
        snapshot, age = found
        assert age >= 0.0
        assert len(snapshot.digest) == 64
        for name in snapshot.models:
            snapshot.route(name).generation("1.0.0")


_FOLDER = tempfile.TemporaryDirectory(prefix="crossfade-fuzz-")  # removed when the process ends
_HOME = Path(_FOLDER.name)
_URL = "sqlite:///crossfade.db"


def _kept() -> bytes:
    route = Route(
        "m",
        "1.0.0",
        {"champion": "1.0.0"},
        (Aspired("1.0.0", sha256(b""), 7, Role.ACTIVE, "", 1),),
        {"champion": ("0.9.0",)},
        generations={"": 3},
    )
    LastKnownGood(_HOME, _URL).keep(Snapshot(7, {"m": route}))
    return (_HOME / FILE_NAME).read_bytes()


def _read_job(kind: str, data: bytes) -> None:
    """What the reading process does with a file, and the server with what that says."""
    signature = (MIXED, SIGNATURE, _MATRIX)[data[0] % 3] if data else MIXED
    keep = ("k",) if data[:1] > b"\x7f" else ()
    task = ReadTask(kind, signature, keep, 16, 0, len(data))  # type: ignore[arg-type]
    for chunk in read_chunks(io.BytesIO(data[1:]), task):
        found, pieces = decode_chunk(encode_chunk(chunk))
        json.dumps(found.kept)
        for piece in pieces:
            signature.check(piece)


_READER_SECONDS = 1.0
"""Every row that does not fit is explained, in a process of its own that has limits: that takes 25 us a row."""


def job_csv(data: bytes) -> None:
    _read_job("csv", data)


def job_jsonl(data: bytes) -> None:
    _read_job("jsonl", data)


def job_arrow(data: bytes) -> None:
    _read_job("arrow", data)


def journal(data: bytes) -> None:
    """What a shipper does with a file of a journal: frames that we wrote, whatever was written over them."""
    head, body = data[:1], data[1:]
    for part in read_frames(io.BytesIO(body), _MARKER, 0, len(body)):
        payload = body[part.start : part.end] if isinstance(part, Damage) else part.payload
        _events(payload)
    if head > b"\x7f":  # the same bytes as the content of an intact frame
        (part,) = read_frames(io.BytesIO(frame := pack_frame(_MARKER, 1, body)), _MARKER, 0, len(frame))
        assert isinstance(part, Frame)
        assert part.payload == body


def _events(payload: bytes) -> None:
    try:
        record = decode_record(payload)
    except msgspec.DecodeError:
        exposures, outcomes, unread = salvage(payload)
        assert exposures or outcomes or unread
    else:
        events = getattr(record, "events", [])
        exposures = [event for event in events if isinstance(event, Exposure)]
        outcomes = [event for event in events if isinstance(event, Outcome)]
    for kept in filter(None, map(mended, exposures)):
        assert mended(kept) == kept
        assert "\0" not in kept.unit
        msgspec.json.decode(msgspec.json.encode(kept.context), type=dict[str, float])
    assert all("\0" not in event.unit for event in outcomes if sound(event))


_MARKER = marker_of("fuzz.log")
_EXPOSURES = encode_record(Exposures([Exposure("a", 1, "e", 1, "v", "u", dimensions={"k": "v"}, context={"x": 1.0})]))
_OUTCOMES = encode_record(Outcomes([Outcome("a", 1, "n", 1.0, "d"), Outcome("b", 1, "n", 0.0, "", "e", "u")]))
_JOURNALS = tuple(
    head + b"".join(pack_frame(_MARKER, number, payload) for number, payload in enumerate(payloads, start=1))
    for head in (b"\x00", b"\xff")
    for payloads in ((encode_record(Began({"e": 1})), _EXPOSURES, _OUTCOMES, encode_record(Ended())), (_OUTCOMES,))
)


def job_chunk(data: bytes) -> None:
    decode_chunk(data)


_MATRIX = Signature((TensorSpec("x", "FP64", (-1, 2)),), SIGNATURE.outputs)


def _arrow(table: pa.Table, *, file: bool) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue()


_TABLE = pa.table({"a": [1.0, None] * 4, "b": ["x", "y"] * 4, "c": range(8), "k": [{"z": 1}] * 8})
_FRAME = encode_frame({"predict": np.array([2.0])}) or b""
_TEXT_FRAME = encode_frame({"predict": _TEXT, "x": np.ones((2, 2), np.float32)}) or b""
_JSON_WORDS = (b"null", b"1e999", b"-1", b"9223372036854775808", b'"\\ud800"', b'"\\u0000"', b"[]", b"{}", b"[[", b'""')
_PACK_WORDS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xcf" + b"\xff" * 8,
    b"\x90",
    b"\xc0",
)

TARGETS = (
    Target("frames", frames, (_FRAME, _TEXT_FRAME), (*_PACK_WORDS, b"BYTES", b"FP64", b"BOOL"), (ValueError,)),
    Target(
        "replies",
        replies,
        tuple(
            map(
                encode,
                (
                    Started(("seccomp",)),
                    Loaded(("sklearn",)),
                    Answered(_FRAME, 0, 0.5),
                    Crowded(2**20),
                    Failed("signature_mismatch", {"field": "x", "expected": "a", "given": None}),
                    Failed("prediction_failed", {"problem": "no", "ref": 7}),
                ),
            )
        ),
        (*_PACK_WORDS, b"Failed", b"Answered", b"untrusted_types", b"load_failed", b"missing_extra"),
        (ValueError, CrossfadeError),
    ),
    Target(
        "orders",
        orders,
        (encode(Load(3)), encode(Ask(("predict",), _FRAME, 0))),
        _PACK_WORDS,
        (msgspec.MsgspecError, ValueError),
    ),
    Target(
        "hostile_process",
        hostile_process,
        (
            encode(Answered(_FRAME)) + _SPLIT * 3,
            encode(Answered(b"", len(_FRAME))) + _SPLIT * 3 + _FRAME,
            encode(Crowded(2**21)) + _SPLIT + encode(Answered(_FRAME)) + _SPLIT * 2,
            encode(Failed("prediction_failed", {"problem": "no"})) + _SPLIT * 3,
        ),
        (*_PACK_WORDS, _SPLIT, b"Crowded", b"Answered", b"Failed", b"Loaded"),
        (ModelCrashedError, PredictionError, LoadFailedError, CrossfadeError),
    ),
    Target(
        "manifest",
        manifest,
        tuple(item.encode() for item in _MANIFESTS),
        (*_JSON_WORDS, b'"signature"', b'"placement"', b'"classes"'),
    ),
    Target("journal", journal, (*_JOURNALS, b"\x00" + _OUTCOMES), (*_PACK_WORDS, _MARKER), ()),
    Target("card", card, (canonical_json(_CARD), b"{}"), (*_JSON_WORDS, b'"parameters"', b'"evaluation"')),
    Target(
        "golden", golden, _GOLDEN, (*_JSON_WORDS, b'"inputs"', b'"outputs"', b'"shape"', b'"base64"', b'"tolerance"')
    ),
    Target("cursors", cursors, (b"am9iczo3", b"am9iczphYg=="), (b"==", b"-_"), (InvalidPageError,)),
    Target("last_known_good", last_known_good, (_kept(),), (*_JSON_WORDS, b'"aspired"', b'"generations"'), ()),
    Target(
        "job_csv",
        job_csv,
        (b"\x00a,b,c,k\n1.5,x,7,\n,y,8,1\n", b"\x82x,k\n1,2\n", b"\x02p,q\n1,2\n3,x\n"),
        (b'"', b"\n", b",", b"\xff", b"\x00"),
        (MalformedRequestError,),
        _READER_SECONDS,
    ),
    Target(
        "job_jsonl",
        job_jsonl,
        (
            b'\x00{"a": 1, "b": "x", "c": 7}\n\n{"a": null, "b": "y", "c": 8}\n',
            b'\x82{"x": 1, "k": {"z": [1]}}\n[2]\n',
            b"\x02[1, 2]\n[3]\n",
        ),
        _JSON_WORDS,
        (MalformedRequestError,),
        _READER_SECONDS,
    ),
    Target(
        "job_arrow",
        job_arrow,
        (b"\x00" + _arrow(_TABLE, file=True), b"\x82" + _arrow(_TABLE.rename_columns([*"xbck"]), file=False)),
        (b"\xff" * 4,),
        (MalformedRequestError,),
        _READER_SECONDS,
    ),
    Target(
        "job_chunk",
        job_chunk,
        (encode_chunk(Chunk(2, (_FRAME,), {1: "no"}, {"k": [1, None]}, 9)),),
        _PACK_WORDS,
        (MalformedRequestError,),
    ),
)
