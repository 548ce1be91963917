"""Outcomes that have the id of another one: acknowledged, not counted, and known."""

import pytest

from crossfade.ledger.conflicts import refuse_conflicts
from crossfade.ledger.counts import read_counts
from crossfade.ledger.metrics import Measures, MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.ledger.rebuilding import declare, rebuild
from crossfade.ledger.rollups import fold
from crossfade.ledger.store import add_exposures, add_outcomes
from tests.ledger.durability.streams import PATIENCE, an_exposure, an_outcome, stored_outcomes

CONFLICTING = "conflicting_id"


@pytest.fixture
def measured(database):
    with database.write() as connection:
        for name in ("late", "other"):
            declare(connection, Measures(name, "control", (MetricSpec("landed_late"), MetricSpec("spent"))))
    return database


def refused(database, experiment="late"):
    return dict(read_evidence(database, experiment).refused)


def store(database, *events):
    with database.write() as connection:
        return refuse_conflicts(connection, events, add_outcomes(connection, events))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "spent"},
        {"value": 999.0},
        {"unit": "unit-7"},
        {"experiment": "other"},
        {"experiment": "", "unit": "", "decision": "d"},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("later", [True, False], ids=["later", "at once"])
def test_what_says_something_else_under_an_id_is_counted_as_refused(measured, changes, later):
    first = an_outcome(1)
    fields = {"name": first.name, "value": first.value, "experiment": "late", "unit": first.unit}
    other = an_outcome(1, at_us=first.at_us, **fields | {"decision": ""} | changes)
    if later:
        assert store(measured, first) == {}
        assert store(measured, other, an_outcome(2)) == {CONFLICTING: 1}
    else:
        assert store(measured, first, other, an_outcome(2)) == {CONFLICTING: 1}
    whose = changes.get("experiment", "late")
    with measured.read() as connection:
        assert read_counts(connection, whose) == {f"refused/{CONFLICTING}": 1}
    assert stored_outcomes(measured) == ["outcome-1", "outcome-2"]


def test_the_same_again_is_none_also_at_another_time(measured):
    """Without `happened_at` the time is that of arrival, so who sends again after a failure sends another one."""
    assert store(measured, an_outcome(1), an_outcome(1)) == {}
    assert store(measured, an_outcome(1, at_us=5), an_outcome(1), an_outcome(2)) == {}
    assert refused(measured) == {}


def test_it_is_the_experiment_that_lacks_the_outcome_that_is_told(measured):
    shown = an_exposure(1, experiment="other")
    with measured.write() as connection:
        add_exposures(connection, [shown])
    store(measured, an_outcome(1))
    of_decision = an_outcome(1, experiment="", unit="", decision=shown.id)
    assert store(measured, of_decision, an_outcome(1, experiment="nobody")) == {CONFLICTING: 2}
    assert (refused(measured), refused(measured, "other")) == ({}, {CONFLICTING: 1})
    with measured.read() as connection:
        assert read_counts(connection, "") == {f"refused/{CONFLICTING}": 1}


def test_what_was_acknowledged_in_two_batches_and_counts_once_is_in_evidence_and_metrics(measured, open_ledger):
    ledger = open_ledger(measured, fold=fold)
    for number in range(20):
        ledger.expose(an_exposure(number))
    for name in ("landed_late", "spent"):
        assert ledger.record([an_outcome(number, name=name) for number in range(20)]) == 20
    ledger.record([an_outcome(number) for number in range(20)])
    ledger.flush(PATIENCE)
    assert (refused(measured), ledger.counts.refused) == ({CONFLICTING: 20}, {CONFLICTING: 20})
    assert read_evidence(measured, "late").outcomes == 20


def test_they_cannot_be_counted_again_so_their_number_survives_that(measured):
    store(measured, an_outcome(1), an_outcome(1, value=2.0))
    with measured.write() as connection:
        rebuild(connection, "late")
    assert refused(measured) == {CONFLICTING: 1}
