from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crossfade.core.compatibility import compare_signatures
from crossfade.errors import GoldenMismatchError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import verify
from crossfade.registry.loading import load_golden, load_pipeline
from crossfade.solutions.flights.dataset import SCHEDULE, WEATHER, Flights
from crossfade.solutions.flights.training import (
    EXAMPLE_ROWS,
    NAME,
    PRESSURE,
    SIGNATURE,
    pack_wrongly,
    take_pascals,
    train_on_recent,
    train_on_schedule,
    train_shallow,
    train_with_weather,
)


@pytest.fixture(scope="module")
def schedule(sample):
    return train_on_schedule(sample)


@pytest.fixture(scope="module")
def weather(sample):
    return train_with_weather(sample)


@pytest.fixture(scope="module")
def recent(sample):
    return train_on_recent(sample)


@pytest.fixture(scope="module")
def shallow(sample):
    return train_shallow(sample)


@pytest.fixture(scope="module")
def pascals(shallow, sample):
    return take_pascals(shallow, sample)


@pytest.fixture(scope="module")
def broken(weather, sample):
    return pack_wrongly(weather, sample)


# --- what was learnt ---


@pytest.mark.parametrize("which", ["schedule", "weather"])
def test_a_version_beats_a_coin_on_a_later_window(which, request, sample):
    candidate = request.getfixturevalue(which)
    evaluation = candidate.card.evaluation
    assert evaluation["auc"] > 0.57
    assert evaluation["flights"] == len(sample.evaluation)
    assert evaluation["base_rate"] == pytest.approx(sample.evaluation.late.mean())


def test_the_evaluation_is_that_of_the_packed_pair(weather, sample):
    probabilities = weather.probabilities(sample.evaluation.inputs)
    late = sample.evaluation.late.to_numpy()
    assert weather.card.evaluation["brier"] == pytest.approx(np.mean((probabilities - late) ** 2))


def test_weather_helps(schedule, weather):
    assert weather.card.evaluation["auc"] > schedule.card.evaluation["auc"]
    assert weather.card.evaluation["log_loss"] < schedule.card.evaluation["log_loss"]


def test_the_first_version_ignores_the_weather(schedule, sample):
    inputs = sample.replay.inputs.iloc[:50]
    storm = inputs.assign(**dict.fromkeys(WEATHER, 0.0))
    assert (schedule.probabilities(storm) == schedule.probabilities(inputs)).all()


def test_the_second_version_uses_schedule_and_weather(weather, sample):
    inputs = sample.replay.inputs.iloc[:50]
    assert (weather.probabilities(inputs.assign(precip=0.5)) != weather.probabilities(inputs)).any()
    assert (weather.probabilities(inputs.assign(hour=20)) != weather.probabilities(inputs)).any()


@pytest.mark.parametrize("which", ["schedule", "weather"])
def test_an_unknown_carrier_or_missing_weather_is_answered(which, request, sample):
    candidate = request.getfixturevalue(which)
    strange = sample.replay.inputs.iloc[:3].assign(carrier="ZZ", dest="XXX", **dict.fromkeys(WEATHER, np.nan))
    probabilities = candidate.probabilities(strange)
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_the_third_version_has_seen_two_months_alone(recent, sample):
    days = sample.training.frame["day"]
    newest = Flights(sample.training.frame[days >= "2013-09-01"])
    assert 0 < len(newest) < len(sample.training) / 4
    again = train_with_weather(replace(sample, training=newest))
    inputs = sample.replay.inputs.iloc[:50]
    assert (recent.probabilities(inputs) == again.probabilities(inputs)).all()
    assert (recent.version, again.version) == ("1.2.0", "1.1.0")
    assert "trained on 2013-09-01 to 2013-11-01" in recent.card.dataset


def test_training_again_gives_the_same_bytes(weather, sample):
    assert set(train_with_weather(sample).draft().contents) == set(weather.draft().contents)


# --- what is registered ---


def test_all_versions_take_the_same_request(schedule, weather, recent):
    first, second, third = schedule.draft(), weather.draft(), recent.draft()
    assert first.signature == second.signature == third.signature == SIGNATURE
    assert compare_signatures(first.signature, second.signature).required == "patch"
    assert [spec.name for spec in SIGNATURE.inputs] == [*SCHEDULE, *WEATHER]


def test_formats_are_safe(schedule, weather):
    assert (schedule.draft().flavor, schedule.draft().preprocessor) == ("sklearn", "sklearn")
    assert (weather.draft().flavor, weather.draft().preprocessor) == ("xgboost", "sklearn")


def test_cards_say_what_was_done(schedule, weather, recent):
    for candidate in (schedule, weather, recent):
        card = candidate.draft().card
        assert "2013-11-01" in card.dataset
        assert "15 minutes late" in card.description
        assert card.environment["python"]
    assert weather.card.parameters["max_depth"] == 5


def test_golden_requests_come_from_the_evaluation_window(schedule, sample):
    assert len(schedule.example) == EXAMPLE_ROWS
    assert schedule.example.index.isin(sample.evaluation.frame.index).all()


# --- the version that was packed wrongly ---


class Drawer:
    """A blob store with the contents of one draft."""

    def __init__(self, contents):
        self.contents = contents

    def read(self, digest):
        return self.contents[digest]


def loaded(draft, version):
    manifest, drawer = draft.manifest(NAME, version), Drawer(draft.contents)
    return load_pipeline(manifest, drawer, TrustPolicy()), load_golden(manifest, drawer), manifest.ref


def test_the_right_pair_meets_its_golden_requests(weather):
    pipeline, golden, ref = loaded(weather.draft(), "1.1.0")
    assert verify(pipeline, golden, ref) < 1e-6


def test_the_wrong_pair_loads_and_answers(broken, sample):
    pipeline, golden, _ = loaded(broken, "1.1.1")
    answers = pipeline.predict(golden.inputs, frozenset({"predict_proba"}))["predict_proba"]
    assert answers.shape == (EXAMPLE_ROWS, 2)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_only_its_golden_requests_tell(broken):
    pipeline, golden, ref = loaded(broken, "1.1.1")
    with pytest.raises(GoldenMismatchError) as caught:
        verify(pipeline, golden, ref)
    assert caught.value.facts["ref"] == "flight_delay:1.1.1"


def test_only_the_preprocessor_differs(weather, broken):
    right = {entry.path: entry.digest for entry in weather.draft().files}
    wrong = {entry.path: entry.digest for entry in broken.files}
    assert {path for path in right if right[path] != wrong[path]} == {"preprocessor/model.skops"}
    assert set(wrong.values()) == set(broken.contents)
    assert broken.signature == SIGNATURE


# --- the version that takes pascals ---


def test_shallow_trees_tell_better(weather, shallow):
    assert shallow.card.parameters["max_depth"] == 3
    assert shallow.card.evaluation["log_loss"] < weather.card.evaluation["log_loss"]


def test_pascals_are_what_it_would_have_to_be_asked_in(shallow, pascals, sample):
    inputs = sample.replay.inputs.iloc[:200]
    wrong, right = pascals.probabilities(inputs), shallow.probabilities(inputs)
    assert (shallow.probabilities(inputs.assign(pressure=inputs[PRESSURE] * 100)) == wrong).all()
    known = inputs[PRESSURE].notna().to_numpy()
    assert (wrong[known] != right[known]).any()
    assert (wrong[~known] == right[~known]).all()


def test_nothing_that_is_looked_at_before_it_answers_tells(shallow, pascals):
    pipeline, golden, ref = loaded(pascals.draft(), "1.3.0")
    assert verify(pipeline, golden, ref) < 1e-6
    assert pascals.draft().card.evaluation == shallow.draft().card.evaluation
    assert pascals.draft().signature == SIGNATURE
    assert (pascals.draft().flavor, pascals.draft().preprocessor) == ("xgboost", "sklearn")


def test_its_answers_tell(shallow, pascals, sample):
    late = sample.evaluation.late.to_numpy()
    brier = [np.mean((each.probabilities(sample.evaluation.inputs) - late) ** 2) for each in (shallow, pascals)]
    assert brier[1] > brier[0]
