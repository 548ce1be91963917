"""From frames, arrays and rows to tensors, and what is refused on the way."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.conversion import as_array, columns_of, is_frame, to_tensors
from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.errors import SignatureMismatchError

INPUTS = (
    TensorSpec("delay", "FP64", (-1,), missing=True),
    TensorSpec("distance", "FP64", (-1,)),
    TensorSpec("hour", "INT64", (-1,)),
    TensorSpec("night", "BOOL", (-1,)),
    TensorSpec("carrier", "BYTES", (-1,), missing=True),
)
MATRIX = (TensorSpec("x", "FP32", (-1, 3)),)
ROWS = [
    {"delay": 4, "distance": 1.5, "hour": 7, "night": False, "carrier": "AA"},
    {"carrier": None, "night": True, "hour": 23, "distance": 2, "delay": None},
]
COLUMNS = {
    "delay": [4.0, np.nan],
    "distance": [1.5, 2.0],
    "hour": [7, 23],
    "night": [False, True],
    "carrier": ["AA", None],
}


def check(tensors, inputs=INPUTS):
    """Pass the check of a signature and compare with COLUMNS."""
    checked = Signature(inputs, ()).check(tensors)
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(checked[name], np.array(values, dtype=checked[name].dtype))
    return checked


def refusal(data, inputs=INPUTS):
    with pytest.raises(SignatureMismatchError) as caught:
        Signature(tuple(inputs), ()).check(to_tensors(data, inputs))
    facts = caught.value.facts
    return facts["field"], facts["expected"], facts["given"]


# --- the same data in every form -----------------------------------------------------------------------------------


def test_rows():
    tensors = to_tensors(ROWS, INPUTS)
    assert list(check(tensors)) == [spec.name for spec in INPUTS]
    assert all(tensors[spec.name].dtype == DTYPES[spec.datatype] for spec in INPUTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame[list(reversed(frame.columns))],
        lambda frame: frame.astype({"carrier": "object"}),
        lambda frame: frame.astype({"carrier": "category"}),
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.astype({"hour": "int8", "distance": "float32"}),
        lambda frame: frame.astype({"hour": "uint16", "delay": "Int32", "night": "boolean", "distance": "Float32"}),
        lambda frame: frame.set_index("hour", drop=False),
        lambda frame: pd.concat([frame, frame])[:2],
    ],
)
def test_pandas(change):
    check(to_tensors(change(pd.DataFrame(COLUMNS)), INPUTS))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.with_columns(pl.col("carrier").cast(pl.Categorical), pl.col("hour").cast(pl.Int16)),
        lambda frame: frame.with_columns(pl.col("delay").fill_nan(None).cast(pl.Int64)),
        lambda frame: frame.with_columns(pl.col("carrier").cast(pl.Enum(["AA", "UA"]))),
    ],
)
def test_polars(change):
    check(to_tensors(change(pl.DataFrame(COLUMNS)), INPUTS))


def test_a_dict_of_arrays_lists_and_torch_tensors():
    check(to_tensors({**COLUMNS, "distance": torch.tensor([1.5, 2.0]), "hour": np.array([7, 23], np.int8)}, INPUTS))


def test_one_array_for_one_input():
    for data in (np.ones((2, 3)), torch.ones(2, 3), [[1, 1, 1], [1, 1, 1]], pd.DataFrame(np.ones((2, 3)))):
        tensors = to_tensors(data, MATRIX)
        assert tensors["x"].dtype == np.float32
        assert tensors["x"].tolist() == [[1, 1, 1], [1, 1, 1]]
    named = pd.DataFrame(np.ones((2, 3)), columns=list("abc"))
    assert to_tensors(named, MATRIX)["x"].shape == (2, 3)
    assert to_tensors(pl.DataFrame(named), MATRIX)["x"].shape == (2, 3)


def test_one_array_with_a_column_per_input():
    inputs = [TensorSpec(name, "FP64", (-1,)) for name in "abc"]
    tensors = to_tensors(np.arange(6).reshape(2, 3), inputs)
    assert {name: value.tolist() for name, value in tensors.items()} == {"a": [0, 3], "b": [1, 4], "c": [2, 5]}
    with pytest.raises(SignatureMismatchError, match="the inputs a, b, c"):
        to_tensors(np.ones((2, 4)), inputs)
    with pytest.raises(SignatureMismatchError, match=r"shape \[3\]"):
        to_tensors(np.ones(3), inputs)


def test_rows_with_lists_for_a_wide_input():
    assert to_tensors([{"x": [1, 2, 3]}, {"x": [4, 5, 6.5]}], MATRIX)["x"].tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert refusal([{"x": [1, 2]}, {"x": [1]}], MATRIX)[2] == "lists of unequal length"
    assert refusal([{"x": ["a", "b", "c"]}], MATRIX)[1:] == ("FP32", "BYTES")


def test_bytes_stay_bytes():
    spec = TensorSpec("clip", "BYTES", (-1,), text=False)
    assert to_tensors([{"clip": b"\x00\xff"}], [spec])["clip"].tolist() == [b"\x00\xff"]
    assert to_tensors({"clip": [b"\x00\xff"]}, [spec])["clip"].tolist() == [b"\x00\xff"]
    assert refusal([{"clip": "text"}], [spec]) == ("clip", "bytes", "text in row 0")


def test_numpy_numbers_in_rows():
    row = {"delay": np.float32(4), "distance": np.int64(2), "hour": np.int8(7), "night": np.bool_(True), "carrier": "x"}
    assert to_tensors([row], INPUTS)["distance"].tolist() == [2.0]


# --- what is refused in rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected", "given"),
    [
        ("distance", "3.5", "FP64", "text in row 1"),
        ("distance", True, "FP64", "a boolean in row 1"),
        ("distance", None, "FP64", "null in row 1"),
        ("distance", [1.0], "FP64", "a list in row 1"),
        ("distance", {}, "FP64", "an object in row 1"),
        ("delay", "late", "FP64", "text in row 1"),
        ("hour", 7.0, "INT64", "a number in row 1"),
        ("hour", False, "INT64", "a boolean in row 1"),
        ("hour", None, "INT64", "null in row 1"),
        ("night", 1, "BOOL", "an integer in row 1"),
        ("night", None, "BOOL", "null in row 1"),
        ("carrier", 3, "text", "an integer in row 1"),
        ("carrier", b"AA", "text", "bytes in row 1"),
        ("carrier", dt.date(2013, 1, 1), "text", "date in row 1"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_row(name, value, expected, given):
    assert refusal([ROWS[0], {**ROWS[1], name: value}]) == (name, expected, given)


@pytest.mark.parametrize("value", [2**64, [[2**64]], [[1, -(2**70)], [2, 3]]])
def test_integers_that_only_a_float_can_hold_are_floats(value):
    array = as_array(value, "x")
    assert (array.dtype, array.tolist()) == (np.float64, np.array(value, dtype=float).tolist())


@pytest.mark.parametrize("value", [[10**400], [[1.5, 10**400]]])
def test_integers_that_nothing_can_hold_are_refused(value):
    with pytest.raises(SignatureMismatchError, match="outside of their range"):
        as_array(value, "x")


@pytest.mark.parametrize(("name", "value"), [("hour", 2**63), ("distance", 10**400)])
def test_a_number_out_of_range_is_named(name, value):
    assert refusal([{**ROWS[0], name: value}])[::2] == (name, "an integer outside of its range")


def test_an_overflowing_float_is_an_infinity_and_refused():
    spec = [TensorSpec("x", "FP32", (-1,))]
    assert refusal([{"x": 1e300}], spec) == ("x", "finite numbers", "inf at [0]")
    assert refusal({"x": np.array([1e300])}, spec) == ("x", "finite numbers", "inf at [0]")


def test_missing_and_unknown_names_are_named_with_their_row():
    without = {name: value for name, value in ROWS[1].items() if name != "hour"}
    assert refusal([ROWS[0], without]) == ("hour", "INT64 [-1]", "nothing in row 1")
    assert refusal([{}]) == ("delay", "FP64 [-1]", "nothing in row 0")
    field, expected, given = refusal([ROWS[0], {**ROWS[1], "x" * 200: 1}])
    assert (field, given) == ("x" * 80, "an unknown input in row 1")
    assert "delay, distance" in expected


@pytest.mark.parametrize("other", [None, 3, "text", [1]])
def test_a_row_that_is_no_object_is_named(other):
    field, expected, given = refusal([ROWS[0], other])
    assert (field, expected) == ("delay", "an object per row")
    assert given.endswith("in row 1")


# --- what is refused in arrays and frames --------------------------------------------------------------------------


def test_integers_are_narrowed_only_when_they_fit():
    spec = [TensorSpec("x", "INT8", (-1,))]
    assert to_tensors({"x": np.array([1, -5])}, spec)["x"].dtype == np.int8
    assert refusal({"x": np.array([1, 300])}, spec) == ("x", "INT8", "INT64")
    assert refusal({"x": np.array([1.0])}, spec) == ("x", "INT8", "FP64")


def test_unknown_columns_are_left_to_the_check():
    assert refusal(pd.DataFrame(COLUMNS).assign(more=1))[2] == "an unknown input"
    assert refusal(pd.DataFrame(COLUMNS).drop(columns="hour"))[::2] == ("hour", "nothing")


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(["2013-01-01", "2013-01-02"]),
        pd.to_timedelta([1, 2]),
        np.array([1j, 2j]),
        [dt.date(2013, 1, 1), None],
        [1, "a"],
        [True, None],
        pd.array([True, None], dtype="boolean"),
        [{}, {}],
    ],
    ids=str,
)
def test_columns_without_a_datatype_are_refused_with_advice(column):
    with pytest.raises(SignatureMismatchError, match="`when`: expected numbers, booleans or text"):
        columns_of(pd.DataFrame({"when": column}))


def test_polars_columns_without_a_datatype_are_refused():
    for values in ([dt.date(2013, 1, 1)], [[1, 2]], [{"a": 1}], [dt.timedelta(1)]):
        with pytest.raises(SignatureMismatchError, match="`when`"):
            columns_of(pl.DataFrame({"when": values}))


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(SignatureMismatchError, match="one column of this name"):
        columns_of(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_objects_become_what_they_hold():
    def kind(*values):
        return as_array(np.array(values, dtype=object), "x").dtype

    assert kind(1, 2) == np.int64
    assert kind(1, 2.5) == np.float64
    assert kind(1, None) == np.float64
    assert kind(np.float32(1), None) == np.float64
    assert kind(True, False) == np.bool_
    assert kind("a", None) == np.object_
    assert as_array(np.array(["a"]), "x").dtype == np.object_
    assert as_array(np.array([1.0], ">f8"), "x").dtype == np.dtype("<f8")


def test_an_empty_frame_has_nothing_to_stack():
    with pytest.raises(SignatureMismatchError, match="empty frame"):
        to_tensors(pd.DataFrame(), MATRIX)


def test_only_frames_are_frames():
    assert is_frame(pd.DataFrame())
    assert is_frame(pl.DataFrame())
    assert not is_frame(pd.Series(dtype=float))
    assert not is_frame({})


ROWS_OF_ANYTHING = st.lists(
    st.dictionaries(
        st.sampled_from(["delay", "distance", "hour", "night", "carrier", "more"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2),
    )
    | st.none()
    | st.text(),
    max_size=4,
)


@given(ROWS_OF_ANYTHING)
def test_rows_of_anything_give_tensors_or_a_typed_error(rows):
    try:
        tensors = Signature(INPUTS, ()).check(to_tensors(rows, INPUTS))
    except SignatureMismatchError:
        return
    assert all(len(value) == len(rows) for value in tensors.values())


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "delay": st.none() | st.floats(allow_infinity=False) | st.integers(-(2**53), 2**53),
                "distance": st.floats(allow_infinity=False, allow_nan=False),
                "hour": st.integers(-(2**63), 2**63 - 1),
                "night": st.booleans(),
                "carrier": st.none() | st.text(),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_and_columns_give_the_same_tensors(rows):
    columns = {
        spec.name: np.array(
            [np.nan if row[spec.name] is None and spec.name == "delay" else row[spec.name] for row in rows],
            dtype=DTYPES[spec.datatype],
        )
        for spec in INPUTS
    }
    left, right = (Signature(INPUTS, ()).check(to_tensors(data, INPUTS)) for data in (rows, columns))
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
