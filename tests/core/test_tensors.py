"""The check of inputs: what fits passes unchanged, what does not is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DATATYPES, DTYPES, Signature, TensorSpec, datatype_of, row_count
from crossfade.errors import SignatureMismatchError

MATRIX = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),))
COLUMNS = Signature(
    (TensorSpec("carrier", "BYTES", (-1,)), TensorSpec("delay", "FP32", (-1,), missing=True)),
    (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
    layout="pandas",
    classes=(0, 1),
)


def refusal(signature, tensors):
    with pytest.raises(SignatureMismatchError) as caught:
        signature.check(tensors)
    return caught.value.facts


def test_every_datatype_names_its_dtype():
    for name, dtype in DTYPES.items():
        assert datatype_of(dtype) == name
        assert DTYPES[DATATYPES[dtype.str.lstrip("<|=")]] == dtype


@pytest.mark.parametrize("dtype", ["U7", "S3", "O"])
def test_all_strings_are_bytes(dtype):
    assert datatype_of(np.dtype(dtype)) == "BYTES"


@pytest.mark.parametrize("dtype", ["c16", "M8[s]", "i4,f4"])
def test_other_dtypes_have_no_datatype(dtype):
    with pytest.raises(KeyError):
        datatype_of(np.dtype(dtype))


def test_what_fits_is_not_copied():
    x = np.zeros((4, 3))
    assert MATRIX.check({"x": x})["x"] is x


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(-1e300, 1e300)))
def test_finite_matrices_pass(x):
    assert MATRIX.check({"x": x})["x"] is x


def test_sums_that_overflow_are_still_finite_inputs():
    x = np.full((2, 3), 1.7e308)
    assert MATRIX.check({"x": x})["x"] is x


def test_safe_widening():
    assert MATRIX.check({"x": np.ones((1, 3), np.float32)})["x"].dtype == np.float64
    assert MATRIX.check({"x": np.ones((1, 3), np.int32)})["x"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["i8", "c16", "U3", "O", "M8[s]"])
def test_lossy_casts_are_refused(dtype):
    spec = TensorSpec("x", "FP32", (-1,))
    with pytest.raises(SignatureMismatchError) as caught:
        spec.check(np.zeros(2, dtype))
    assert caught.value.facts["expected"] == "FP32"


@pytest.mark.parametrize("shape", [(3,), (1, 4), (1, 3, 1), ()])
def test_wrong_shapes_name_both(shape):
    facts = refusal(MATRIX, {"x": np.zeros(shape)})
    assert facts["field"] == "x"
    assert "3]" in facts["expected"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_name_their_position(bad):
    x = np.zeros((2, 3))
    x[1, 2] = bad
    assert refusal(MATRIX, {"x": x})["given"] == f"{bad} at [1, 2]"


def test_missing_numbers_where_allowed_but_never_infinities():
    carrier = np.array(["AA", "UA"], object)
    checked = COLUMNS.check({"carrier": carrier, "delay": np.array([np.nan, 1], np.float32)})
    assert np.isnan(checked["delay"][0])
    facts = refusal(COLUMNS, {"carrier": carrier, "delay": np.array([np.nan, np.inf], np.float32)})
    assert facts["given"] == "inf at [1]"


def test_text_and_bytes_are_told_apart():
    raw = TensorSpec("audio", "BYTES", (-1,), text=False)
    assert raw.check(np.array([b"RIFF"], object))[0] == b"RIFF"
    for spec, value in ((raw, "RIFF"), (COLUMNS.inputs[0], b"AA"), (COLUMNS.inputs[0], 3), (COLUMNS.inputs[0], None)):
        with pytest.raises(SignatureMismatchError):
            spec.check(np.array([value], object))


def test_numpy_strings_become_objects():
    assert COLUMNS.inputs[0].check(np.array(["AA", "B6"])).tolist() == ["AA", "B6"]


def test_missing_unknown_and_uneven_inputs():
    carrier, delay = np.array(["AA"], object), np.ones(1, np.float32)
    assert refusal(COLUMNS, {"carrier": carrier})["given"] == "nothing"
    assert refusal(COLUMNS, {"carrier": carrier, "delay": delay, "x": delay})["field"] == "x"
    assert refusal(COLUMNS, {"carrier": carrier, "delay": np.ones(2, np.float32)})["expected"] == "1 rows"


def test_outputs_by_name():
    assert COLUMNS.output("predict_proba").shape == (-1, 2)
    with pytest.raises(SignatureMismatchError):
        COLUMNS.output("nope")


def test_row_count():
    assert row_count({"x": np.zeros((7, 2))}) == 7
    assert row_count({}) == 0
