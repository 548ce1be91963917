"""What an example says about the inputs."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from crossfade.core.conversion import to_tensors
from crossfade.core.examples import infer_inputs
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import SignatureMismatchError

FRAME = pd.DataFrame(
    {
        "hour": [1, 2],
        "gap": pd.array([1, None], dtype="Int64"),
        "delay": [0.5, np.nan],
        "small": np.array([1, 2], np.float32),
        "night": [True, False],
        "carrier": ["AA", "UA"],
        "tail": ["N1", None],
        "kind": pd.Categorical(["a", "b"]),
    }
)
SPECS = (
    TensorSpec("hour", "INT64", (-1,)),
    TensorSpec("gap", "FP64", (-1,), missing=True),
    TensorSpec("delay", "FP64", (-1,), missing=True),
    TensorSpec("small", "FP32", (-1,)),
    TensorSpec("night", "BOOL", (-1,)),
    TensorSpec("carrier", "BYTES", (-1,)),
    TensorSpec("tail", "BYTES", (-1,), missing=True),
    TensorSpec("kind", "BYTES", (-1,)),
)


def test_pandas_columns():
    assert infer_inputs(FRAME) == (SPECS, "pandas")


def test_polars_columns():
    columns = {**FRAME.to_dict("list"), "gap": [1, None], "tail": ["N1", None], "small": FRAME["small"].to_numpy()}
    frame = pl.DataFrame(columns)
    assert infer_inputs(frame) == (SPECS, "polars")


def test_rows_are_columns():
    rows = [{"a": 1, "b": "x", "c": None}, {"b": "y", "a": 2.5, "c": 3}]
    specs, layout = infer_inputs(rows)
    assert layout == "pandas"
    assert specs == (
        TensorSpec("a", "FP64", (-1,)),
        TensorSpec("b", "BYTES", (-1,)),
        TensorSpec("c", "FP64", (-1,), missing=True),
    )
    assert infer_inputs([{"a": 1}, {}])[0] == (TensorSpec("a", "FP64", (-1,), missing=True),)


def test_one_array_is_x():
    for example, datatype in (
        (np.ones((2, 3)), "FP64"),
        (np.ones((2, 3), np.float32), "FP32"),
        (torch.ones(2, 3), "FP32"),
        ([[1, 2, 3]], "INT64"),
        (pd.DataFrame(np.ones((2, 3))), "FP64"),
        (np.array([["a", "b", "c"]]), "BYTES"),
    ):
        assert infer_inputs(example) == ((TensorSpec("x", datatype, (-1, 3)),), "tensors")
    assert infer_inputs(np.ones(4))[0] == (TensorSpec("x", "FP64", (-1,)),)
    assert infer_inputs(np.array([[1.0, np.nan]]))[0][0].missing


def test_a_dict_of_arrays_names_tensors():
    specs, layout = infer_inputs({"tokens": np.ones((2, 7), np.int64), "clip": [b"a", b"b"]})
    assert layout == "tensors"
    assert specs == (TensorSpec("tokens", "INT64", (-1, 7)), TensorSpec("clip", "BYTES", (-1,), text=False))


@pytest.mark.parametrize("example", [FRAME, pl.DataFrame(FRAME), np.ones((2, 3)), {"a": np.ones((2, 2))}, [{"a": 1}]])
def test_an_example_fits_the_inputs_inferred_from_it(example):
    inputs, layout = infer_inputs(example)
    assert Signature(inputs, (), layout).check(to_tensors(example, inputs))


@pytest.mark.parametrize(
    ("example", "given"),
    [
        (np.ones((0, 3)), "no rows"),
        (np.float64(3), "a scalar"),
        (FRAME[:0], "no rows"),
        ([{"a": None}], "only nulls"),
        ([], "no rows"),
        (pd.DataFrame({"t": [dt.datetime(2013, 1, 1, tzinfo=dt.UTC)]}), "Timestamp"),
        ([{"a": 1}, {"a": "b"}], "an integer and text"),
        (object(), "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_says_nothing_is_refused(example, given):
    with pytest.raises(SignatureMismatchError, match=given):
        infer_inputs(example)
