"""What was predicted is read back as it was, or it was said not to be kept."""

import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.errors import MalformedRequestError, MissingExtraError
from crossfade.serving import capture_files
from crossfade.serving.capture_files import Captured, Origin, delete_old, find_files, read_file, write_file

SIGNATURE = Signature(
    (TensorSpec("age", "FP64", (-1,), missing=True), TensorSpec("city", "BYTES", (-1,), missing=True)),
    (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
)
INPUTS = {"age": np.array([1.5, np.nan]), "city": np.array(["Bern", None], dtype=object)}
OUTPUTS = {"predict": np.array([1, 0]), "predict_proba": np.array([[0.25, 0.75], [1.0, 0.0]])}


def digest(value):
    return f"<{len(value)}>"


def origin(signature=SIGNATURE, keeps=lambda _: True):
    return Origin.of("m", "1.0.0", "ab" * 32, signature, keeps)


def equal(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value)
        assert other[name].dtype == value.dtype


def test_what_is_written_is_read(tmp_path):
    path = write_file(tmp_path, origin(), [Captured("r", 1_700_000_000_123_456_789, INPUTS, OUTPUTS)], digest)
    assert path.parent == tmp_path / "m"
    assert path.name.startswith("1.0.0-")
    assert [file.suffix for file in path.parent.iterdir()] == [".parquet"]
    found, groups = read_file(path)
    assert found == origin()
    ((inputs, outputs),) = groups
    equal(INPUTS, inputs)
    equal(OUTPUTS, outputs)
    table = pq.read_table(path).to_pydict()
    assert table["request_id"] == ["r", "r"]
    assert table["row"] == [0, 1]
    assert (table["model"], table["version"]) == (["m"] * 2, ["1.0.0"] * 2)
    assert table["at"][0].isoformat() == "2023-11-14T22:13:20.123456+00:00"
    assert table["output.predict_proba"] == [[0.25, 0.75], [1.0, 0.0]]


def test_outputs_that_were_not_asked_for_are_left_out(tmp_path):
    labels = {"predict": OUTPUTS["predict"]}
    several = [Captured("a", 1, INPUTS, labels), Captured("b", 2, INPUTS, OUTPUTS), Captured("c", 3, INPUTS, labels)]
    _, groups = read_file(write_file(tmp_path, origin(), several, digest))
    first, second = sorted(groups, key=lambda group: len(group[1]))
    assert (len(first[0]["age"]), set(first[1])) == (4, {"predict"})
    equal(OUTPUTS, second[1])


def test_fields_are_kept_hashed_or_left_out(tmp_path):
    policy = {"age": None, "city": False, "predict": None}
    kept = origin(keeps=lambda name: policy.get(name, True))
    path = write_file(tmp_path, kept, [Captured("r", 1, INPUTS, OUTPUTS)], digest)
    table = pq.read_table(path).to_pydict()
    assert "input.city" not in table
    assert all(text.startswith("<") for text in table["input.age"] + table["output.predict"])
    assert b"Bern" not in path.read_bytes()
    found, groups = read_file(path)
    assert found.hashed == ("age", "predict")
    ((inputs, outputs),) = groups
    assert (set(inputs), set(outputs)) == (set(), {"predict_proba"})


def test_hashes_of_equal_values_are_equal(tmp_path):
    values = {"age": np.array([1.0, 2.0, 1.0, np.nan]), "city": np.array(["a", "b", "a", None], dtype=object)}
    kept = origin(keeps=lambda name: None if name in values else False)
    path = write_file(tmp_path, kept, [Captured("r", 1, values, {})], lambda value: value.hex())
    table = pq.read_table(path).to_pydict()
    for name in ("input.age", "input.city"):
        first, second, third, _ = table[name]
        assert first == third != second


def test_rows_of_other_shapes_come_in_groups_of_their_own(tmp_path):
    signature = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1,)),))
    shapes = [(2, 3), (1, 1), (3, 3)]
    several = [
        Captured("r", 1, {"x": np.full(shape, i, np.float32)}, {"y": np.arange(shape[0], dtype=np.float32)})
        for i, shape in enumerate(shapes)
    ]
    _, groups = read_file(write_file(tmp_path, origin(signature), several, digest))
    assert sorted(inputs["x"].shape for inputs, _ in groups) == [(1, 1), (5, 3)]


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES"}))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_datatype_survives(tmp_path_factory, datatype, data):
    rank = data.draw(st.integers(1, 3))
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * rank))
    spec = TensorSpec("x", datatype, (-1,) * rank, missing=True)
    value = data.draw(hnp.arrays(DTYPES[datatype], shape))
    folder = tmp_path_factory.mktemp("files")
    signature = Signature((spec,), (TensorSpec("y", datatype, spec.shape),))
    path = write_file(folder, origin(signature), [Captured("r", 1, {"x": value}, {"y": value})], digest)
    ((inputs, outputs),) = read_file(path)[1]
    equal({"x": value}, inputs)
    equal({"y": value}, outputs)


@pytest.mark.parametrize("text", [True, False])
def test_text_and_bytes_survive(tmp_path, text):
    items = ["ä", "", "\n", None] if text else [b"\xff\x00", b"", b"x", None]
    value = np.array(items, dtype=object)
    deep = np.array([[item, item] for item in items], dtype=object)
    signature = Signature(
        (TensorSpec("x", "BYTES", (-1,), text=text, missing=True), TensorSpec("d", "BYTES", (-1, 2), text=text)),
        (TensorSpec("y", "BYTES", (-1,), text=text),),
    )
    path = write_file(tmp_path, origin(signature), [Captured("r", 1, {"x": value, "d": deep}, {})], digest)
    ((inputs, _),) = read_file(path)[1]
    equal({"x": value, "d": deep}, inputs)


# --- files that are not what they should be ------------------------------------------------------------------------


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(capture_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path, origin(), [Captured("r", 1, INPUTS, OUTPUTS)], digest)
    assert list((tmp_path / "m").iterdir()) == []


def test_other_files_are_no_captures(tmp_path):
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    text = tmp_path / "text.parquet"
    text.write_text("no")
    lying = tmp_path / "lying.parquet"
    meta = pq.read_schema(write_file(tmp_path, origin(), [Captured("r", 1, INPUTS, OUTPUTS)], digest)).metadata
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(meta), lying)
    for path in (other, text, lying, tmp_path / "absent.parquet"):
        with pytest.raises(MalformedRequestError):
            read_file(path)


def test_files_are_found_below_a_folder(tmp_path):
    paths = [write_file(tmp_path, origin(), [Captured("r", 1, INPUTS, OUTPUTS)], digest) for _ in range(3)]
    (tmp_path / "m" / "half.part").write_bytes(b"")
    assert find_files(tmp_path) == sorted(paths)
    assert find_files(paths[0]) == [paths[0]]


def test_only_old_captures_are_deleted(tmp_path):
    old, young = (write_file(tmp_path, origin(), [Captured("r", 1, INPUTS, OUTPUTS)], digest) for _ in range(2))
    left = old.with_suffix(".part")
    left.write_bytes(b"half")
    foreign = tmp_path / "m" / "precious.parquet"
    foreign.write_bytes(b"not ours")
    for path in (old, left, foreign):
        os.utime(path, (1, 1))
    assert delete_old(tmp_path, time.time() - 100) == 2
    assert sorted((tmp_path / "m").iterdir()) == sorted([young, foreign])
    assert delete_old(tmp_path / "absent", time.time()) == 0


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError):
        read_file(tmp_path / "x.parquet")
