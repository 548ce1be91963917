"""The Python face of a version: what goes in is checked, what comes out is one array."""

import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import SignatureMismatchError
from crossfade.registry.versions import Version
from crossfade.serving.predictor import Predictor, PredictorInfo

FRAME = Signature(
    (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,), missing=True)),
    (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
    layout="pandas",
    classes=(0, 1),
)
NAMED = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("embedding", "FP32", (-1, 4)),))
VERSION = Version(
    model="m", version="1.0.0", number=1, manifest_digest="0" * 64, flavor="fake", stage="registered", size_bytes=1,
    evaluation={"auc": 0.75}, tags={}, source="", created_at=datetime(2026, 1, 1, tzinfo=UTC), created_by="test",
)  # fmt: skip


class Fake:
    """Answers with the sum of the columns, and remembers how many rows each call had."""

    def __init__(self):
        self.calls = []

    def __call__(self, tensors, wanted):
        self.calls.append(len(tensors["a"]))
        total = tensors["a"] + np.nan_to_num(tensors["b"])
        answers = {"predict": (total > 0).astype(np.int64), "predict_proba": np.stack([-total, total], axis=1)}
        return {name: answers[name] for name in wanted}


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def predictor(fake):
    return Predictor(PredictorInfo(VERSION, FRAME), fake)


ROWS = {"a": [1.0, -2.0, 3.0], "b": [0.5, None, -4.0]}


@pytest.mark.parametrize(
    "inputs",
    [
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        {"a": np.array([1.0, -2.0, 3.0]), "b": np.array([0.5, np.nan, -4.0])},
        [{"a": 1, "b": 0.5}, {"a": -2, "b": None}, {"a": 3, "b": -4}],
        np.array([[1.0, 0.5], [-2.0, np.nan], [3.0, -4.0]]),
    ],
    ids=["pandas", "polars", "arrays", "rows", "matrix"],
)
def test_every_container_gives_the_same(predictor, inputs):
    assert predictor.predict(inputs).tolist() == [1, 0, 0]
    assert predictor.predict(inputs, probabilities=True)[:, 1].tolist() == [1.5, -2.0, -1.0]
    predictor.validate(inputs)


def test_batches_are_cut_and_joined(predictor, fake):
    frame = pd.DataFrame({"a": np.arange(-50.0, 55.0), "b": np.zeros(105)})
    whole = predictor.predict(frame)
    fake.calls.clear()
    assert np.array_equal(predictor.predict_batch(frame, batch_size=25), whole)
    assert fake.calls == [25, 25, 25, 25, 5]


def test_no_rows_are_an_answer_too(predictor):
    empty = pd.DataFrame({"a": np.zeros(0), "b": np.zeros(0)})
    assert predictor.predict_batch(empty).shape == (0,)
    assert predictor.predict_batch(empty, probabilities=True).shape == (0, 2)


def test_a_bar_is_drawn_on_stderr_when_asked_for(predictor, capsys):
    frame = pd.DataFrame({"a": np.zeros(20), "b": np.zeros(20)})
    predictor.predict_batch(frame, batch_size=5, progress=True)
    printed = capsys.readouterr()
    assert "m:1.0.0" in printed.err
    assert printed.out == ""


def test_long_work_without_a_terminal_is_quiet(predictor, capsys):
    frame = pd.DataFrame({"a": np.zeros(20_000), "b": np.zeros(20_000)})
    predictor.predict_batch(frame, batch_size=5_000)
    assert capsys.readouterr().err == ""


def test_short_work_does_not_import_the_bar(predictor):
    sys.modules.pop("rich.progress", None)
    predictor.predict_batch(pd.DataFrame(ROWS))
    assert "rich.progress" not in sys.modules


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_at_least_one_row(predictor, size):
    with pytest.raises(SignatureMismatchError):
        predictor.predict_batch(pd.DataFrame(ROWS), batch_size=size)


def test_errors_name_the_version(predictor):
    with pytest.raises(SignatureMismatchError) as caught:
        predictor.validate(pd.DataFrame({"a": [np.inf], "b": [0.0]}))
    assert caught.value.facts["field"] == "a"
    assert "m:1.0.0" in caught.value.hint


def test_without_a_predict_output_the_first_is_returned():
    answer = Predictor(
        PredictorInfo(VERSION, NAMED), lambda tensors, wanted: {"embedding": np.ones((len(tensors["x"]), 4))}
    )
    assert answer.predict(np.zeros((3, 2), np.float32)).shape == (3, 4)
    with pytest.raises(SignatureMismatchError):
        answer.predict(np.zeros((3, 2), np.float32), probabilities=True)


def test_it_shows_itself_in_a_notebook(predictor):
    html = predictor._repr_html_()
    assert "m:1.0.0" in html
    assert "auc" in html
    assert repr(predictor) == "<Predictor m:1.0.0>"
