"""Which experiment decides for a request, which version answers it, and why; and what happens to all other requests."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import ExperimentNotFoundError, ExperimentOverError
from crossfade.traffic.allocation.decisions import Reason, Tally
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import LayerSpec, RampStep
from crossfade.traffic.routing import Asker, Router, Traffic, decided_flag
from tests.traffic.support import Clock, allocate, traffic_of

NOW = Clock().now
UNITS = [f"u-{number}" for number in range(400)]


@pytest.fixture
def tally():
    return Tally()


@pytest.fixture
def router(tally):
    def make(*specs, at=NOW, **options):
        return Router(traffic_of(*specs, **options), at, tally)

    return make


def versions(router, units=UNITS, model="m", **asker):
    """Return unit -> the version that answers it; None: the champion."""
    return {unit: router.route(model, Asker(unit, **asker)).version for unit in units}


# --- who decides ---


def test_without_experiments_nothing_is_decided_and_nothing_costs(router, tally):
    assert router().route("m", Asker("u")) is None
    assert router(allocate("flag"), model="").models == {}
    assert router(allocate("late")).route("other", Asker("u")) is None
    assert tally.counts() == {}


def test_half_of_the_units_get_each_version_and_always_the_same(router):
    found = versions(router(allocate("late")))
    assert set(found.values()) == {"1.0.0", "1.0.1"}
    assert 130 < sum(version == "1.0.1" for version in found.values()) < 270
    assert versions(router(allocate("late"))) == found, "another process decides the same"


def test_the_answer_says_who_decided_and_why(router):
    assignment = router(allocate("late")).route("m", Asker("u-1"))
    decision = assignment.decision
    assert (decision.experiment, decision.reason, decision.propensity) == ("late", Reason.SPLIT, 0.5)
    assert assignment.version == assignment.route.versions[decision.variant]
    assert decision.variant in decision.words


def test_the_first_experiment_that_a_unit_takes_part_in_decides(router):
    both = router(allocate("first", coverage=0.3), allocate("second"))
    first, second = router(allocate("first", coverage=0.3)), router(allocate("second"))
    alone = versions(first)
    for unit, version in versions(both).items():
        assert version == (alone[unit] or versions(second, [unit])[unit])
        decided = both.route("m", Asker(unit)).decision.experiment
        assert decided == ("first" if alone[unit] else "second")
    assert None in alone.values()


def test_who_takes_part_in_none_gets_the_champion_and_is_told_by_the_first(router):
    one, other = allocate("one", coverage=0.0), allocate("other", coverage=0.0)
    assignment = router(one, other).route("m", Asker("u"))
    assert (assignment.version, assignment.decision.experiment) == (None, "one")
    assert assignment.decision.reason == Reason.NOT_COVERED


def test_experiments_of_other_models_have_no_say(tally):
    mine, other = traffic_of(allocate("mine")), traffic_of(allocate("other"), model="n")
    router = Router(Traffic(experiments=(*mine.experiments, *other.experiments)), NOW, tally)
    assert router.route("m", Asker("u")).decision.experiment == "mine"
    assert router.route("n", Asker("u")).decision.experiment == "other"


def test_in_a_layer_a_unit_is_in_one_experiment_at_most(router):
    layers = [LayerSpec("all", holdout=0.2)]
    one, other = (allocate(name, layer="all", share=0.4) for name in ("one", "other"))
    found = [router(one, other, layers=layers).route("m", Asker(unit)) for unit in UNITS]
    enrolled = {assignment.decision.experiment for assignment in found if assignment.decision.enrolled}
    assert enrolled == {"one", "other"}
    assert 0.1 < sum(assignment.version is None for assignment in found) / len(found) < 0.3


# --- one that is named ---


def test_the_experiment_that_is_named_decides_alone(router):
    made = router(allocate("first"), allocate("second"))
    alone = router(allocate("second"))
    assert versions(made, experiment="second") == versions(alone)


@pytest.mark.parametrize("name", ["nobody", "elsewhere", "x" * 10_000, "a\r\nb", "\0", "é"])
def test_one_that_does_not_run_here_gives_the_champion_and_is_counted_without_its_name(router, tally, name):
    mine = traffic_of(allocate("late"))
    elsewhere = traffic_of(allocate("elsewhere"), model="n")
    made = Router(Traffic(experiments=(*mine.experiments, *elsewhere.experiments)), NOW, tally)
    for model in ("m", "without"):
        assignment = made.route(model, Asker("u", experiment=name))
        assert (assignment.version, assignment.route, assignment.decision.enrolled) == (None, None, False)
        assert assignment.decision.reason == Reason.NOT_RUNNING
        assert len(assignment.decision.experiment) <= 80
    assert tally.counts() == {("", Reason.NOT_RUNNING): 2}


def test_one_that_has_ended_is_told_from_one_that_never_was(tally):
    made = Router(Traffic(over=("late",)), NOW, tally)
    assert made.route("m", Asker("u", experiment="late")).decision.words == "it is over"
    assert "no experiment of this name" in made.route("m", Asker("u", experiment="nobody")).decision.words
    with pytest.raises(ExperimentOverError, match="experiment `late` is over"):
        made.decide("late", "u")
    with pytest.raises(ExperimentNotFoundError):
        made.decide("nobody", "u")


def test_a_decided_flag_is_what_was_shipped_or_else_the_control_for_everybody(tally):
    spec = allocate("button", coverage=0.1, overrides={"eve": "old"}, fallback="old")
    (route,) = traffic_of(spec, model="").experiments
    for shipped, variant in (("new", "new"), ("", "old")):
        made = Router(Traffic(over=("button",), decided=(decided_flag(route, shipped),)), NOW, tally)
        (decision,) = {made.decide("button", unit) for unit in (*UNITS, "eve", None)}
        assert (decision.variant, decision.reason, decision.enrolled) == (variant, Reason.STATIC, False)
        assert made.decide_all("u-1") == [decision]
    assert tally.counts() == {}


# --- those who do not take part ---


def test_a_tester_is_answered_by_what_was_said_and_does_not_take_part(router):
    made = router(allocate("late", coverage=0.0, overrides={"eve": "new"}))
    assignment = made.route("m", Asker("eve"))
    assert (assignment.version, assignment.decision.reason) == ("1.0.1", Reason.OVERRIDE)
    assert not assignment.decision.enrolled


def test_while_it_is_paused_everybody_gets_the_champion_testers_too(router):
    made = router(allocate("late", overrides={"eve": "new"}), paused=True)
    for unit in ("eve", "u-1", None):
        assignment = made.route("m", Asker(unit))
        assert (assignment.version, assignment.decision.reason) == (None, Reason.PAUSED)


def test_a_paused_one_does_not_stand_in_the_way_of_the_next(tally):
    first, second = traffic_of(allocate("first")), traffic_of(allocate("second"))
    paused = msgspec.structs.replace(first.experiments[0], paused=True)
    router = Router(Traffic(experiments=(paused, *second.experiments)), NOW, tally)
    assert router.route("m", Asker("u")).decision.experiment == "second"


@pytest.mark.parametrize("unit", [None, "", "x" * 513, "a\0b", "a\ud800", "tab\there", 7, b"u"])
def test_a_unit_that_nothing_could_be_recorded_of_gets_the_champion_and_is_counted(router, tally, unit):
    for spec in (allocate("late"), allocate("late", overrides={"eve": "new"})):
        assignment = router(spec).route("m", Asker(unit))
        assert (assignment.version, assignment.decision.reason) == (None, Reason.MISSING_UNIT)
    assert tally.counts() == {("late", Reason.MISSING_UNIT): 2}


def test_a_segment_without_a_context_gives_the_champion_and_is_counted(router, tally):
    made = router(allocate("late", segment=Segment({"carrier": "UA"})))
    assert made.route("m", Asker("u")).decision.reason == Reason.MISSING_CONTEXT
    assert made.route("m", Asker("u", {"carrier": "AA"})).decision.reason == Reason.NOT_TARGETED
    assert made.route("m", Asker("u", {"carrier": "UA"})).decision.reason == Reason.SPLIT
    assert tally.counts() == {("late", Reason.MISSING_CONTEXT): 1}


# --- requests instead of units ---


def test_without_stickiness_every_request_is_drawn_by_itself_even_if_nobody_numbers_it(router, tally):
    made = router(allocate("late", sticky=False))
    found = [made.route("m", Asker(unit)).version for unit in ["the-same"] * 200 + [None] * 200]
    assert set(found) == {"1.0.0", "1.0.1"}
    assert 130 < found.count("1.0.1") < 270
    assert tally.counts() == {}


def test_a_request_that_is_known_keeps_what_it_was_drawn(router):
    made = router(allocate("late", sticky=False))
    for request in UNITS[:20]:
        assert len({made.route("m", Asker(unit, request_id=request)).version for unit in UNITS[:5]}) == 1


def test_the_unit_that_a_layer_declares_comes_from_the_context(router, tally):
    made = router(allocate("late", layer="web"), layers=[LayerSpec("web", unit="session")])
    asked = [made.route("m", Asker(f"u-{n}", {"session": 7})).version for n in range(20)]
    assert len(set(asked)) == 1
    assert asked[0] == made.route("m", Asker(None, {"session": "7"})).version
    for context in (None, {}, {"session": ""}, {"session": "a\0b"}, {"session": True}, {"session": [1]}):
        assert made.route("m", Asker("u", context)).decision.reason == Reason.MISSING_UNIT
    assert tally.counts() == {("late", Reason.MISSING_UNIT): 6}


# --- times ---


def test_it_says_when_it_has_to_be_compiled_again(router):
    hour = timedelta(hours=1)
    steps = (RampStep(NOW + 2 * hour, 0.5), RampStep(NOW + 3 * hour, 1.0))
    spec = allocate("late", coverage=0.0, start_at=NOW + hour, end_at=NOW + 4 * hour, ramp=steps)
    expected = [(NOW, "schedule", 1), (NOW + hour, "not_covered", 2), (NOW + 3 * hour, "split", 4)]
    for at, reason, due in expected:
        made = router(spec, at=at)
        assert made.route("m", Asker("u-1")).decision.reason.value == reason
        assert made.due_at == NOW + due * hour
    over = router(spec, at=NOW + 4 * hour)
    assert (over.route("m", Asker("u-1")).version, over.due_at) == (None, None)
    assert router(allocate("late")).due_at is None


def test_traffic_is_the_same_after_it_was_written_down():
    segment = Segment({"carrier": {"$in": ["UA"]}})
    layers = [LayerSpec("web", unit="session", holdout=0.1)]
    traffic = traffic_of(
        allocate("late", layer="web", share=0.5, segment=segment, overrides={"eve": "new"}),
        allocate("other", sticky=False),
        layers=layers,
        shadows=("new",),
        dimensions=("carrier",),
        scored=True,
    )
    again = msgspec.json.decode(msgspec.json.encode(traffic), type=Traffic)
    assert again == traffic
    asker = Asker("u", {"session": "s", "carrier": "UA"}, request_id="r")
    assert Router(again, NOW).route("m", asker) == Router(traffic, NOW).route("m", asker)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    unit=st.none() | st.text(max_size=600),
    context=st.none() | st.dictionaries(st.sampled_from(["carrier", "session", "x"]), json_values, max_size=3),
    experiment=st.sampled_from(["", "plain", "layered", "drawn", "nobody"]) | st.text(max_size=90),
    request_id=st.text(max_size=90),
)
def test_whatever_is_asked_there_is_one_consistent_decision(unit, context, experiment, request_id):
    specs = (
        allocate("plain", segment=Segment({"carrier": {"$gt": 3}}), coverage=0.5),
        allocate("layered", layer="web", share=0.7),
        allocate("drawn", sticky=False, coverage=0.5),
    )
    router = Router(traffic_of(*specs, layers=[LayerSpec("web", unit="session")]), NOW)
    assignment = router.route("m", Asker(unit, context, experiment, request_id))
    decision = assignment.decision
    assert (assignment.version is not None) == decision.enrolled
    assert 0 < decision.propensity <= 1
    if decision.enrolled:
        assert assignment.version == assignment.route.versions[decision.variant]
        assert assignment.route.name == decision.experiment
        assert not experiment or decision.experiment == experiment
