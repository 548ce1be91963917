"""What an ensemble answers when its members answer, fail, hang, or say NaN."""

import gc
import logging
import threading
import time
import weakref
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import MemberSlowError, PredictionError
from crossfade.registry.ensembles.document import EnsembleSpec
from crossfade.registry.ensembles.running import Ensemble
from crossfade.registry.pipeline import Pipeline
from tests.registry.ensembles.support import (
    CLASSIFIER,
    REGRESSOR,
    Scripted,
    X,
    asked,
    classifier,
    ensemble,
    m,
    predicted,
    raising,
    refusing,
    times,
)


def failing(on_failure="fail", **options):
    return m("bad", on_failure=on_failure, **options), Scripted(raising)


def failing_too():
    return m("worse", on_failure="drop", budget_seconds=10), Scripted(raising)


# --- policies ---


def test_members_are_weighted():
    made = ensemble("average", [(m("a", weight=3), times(1)), (m("b"), times(5))])
    assert predicted(made, 1, 10) == [2.0, 20.0]


def test_no_rows_are_no_rows():
    for method in ("average", "first"):
        assert predicted(ensemble(method, [(m("a"), times(1)), (m("b"), times(5))])) == []


def test_a_failure_is_that_of_the_member():
    with pytest.raises(PredictionError, match=r"`bad:1.0.0` failed .* RuntimeError: out of order"):
        asked(ensemble("average", [(m("a"), times(1)), failing()]), 1)


def test_who_is_dropped_leaves_the_proportions_of_the_others():
    others = [(m("a", weight=3), times(1)), (m("b"), times(5))]
    for members in ([failing("drop", weight=100), *others], [*others, failing("drop", weight=100)]):
        assert predicted(ensemble("average", members), 1, 10) == [2.0, 20.0]


def test_when_nobody_is_left_the_ensemble_fails():
    made = ensemble("average", [failing("drop"), (m("worse", on_failure="drop"), Scripted(raising))])
    with pytest.raises(PredictionError, match="out of order"):
        asked(made, 1)


def test_a_constant_stands_in():
    made = ensemble("average", [(m("a"), times(1)), failing("substitute", constant=9.0)])
    assert predicted(made, 1, 3) == [5.0, 6.0]


def test_another_version_stands_in_and_is_asked_only_then():
    spare = times(7)
    member = m("odd", on_failure="substitute", substitute="spare:1.0.0")
    made = ensemble("average", [(m("a"), times(1)), (member, refusing([3.0]))], spare=spare)
    assert predicted(made, 2) == [2.0]
    assert spare.calls == 0
    assert predicted(made, 3) == [12.0]
    assert spare.calls == 1


def test_a_substitute_may_be_of_another_width():
    def whole(x):
        if (x == 3).any():
            raise ValueError("three")
        return x.astype(np.int64)

    member = m("whole", on_failure="substitute", substitute="half:1.0.0")
    numbers = Signature((X,), (TensorSpec("predict", "INT64", (-1,)),))
    pipelines = {
        "whole:1.0.0": Pipeline(numbers, Scripted(whole), ref="whole:1.0.0"),
        "half:1.0.0": Pipeline(REGRESSOR, times(0.5), ref="half:1.0.0"),
    }
    made = Ensemble(EnsembleSpec("average", (member,)), pipelines)
    assert predicted(made, 2, 3) == [2.0, 1.5]


def test_a_stacker_gets_what_the_substitute_says():
    member = m("bad", on_failure="substitute", substitute="spare:1.0.0")
    models = {
        "a:1.0.0": times(2),
        "bad:1.0.0": Scripted(raising),
        "spare:1.0.0": times(3),
        "s:1.0.0": Scripted(stacked),
    }
    pipelines = {ref: Pipeline(REGRESSOR, model, ref=ref) for ref, model in models.items()}
    pipelines["s:1.0.0"].signature = Signature((TensorSpec("x", "FP64", (-1, 2)),), REGRESSOR.outputs)
    made = Ensemble(EnsembleSpec("stack", (m("a"), member), "s:1.0.0"), pipelines)
    assert predicted(made, 1, 2) == [203.0, 406.0]


def stacked(x):
    return x[:, 0] * 100 + x[:, 1]


def test_a_member_that_stands_in_is_asked_once():
    other = times(7)
    member = m("bad", on_failure="substitute", substitute="a:1.0.0")
    made = ensemble("average", [(m("a"), other), (member, Scripted(raising))])
    assert predicted(made, 2) == [14.0]
    assert other.calls == 1


def test_when_the_substitute_fails_too_so_does_the_ensemble():
    member = m("bad", on_failure="substitute", substitute="spare:1.0.0")
    made = ensemble("average", [(m("a"), times(1)), (member, Scripted(raising))], spare=Scripted(raising))
    with pytest.raises(PredictionError, match=r"`spare:1.0.0` failed"):
        asked(made, 1)


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_no_answer_row_by_row(nothing):
    odd = Scripted(lambda x: np.where(x == 2, nothing, x * 3))
    dropped = ensemble("average", [(m("a"), times(1)), (m("b", on_failure="drop"), odd)])
    assert predicted(dropped, 1, 2, 3) == [2.0, 2.0, 6.0]
    replaced = ensemble("average", [(m("a"), times(1)), (m("b", on_failure="substitute", constant=0), odd)])
    assert predicted(replaced, 1, 2, 3) == [2.0, 1.0, 6.0]
    strict = ensemble("average", [(m("a"), times(1)), (m("b"), odd)])
    assert predicted(strict, 1, 3) == [2.0, 6.0]
    with pytest.raises(PredictionError, match=r"`b:1.0.0` .* row 1 is NaN, infinite or missing"):
        asked(strict, 1, 2)


def test_a_row_that_fails_spoils_no_other_row():
    made = ensemble("average", [(m("a"), times(3)), (m("b", on_failure="drop"), refusing([5.0]))])
    assert predicted(made, 1, 5, 7) == [2.0, 15.0, 14.0]


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda _: (_ for _ in ()).throw(SystemExit(3)),
        lambda _: "no array",
        lambda x: np.ones((len(x), 5)),
        lambda x: np.ones(len(x) + 1),
        lambda x: np.array(["text"] * len(x), object),
        lambda _: {},
        lambda x: x[:1] if len(x) == 1 and x[0] == 1 else np.ones((len(x), int(x[0]))),  # another form per row
    ],
)
def test_whatever_a_member_does_it_is_a_member_that_failed(nonsense):
    made = ensemble("average", [(m("a"), times(1)), (m("b", on_failure="drop"), Scripted(nonsense))])
    for _ in range(3):
        assert predicted(made, 1, 2) == [1.0, 2.0]
    assert made.voices["b:1.0.0"].failures == 3
    strict = ensemble("average", [(m("a"), times(1)), (m("b"), Scripted(nonsense))])
    with pytest.raises(PredictionError, match=r"`b:1.0.0` failed"):
        asked(strict, 1, 2)


@st.composite
def troubles(draw):
    members, rows = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    kinds = st.sampled_from(["fine", "raises", "nan"])
    return [
        (
            draw(st.floats(0.01, 100)),
            draw(st.sampled_from(["drop", "constant"])),
            [draw(kinds) for _ in range(rows)],
        )
        for _ in range(members)
    ]


@given(troubles())
@settings(max_examples=150, deadline=None)
def test_whatever_is_dropped_or_substituted_the_rest_counts_as_declared(plan):
    """The reference: per row, the weighted mean of those who answered it and of the constants of those who did not."""
    models = []
    for place, (weight, policy, rows) in enumerate(plan):

        def answer(x, rows=rows, place=place):
            kinds = [rows[int(value)] for value in x]
            if "raises" in kinds:
                raise ValueError("no")
            return np.array([np.nan if kind == "nan" else place + value for kind, value in zip(kinds, x, strict=True)])

        options = {"on_failure": "drop"} if policy == "drop" else {"on_failure": "substitute", "constant": 50 + place}
        models.append((m(f"m{place}", weight=weight, **options), Scripted(answer)))
    rows = range(len(plan[0][2]))
    expected = []
    for row in rows:
        terms = [
            (weight, place + row if kinds[row] == "fine" else 50 + place)
            for place, (weight, policy, kinds) in enumerate(plan)
            if kinds[row] == "fine" or policy == "constant"
        ]
        expected.append(np.average([v for _, v in terms], weights=[w for w, _ in terms]) if terms else None)
    made = ensemble("average", models)
    if None in expected:
        with pytest.raises(PredictionError):
            asked(made, *rows)
    else:
        assert predicted(made, *rows) == pytest.approx(expected)


def test_a_failure_keeps_no_rows_in_memory():
    made = ensemble("average", [(m("a"), times(1)), failing("drop"), failing_too()])
    strict = ensemble("average", [(m("a"), times(1)), failing()])
    rows = np.ones(3)
    kept = weakref.ref(rows)
    gc.disable()  # what only the cycle collector finds would stay for long in a serving process
    try:
        made.predict({"x": rows}, frozenset({"predict"}))
        with suppress(PredictionError):
            strict.predict({"x": rows}, frozenset({"predict"}))
        del rows
        assert kept() is None
    finally:
        gc.enable()


# --- votes ---


def test_a_soft_vote_counts_probabilities():
    made = ensemble(
        "soft_vote",
        [(m("a", weight=2), classifier(0.2, 0.5, 0.3)), (m("b"), classifier(0.5, 0.0, 0.5))],
        signature=CLASSIFIER,
    )
    found = asked(made, 1, 2, wanted=("predict", "predict_proba"))
    assert found["predict_proba"].tolist() == [pytest.approx([0.9 / 3, 1.0 / 3, 1.1 / 3])] * 2
    assert found["predict"].tolist() == ["yes", "yes"]


def test_a_draw_goes_to_the_class_that_comes_first():
    pair = [(m("a"), classifier(0.0, 0.6, 0.4)), (m("b"), classifier(0.0, 0.4, 0.6))]
    for method in ("soft_vote", "hard_vote"):
        assert predicted(ensemble(method, pair, signature=CLASSIFIER), 1) == ["no"]


def test_a_label_that_is_missing_is_no_vote():
    labels = np.array(["yes", None], object)
    gaps = Scripted(lambda x: {"predict": labels[: len(x)]})
    made = ensemble(
        "hard_vote",
        [(m("a"), classifier(0, 1, 0)), (m("b", on_failure="drop", weight=5), gaps)],
        signature=CLASSIFIER,
    )
    assert predicted(made, 1, 2) == ["yes", "no"]


def test_a_hard_vote_counts_labels():
    three = [(m("a", weight=3), classifier(0, 0, 1)), (m("b"), classifier(0, 1, 0)), (m("c"), classifier(0, 1, 0))]
    assert predicted(ensemble("hard_vote", three, signature=CLASSIFIER), 1) == ["yes"]
    constant = [*three[1:], (m("d", on_failure="substitute", constant="maybe", weight=9), Scripted(raising))]
    assert predicted(ensemble("hard_vote", constant, signature=CLASSIFIER), 1) == ["maybe"]


# --- the first that answers ---


def test_the_next_is_asked_only_for_the_rows_that_are_left():
    asked_rows = []
    second = Scripted(lambda x: asked_rows.append(x.tolist()) or -x)
    made = ensemble("first", [(m("a"), refusing([2.0, 4.0])), (m("b"), second)])
    assert predicted(made, 1, 3) == [1.0, 3.0]
    assert asked_rows == []
    assert predicted(made, 1, 2, 3, 4) == [1.0, -2.0, 3.0, -4.0]
    assert asked_rows == [[2.0, 4.0]]


def test_when_none_answers_the_last_says_why_or_the_constant_does():
    assert predicted(ensemble("first", [failing(), (m("b"), times(2))]), 1) == [2.0]
    with pytest.raises(PredictionError, match=r"`b:1.0.0`"):
        asked(ensemble("first", [failing(), (m("b"), refusing([1.0]))]), 1)
    last = m("b", on_failure="substitute", constant=-1)
    assert predicted(ensemble("first", [failing(), (last, refusing([1.0]))]), 1, 2) == [-1.0, 2.0]
    assert predicted(ensemble("first", [failing(), (last, Scripted(raising))]), 1, 2) == [-1.0, -1.0]


def test_only_the_outputs_that_are_wanted_are_given():
    made = ensemble("first", [(m("a"), classifier(1, 0, 0)), (m("b"), classifier(0, 1, 0))], signature=CLASSIFIER)
    found = asked(made, 1, wanted=("predict_proba",))
    assert found["predict_proba"].tolist() == [[1.0, 0.0, 0.0]]


def test_a_slow_first_member_leads_to_the_second():
    gate = threading.Event()
    slow = Scripted(lambda x: x, gate)
    made = ensemble("first", [(m("a", budget_seconds=0.05), slow), (m("b"), times(2))])
    assert predicted(made, 1) == [2.0]
    assert predicted(made, 1) == [2.0]
    assert slow.calls == 1  # it hangs still, so it was not asked again
    gate.set()


# --- time ---


def test_members_are_asked_at_the_same_time():
    meeting = threading.Barrier(3)  # breaks unless all three are inside at once

    def answer(x):
        meeting.wait(10)
        return x

    made = ensemble("average", [(m(name), Scripted(answer)) for name in "abc"])
    assert predicted(made, 1, 2) == [1.0, 2.0]


def hanging(policy, gate, name="slow", **options):
    slow = Scripted(lambda x: x, gate)
    member = m(name, budget_seconds=0.05, on_failure=policy, **options)
    return slow, ensemble("average", [(m("a"), times(3)), (member, slow)])


def test_a_slow_member_follows_its_policy():
    gate = threading.Event()
    with pytest.raises(MemberSlowError, match=r"`slow:1.0.0` did not answer within 0.05 s"):
        asked(hanging("fail", gate)[1], 1)
    assert predicted(hanging("drop", gate)[1], 1) == [3.0]
    assert predicted(hanging("substitute", gate, constant=5)[1], 1) == [4.0]
    gate.set()


def test_a_member_that_hangs_holds_one_thread_and_counts_as_slow_at_once():
    gate = threading.Event()
    slow, made = hanging("drop", gate, name="lonely")
    for _ in range(50):
        assert predicted(made, 1) == [3.0]
    assert slow.calls == 1
    assert len(slow.threads) == 1
    assert sum(thread.name in slow.threads for thread in threading.enumerate()) == 1
    assert made.voices["lonely:1.0.0"].failures == 50
    gate.set()
    deadline = time.monotonic() + 10
    while predicted(made, 1) != [2.0]:  # it is back, so it counts again
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nobody_is_waited_for_longer_than_needed_when_one_has_failed():
    """All are waited for within their budgets, so that the next question finds them idle."""
    other = times(3)
    made = ensemble("average", [(m("a", budget_seconds=10), other), failing()])
    for _ in range(3):
        with pytest.raises(PredictionError):
            asked(made, 1)
    assert other.calls == 3


def test_budgets_hold_from_the_second_call_on():
    """A library warms up in the first call, which is made before a version is ready."""
    late = Scripted(lambda x: time.sleep(0.1) or x)
    member = m("late", budget_seconds=0.01, on_failure="drop")
    made = ensemble("average", [(m("a"), times(3)), (member, late)], warm=False)
    assert predicted(made, 1) == [2.0]
    assert predicted(made, 1) == [3.0]


def test_the_first_call_tries_those_too_who_are_not_needed():
    spare, second = times(7), times(5)
    member = m("a", on_failure="substitute", substitute="spare:1.0.0")
    assert predicted(ensemble("average", [(member, times(1))], spare=spare, warm=False), 2) == [2.0]
    assert predicted(ensemble("first", [(m("a"), times(1)), (m("b"), second)], warm=False), 2) == [2.0]
    assert (spare.calls, second.calls) == (1, 1)


def test_a_substitute_has_the_time_of_the_member_that_it_stands_in_for():
    gate = threading.Event()
    member = m("bad", budget_seconds=0.05, on_failure="substitute", substitute="spare:1.0.0")
    made = ensemble("average", [(member, Scripted(raising))], spare=Scripted(lambda x: x, gate))
    with pytest.raises(MemberSlowError, match=r"`spare:1.0.0`"):
        asked(made, 1)
    gate.set()


def test_it_is_logged_that_a_member_does_not_answer_but_not_each_time(caplog):
    caplog.set_level(logging.WARNING)
    made = ensemble("average", [(m("a"), times(1)), failing("drop")])
    for _ in range(20):
        asked(made, 1)
    (record,) = caplog.records
    assert "member bad:1.0.0 did not answer" in record.getMessage()
    assert "out of order" in record.getMessage()


def test_threads_end_with_the_ensemble():
    made = ensemble("average", [(m(f"ending-{name}"), times(1)) for name in "abc"])
    predicted(made, 1)
    assert any("ending-" in thread.name for thread in threading.enumerate())
    del made
    deadline = time.monotonic() + 10
    while any("ending-" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_member_is_asked_by_one_thread_at_a_time():
    """Pipelines promise no more; the same thread asks again, which libraries with thread-bound state like."""
    models = [times(1), times(2), times(3)]
    made = ensemble("average", [(m(name), model) for name, model in zip("abc", models, strict=True)])
    for _ in range(10):
        predicted(made, 1)
    assert all(len(model.threads) == 1 for model in models)
