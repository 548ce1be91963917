"""Parquet bodies: read by another process, so that no file can end this one."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import random
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossfade.core.child import Limits
from crossfade.errors import MalformedRequestError, MissingExtraError
from crossfade.serving.protocol import parquet
from crossfade.serving.protocol.parquet import parquet_to_stream, require_arrow

TABLE = pa.table({"age": [41.5, None], "city": ["Bern", None], "x": [[1.0, 2.0], [3.0, 4.0]], "n": [1, 2]})


def packed(table=TABLE, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def read(body, max_rows=100_000, limit_bytes=10 * 2**20):
    return pa.ipc.open_stream(parquet_to_stream(body, max_rows=max_rows, limit_bytes=limit_bytes)).read_all()


def refused(body, max_rows=100, limit_bytes=2**20):
    with pytest.raises(MalformedRequestError) as caught:
        parquet_to_stream(body, max_rows=max_rows, limit_bytes=limit_bytes)
    problem = str(caught.value.facts["problem"])
    assert problem.startswith("the Parquet file cannot be used: ")
    return problem.removeprefix("the Parquet file cannot be used: ")


@pytest.mark.parametrize(
    "options", [{}, {"row_group_size": 1}, {"version": "1.0"}, {"use_dictionary": False}, {"data_page_version": "2.0"}]
)
def test_whatever_it_looks_like_inside_the_table_is_the_same(options):
    assert read(packed(**options)).to_pylist() == TABLE.to_pylist()


def test_many_row_groups_in_their_order():
    table = pa.table({"n": list(range(20_000))})
    assert read(packed(table, row_group_size=777)).column("n").to_pylist() == list(range(20_000))


def test_a_table_may_have_no_rows_or_no_columns():
    assert read(packed(TABLE.slice(0, 0))).num_rows == 0
    assert read(packed(pa.table({}))).num_columns == 0


def test_limits_count_rows_and_the_unpacked_bytes():
    table = pa.table({"n": [7] * 100_000})
    body = packed(table)
    assert len(body) < 10_000
    assert refused(body, max_rows=99_999) == "100000 rows, at most 99999 at once"
    assert refused(body, max_rows=100_000, limit_bytes=100_000) == "unpacked it has more than 100000 bytes"
    assert read(body).num_rows == 100_000


def test_too_many_columns_are_refused():
    assert "columns, at most 10000" in refused(packed(pa.table({f"c{number}": [1] for number in range(10_001)})))


def test_text_that_unpacks_to_gigabytes_is_refused():
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int8()), ["y" * 2**20])
    body = packed(pa.table({"x": text}), store_schema=False)
    assert "more than 1024 MiB of memory" in refused(body, max_rows=10_000)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"x" * 1000])
def test_what_is_no_parquet_is_refused(body):
    assert "not a sound Parquet file" in refused(body)


@pytest.mark.parametrize("seed", range(6))
def test_no_damage_does_more_than_to_be_refused(seed):
    """The library that reads it may do what it likes with these: crash, hang, or find a table."""
    damage = random.Random(seed)
    body = bytearray(packed(pa.table({"n": list(range(1000)), "city": [str(n) for n in range(1000)]})))
    for _ in range(damage.choice([1, 3, 30])):
        kind = damage.randrange(3)
        # the footer is where sizes and counts are
        place = damage.randrange(len(body) - 800, len(body)) if kind else damage.randrange(len(body))
        body[place] = damage.choice([0, 0xFF, 0x7F, 0x80, body[place] ^ (1 << damage.randrange(8))])
    with contextlib.suppress(MalformedRequestError):
        assert read(bytes(body)).num_rows <= 100_000


def test_a_reader_that_dies_or_hangs_is_a_refusal(monkeypatch):
    monkeypatch.setattr(parquet, "_MODULE", "tests.core.misbehaving")
    # its task says nothing that it understands, so it fails
    assert "its reader died of it (exit code 1)" in refused(packed())
    monkeypatch.setattr(parquet, "_LIMITS", Limits(idle_seconds=0.01))
    monkeypatch.setattr("crossfade.core.child._LOOK_SECONDS", 0.01)
    monkeypatch.setattr(parquet, "_MODULE", "crossfade.serving.protocol.parquet")
    assert "could not be read within 0.01 s" in refused(packed())


def test_the_limits_are_those_of_a_request():
    assert parquet._LIMITS.memory_bytes == 2**30
    assert 0 < parquet._LIMITS.cpu_seconds <= 30
    assert parquet._LIMITS.idle_seconds <= 30


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="a Parquet body needs the package `pyarrow`"):
        parquet_to_stream(packed(), max_rows=1, limit_bytes=1)
    monkeypatch.undo()
    assert importlib.util.find_spec("pyarrow")
    require_arrow("anything")


def test_several_threads_may_read_at_once():
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(read(packed()).num_rows)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2, 2, 2]


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    refused(b"nonsense")
    read(packed())
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) <= before | {str(len(before))}  # noqa: PTH208
