"""Columns of a file: as they are written there, for whoever asks for numbers or text."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from crossfade.cli.columns import numbers, read_columns, texts
from crossfade.errors import InvalidDecisionLogError, MalformedRequestError


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_only_what_is_asked_for_is_read_in_that_order(file):
    path = file("x.csv", "a,b,c\n1,x,3\n2,y,4\n")
    assert read_columns(path, ["c", "b"]) == {"c": ["3", "4"], "b": ["x", "y"]}


def test_csv_as_spreadsheets_write_it(file):
    path = file("x.csv", b'\xef\xbb\xbfa,b\r\n"one, two","say ""no"""\r\n\r\n"two\r\nlines",x\r\n')
    assert read_columns(path, ["a", "b"]) == {"a": ["one, two", "two\r\nlines"], "b": ['say "no"', "x"]}


def test_a_cell_that_is_far_too_long_is_refused(file):
    with pytest.raises(InvalidDecisionLogError, match="cannot be read"):
        read_columns(file("x.csv", "a\n" + "x" * 2_000_000), ["a"])


def test_rows_of_json_may_leave_out_what_is_missing(file):
    rows = [{"a": 1}, {"a": 2, "b": "x"}]
    for name, content in (
        ("x.json", json.dumps(rows)),
        ("x.json", json.dumps({"rows": rows})),
        ("x.jsonl", "\n".join(map(json.dumps, rows))),
    ):
        assert read_columns(file(name, content), ["a", "b"]) == {"a": [1, 2], "b": [None, "x"]}
    assert read_columns(file("x.json", '{"a": 3}'), ["a"]) == {"a": [3]}


@pytest.mark.parametrize("content", ["[[1]]", '"text"', "3", '[{"a": 1}, null]', '{"rows": {"a": 1}}'])
def test_json_that_is_no_rows_is_refused(file, content):
    with pytest.raises(InvalidDecisionLogError, match="no JSON objects"):
        read_columns(file("x.json", content), ["a"])


def test_json_that_is_none_is_refused(file):
    with pytest.raises(MalformedRequestError):
        read_columns(file("x.json", "{'a': 1}"), ["a"])


def test_parquet_keeps_its_types(tmp_path):
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": [1, None, 3], "b": ["x", None, ""], "c": [True, False, None]}), path)
    found = read_columns(path, ["a", "b", "c"])
    assert numbers(found, "a") == pytest.approx([1, math.nan, 3], nan_ok=True)
    assert numbers(found, "c") == pytest.approx([1, 0, math.nan], nan_ok=True)
    with pytest.raises(InvalidDecisionLogError, match="row 2 has nothing in column `b`"):
        texts(found, "b")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300]),
        (["1", "", "nan"], [1, math.nan, math.nan]),
        ([1, None, 2.5], [1, math.nan, 2.5]),
        ([True, False, True], [1, 0, 1]),
        ([1, "", None], [1, math.nan, math.nan]),
        (["inf", "-inf", "1"], [math.inf, -math.inf, 1]),
        ([], []),
    ],
    ids=str,
)
def test_numbers(written, read):
    found = numbers({"x": written}, "x")
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array(read, dtype=float), nan_ok=True)


@pytest.mark.parametrize(
    ("written", "row"), [(["1", "two"], 2), ([1, [2]], 2), ([{}, 1], 1), ([1, 10**400], 2), ([[1], [2]], 1)], ids=str
)
def test_what_is_no_number_is_refused_with_its_row(written, row):
    with pytest.raises(InvalidDecisionLogError, match=f"row {row}: "):
        numbers({"x": written}, "x")


def test_texts_are_whatever_was_written():
    assert texts({"x": ["a", 1, 2.5, True]}, "x") == ["a", "1", "2.5", "True"]
    with pytest.raises(InvalidDecisionLogError, match="row 2"):
        texts({"x": ["a", None]}, "x")


def test_messages_stay_short(file):
    wide = ",".join(f"column{number}" for number in range(500))
    with pytest.raises(InvalidDecisionLogError) as caught:
        read_columns(file("x.csv", f"{wide}\n"), ["missing" * 100])
    assert len(str(caught.value)) < 700
