"""Arrow bodies: tables become inputs; what would grow without bound is refused."""

from __future__ import annotations

import contextlib
import io
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import (
    InvalidInputError,
    MalformedRequestError,
    MissingExtraError,
    NotAcceptableError,
    SignatureMismatchError,
)
from crossfade.serving.protocol.columnar import FILE, STREAM, _child, read_table, write_table

PEOPLE = Signature(
    (TensorSpec("age", "FP64", (-1,), missing=True), TensorSpec("city", "BYTES", (-1,), missing=True)),
    (TensorSpec("predict", "FP64", (-1,)),),
)
TENSOR = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),))
TABLE = pa.table({"age": [41.5, None], "city": ["Bern", None]})


def written(table, kind=STREAM, **options):
    file = io.BytesIO()
    opened = pa.ipc.new_file if kind == FILE else pa.ipc.new_stream
    with opened(file, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def read(table, signature=PEOPLE, kind=STREAM, max_rows=100):
    body = table if isinstance(table, bytes) else written(table, kind)
    return read_table(kind, body, signature, max_rows)


def assert_people(tensors):
    assert np.array_equal(tensors["age"], [41.5, np.nan], equal_nan=True)
    assert tensors["city"].tolist() == ["Bern", None]
    assert set(tensors) == {"age", "city"}


@pytest.mark.parametrize("kind", [STREAM, FILE])
def test_columns_become_inputs_by_their_names(kind):
    assert_people(read(TABLE, kind=kind))
    assert_people(read(TABLE.select(["city", "age"]), kind=kind))


def test_other_types_of_the_same_values():
    assert_people(read(TABLE.set_column(0, "age", pa.array([41.5, None], pa.float32()))))
    assert_people(read(TABLE.set_column(1, "city", TABLE["city"].cast(pa.large_string()))))
    assert_people(read(TABLE.set_column(1, "city", TABLE["city"].dictionary_encode())))
    integers = TABLE.set_column(0, "age", pa.array([41, None], pa.int32()))
    assert np.array_equal(read(integers)["age"], [41.0, np.nan], equal_nan=True)
    assert read(pa.table({"age": pa.array([1, 2], pa.int8()), "city": ["a", "b"]}))["age"].tolist() == [1.0, 2.0]


def test_raw_bytes_and_booleans():
    signature = Signature((TensorSpec("audio", "BYTES", (-1,), text=False), TensorSpec("loud", "BOOL", (-1,))), ())
    tensors = read(pa.table({"audio": [b"RIFF", b""], "loud": [True, False]}), signature)
    assert tensors["audio"].tolist() == [b"RIFF", b""]
    assert tensors["loud"].tolist() == [True, False]


def test_several_batches_are_joined():
    tensors = read(pa.table({"age": [1.0, 2.0, 3.0, 4.0, 5.0], "city": list("abcde")}))
    assert tensors["age"].tolist() == [1, 2, 3, 4, 5]
    assert tensors["city"].tolist() == list("abcde")


def test_what_polars_writes_is_read():
    file = io.BytesIO()
    frame = pl.DataFrame({"age": [41.5, None], "city": ["Bern", None]})
    frame.write_ipc_stream(file, compat_level=pl.CompatLevel.oldest())
    assert_people(read(file.getvalue()))


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
@pytest.mark.parametrize(("kind", "write"), [(FILE, "write_ipc"), (STREAM, "write_ipc_stream")])
def test_what_polars_writes_without_being_told_how_is_read(kind, write, dtype):
    file = io.BytesIO()
    long = "a town whose name is longer than twelve bytes"
    frame = pl.DataFrame({"age": [41.5, None, 1.0], "city": ["Bern", None, long]}).cast({"city": dtype})
    getattr(frame, write)(file)
    tensors = read(file.getvalue(), kind=kind)
    assert np.array_equal(tensors["age"], [41.5, np.nan, 1.0], equal_nan=True)
    assert tensors["city"].tolist() == ["Bern", None, long]


@pytest.mark.parametrize("kind", [STREAM, FILE])
def test_views_are_read_also_where_they_begin_later(kind):
    city = pa.array(["x", "Bern", None], pa.string_view())
    assert_people(read(pa.table({"age": [1.0, 41.5, None], "city": city}).slice(1), kind=kind))
    signature = Signature((TensorSpec("audio", "BYTES", (-1,), text=False),), ())
    audio = pa.table({"audio": pa.array([b"RIFF", b"R" * 99], pa.binary_view())})
    assert read(audio, signature, kind)["audio"].tolist() == [b"RIFF", b"R" * 99]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4, 5, 6]), 3)}),
        pa.table({"x": [[1.0, 2, 3], [4, 5, 6]]}),
        pa.table({"a": [1, 4], "b": [2.0, 5.0], "c": [3, 6]}),
    ],
)
def test_a_single_tensor_takes_lists_or_all_columns(table):
    assert read(table, TENSOR)["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [[1.0, 2.0], [3.0]]}),
        pa.table({"x": [[1.0, 2.0, 3.0], None]}),
        pa.table({"x": [[1.0, None, 3.0]]}),
        pa.table({"x": [[["a"]]]}),
        pa.table({"x": pa.nulls(3)}),
        pa.table({"x": pa.array([["a"]], pa.list_(pa.string_view()))}),
        pa.table({"x": pa.array([0], pa.timestamp("ns"))}),
        pa.table({"x": [{"a": 1}]}),
        pa.table({"x": pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array([1.0]))}),
        pa.table({}),
    ],
)
def test_other_columns_are_refused(table):
    with pytest.raises(InvalidInputError):
        read(table, TENSOR)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(MalformedRequestError, match="same name"):
        read(pa.table([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]), TENSOR)


def test_rows_and_columns_are_limited():
    assert len(read(TABLE, max_rows=2)["age"]) == 2
    with pytest.raises(MalformedRequestError, match="more than 1 rows"):
        read(TABLE, max_rows=1)
    huge = pa.table({"x": pa.nulls(10**6)})
    file = io.BytesIO()
    with pa.ipc.new_stream(file, huge.schema) as writer:
        writer.write_table(huge)
    with pytest.raises(MalformedRequestError, match="more than 100 rows"):
        read(file.getvalue(), TENSOR)
    with pytest.raises(MalformedRequestError, match="10001 columns"):
        read(pa.table({f"c{number}": pa.array([1], pa.int8()) for number in range(10_001)}), TENSOR)


@pytest.mark.parametrize("kind", [STREAM, FILE])
@pytest.mark.parametrize("table", [TABLE, pa.table({"x": pa.array(["a" * 999] * 3).dictionary_encode()})])
def test_compressed_buffers_are_refused(kind, table):
    with pytest.raises(MalformedRequestError, match="compressed"):
        read(written(table, kind, compression="zstd"), kind=kind)


def test_text_that_a_dictionary_multiplies_is_limited():
    values = pa.array(["a" * 2**20])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000), pa.int8()), values)
    with pytest.raises(MalformedRequestError, match="repeats text"):
        read(pa.table({"age": np.zeros(1000), "city": column}), max_rows=1000)


@pytest.mark.parametrize("kind", [STREAM, FILE])
def test_text_that_views_multiply_is_limited(kind):
    size, rows = 2**20, 1000
    view = np.zeros((rows, 4), np.int32)
    view[:, 0] = size  # bytes; then the first four of them, which buffer, and where in it: the same for all
    view[:, 1] = np.frombuffer(b"aaaa", np.int32)[0]
    buffers = [None, pa.py_buffer(view.tobytes()), pa.py_buffer(b"a" * size)]
    column = pa.Array.from_buffers(pa.string_view(), rows, buffers)
    column.validate(full=True)
    with pytest.raises(MalformedRequestError, match=f"views repeat text to {size * rows} characters"):
        read(pa.table({"age": np.zeros(rows), "city": column}), kind=kind, max_rows=rows)


def refooted(body, change):
    """Return an Arrow file whose record batches the footer names as `change` says."""
    footer = bytearray(body[-10 - int.from_bytes(body[-10:-6], "little") : -10])
    table = int.from_bytes(footer[:4], "little")
    vector = _child(bytes(footer), table, 3)
    first = footer[vector + 4 : vector + 28]
    change(footer, vector, first)
    return body[: -10 - len(footer)] + bytes(footer) + body[-10:]


def test_a_file_whose_footer_names_the_same_bytes_again_is_refused():
    body = written(pa.table({"age": np.zeros(40), "city": ["x" * 99] * 40}), FILE)

    def repeat(footer, vector, first):
        for index in range(int.from_bytes(footer[vector : vector + 4], "little")):
            footer[vector + 4 + index * 24 : vector + 28 + index * 24] = first

    large = pa.table({"age": np.zeros(40), "city": ["x" * 9999, *["y"] * 39]})
    with pytest.raises(MalformedRequestError, match="names the same bytes again"):
        read(refooted(written(large, FILE), repeat), kind=FILE)
    assert len(read(body, kind=FILE)["age"]) == 40


@pytest.mark.parametrize("offset", [-1, 2**62, 10**6])
def test_a_file_whose_footer_points_elsewhere_is_refused(offset):
    def move(footer, vector, first):
        footer[vector + 4 : vector + 12] = offset.to_bytes(8, "little", signed=True)

    with pytest.raises(MalformedRequestError, match="names what is not there"):
        read(refooted(written(TABLE, FILE), move), kind=FILE)


def test_a_file_that_is_cut_off_says_so():
    with pytest.raises(MalformedRequestError, match="lacks its footer"):
        read(written(TABLE, FILE)[:-4], kind=FILE)


@pytest.mark.parametrize("kind", [STREAM, FILE])
@pytest.mark.parametrize("body", [b"", b"ARROW1", b"ARROW1\0\0", bytes(64), b"\xff" * 64, b"PAR1" + bytes(64)])
def test_what_is_no_table_is_refused(kind, body):
    with pytest.raises(InvalidInputError):
        read(body, kind=kind)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_damaged_tables_are_read_or_refused_and_nothing_else(damage, whole_file):
    kind = FILE if whole_file else STREAM
    body = bytearray(written(TABLE.set_column(1, "city", TABLE["city"].dictionary_encode()), kind))
    for position, byte in damage:
        body[position % len(body)] = byte
    with contextlib.suppress(InvalidInputError):
        read(bytes(body), kind=kind)


@pytest.mark.parametrize("kind", [STREAM, FILE])
def test_answers_are_tables(kind):
    outputs = {"predict": np.array(["no", "yes"], dtype=object), "predict_proba": np.array([[0.75, 0.25], [0.5, 0.5]])}
    body = write_table(kind, outputs)
    opened = pa.ipc.open_file(body) if kind == FILE else pa.ipc.open_stream(body)
    table = opened.read_all()
    assert table.to_pydict() == {"predict": ["no", "yes"], "predict_proba": [[0.75, 0.25], [0.5, 0.5]]}


def test_answers_of_many_dimensions_are_not_acceptable():
    with pytest.raises(NotAcceptableError, match="3 dimensions"):
        write_table(STREAM, {"y": np.zeros((1, 2, 3))})


def test_the_extra_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow") as caught:
        read_table(STREAM, b"", PEOPLE, 10)
    assert caught.value.hint == "pip install 'crossfade[arrow]'"


def test_columns_that_do_not_fit_the_signature_name_the_field():
    with pytest.raises(SignatureMismatchError) as caught:
        PEOPLE.check(read(TABLE.rename_columns(["age", "town"])))
    assert caught.value.facts["field"] == "city"
