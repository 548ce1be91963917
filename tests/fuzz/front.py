"""Targets: what anybody can send to the data plane. The first byte of an input chooses the signature."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib

import numpy as np
import pyarrow as pa

from crossfade.core.identity import ModelRef, Semver, check_file_path, check_name
from crossfade.core.tensors import DTYPES, Signature, Tensors, TensorSpec
from crossfade.errors import CrossfadeError
from crossfade.serving.fingerprints import Fingerprints
from crossfade.serving.frames import decode_frame, encode_frame
from crossfade.serving.protocol.answers import encode_answer
from crossfade.serving.protocol.binary import pack_tensor
from crossfade.serving.protocol.columnar import FILE, STREAM
from crossfade.serving.protocol.formats import NPY, RAW, answer_format, decode_body
from crossfade.serving.protocol.invocations import decode_invocation
from crossfade.serving.protocol.messages import message_class
from crossfade.serving.protocol.npy import write_npy
from crossfade.serving.protocol.oip import decode_request
from crossfade.serving.protocol.remote import decode_message, parse_message
from crossfade.settings import HttpSettings
from crossfade.web.calls import terms_of
from crossfade.web.compression import pack_body, unpack_body
from crossfade.web.guard import parse_length
from crossfade.web.paths import family_of, find_route
from crossfade.web.repository import _decode, _decode_index, _decode_object
from tests.fuzz.target import Target, refuse

MAX_ROWS = 1000
Y = TensorSpec("y", "FP64", (-1,))


def _columns(*datatypes: str, missing: bool = False) -> Signature:
    return Signature(
        tuple(TensorSpec(name.lower(), name, (-1,), missing=missing) for name in datatypes),
        (Y, TensorSpec("predict_proba", "FP64", (-1, 2))),
    )


SIGNATURES = (
    Signature((TensorSpec("x", "FP64", (-1, 2)),), (Y,)),
    Signature((TensorSpec("x", "BYTES", (-1,), missing=True),), (Y,)),
    Signature((TensorSpec("x", "BYTES", (-1, -1), text=False),), (Y,)),
    Signature((TensorSpec("x", "FP16", (-1, -1, -1), missing=True),), (Y,)),
    Signature((TensorSpec("x", "UINT8", (-1,)),), (Y,)),
    _columns("FP64", "FP32", missing=True),
    _columns("BOOL", "INT64", "UINT8", "BYTES"),
    _columns(*DTYPES, missing=True),
)
_FINGERPRINTS = [Fingerprints(b"secret", "digest", 0, signature) for signature in SIGNATURES]
_ALL = frozenset({"y"})


def _chosen(data: bytes) -> tuple[int, Signature, bytes]:
    number = data[0] % len(SIGNATURES) if data else 0
    return number, SIGNATURES[number], data[1:]


def _ask(number: int, tensors: Tensors) -> None:
    """What the server does with what a decoder returns, until a model gets it: check it, and look for a kept answer."""
    checked = SIGNATURES[number].check(tensors)
    assert all(checked[spec.name].dtype == DTYPES[spec.datatype] for spec in SIGNATURES[number].inputs)
    _FINGERPRINTS[number].of(checked, _ALL)
    frame = encode_frame(checked)
    assert frame is not None, "it holds what no model process can be sent"
    assert list(decode_frame(frame)) == list(checked)


def oip_json(data: bytes) -> None:
    number, signature, body = _chosen(data)
    request = decode_request(body, None, signature, MAX_ROWS)
    encode_answer("m", "1.0.0", {}, request_id=request.id, binary=request.binary)
    _ask(number, request.tensors)


def oip_binary(data: bytes) -> None:
    """Two bytes say how long the JSON part claims to be."""
    number, signature, rest = _chosen(data)
    length, body = int.from_bytes(rest[:2], "little"), rest[2:]
    request = decode_request(body, b"%d" % length, signature, MAX_ROWS)
    _ask(number, request.tensors)


def raw(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_request(body, b"0", signature, MAX_ROWS).tensors)
    _ask(number, decode_body(RAW.encode(), body, signature, MAX_ROWS, probabilities=False).tensors)


def invocations_json(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_invocation(b"application/json", body, signature, MAX_ROWS).tensors)


def invocations_csv(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_invocation(b"text/csv", body, signature, MAX_ROWS).tensors)


def rows(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_body(b"", body, signature, MAX_ROWS, probabilities=False).tensors)


def npy(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_body(NPY.encode(), body, signature, MAX_ROWS, probabilities=False).tensors)


def arrow_stream(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_body(STREAM.encode(), body, signature, MAX_ROWS, probabilities=False).tensors)


def arrow_file(data: bytes) -> None:
    number, signature, body = _chosen(data)
    _ask(number, decode_body(FILE.encode(), body, signature, MAX_ROWS, probabilities=False).tensors)


def remote(data: bytes) -> None:
    number, signature, body = _chosen(data)
    for name in ("RepositoryIndexRequest", "ModelReadyRequest"):
        parse_message(name, b"")
    request, _ = decode_message(parse_message("ModelInferRequest", body), signature, MAX_ROWS)
    _ask(number, request.tensors)


def compression(data: bytes) -> None:
    encoding = (b"gzip", b"deflate", b"x-gzip ", b"br")[data[0] % 4] if data else b""
    body = unpack_body(data[1:], encoding, 2**20)
    assert len(body) <= 2**20


def headers(data: bytes) -> None:
    """One header per line: time, priority, trace, accepted formats and codings, length."""
    parts = [*data.split(b"\n"), *[b""] * 6][:6]
    terms_of({b"x-request-timeout-ms": parts[0], b"x-request-priority": b"online", b"traceparent": parts[2]})
    answer_format(parts[3])
    pack_body(b"{}", parts[4])
    parse_length(parts[5])
    terms_of({b"x-request-priority": parts[1]})


def paths(data: bytes) -> None:
    path = data[: HttpSettings().max_header_bytes].decode("latin-1")
    family_of(path)
    find_route(path)


def names(data: bytes) -> None:
    """Every way in which a text becomes a name."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (ModelRef.parse, Semver.parse, check_name, check_file_path):
        try:
            known = parse(text)
        except CrossfadeError as error:
            refuse(error)
        else:
            assert parse(str(known)) == known


def index(data: bytes) -> None:
    _decode(data, _decode_object)
    _decode(data, _decode_index)


# --- well-formed inputs ----------------------------------------------------------------------------------------------


def _each(*bodies: bytes, signatures: tuple[int, ...] = tuple(range(len(SIGNATURES)))) -> tuple[bytes, ...]:
    return tuple(bytes([number]) + body for body in bodies for number in signatures)


def _document(*inputs: dict[str, object], **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def _input(name: str, datatype: str, shape: list[int], **more: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


_ALL_TYPES = [
    _input(
        name.lower(), name, [2], data=["a", None] if name == "BYTES" else [True, False] if name == "BOOL" else [1, 0]
    )
    for name in DTYPES
]
_OIP = (
    b"\x00" + _document(_input("x", "FP64", [2, 2], data=[[1.5, 2], [3, -0.0]]), id="7", outputs=[{"name": "y"}]),
    b"\x00" + _document(_input("x", "FP64", [1, 2], data=[1e308, 1]), parameters={"binary_data_output": True}),
    b"\x01" + _document(_input("x", "BYTES", [3], data=["a,b", "[]", None])),
    b"\x02" + _document(_input("x", "BYTES", [1, 2], data=[["ä", "\u2028"]])),
    b"\x03" + _document(_input("x", "FP16", [1, 2, 1], data=[[[1], [None]]])),
    b"\x04" + _document(_input("x", "UINT8", [0], data=[])),
    b"\x07" + _document(*_ALL_TYPES, outputs=[{"name": "y", "parameters": {"binary_data": True}}]),
)
_TEXTS = np.array(["ab", "", "c,d"], dtype=object)


def _binary(number: int, *arrays: tuple[str, str, np.ndarray]) -> bytes:
    tails = [pack_tensor(array) for _, _, array in arrays]
    described = [
        _input(name, datatype, list(array.shape), parameters={"binary_data_size": len(tail)})
        for (name, datatype, array), tail in zip(arrays, tails, strict=True)
    ]
    head = _document(*described)
    return bytes([number]) + struct.pack("<H", len(head)) + head + b"".join(tails)


_BINARY = (
    _binary(0, ("x", "FP64", np.ones((2, 2)))),
    _binary(1, ("x", "BYTES", _TEXTS)),
    _binary(2, ("x", "BYTES", _TEXTS.reshape(1, 3))),
    _binary(3, ("x", "FP16", np.ones((1, 2, 3), np.float16))),
    _binary(
        7,
        *(
            (name.lower(), name, np.zeros(1, dtype) if name != "BYTES" else _TEXTS[:1])
            for name, dtype in DTYPES.items()
        ),
    ),
)
_INVOCATIONS = (
    b'\x00{"inputs": [[1, 2.5], [3, null]]}',
    b'\x00{"instances": [{"x": [1, 2]}, {"x": [3, NaN]}]}',
    b'\x00{"inputs": {"a": [1, 2], "b": [3, -Infinity]}, "params": {}}',
    b'\x01{"dataframe_split": {"columns": ["x"], "index": [0, 1], "data": [["a"], [null]]}}',
    b'\x02{"inputs": {"x": [["YWI=", ""]]}}',
    b'\x05{"dataframe_records": [{"fp64": 1, "fp32": "2.5"}, {"fp32": null}]}',
    b'\x06{"dataframe_split": {"columns": ["bool", "int64", "uint8", "bytes"], "data": [[true, 7, 255, "a"]]}}',
    b'\x07{"inputs": {"fp64": 1.5, "int8": "12", "bool": 0}}',
)
_CSV = (
    b"\x00a,b\n1,2.5\n3,NaN\n",
    b'\x01x\n"a ""quoted"", text"\nN/A\n',
    b"\x05\xef\xbb\xbffp64,fp32,more\r\n1e308,-1,\r\n\r\n,2,x\r\n",
    b"\x06bool,int64,uint8,bytes\ntrue,9223372036854775807,255,\xc3\xa4\n0,-1,0,\n",
)
_ROWS = (
    b'\x00{"rows": [[0.1, 2], [3, -0.0]], "probabilities": false}',
    b'\x05[{"fp64": 1.5, "fp32": null}, {"fp64": 1, "fp32": 2}]',
    b'\x06{"rows": [{"bool": true, "int64": 7, "uint8": 255, "bytes": "a,[{"}]}',
    b'\x01[{"x": "a"}, {"x": null}]',
    b'\x01["a", "b"]',
    b"\x03[[[1, 2], [3, null]]]",
)
_NPY = _each(
    write_npy(np.ones((2, 2))),
    write_npy(np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))),
    write_npy(np.array([True, False])),
    write_npy(np.ones((1, 2, 3), np.float16)),
    write_npy(np.zeros((3,), np.uint8)),
    signatures=(0, 3, 4, 6),
)


def _table(**columns: object) -> pa.Table:
    return pa.table(columns)


_TABLES = (
    (0, _table(a=[1.0, 2.0], b=[3.0, None])),
    (0, _table(x=pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)))),
    (1, _table(x=["a", None, "b"])),
    (1, _table(x=pa.array(["a", None, "b", "a"]).dictionary_encode())),
    (2, _table(x=pa.array([[b"a"], [b"b"]]))),
    (5, _table(fp64=[1, 2], fp32=pa.array([1.5, None], pa.float32()))),
    (6, _table(bool=[True], int64=[7], uint8=pa.array([255], pa.uint8()), bytes=["a"])),
    (5, _table(fp64=pa.array([1.0, 2.0]).dictionary_encode(), fp32=pa.array([[1], [2]], pa.large_list(pa.int8())))),
)


def _written(table: pa.Table, *, file: bool) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _message(raw_contents: bool, *inputs: tuple[str, str, list[int], str, list[object]]) -> bytes:
    message = message_class("ModelInferRequest")(model_name="m", id="7")
    for name, datatype, shape, field, values in inputs:
        item = message.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw_contents:
            message.raw_input_contents.append(b"".join(struct.pack("<d", value) for value in values))
        else:
            getattr(item.contents, field).extend(values)
    message.outputs.add(name="y")
    return message.SerializeToString()


_MESSAGES = (
    b"\x00" + _message(False, ("x", "FP64", [2, 2], "fp64_contents", [1.0, 2.0, 3.0, 4.0])),
    b"\x00" + _message(True, ("x", "FP64", [1, 2], "", [1.0, 2.0])),
    b"\x01" + _message(False, ("x", "BYTES", [2], "bytes_contents", [b"a", b"\xff"])),
    b"\x04" + _message(False, ("x", "UINT8", [1], "uint_contents", [255])),
    b"\x06"
    + _message(
        False,
        ("bool", "BOOL", [1], "bool_contents", [True]),
        ("int64", "INT64", [1], "int64_contents", [-1]),
        ("uint8", "UINT8", [1], "uint_contents", [3]),
        ("bytes", "BYTES", [1], "bytes_contents", [b"x"]),
    ),
)
_JSON_WORDS = (
    *(b"null", b"true", b"NaN", b"Infinity", b"-0.0", b"1e999", b"9223372036854775808", b"-1", b"0", b"[]", b"{}"),
    *(b'"\\ud800"', b'"\\u0000"', b"[[", b"]]", b"],[", b",", b":", b'"x"', b'"a":', b"1" * 400, b"{", b"}"),
)
_OIP_WORDS = (
    *_JSON_WORDS,
    b"[0, 1099511627776, 1099511627776]",
    *(b'"inputs"', b'"name"', b'"shape"', b'"datatype"', b'"data"', b'"parameters"', b'"binary_data_size"', b'"id"'),
    *(b'"outputs"', b'"binary_data_output"', b'"binary_data"', *(f'"{name}"'.encode() for name in DTYPES)),
)
_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TARGETS = (
    Target("oip_json", oip_json, _OIP, _OIP_WORDS),
    Target("oip_binary", oip_binary, _BINARY, _OIP_WORDS),
    Target("raw", raw, _each(b"\x00" * 32, b"text", b"\xff\xfe")),
    Target(
        "invocations_json",
        invocations_json,
        _INVOCATIONS,
        (
            *_JSON_WORDS,
            b'"inputs"',
            b'"instances"',
            b'"dataframe_split"',
            b'"dataframe_records"',
            b'"columns"',
            b'"data"',
        ),
    ),
    Target(
        "invocations_csv",
        invocations_csv,
        _CSV,
        (b",", b"\n", b'"', b"\r\n", b"NaN", b"1_0", b"1e999", b"\x00", b",,,,"),
    ),
    Target("rows", rows, _ROWS, (*_JSON_WORDS, b'"rows"', b'"probabilities"', b'"fp64"', b'"bytes"')),
    Target("npy", npy, _NPY, (b"\x93NUMPY", b"'<f8'", b"'|O'", b"True", b"False", b"(999999999,)", b"'descr': ")),
    Target(
        "arrow_stream",
        arrow_stream,
        tuple(bytes([n]) + _written(t, file=False) for n, t in _TABLES),
        (b"\xff" * 4, b"\x7f" * 8),
    ),
    Target(
        "arrow_file",
        arrow_file,
        tuple(bytes([n]) + _written(t, file=True) for n, t in _TABLES),
        (b"ARROW1", b"\xff" * 4),
    ),
    Target("remote", remote, _MESSAGES),
    Target(
        "compression",
        compression,
        (
            b"\x00" + gzip.compress(b"{}" * 99),
            b"\x01" + zlib.compress(bytes(2**18)),
            b"\x02" + gzip.compress(bytes(2**22)),
        ),
    ),
    Target(
        "headers",
        headers,
        (
            b"1000\nbatch\n" + _TRACE + b"\napplication/x-npy, */*;q=0.1\ngzip;q=0, deflate\n12",
            b"\n\n" + _TRACE + b"-x\n",
        ),
        (b"shadow", b"gzip;q=0.000", b"00000000", b"\xb2"),
    ),
    Target(
        "paths",
        paths,
        (
            b"/v2/models/churn%401.0/infer/",
            b"/v2/models/m/versions/1.0.0/ready",
            b"/api/v1/predict/m:1.2.0@a",
            b"/invocations",
        ),
        (b"%2f", b"%00", b"..", b"//", b"/v2/", b"%C2%B2", b"@", b":", b"#", b"%"),
    ),
    Target(
        "names",
        names,
        (b"churn", b"churn@challenger", b"churn:1.2.0-rc.1+build", b"models:/churn/1", b"1.2.3", b"model/weights.bin"),
        (b"..", b"/", b"@", b":", b"\xc2\xb2", b"models:/", b"-", b"+", b"9" * 50, b"\xff"),
    ),
    Target("index", index, (b'{"ready": true}', b"{}"), _JSON_WORDS),
)
