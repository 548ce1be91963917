"""Reading the file of a job: every row becomes an input or is explained, whatever the file holds."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
from decimal import Decimal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import MalformedRequestError
from crossfade.jobs import groups, lines
from crossfade.jobs.chunks import Chunk, ReadTask, decode_chunk, encode_chunk
from crossfade.jobs.reading import read_chunks
from crossfade.serving.frames import encode_frame

OUTPUTS = (TensorSpec("predict", "FP64", (-1,)),)
PEOPLE = Signature(
    (
        TensorSpec("age", "INT64", (-1,)),
        TensorSpec("weight", "FP64", (-1,), missing=True),
        TensorSpec("city", "BYTES", (-1,), missing=True),
    ),
    OUTPUTS,
)
TENSOR = Signature((TensorSpec("x", "FP32", (-1, 3)),), OUTPUTS)
OPEN = Signature((TensorSpec("x", "FP64", (-1, -1)),), OUTPUTS)
TABLE = pa.table({"id": [10, 11, 12], "age": [41, 42, 43], "weight": [70.5, None, 60], "city": ["Bern", None, "Ü"]})


def read(data, kind, signature=PEOPLE, keep=(), rows=100, skip=0):
    """Return the chunks as the other process gets them, and their pieces."""
    task = ReadTask(kind, signature, tuple(keep), rows, skip, len(data))
    task = msgspec.json.decode(msgspec.json.encode(task), type=ReadTask)
    chunks = (decode_chunk(encode_chunk(chunk)) for chunk in read_chunks(io.BufferedReader(io.BytesIO(data)), task))
    return [(chunk, pieces) for chunk, pieces in chunks if chunk.rows]


def read_one(data, kind, signature=PEOPLE, keep=()):
    """Return the only chunk and its tensors, joined."""
    ((chunk, pieces),) = read(data, kind, signature, keep)
    return chunk, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}


def refused(data, kind, signature=PEOPLE, keep=()):
    with pytest.raises(MalformedRequestError) as caught:
        read(data, kind, signature, keep)
    return str(caught.value.facts["problem"])


def written(table, kind, **options):
    file = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, file, **options)
        return file.getvalue()
    opened = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with opened(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=options.get("compression"))) as writer:
        writer.write_table(table, max_chunksize=options.get("row_group_size", 2))
    return file.getvalue()


def as_lines(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FILES = {
    "csv": b"id,age,weight,city\n10,41,70.5,Bern\n11,42,,\n12,43,60,\xc3\x9c\n",
    "jsonl": as_lines(TABLE.to_pylist()),
    "parquet": written(TABLE, "parquet"),
    "arrow": written(TABLE, "stream"),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_gives_the_same_rows(kind):
    chunk, tensors = read_one(FILES[kind], kind)
    assert (chunk.rows, chunk.bad, chunk.kept) == (3, {}, {})
    assert tensors["age"].tolist() == [41, 42, 43]
    assert np.array_equal(tensors["weight"], [70.5, np.nan, 60], equal_nan=True)
    assert tensors["city"].tolist() == ["Bern", None, "Ü"]
    assert list(tensors) == ["age", "weight", "city"], "what nobody asks for is left out"


@pytest.mark.parametrize("kind", FILES)
def test_columns_can_be_kept_whether_they_are_inputs_or_not(kind):
    chunk, tensors = read_one(FILES[kind], kind, keep=("id", "city"))
    assert [int(value) for value in chunk.kept["id"]] == [10, 11, 12]
    assert [value or None for value in chunk.kept["city"]] == ["Bern", None, "Ü"]
    assert tensors["city"].tolist() == ["Bern", None, "Ü"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("missing", ["age", "id"])
def test_a_file_without_a_column_cannot_be_read(kind, missing):
    table = TABLE.drop_columns([missing])
    names = [name for name in ("id", "age", "weight", "city") if name != missing]
    data = {"csv": ",".join(names).encode() + b"\n1,2,3\n", "parquet": written(table, "parquet")}
    data = data.get(kind) or written(table, "stream")
    assert refused(data, kind, keep=("id",)) == f"it has no column `{missing}`"


def test_a_column_to_keep_that_no_line_has_is_refused():
    assert refused(FILES["jsonl"], "jsonl", keep=("nosuch",)).endswith("rows has a `nosuch` to keep")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_names_that_are_not_utf8_cannot_be_read(kind):
    data = FILES[kind].replace(b"weight", b"w\xffight")
    assert "UTF-8" in refused(data, kind) or "utf-8" in refused(data, kind)


# --- chunks ----------------------------------------------------------------------------------------------------------


def many(kind, rows=1000, seed=1):
    numbers = random.Random(seed)
    table = pa.table(
        {
            "age": [numbers.randrange(100) for _ in range(rows)],
            "weight": [numbers.choice([1.5, 2.25, None]) for _ in range(rows)],
            "city": [numbers.choice(["a", "b"]) for _ in range(rows)],
        }
    )
    if kind == "csv":
        body = [f"{row['age']},{row['weight'] or ''},{row['city']}" for row in table.to_pylist()]
        return "\n".join(["age,weight,city", *body]).encode()
    if kind == "jsonl":
        return as_lines(table.to_pylist())
    return written(table, kind, row_group_size=numbers.randrange(1, 300))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "stream", "file"])
@pytest.mark.parametrize("rows", [1, 7, 300, 999, 1000, 5000])
def test_chunks_have_the_rows_that_were_asked_for(kind, rows):
    count = 1000 if rows > 1 else 20
    chunks = read(many(kind, count), "arrow" if kind in {"stream", "file"} else kind, rows=rows)
    sizes = [chunk.rows for chunk, _ in chunks]
    assert sum(sizes) == count
    assert set(sizes[:-1]) <= {rows}
    assert 1 <= sizes[-1] <= rows


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "stream", "file"])
def test_reading_goes_on_exactly_where_it_was(kind):
    data, name = many(kind), "arrow" if kind in {"stream", "file"} else kind
    whole = read(data, name, rows=130)
    for done in range(1, len(whole)):
        skip = sum(chunk.rows for chunk, _ in whole[:done])
        rest = read(data, name, rows=130, skip=skip)
        assert [chunk for chunk, _ in rest] == [chunk for chunk, _ in whole[done:]]


def test_skipping_says_that_it_goes_on():
    task = ReadTask("jsonl", PEOPLE, (), 10, 40, 1)
    chunks = list(read_chunks(io.BufferedReader(io.BytesIO(many("jsonl", 50))), task))
    assert chunks[:4] == [Chunk(0)] * 4
    assert chunks[4].rows == 10


@pytest.mark.parametrize("kind", ["jsonl", "stream", "parquet"])
def test_wide_rows_make_smaller_chunks(monkeypatch, kind):
    for module in ("lines", "columns"):
        monkeypatch.setattr(f"crossfade.jobs.{module}.GROUP_BYTES", 10_000)
    rows = [{"x": [0.5 + number] * 1000} for number in range(20)]
    wide = Signature((TensorSpec("x", "FP64", (-1, 1000)),), OUTPUTS)
    data = as_lines(rows) if kind == "jsonl" else written(pa.Table.from_pylist(rows), kind, row_group_size=20)
    chunks = read(data, "arrow" if kind == "stream" else kind, wide)
    assert sum(chunk.rows for chunk, _ in chunks) == 20
    assert len(chunks) >= 5
    assert groups.GROUP_BYTES == 16 * 2**20


@pytest.mark.parametrize("kind", FILES)
def test_progress_in_bytes_grows_to_the_end(kind):
    data = many(kind if kind != "arrow" else "stream")
    done = [chunk.bytes_done for chunk, _ in read(data, kind, rows=100)]
    assert done == sorted(done)
    assert 0.5 * len(data) <= done[-1] <= len(data)


# --- bad rows --------------------------------------------------------------------------------------------------------


def test_bad_rows_of_json_lines_are_explained_each():
    good = {"age": 1, "weight": 2.0, "city": "x"}
    data = [
        json.dumps(good),
        "nonsense",
        json.dumps({**good, "age": "forty"}),
        json.dumps({**good, "age": 1.5}),
        json.dumps({"age": 1, "weight": 2.0}),
        json.dumps({**good, "age": None}),
        json.dumps({**good, "city": 7}),
        '{"age": 1, "weight": NaN, "city": "x"}',
        '{"age": 1, "weight": 1e999, "city": "x"}',
        json.dumps({**good, "age": 2**70}),
        "[1, 2, 3]",
        "7",
        "null",
        "[" * 100_000,
        '{"age": 1, "weight": 2.0, "city": "\\ud800"}',
        json.dumps({**good, "extra": {"a": [1]}}),
        "",
        "   ",
        json.dumps({**good, "weight": None}),
    ]
    chunk, tensors = read_one("\n".join(data).encode(), "jsonl")
    assert chunk.rows == 17, "blank lines are no rows"
    assert sorted({*range(17)} - set(chunk.bad)) == [0, 15, 16]
    assert tensors["age"].tolist() == [1, 1, 1]
    assert "not a JSON object" in chunk.bad[1]
    assert chunk.bad[2] == "input `age`: expected INT64, got text"
    assert chunk.bad[4].startswith("input `city`: expected BYTES")
    assert "several inputs" in chunk.bad[10]
    assert "nested too deeply" in chunk.bad[13]
    assert all(" in row 0" not in sentence for sentence in chunk.bad.values())


def test_bytes_that_are_no_text_cost_their_line_only():
    data = b'{"age": 1, "weight": 2, "city": "x"}\n{"age": 1, "weight": 2, "city": "\xff\xfe"}\n\0\n\xef\xbb\xbf\n'
    chunk, tensors = read_one(data, "jsonl")
    assert sorted(chunk.bad) == [1, 2, 3]
    assert len(tensors["age"]) == 1


def test_a_line_without_an_end_is_no_line(monkeypatch):
    monkeypatch.setattr(lines, "_LONGEST_LINE", 2**20)
    assert "more than 1 MiB" in refused(b"1" * (2**20 + 1), "jsonl")


def test_bad_rows_of_csv_are_explained_each():
    data = (
        b"id,age,weight,city\n"
        b'0,1,2,"a, ""quoted""\nlong name"\n'  # good: quotes, a comma, a new line
        b"1,abc,2,x\n"
        b"2,1\n"
        b"3,1,2,x,more\n"
        b"4,1,2,\xff\xfe\n"
        b'5,1,2,"x"y\n'
        b"6,1.5,2,x\n"
        b"7,,2,x\n"
        b"8,1,inf,x\n"
        b"9,1,1e999,x\n"
        b"10,1,1_000,x\n"
        b"11,99999999999999999999,1,x\n"
        b"\r\n"
        b"12,1,NaN,a\0b\r\n"  # good: missing, and NUL is a character
        b"13,1,\xd9\xa1,x\n"  # good: Python and pandas read digits of any script
    )
    chunk, tensors = read_one(data, "csv", keep=("id",))
    assert chunk.rows == 14
    assert sorted({*range(14)} - set(chunk.bad)) == [0, 12, 13]
    assert tensors["city"].tolist() == ['a, "quoted"\nlong name', "a\0b", "x"]
    assert chunk.kept["id"] == ["0", "1", None, None, None, None, *map(str, range(6, 14))]
    assert chunk.bad[1] == "input `age`: expected INT64, got 'abc'"
    assert chunk.bad[2] == "the row has 2 cells, and the heading 4"
    assert chunk.bad[4] == "the row is not UTF-8"
    assert "cannot be read" in chunk.bad[5]


def test_a_quote_that_is_never_closed_costs_what_it_swallows():
    chunk, tensors = read_one(b'age,weight,city\n1,2,x\n2,2,"y\n3,2,z\n', "csv")
    assert tensors["age"].tolist() == [1]
    assert list(chunk.bad) == [1]


def test_a_cell_without_an_end_costs_its_row(monkeypatch):
    monkeypatch.setattr(lines, "_LONGEST_CELL", 100)
    chunk, tensors = read_one(b"age,weight,city\n1,2," + b"x" * 101 + b"\n3,2,z\n", "csv")
    assert tensors["age"].tolist() == [3]
    assert "field larger than" in chunk.bad[0]
    assert csv.field_size_limit() > 100, "that limit belongs to the whole process"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no heading"),
        (b"\n\n", "no heading"),
        (b"age,age,weight,city\n", "two columns have the same name"),
        (b"age;weight;city\n1;2;3\n", "no column `age`"),
        (b'"age', "heading"),
        (",".join(map(str, range(10_001))).encode(), "10001 columns"),
        (b"\xff\xfea\0g\0e\0", "no column `age`"),
        (b"PK\3\4" + bytes(100), "no column `age`"),
    ],
)
def test_what_is_no_csv_cannot_be_read(data, words):
    assert words in refused(data, "csv")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_may_have_no_rows(kind):
    empty = TABLE.slice(0, 0)
    data = {"csv": b"age,weight,city", "jsonl": b"", "parquet": written(empty, "parquet")}
    assert read(data.get(kind, written(empty, "stream")), kind) == []
    assert read(written(empty, "file"), "arrow") == []


def test_byte_order_marks_and_old_line_ends_are_understood():
    chunk, tensors = read_one(b"\xef\xbb\xbfage,weight,city\r1,2,x\r2,2,y", "csv")
    assert chunk.bad == {}
    assert tensors["age"].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_bad_rows_of_tables_are_explained_each(kind):
    table = pa.table({"age": [1, None, 3, 4], "weight": [1.0, 1.0, float("inf"), float("nan")], "city": ["a"] * 4})
    chunk, tensors = read_one(written(table, kind), "parquet" if kind == "parquet" else "arrow")
    assert sorted(chunk.bad) == [1, 2]
    assert tensors["age"].tolist() == [1, 4]
    assert "`age`" in chunk.bad[1]
    assert "`weight`" in chunk.bad[2]


def test_a_column_of_another_type_is_explained_in_every_row():
    table = pa.table({"age": ["41", "42"], "weight": [1.0, 2.0], "city": ["a", "b"]})
    chunk, tensors = read_one(written(table, "parquet"), "parquet")
    assert len(chunk.bad) == 2
    assert tensors == {}


@pytest.mark.parametrize("bad", [[0], [99], [50, 51], list(range(0, 100, 3)), list(range(100))])
def test_wherever_the_bad_rows_are_the_others_keep_their_order(bad):
    rows = [{"age": "bad" if row in bad else row, "weight": 1.0, "city": "x"} for row in range(100)]
    chunk, tensors = read_one(as_lines(rows), "jsonl")
    assert sorted(chunk.bad) == bad
    assert list(tensors.get("age", [])) == [row for row in range(100) if row not in bad]


# --- tensors ---------------------------------------------------------------------------------------------------------


def test_a_single_tensor_takes_arrays_objects_and_columns():
    expected = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    table = pa.table({"id": ["a", "b"], "a": [1.0, 4], "b": [2.0, 5], "c": [3.0, 6]})
    files = [
        ("jsonl", b"[1, 2, 3]\n[4, 5, 6]"),
        ("jsonl", b'{"x": [1, 2, 3], "id": "a"}\n{"x": [4, 5, 6], "id": "b"}'),
        ("csv", b"id,a,b,c\na,1,2,3\nb,4,5,6\n"),
        ("parquet", written(table, "parquet")),
        ("arrow", written(table, "stream")),
        ("parquet", written(pa.table({"id": ["a", "b"], "x": expected}), "parquet")),
    ]
    for kind, data in files:
        chunk, tensors = read_one(data, kind, TENSOR, keep=("id",) if b"id" in data else ())
        assert chunk.bad == {}, kind
        assert tensors["x"].tolist() == expected, kind


def test_rows_of_other_widths_are_explained():
    chunk, tensors = read_one(b"[1, 2, 3]\n[1, 2]\n[[1], [2], [3]]\n[1, 2, null]\n[7, 8, 9]", "jsonl", TENSOR)
    assert sorted(chunk.bad) == [1, 2, 3]
    assert tensors["x"].tolist() == [[1, 2, 3], [7, 8, 9]]


def test_rows_of_open_widths_make_pieces_in_their_order():
    ((chunk, pieces),) = read(b"[1]\n[2]\n[3, 4]\n[5]\n[6, 7]\n[8, 9]", "jsonl", OPEN)
    assert chunk.bad == {}
    assert [piece["x"].tolist() for piece in pieces] == [[[1], [2]], [[3, 4]], [[5]], [[6, 7], [8, 9]]]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_is_kept_is_something_that_every_result_can_hold():
    values = ["text", 1, -(2**70), 2.5, True, None, [1, {"a": 2}], "\ud800"]
    rows = as_lines([{"age": 1, "weight": 1, "city": "x", "id": value} for value in values[:-1]])
    rows += as_lines([{"age": 1, "weight": 1, "city": "x", "seldom": 1}])
    chunk, _ = read_one(rows, "jsonl", keep=("id", "seldom"))
    assert chunk.kept["id"][:2] == ["text", 1]
    assert chunk.kept["id"][3:] == [2.5, True, None, '[1,{"a":2}]', None]
    assert chunk.kept["seldom"] == [None] * 7 + [1]
    assert groups.plain(values[-1]) == "?"
    assert groups.plain(-(2**70)) == str(-(2**70))


def test_dates_and_decimals_of_tables_are_kept_as_text():
    table = TABLE.append_column("day", pa.array([dt.date(2026, 1, 31)] * 3))
    table = table.append_column("price", pa.array([Decimal("1.10")] * 3)).append_column("raw", pa.array([b"\xff"] * 3))
    chunk, _ = read_one(written(table, "parquet"), "parquet", keep=("day", "price", "raw"))
    assert chunk.kept == {"day": ["2026-01-31"] * 3, "price": ["1.10"] * 3, "raw": ["b'\\xff'"] * 3}


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "file"])
@pytest.mark.parametrize("cut", [0, 1, 5, 7, 50, 200])
def test_arrow_that_is_cut_off_cannot_be_read(kind, cut):
    data = written(TABLE, kind)
    assert refused(data[: len(data) * cut // 201], "arrow")


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_compressed_arrow_can_be_read_here(kind):
    table = pa.table({"age": [1] * 1000, "weight": [1.0] * 1000, "city": ["x"] * 1000})
    ((chunk, _),) = read(written(table, kind, compression="zstd", row_group_size=1000), "arrow", rows=1000)
    assert (chunk.rows, chunk.bad) == (1000, {})


def test_tables_with_one_name_twice_cannot_be_read():
    twice = pa.table([[1], [2], [1.0], ["x"]], names=["age", "age", "weight", "city"])
    assert refused(written(twice, "stream"), "arrow") == "two columns have the same name"
    assert refused(written(twice, "parquet"), "parquet") == "two columns have the same name"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_make_csv_or_json_lines_fail_otherwise(data):
    kind = data.draw(st.sampled_from(["csv", "jsonl"]))
    begin = b"age,weight,city\n" if kind == "csv" else b""
    alphabet = st.sampled_from(
        [b"1", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"{", b"}", b"[", b'"age":', b"x", b" "]
    )
    body = begin + b"".join(data.draw(st.lists(alphabet, max_size=40)))
    for chunk, pieces in read(body, kind, rows=3):
        assert sum(len(piece["age"]) for piece in pieces) + len(chunk.bad) == chunk.rows


# --- what the reading process says is not believed -------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(rows=2, pieces=(encode_frame({"x": np.zeros(1)}),)),
        Chunk(rows=1, bad={1: "no"}),
        Chunk(rows=1, bad={-1: "no"}),
        Chunk(rows=1, bad={0: "no"}, kept={"id": [1, 2]}),
        Chunk(rows=1, pieces=(b"nonsense",)),
    ],
)
def test_chunks_that_make_no_sense_are_refused(chunk):
    with pytest.raises(MalformedRequestError):
        decode_chunk(encode_chunk(chunk))
    with pytest.raises(MalformedRequestError):
        decode_chunk(b"\xc1")
