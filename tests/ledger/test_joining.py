"""The join, and which events it lets in; on both databases."""

import math

import pytest

from crossfade.ledger.admission import LAST_US, MAX_UNIT, is_slug, problem_of_exposure, problem_of_outcome
from crossfade.ledger.counts import Counts, read_counts
from crossfade.ledger.joining import join
from crossfade.ledger.measured import MAX_VALUES, Frozen, Measured, load
from crossfade.ledger.metrics import LARGEST, MetricSpec
from crossfade.ledger.plan import Plan
from crossfade.ledger.rebuilding import declare
from crossfade.ledger.waiting import count_unplaced
from tests.ledger.support import START, exposure, measures, outcome, store


@pytest.fixture
def connection(database):
    with database.write() as connection:
        for experiment in ("trains", "flights"):
            declare(connection, measures(MetricSpec("delay"), experiment=experiment))
        yield connection


def joined(connection, exposures, outcomes):
    counts = Counts()
    found = join(connection, exposures, outcomes, counts)
    counts.write(connection)
    return {each.measured.experiment: each for each in found}


def test_events_come_together_by_experiment(connection):
    ada, bob = exposure("ada"), exposure("bob", experiment="trains")
    found = joined(
        connection, [bob, ada], [outcome("delay", of=ada), outcome("delay", of=bob), outcome("delay", of="cyd")]
    )
    assert list(found) == ["flights", "trains"]
    flights, trains = found.values()
    assert (flights.exposures, trains.exposures) == ([ada], [bob])
    assert [(each.unit, each.exposure) for each in flights.outcomes] == [("ada", ada), ("cyd", None)]
    assert (flights.units, trains.units) == (["ada", "cyd"], ["bob"])


def test_decisions_of_earlier_times_are_looked_up(connection):
    ada = exposure("ada", score=0.25, dimensions={"carrier": "UA"}, context={"hour": 7.0})
    store(connection, [ada], [])
    found = joined(connection, [], [outcome("delay", of=ada)])
    assert found["flights"].outcomes[0].exposure == ada


def test_what_has_waited_joins(connection):
    ada = exposure("ada")
    assert joined(connection, [], [outcome("delay", 1.0, of=ada)]) == {}
    assert count_unplaced(connection, ["delay"], 0) == 1
    assert len(joined(connection, [ada], [])["flights"].outcomes) == 1
    assert count_unplaced(connection, ["delay"], 0) == 0


def test_outcomes_of_exposures_that_cannot_be_used_cannot_either(connection):
    bad = exposure("ada", propensity=2.0)
    found = joined(connection, [bad], [outcome("delay", of=bad)])
    assert found["flights"].outcomes == found["flights"].exposures == []
    assert read_counts(connection, "flights") == {"refused/propensity": 2}


def test_decisions_that_nobody_can_have_made_are_not_waited_for(connection):
    lost = outcome("delay", of="", experiment="", decision="x" * 1_000)
    assert joined(connection, [], [lost, outcome("delay", math.nan, of=exposure("ada"))]) == {}
    assert read_counts(connection, "") == {"refused/unit": 1, "refused/value": 1}
    assert count_unplaced(connection, ["delay"], 0) == 0


@pytest.mark.parametrize("unit", ["a", "x" * MAX_UNIT, "zażółć 𝄞", "' \" \\ %s"])
def test_ordinary_and_odd_units_are_let_in(unit):
    assert problem_of_exposure(exposure(unit)) == ""


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, ""),
        ({"name": "x" * 64}, ""),
        ({"name": "x" * 65}, "name"),
        ({"name": "fallback"}, "name"),
        ({"value": LARGEST}, ""),
        ({"value": -LARGEST * 1.01}, "value"),
        ({"at_us": 0}, ""),
        ({"at_us": LAST_US}, ""),
        ({"at_us": LAST_US + 1}, "time"),
    ],
)
def test_outcomes_are_let_in_up_to_the_limits(fields, problem):
    assert problem_of_outcome(**{"name": "delay", "value": 1.0, "at_us": START, **fields}) == problem


def test_slugs():
    assert [is_slug(name) for name in ("a", "a.b-c_9", "", "A", "ä", "x" * 65, "-a")] == [True] * 2 + [False] * 5


# --- what is fixed by the first events


def measured(**fields):
    return Measured(Plan.of(measures(MetricSpec("delay"), dimensions=("carrier", "origin"), **fields)), Frozen())


def test_the_first_values_of_a_dimension_have_cells_of_their_own():
    one = measured()
    assert one.dimensions({"carrier": "UA", "other": "x"}) == ("UA", "(unknown)")
    for number in range(MAX_VALUES - 1):
        assert one.dimensions({"carrier": f"c{number}"})[0] == f"c{number}"
    assert one.dimensions({"carrier": "late", "origin": "JFK"}) == ("(other)", "JFK")
    assert one.dimensions({"carrier": "UA"})[0] == "UA"
    assert one.dimensions({"carrier": "x" * 65, "origin": "\0"}) == ("(other)", "(other)")
    assert one.dimensions({"origin": ""}) == ("(unknown)", "")
    assert len(one.frozen.values["carrier"]) == MAX_VALUES


def test_times_are_remembered():
    one = measured()
    one.saw([], [7])
    assert (one.first_us, one.last_us) == (None, 7)
    one.saw([5, 9], [])
    one.saw([], [])
    one.saw([6], [3])
    assert (one.first_us, one.last_us) == (5, 9)


def test_what_was_fixed_is_stored(connection):
    one = load(connection, ["flights", "nowhere"])["flights"]
    one.frozen.cuts["delay"] = 12
    one.frozen.values["carrier"] = ["UA"]
    one.saw([5], [8])
    one.save(connection)
    again = load(connection, ["flights"])["flights"]
    assert (again.frozen, again.first_us, again.last_us, again.cut(0)) == (one.frozen, 5, 8, 12)
    assert load(connection, []) == {}
