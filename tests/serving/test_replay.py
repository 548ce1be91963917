"""What another version answers differently is found, counted and measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import (
    BatchRestsError,
    DeadlineExceededError,
    MalformedRequestError,
    OverloadedError,
    PredictionError,
    SignatureMismatchError,
)
from crossfade.serving import replay as module
from crossfade.serving.capture_files import Captured, Origin, write_file
from crossfade.serving.predictor import Predictor, PredictorInfo
from crossfade.serving.replay import Change, replay

SIGNATURE = Signature(
    (TensorSpec("x", "FP64", (-1,)),),
    (TensorSpec("predict", "BYTES", (-1,)), TensorSpec("score", "FP64", (-1,)), TensorSpec("p", "FP64", (-1, 2))),
)


def label(x):
    return np.where(x >= 0, "yes", "no").astype(object)


def outputs_of(x, shift=0.0):
    return {"predict": label(x + shift), "score": x + shift, "p": np.stack([x, x + shift], axis=1)}


class Fake:
    """A version that answers what a function says."""

    def __init__(self, answer, signature=SIGNATURE):
        self.answer, self.calls = answer, []
        self.predictor = Predictor(PredictorInfo(SimpleNamespace(ref="m:2.0.0"), signature), self)

    def __call__(self, tensors, wanted):
        self.calls.append((len(tensors["x"]), wanted))
        return {name: value for name, value in self.answer(tensors["x"]).items() if name in wanted}


@pytest.fixture
def capture(tmp_path):
    """Writes what version 1.0.0 answered to some x."""

    def write(x, outputs=None, keeps=lambda _: True, version="1.0.0", signature=SIGNATURE, inputs=None):
        x = np.asarray(x, dtype=np.float64)
        origin = Origin.of("m", version, "ab" * 32, signature, keeps)
        captured = Captured("r", 1, inputs or {"x": x}, outputs_of(x) if outputs is None else outputs)
        write_file(tmp_path, origin, [captured], bytes.hex)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "busy",
    [
        OverloadedError(ref="m:2.0.0", retry_after_seconds=2),
        BatchRestsError(ref="m:2.0.0", retry_after_seconds=9),
        DeadlineExceededError(ref="m:2.0.0", stage="waiting"),
    ],
)
def test_a_replay_makes_way_until_the_model_has_time(capture, monkeypatch, busy):
    pauses, now = [], [0.0]
    monkeypatch.setattr(
        module.time, "sleep", lambda seconds: (pauses.append(seconds), now.__setitem__(0, now[0] + seconds))
    )
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def answer(x):
        if len(pauses) < 3:
            raise busy
        return outputs_of(x)

    assert replay(capture([1.0, -1.0]), Fake(answer).predictor).different == 0
    assert pauses == [min(busy.facts.get("retry_after_seconds", 1.0), 5.0)] * 3
    pauses.clear()
    with pytest.raises(type(busy)):
        replay(capture([1.0]), Fake(lambda _: (_ for _ in ()).throw(busy)).predictor)
    assert 300 <= sum(pauses) < 310, "not for ever"


def test_a_version_that_answers_the_same_differs_in_nothing(capture):
    report = replay(capture([1.0, -1.0, 0.0]), Fake(outputs_of).predictor)
    assert (report.ref, report.captured) == ("m:2.0.0", {"m:1.0.0": 3})
    assert (report.rows, report.different, report.failed, report.missing) == (3, 0, 0, ())
    assert {name: output.equal for name, output in report.outputs.items()} == {"predict": 3, "score": 3, "p": 3}
    assert report.outputs["score"].max_absolute == 0.0
    assert report.outputs["predict"].mean_absolute is None


def test_differences_are_measured(capture):
    x = np.array([-3.0, -0.25, 1.0, 2.0])
    report = replay(capture(x), Fake(lambda x: outputs_of(x, 0.5)).predictor)
    assert report.different == 4
    score = report.outputs["score"]
    assert (score.rows, score.equal, score.mean_absolute, score.max_absolute) == (4, 0, 0.5, 0.5)
    assert score.quantiles == {"0.5": 0.5, "0.9": 0.5, "0.99": 0.5}
    assert report.outputs["p"].mean_absolute == 0.25
    assert report.outputs["predict"].equal == 3
    assert report.outputs["predict"].changes == (Change("no", "yes", 1),)


def test_the_tolerance_is_relative_for_large_numbers_and_absolute_for_small_ones(capture):
    folder = capture([0.0, 1e6])
    near = Fake(lambda x: {**outputs_of(x), "score": x + np.array([0.0009, 900.0])}).predictor
    assert replay(folder, near, tolerance=1e-3).different == 0
    assert replay(folder, near, tolerance=1e-4).different == 2


@pytest.mark.parametrize(
    ("before", "after", "equal", "not_finite"),
    [
        (np.nan, np.nan, 1, 0),
        (np.inf, np.inf, 1, 0),
        (np.nan, 1.0, 0, 1),
        (1.0, np.nan, 0, 1),
        (np.inf, -np.inf, 0, 1),
        (1.0, np.inf, 0, 1),
    ],
)
def test_numbers_that_are_not_finite_never_become_quantiles(capture, before, after, equal, not_finite):
    outputs = {"score": np.array([before, 1.0])}
    fake = Fake(lambda x: {"score": np.array([after, 1.0])})
    score = replay(capture([1.0, 2.0], outputs), fake.predictor, tolerance=0.5).outputs["score"]
    assert (score.rows, score.equal - 1, score.not_finite) == (2, equal, not_finite)
    assert score.max_absolute == 0.0


def test_only_what_was_captured_is_asked_for_and_compared(capture):
    fake = Fake(outputs_of)
    report = replay(capture([1.0, 2.0], {"predict": label(np.array([1.0, 2.0]))}), fake.predictor)
    assert set(report.outputs) == {"predict"}
    assert fake.calls == [(2, frozenset({"predict"}))]


def test_an_output_that_the_version_has_not_is_said_to_be_missing(capture):
    signature = Signature(SIGNATURE.inputs, SIGNATURE.outputs[1:2])
    report = replay(capture([1.0]), Fake(outputs_of, signature).predictor)
    assert report.missing == ("predict", "p")
    assert set(report.outputs) == {"score"}
    assert report.different == 0


def test_answers_of_another_form_are_different(capture):
    shapes = Fake(lambda x: {**outputs_of(x), "p": np.zeros((len(x), 3))})
    assert replay(capture([1.0, 2.0]), shapes.predictor).outputs["p"].equal == 0


def test_rows_that_have_no_answer_any_more_are_counted_and_the_others_compared(capture):
    def fail(x):
        if (x == 13.0).any():
            raise PredictionError(ref="m:2.0.0", problem="unlucky")
        return outputs_of(x, 1.0)

    report = replay(capture([1.0, 13.0, -5.0, 13.0]), Fake(fail).predictor)
    assert (report.rows, report.failed, report.different) == (4, 2, 4)
    assert "unlucky" in report.problem
    assert report.outputs["score"].rows == 2


def test_a_version_that_answers_nothing_any_more(capture):
    def fail(_):
        raise PredictionError(ref="m:2.0.0", problem="broken")

    report = replay(capture([1.0, 2.0]), Fake(fail).predictor)
    assert (report.rows, report.failed, report.different, report.outputs) == (2, 2, 2, {})


def test_batches_are_bounded(capture):
    fake = Fake(outputs_of)
    report = replay(capture(np.arange(10)), fake.predictor, batch_size=4)
    assert [rows for rows, _ in fake.calls] == [4, 4, 2]
    assert (report.rows, report.different) == (10, 0)


def test_several_versions_in_a_folder_are_told_apart(capture):
    capture([1.0])
    report = replay(capture([2.0, 3.0], version="1.1.0"), Fake(outputs_of).predictor)
    assert report.captured == {"m:1.0.0": 1, "m:1.1.0": 2}


def test_inputs_that_were_not_captured_are_named(capture):
    with pytest.raises(SignatureMismatchError, match="only its hash was captured"):
        replay(capture([1.0], keeps=lambda name: None if name == "x" else True), Fake(outputs_of).predictor)


def test_inputs_that_the_version_does_not_take_are_left_out(capture):
    wider = Signature((*SIGNATURE.inputs, TensorSpec("y", "FP64", (-1,))), SIGNATURE.outputs)
    x = np.array([1.0, 2.0])
    folder = capture(x, inputs={"x": x, "y": x}, signature=wider)
    assert replay(folder, Fake(outputs_of).predictor).different == 0


def test_inputs_that_nobody_had_then_are_missing(capture):
    wider = Signature((*SIGNATURE.inputs, TensorSpec("y", "FP64", (-1,))), SIGNATURE.outputs)
    with pytest.raises(SignatureMismatchError, match="it was not captured"):
        replay(capture([1.0]), Fake(outputs_of, wider).predictor)


def test_an_empty_folder_is_no_capture(tmp_path):
    with pytest.raises(MalformedRequestError, match="no captured predictions"):
        replay(tmp_path, Fake(outputs_of).predictor)


def test_the_most_frequent_changes_are_kept(capture):
    x = np.repeat(np.arange(20.0), np.arange(1, 21))
    outputs = {"predict": np.array([f"old{value:g}" for value in x], dtype=object)}
    changed = Fake(lambda x: {"predict": np.array([f"new{value:g}" for value in x], dtype=object)})
    changes = replay(capture(x, outputs), changed.predictor).outputs["predict"].changes
    assert len(changes) == 10
    assert changes[0] == Change("old19", "new19", 20)
