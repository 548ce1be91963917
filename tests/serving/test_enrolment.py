"""Requests that take part in an experiment: who answers them, and what is written down about it."""

import asyncio
import math
import time

import msgspec
import numpy as np
import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    DeadlineExceededError,
    MalformedRequestError,
    PredictionError,
    SignatureMismatchError,
    UnsupportedMediaTypeError,
)
from crossfade.ledger.metrics import MetricSpec
from crossfade.serving import enrolment
from crossfade.serving.capture_files import find_files, read_file
from crossfade.serving.enrolment import Enroller, score_of, scored_outputs
from crossfade.serving.holding import DEFAULT_TERMS, Terms
from crossfade.settings import CacheSettings, CaptureRules, CaptureSettings
from crossfade.traffic.allocation.specs import LayerSpec
from crossfade.traffic.routing import Asker
from tests.experiments.life import plan
from tests.serving.experimenting import REF, UNITS
from tests.serving.fakes import Constant, ready_slot
from tests.traffic.support import eventually, move, publish_all, soon

SCORED = {"metrics": (MetricSpec("late", loss="squared"),)}


class Failing(Constant):
    """Gets through its warm-up."""

    broken = False

    def __call__(self, tensors, wanted):
        if self.broken:
            raise PredictionError(ref="m", problem="a bug of the model")
        return super().__call__(tensors, wanted)


# --- who answers, and what is written down ---


async def test_an_exposure_says_everything_about_the_answer(trial):
    trial = trial(plan(dimensions=("carrier",), **SCORED))
    before = time.time_ns() // 1000
    prediction = await trial.ask("u-1", context={"carrier": "UA", "other": 1})
    (exposure,) = trial.exposures
    assert before <= exposure.at_us <= time.time_ns() // 1000
    assert (exposure.id, exposure.unit, exposure.experiment) == (prediction.decision_id, "u-1", "late")
    assert (exposure.variant, exposure.revision, exposure.propensity) == (prediction.decision.variant, 1, 0.5)
    assert (exposure.model, exposure.version) == ("m", prediction.version)
    assert exposure.score == prediction.outputs["predict"].mean()
    assert 0 < exposure.latency_seconds < 60
    assert (exposure.error, exposure.fallback, exposure.shadows) == (False, False, ())
    assert exposure.dimensions == {"carrier": "UA"}
    assert not prediction.fallback


async def test_units_keep_their_version_and_both_versions_answer(trial):
    trial = trial(plan())
    first = {unit: (await trial.ask(unit)).version for unit in UNITS}
    again = {unit: (await trial.ask(unit)).version for unit in UNITS}
    assert first == again
    assert set(first.values()) == {"1.0.0", "1.0.1"}
    assert len({exposure.id for exposure in trial.exposures}) == 2 * len(UNITS)
    assert trial.enroller.exposures["late", "old"] + trial.enroller.exposures["late", "new"] == 2 * len(UNITS)
    answers = {"old": "1.0.0", "new": "1.0.1"}
    assert all(exposure.version == answers[exposure.variant] for exposure in trial.exposures)


@pytest.mark.parametrize(
    ("options", "asker", "reason"),
    [
        ({"coverage": 0.0}, {"unit": "u"}, "not_covered"),
        ({"overrides": {"eve": "new"}}, {"unit": "eve"}, "override"),
        ({}, {"unit": None}, "missing_unit"),
        ({}, {"unit": "a\0b"}, "missing_unit"),
        ({}, {"unit": "u", "experiment": "nobody"}, "not_running"),
    ],
)
async def test_who_does_not_take_part_is_told_why_and_not_written_down(trial, options, asker, reason):
    trial = trial(plan(**options))
    prediction = await trial.ask(**asker)
    assert prediction.decision.reason == reason
    assert prediction.version == ("1.0.1" if reason == "override" else "1.0.0")
    assert (prediction.decision_id, trial.exposures) == ("", [])
    counted = {key[1].value: count for key, count in trial.runtime.follower.tally.counts().items()}
    assert counted == ({reason: 1} if reason in {"missing_unit", "not_running"} else {})


async def test_a_champion_that_is_none_of_the_variants_any_more_is_called_by_none_of_their_names(trial, registry):
    trial = trial(plan())
    assert (await trial.ask(None)).decision.variant == "old"
    move(registry, "m", "1.0.2")
    trial.runtime.follower.refresh()
    await asyncio.to_thread(eventually, lambda: trial.runtime.slots.is_ready("m", "1.0.2"))
    prediction = await trial.ask(None)
    assert (prediction.version, prediction.decision.variant) == ("1.0.2", "")


@pytest.mark.parametrize("ref", ["m:1.0.0", "m@challenger", "models:/m/1", "other"])
async def test_only_the_champion_of_its_model_is_decided_about(trial, registry, ref):
    publish_all(registry, "other", "1.0.0")
    move(registry, "other", "1.0.0")
    move(registry, "m", "1.0.2", "challenger")
    trial = trial(plan())
    eventually(lambda: trial.runtime.slots.is_ready("other", "1.0.0"))
    prediction = await trial.ask("u", ref=ModelRef.parse(ref))
    assert (prediction.decision, trial.exposures) == (None, [])
    assert not trial.runtime.predictions.asks_who(ModelRef.parse(ref))
    assert trial.runtime.predictions.asks_who(REF)


async def test_without_an_asker_nothing_is_decided(trial):
    trial = trial(plan())
    with await trial.runtime.predictions.hold(REF) as held:
        prediction = await held.predict({"x": np.array([1.0])})
    assert (prediction.decision, prediction.version, trial.exposures) == (None, "1.0.0", [])


async def test_a_variant_that_is_not_ready_is_answered_by_the_champion_and_the_exposure_says_so(trial, openings):
    openings.plans["1.0.1"] = RuntimeError("it cannot be loaded")
    trial = trial(plan())
    prediction = await trial.ask(trial.unit_of("new"))
    assert (prediction.version, prediction.fallback, prediction.decision.variant) == ("1.0.0", True, "new")
    (exposure,) = trial.exposures
    assert (exposure.variant, exposure.version, exposure.fallback) == ("new", "1.0.0", True)
    assert not (await trial.ask(trial.unit_of("old"))).fallback


@pytest.mark.parametrize("variant", ["old", "new"])
async def test_what_a_version_fails_on_is_an_exposure_with_an_error(trial, openings, variant):
    model = openings.plans["1.0.0" if variant == "old" else "1.0.1"] = Failing(0)
    trial = trial(plan())
    model.broken = True
    with pytest.raises(PredictionError):
        await trial.ask(trial.unit_of(variant))
    (exposure,) = trial.exposures
    assert (exposure.variant, exposure.error, exposure.score, exposure.shadows) == (variant, True, None, ())


async def test_what_does_not_fit_the_version_is_an_exposure_since_another_might_take_it(trial):
    trial = trial(plan())
    with pytest.raises(SignatureMismatchError):
        await trial.ask("u", {"y": np.array([1.0])})
    assert [exposure.error for exposure in trial.exposures] == [True]


@pytest.mark.parametrize(
    "error", [MalformedRequestError(problem="no JSON"), UnsupportedMediaTypeError(given="x", supported="y")]
)
async def test_what_nobody_could_read_is_no_exposure(trial, error):
    trial = trial(plan())
    with pytest.raises(type(error)), await trial.runtime.predictions.hold(REF, asker=Asker("u")):
        raise error
    assert trial.exposures == []


async def test_an_answer_that_comes_too_late_is_an_exposure_with_an_error(trial, openings):
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan())
    unit = trial.unit_of("new")
    await trial.ask(unit)
    slow.gate.clear()
    with pytest.raises(DeadlineExceededError):
        await trial.ask(unit, terms=Terms(timeout_seconds=0.05))
    slow.gate.set()
    assert [exposure.error for exposure in trial.exposures] == [False, True]
    assert trial.exposures[1].latency_seconds >= 0.05


async def test_a_client_that_left_is_no_exposure_and_holds_nothing(trial, openings):
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan())
    slow.gate.clear()
    task = asyncio.create_task(trial.ask(trial.unit_of("new")))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.gate.set()
    assert trial.exposures == []
    await soon(lambda: trial.runtime.slots.find("m", "1.0.1").leases == 0)


# --- units, layers, dimensions ---


async def test_the_unit_that_a_layer_declares_is_the_one_that_is_written_down(trial):
    trial = trial()
    trial.store.create_layer(LayerSpec("web", unit="session"))
    trial.begin(plan(layer="web"))
    asked = [await trial.ask(f"u-{n}", context={"session": 7}) for n in range(5)]
    assert len({prediction.version for prediction in asked}) == 1
    assert {exposure.unit for exposure in trial.exposures} == {"7"}
    assert (await trial.ask("u")).decision.reason == "missing_unit"


async def test_without_stickiness_each_request_is_a_unit(trial):
    trial = trial(plan(sticky=False))
    found = [await trial.ask("the-same") for _ in range(40)]
    assert {prediction.version for prediction in found} == {"1.0.0", "1.0.1"}
    assert [exposure.unit for exposure in trial.exposures] == [prediction.decision_id for prediction in found]
    known = {(await trial.ask(None, request_id="r-1")).version for _ in range(5)}
    assert len(known) == 1


async def test_where_everybody_gets_one_variant_a_request_without_a_unit_is_one(trial):
    trial = trial(plan(weights={"old": 1.0, "new": 0.0}))
    for unit in (None, "a\0b", "x" * 600, "u"):
        prediction = await trial.ask(unit)
        assert prediction.decision.reason == "static"
        assert trial.exposures[-1].unit == ("u" if unit == "u" else prediction.decision_id)


async def test_dimensions_are_short_texts_of_what_was_declared(trial):
    trial = trial(plan(dimensions=("text", "number", "flag", "list", "absent", "none", "odd")))
    context = {"text": "x" * 1000, "number": 1.5, "flag": True, "list": [1], "none": None, "odd": "a\0", "other": 1}
    await trial.ask("u", context=context)
    assert trial.exposures[0].dimensions == {"text": "x" * 64, "number": "1.5", "flag": "True", "odd": "a\0"}


# --- scores ---


@pytest.mark.parametrize(
    ("outputs", "score"),
    [
        ({"predict_proba": np.array([[0.25, 0.75]])}, 0.75),
        ({"predict_proba": np.array([[0.2, 0.8], [0.6, 0.4]]), "predict": np.array([1, 0])}, 0.6),
        ({"predict": np.array([3.5])}, 3.5),
        ({"predict": np.array([[3.5], [4.5]])}, 4.0),
        ({"y": np.array([True])}, 1.0),
        ({"y": np.array(7, dtype=np.int64)}, 7.0),
        ({"predict": np.array(["late"], dtype=object)}, None),
        ({"predict": np.array([])}, None),
        ({"predict": np.array([math.nan])}, None),
        ({"predict": np.array([1.0, math.inf])}, None),
        ({"predict": np.array([1e308, 1e308])}, None),
        ({}, None),
    ],
)
def test_the_score_of_an_answer(outputs, score):
    assert score_of(outputs) == (None if score is None else pytest.approx(score))


def test_a_score_is_made_of_probabilities_where_there_are_any():
    assert scored_outputs(ready_slot()) == frozenset({"predict"})


# --- kept answers, and those who look on ---


async def test_kept_answers_never_replay_a_decision(trial, openings):
    new = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan(), cache=CacheSettings(mode="on"))
    warmed = new.calls
    units = [unit for unit in UNITS if trial.runtime.follower.snapshot.router.decide("late", unit).variant == "new"]
    found = [await trial.ask(unit) for unit in units[:10]]
    assert new.calls == warmed + 1, "the answer is kept"
    assert len({prediction.decision_id for prediction in found}) == 10
    assert [exposure.unit for exposure in trial.exposures] == units[:10]
    old = await trial.ask(trial.unit_of("old"))
    assert (old.version, old.outputs["predict"].tolist()) == ("1.0.0", [0.0, 0.0])


@pytest.mark.parametrize("unit", ["u", None])
async def test_whole_requests_are_not_remembered_where_something_was_decided(trial, unit):
    trial = trial(plan(), cache=CacheSettings(mode="on"))
    terms = Terms()
    with await trial.runtime.predictions.hold(REF) as held:
        assert held.question(terms, b"", b"body") is None, "terms of its own"
    with await trial.runtime.predictions.hold(REF) as held:
        assert held.question(DEFAULT_TERMS, b"", b"body") is not None
    with await trial.runtime.predictions.hold(REF, asker=Asker(unit)) as held:
        assert held.question(DEFAULT_TERMS, b"", b"body") is None


async def test_those_who_look_on_see_requests_of_experiments_too(trial, tmp_path):
    capture = CaptureSettings(models={"m": CaptureRules(ratio=1.0)}, file_seconds=0.05)
    trial = trial(plan(**SCORED), capture=capture)
    for unit in UNITS[:10]:
        await trial.ask(unit)
    assert len(trial.exposures) == 10
    await soon(lambda: captured(tmp_path) == 20)


def captured(home):
    if not (home / "captures").is_dir():
        return 0
    return sum(len(inputs["x"]) for path in find_files(home / "captures") for inputs, _ in read_file(path)[1])


@pytest.fixture
def unread(monkeypatch):
    """Nobody reads what is written down of any experiment."""
    enrol = Enroller.enrol

    def enrol_unread(enroller, assignment, asker):
        route = msgspec.structs.replace(assignment.route, recorded=False)
        return enrol(enroller, msgspec.structs.replace(assignment, route=route), asker)

    monkeypatch.setattr(Enroller, "enrol", enrol_unread)


@pytest.mark.usefixtures("unread")
async def test_what_nobody_reads_is_not_written_down(trial):
    trial = trial(plan())
    prediction = await trial.ask("u")
    assert (prediction.decision.experiment, prediction.decision_id) == ("late", "")
    assert trial.exposures == []
    assert trial.enroller.exposures == {}


# --- shadows ---

SHADOWED = {"weights": {"old": 1.0, "new": 0.0}, "shadows": ("new",)}


async def recorded(trial, count=1):
    await soon(lambda: len(trial.exposures) == count)
    return trial.exposures[-1]


async def test_a_shadow_answers_and_nobody_sees_it(trial):
    trial = trial(plan(**SHADOWED, **SCORED))
    prediction = await trial.ask("u")
    assert (prediction.version, prediction.outputs["predict"].tolist()) == ("1.0.0", [0.0, 0.0])
    exposure = await recorded(trial)
    (shadow,) = exposure.shadows
    assert (exposure.variant, exposure.score) == ("old", 0.0)
    assert (shadow.variant, shadow.version, shadow.score, shadow.error) == ("new", "1.0.1", 1.0, False)
    assert shadow.latency_seconds > 0
    assert trial.shadows == {"answered": 1}
    assert trial.runtime.slots.find("m", "1.0.1").leases == 0


@pytest.mark.usefixtures("unread")
async def test_a_shadow_answers_also_where_nothing_is_written_down(trial):
    trial = trial(plan(**SHADOWED))
    prediction = await trial.ask("u")
    await soon(lambda: trial.shadows == {"answered": 1})
    assert prediction.decision_id == ""
    assert trial.exposures == []


async def test_nobody_waits_for_a_shadow(trial, openings):
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan(**SHADOWED))
    slow.gate.clear()
    prediction = await trial.ask("u")
    assert prediction.version == "1.0.0"
    assert trial.exposures == [], "the exposure waits for it"
    slow.gate.set()
    assert (await recorded(trial)).shadows[0].variant == "new"


async def test_a_shadow_that_fails_is_written_down_and_hurts_nobody(trial, openings):
    model = openings.plans["1.0.1"] = Failing(1)
    trial = trial(plan(**SHADOWED))
    model.broken = True
    assert (await trial.ask("u")).version == "1.0.0"
    exposure = await recorded(trial)
    assert not exposure.error
    assert [(shadow.error, shadow.score) for shadow in exposure.shadows] == [(True, None)]
    assert trial.shadows == {"failed": 1}


async def test_a_shadow_that_is_not_ready_is_counted_as_absent(trial, openings):
    openings.plans["1.0.1"] = RuntimeError("it cannot be loaded")
    trial = trial(plan(**SHADOWED))
    await trial.ask("u")
    assert (await recorded(trial)).shadows == ()
    assert trial.shadows == {"absent": 1}


async def test_shadows_are_bounded_and_what_comes_then_is_counted(trial, openings, monkeypatch):
    monkeypatch.setattr(enrolment, "MAX_SHADOWS", 3)
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan(**SHADOWED))
    slow.gate.clear()
    for number in range(8):
        await trial.ask(f"u-{number}")
    assert len(trial.exposures) == 5, "they are written down without their shadows"
    assert trial.shadows == {"shed": 5}
    slow.gate.set()
    await recorded(trial, 8)
    assert trial.shadows == {"shed": 5, "answered": 3}
    assert sorted(len(exposure.shadows) for exposure in trial.exposures) == [0] * 5 + [1] * 3


async def test_a_shadow_that_takes_too_long_is_shed(trial, openings, monkeypatch):
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan(**SHADOWED))
    trial.runtime.slots.find("m", "1.0.1").timeout_seconds = 0.05
    slow.gate.clear()
    await trial.ask("u")
    assert (await recorded(trial)).shadows == ()
    slow.gate.set()
    assert trial.shadows == {"shed": 1}


async def test_the_control_answers_in_the_shadow_of_treatments_alone(trial):
    trial = trial(plan(shadows=("old",), **SCORED))
    await trial.ask(trial.unit_of("new"))
    exposure = await recorded(trial)
    assert [(shadow.variant, shadow.score) for shadow in exposure.shadows] == [("old", 0.0)]
    await trial.ask(trial.unit_of("old"))
    assert (await recorded(trial, 2)).shadows == ()


async def test_several_shadows_answer_each(trial):
    trial = trial(plan(weights={"old": 1.0, "new": 0.0, "third": 0.0}, shadows=("new", "third"), **SCORED))
    await trial.ask("u")
    assert [(s.variant, s.version, s.score) for s in (await recorded(trial)).shadows] == [
        ("new", "1.0.1", 1.0),
        ("third", "1.0.2", 2.0),
    ]


async def test_what_failed_is_not_mirrored(trial, openings):
    shadow = openings.plans["1.0.1"] = Constant(1)
    model = openings.plans["1.0.0"] = Failing(0)
    trial = trial(plan(**SHADOWED))
    model.broken, warmed = True, shadow.calls
    with pytest.raises(PredictionError):
        await trial.ask("u")
    await trial.enroller.close()
    assert (trial.exposures[0].error, shadow.calls) == (True, warmed)


async def test_who_does_not_take_part_is_not_mirrored(trial):
    trial = trial(plan(**SHADOWED, coverage=0.5))
    for unit in UNITS:
        await trial.ask(unit)
    await trial.enroller.close()
    assert 0 < len(trial.exposures) < len(UNITS)
    assert trial.shadows == {"answered": len(trial.exposures)}


async def test_closing_waits_for_shadows_so_that_no_exposure_is_lost(trial, openings):
    slow = openings.plans["1.0.1"] = Constant(1)
    trial = trial(plan(**SHADOWED))
    slow.gate.clear()
    await trial.ask("u")
    closing = asyncio.create_task(trial.runtime.predictions.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    slow.gate.set()
    await closing
    assert len(trial.exposures) == 1


# --- metrics ---


async def test_metrics_count_exposures_shadows_and_fallbacks(trial):
    trial = trial(plan(**SHADOWED), plan("other", coverage=0.0, model=""))
    await trial.ask("u")
    await recorded(trial)
    await trial.ask("u", experiment="x" * 300)
    text = trial.runtime.predictions.metrics().decode()
    assert 'crossfade_exposures_total{experiment="late",variant="old"} 1.0' in text
    assert 'crossfade_shadow_requests_total{result="answered"} 1.0' in text
    assert 'crossfade_assignment_fallbacks_total{experiment="",reason="not_running"} 1.0' in text
    assert "xxx" not in text


# --- experiments come and go under load ---


async def test_pausing_reweighting_and_stopping_lose_no_request(trial):
    trial = trial(plan(weights={"old": 0.5, "new": 0.3, "third": 0.2}))
    answers, ending = [], asyncio.Event()

    async def keep_asking(place):
        number = place
        while not ending.is_set():
            answers.append(await trial.ask(f"u-{number % 500}"))
            number += 7
            await asyncio.sleep(0)

    askers = [asyncio.create_task(keep_asking(place)) for place in range(4)]
    steps = (
        lambda: trial.store.pause("late"),
        lambda: trial.store.start("late"),
        lambda: trial.store.reweight("late", {"old": 0.1, "new": 0.8, "third": 0.1}),
        lambda: trial.store.reweight("late", coverage=0.2),
        lambda: trial.store.stop("late", reason="enough"),
    )
    for step in steps:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(step)
        revision = trial.runtime.follower._source.revision()
        await soon(lambda revision=revision: trial.runtime.follower.snapshot.revision >= revision)
    count = len(answers)
    await soon(lambda: len(answers) > count + 50)
    ending.set()
    await asyncio.gather(*askers)
    assert {answer.version for answer in answers[count + 10 :]} == {"1.0.0"}
    assert {answer.version for answer in answers} == {"1.0.0", "1.0.1", "1.0.2"}
    assert not any(answer.fallback for answer in answers), "versions were there as long as they were wanted"
    taking_part = [answer.decision_id for answer in answers if answer.decision_id]
    assert [exposure.id for exposure in trial.exposures] == taking_part
