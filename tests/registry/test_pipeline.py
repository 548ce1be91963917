"""A pipeline: layouts in, checked answers out."""

import sys
import time

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import MissingExtraError, NotServedError, PredictionError
from crossfade.registry.flavors.sklearn import Sklearn
from crossfade.registry.pipeline import Pipeline

A, B = TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,))
TEXT = TensorSpec("c", "BYTES", (-1,), missing=True)
VALUE = TensorSpec("predict", "FP64", (-1,))
WANTED = frozenset({"predict"})
COLUMNS = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}


class Fake:
    inputs = classes = columns = ()
    outputs = (VALUE,)
    matrix = False

    def __init__(self, answer):
        self.answer = answer

    def predict(self, inputs, wanted):
        self.seen, self.wanted = inputs, wanted
        return self.answer(inputs) if callable(self.answer) else self.answer


def pipeline(answer, inputs=(A, B), outputs=(VALUE,), layout="tensors", preprocessor=None):
    return Pipeline(Signature(tuple(inputs), tuple(outputs), layout), Fake(answer), preprocessor, "m:1.0.0")


def seen(layout, columns, inputs=(A, B)):
    """What the model is given."""
    built = pipeline({"predict": np.zeros(2)}, inputs, layout=layout)
    built.predict(columns, WANTED)
    return built.model.seen


# --- layouts -------------------------------------------------------------------------------------------------------


def test_tensors_stay_a_dict():
    assert seen("tensors", COLUMNS) is COLUMNS


def test_columns_become_a_matrix():
    matrix = seen("matrix", {"a": np.array([1, 2], np.int8), "b": np.array([3.5, np.nan])})
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(matrix, [[1, 3.5], [2, np.nan]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_])
def test_columns_of_one_datatype_become_a_frame(dtype):
    columns = {"a": np.array([1, 0], dtype), "b": np.array([0, 1], dtype)}
    datatype = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "b1": "BOOL"}[np.dtype(dtype).str[1:]]
    inputs = [TensorSpec(name, datatype, (-1,)) for name in "ab"]
    pd.testing.assert_frame_equal(seen("pandas", columns, inputs), pd.DataFrame(columns))


def test_columns_of_several_datatypes_become_a_frame():
    hour = TensorSpec("hour", "INT64", (-1,))
    columns = {"hour": np.array([1, 2]), **COLUMNS, "c": np.array(["x", None], dtype=object)}
    frame = seen("pandas", columns, [hour, A, B, TEXT])
    assert frame["hour"].dtype == np.int64
    assert frame["a"].dtype == np.float64
    assert frame["c"].tolist()[0] == "x"
    assert frame["c"].isna().tolist() == [False, True]
    assert list(frame.columns) == ["hour", "a", "b", "c"]


def test_columns_become_a_polars_frame():
    frame = seen("polars", {**COLUMNS, "c": np.array(["x", None], dtype=object)}, [A, B, TEXT])
    assert frame.equals(pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": ["x", None]}))


@pytest.mark.parametrize("layout", ["pandas", "polars"])
def test_a_missing_frame_library_is_named(layout, monkeypatch):
    monkeypatch.setitem(sys.modules, layout, None)
    with pytest.raises(MissingExtraError, match=layout):
        seen(layout, COLUMNS)


# --- preprocessor and model ----------------------------------------------------------------------------------------


def test_preprocessor_and_model_are_one():
    rows = np.random.default_rng(0).normal(size=(50, 2)) * [1, 100] + [5, 0]
    labels = (rows[:, 1] > 0).astype(int)
    scaler = StandardScaler().fit(rows)
    model = LogisticRegression().fit(scaler.transform(rows), labels)
    outputs = (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2)))
    flavor = Sklearn()
    built = Pipeline(Signature((A, B), outputs, "matrix"), flavor.wrap(model), flavor.wrap(scaler))
    columns = {"a": rows[:, 0], "b": rows[:, 1]}
    answers = built.predict(columns, frozenset({"predict", "predict_proba"}))
    assert list(answers) == ["predict", "predict_proba"]
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(scaler.transform(rows)))
    assert list(built.predict(columns, WANTED)) == ["predict"]


# --- answers -------------------------------------------------------------------------------------------------------


def test_only_wanted_outputs_are_returned():
    other = TensorSpec("other", "FP64", (-1,))
    built = pipeline({"predict": np.zeros(2), "other": np.ones(2)}, outputs=(VALUE, other))
    assert list(built.predict(COLUMNS, frozenset({"other"}))) == ["other"]
    assert built.model.wanted == {"other"}
    assert built.predict(COLUMNS, frozenset()) == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int32])
def test_answers_are_cast_when_nothing_is_lost(dtype):
    answer = pipeline({"predict": np.array([1, 2], dtype)}).predict(COLUMNS, WANTED)["predict"]
    assert answer.dtype == np.float64
    assert answer.tolist() == [1, 2]


def test_variable_dimensions_fit_anything():
    built = pipeline({"predict": np.zeros((2, 7))}, outputs=[TensorSpec("predict", "FP64", (-1, -1))])
    assert built.predict(COLUMNS, WANTED)["predict"].shape == (2, 7)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"predict": np.zeros(3)}, r"output `predict` has shape \[3\], expected \[2\]"),
        ({"predict": np.zeros((2, 2))}, r"shape \[2, 2\], expected \[2\]"),
        ({"predict": np.zeros(())}, r"shape \[\], expected \[2\]"),
        ({"other": np.zeros(2)}, "no output `predict`"),
        ({"predict": np.array(["a", "b"], object)}, "output `predict` is object, expected FP64"),
        ({"predict": None}, "no output `predict`"),
        (lambda inputs: inputs["nothing"], "KeyError: 'nothing'"),
        (lambda inputs: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_answer_is_a_failed_prediction(answer, problem):
    with pytest.raises(PredictionError, match=f"`m:1.0.0` failed on this input: .*{problem}"):
        pipeline(answer).predict(COLUMNS, WANTED)


def test_a_failing_preprocessor_is_a_failed_prediction():
    class Broken:
        def transform(self, inputs):
            raise ValueError("no\nsecond line")

    with pytest.raises(PredictionError, match=r"ValueError: no\n"):
        pipeline({"predict": np.zeros(2)}, preprocessor=Broken()).predict(COLUMNS, WANTED)


def test_deliberate_errors_keep_their_kind():
    def refuse(inputs):
        raise NotServedError(ref="m", problem="busy")

    with pytest.raises(NotServedError):
        pipeline(refuse).predict(COLUMNS, WANTED)


# --- time ----------------------------------------------------------------------------------------------------------


class Slow:
    """A preprocessor that takes its time."""

    def transform(self, inputs):
        time.sleep(0.02)
        return inputs


def test_the_time_before_the_model_is_told_apart():
    quick, slow = pipeline({"predict": np.zeros(2)}), pipeline(lambda _: late(), preprocessor=Slow())

    def late():
        time.sleep(0.05)
        return {"predict": np.zeros(2)}

    assert quick.preprocess_seconds == 0.0
    quick.predict(COLUMNS, WANTED)
    started = time.perf_counter()
    slow.predict(COLUMNS, WANTED)
    whole = time.perf_counter() - started
    assert quick.preprocess_seconds > 0
    assert 0.02 <= slow.preprocess_seconds <= whole - 0.05
