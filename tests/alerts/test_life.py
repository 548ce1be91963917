"""The life of one alert: pending, firing, resolved; what nobody knows, and what comes and goes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crossfade.alerts.conditions import FactHolds
from crossfade.alerts.life import advance, quiet
from crossfade.alerts.measuring import Finding, Truth
from crossfade.alerts.record import AlertStatus, about, alert_id
from crossfade.alerts.rule import AlertRule
from crossfade.settings import AlertSettings
from tests.alerts.support import START

LABELS = {"model": "churn"}
SETTINGS = AlertSettings(resolve_seconds=60, unknown_seconds=3600)


class Life:
    """One alert, looked at every now and then."""

    def __init__(self, for_seconds=0.0):
        self.rule = AlertRule("A", "page", "too many requests to {labels} fail", "", FactHolds("x"), for_seconds)
        self.now = START
        self.alert = None

    def look(self, truth, after=0.0, value=1.0):
        self.now += timedelta(seconds=after)
        finding = Finding(LABELS, truth, f"it is {truth}", value)
        self.alert = advance(self.alert, finding, self.rule, self.now, SETTINGS)
        return None if self.alert is None else self.alert.status


YES, NO, UNKNOWN = Truth.YES, Truth.NO, Truth.UNKNOWN
PENDING, FIRING, RESOLVED = AlertStatus.PENDING, AlertStatus.FIRING, AlertStatus.RESOLVED


def test_without_a_wait_it_fires_at_once():
    life = Life()
    assert life.look(YES) is FIRING
    assert life.alert.fired_at == START
    assert life.alert.summary == "too many requests to churn fail"
    assert life.alert.id == alert_id("A", LABELS)


def test_it_waits_as_long_as_its_rule_says():
    life = Life(for_seconds=120)
    assert [life.look(YES, after) for after in (0, 60, 59.9)] == [PENDING] * 3
    assert life.look(YES, 0.1) is FIRING
    assert life.alert.since == START


@pytest.mark.parametrize("break_", [NO, UNKNOWN])
def test_a_break_starts_the_wait_anew(break_):
    life = Life(for_seconds=120)
    life.look(YES)
    assert life.look(break_, 60) is None
    assert [life.look(YES, after) for after in (1, 119)] == [PENDING] * 2
    assert life.look(YES, 1) is FIRING


def test_it_is_over_when_it_has_been_well_for_long_enough():
    life = Life()
    life.look(YES)
    assert [life.look(NO, after) for after in (10, 59)] == [FIRING] * 2
    assert (life.alert.reason, life.alert.value) == ("it is yes", 1.0), "why it fires, and not that it is well"
    assert life.look(NO, 1, value=0.0) is RESOLVED
    assert life.alert.resolved_at == life.now
    assert (life.alert.reason, life.alert.value) == ("it is no", 0.0)


@pytest.mark.parametrize("break_", [YES, UNKNOWN])
def test_being_well_must_have_no_break(break_):
    life = Life()
    life.look(YES)
    life.look(NO, 10)
    life.look(break_, 30)
    assert [life.look(NO, after) for after in (29, 59)] == [FIRING] * 2
    assert life.look(NO, 1) is RESOLVED


def test_what_nobody_knows_begins_nothing_and_ends_nothing_for_an_hour():
    life = Life()
    assert life.look(UNKNOWN) is None
    life.look(YES)
    assert [life.look(UNKNOWN, after) for after in (10, 3599)] == [FIRING] * 2
    assert life.alert.unknown_since == START + timedelta(seconds=10)
    assert life.look(UNKNOWN, 1) is RESOLVED
    assert "nothing has been known for 3600 s" in life.alert.reason
    assert life.look(UNKNOWN, 9999) is RESOLVED


def test_knowing_again_forgets_that_nobody_knew():
    life = Life()
    life.look(YES)
    life.look(UNKNOWN, 3000)
    life.look(YES, 500)
    assert life.alert.unknown_since is None
    assert life.look(UNKNOWN, 3599) is FIRING


def test_one_that_comes_back_is_the_same_alert():
    life = Life(for_seconds=60)
    life.look(YES)
    life.look(YES, 60)
    life.look(NO, 10)
    assert life.look(NO, 60) is RESOLVED
    over = life.alert.resolved_at
    assert life.look(YES, 10) is PENDING
    assert life.look(NO, 10) is RESOLVED
    assert life.alert.resolved_at == over
    life.look(YES, 10)
    assert life.look(YES, 60) is FIRING
    assert len(life.alert.firings) == 2
    assert life.alert.resolved_at is None


def test_what_comes_and_goes_has_to_be_well_for_longer_each_time():
    life = Life()
    waits = []
    for _ in range(5):
        life.look(YES, 1)
        began = life.now
        while life.look(NO, 10) is FIRING:
            pass
        waits.append((life.now - began).total_seconds())
    assert waits == [70, 130, 250, 490, 970]
    assert life.alert.flapping


def test_it_never_has_to_be_well_for_more_than_an_hour():
    life = Life()
    life.look(YES)
    many = tuple(START for _ in range(400))
    alert = replace(life.alert, firings=many)
    assert quiet(alert, START, SETTINGS) == timedelta(hours=1)
    assert quiet(alert, START, AlertSettings(resolve_seconds=7200)) == timedelta(hours=2)
    assert quiet(alert, START + timedelta(hours=1), SETTINGS) == timedelta(seconds=60)


def test_an_hour_of_peace_forgets_the_past():
    life = Life()
    for _ in range(3):
        life.look(YES, 1)
        while life.look(NO, 30) is FIRING:
            pass
    assert life.alert.flapping
    life.look(YES, 3600)
    assert (len(life.alert.firings), life.alert.flapping) == (1, False)


LOOKS = st.lists(st.tuples(st.sampled_from([YES, NO, UNKNOWN]), st.floats(0, 5000)), max_size=60)


@given(LOOKS, st.sampled_from([0.0, 60.0, 600.0]))
def test_whatever_happens(looks, for_seconds):
    """Firing needs the condition without a break; a firing alert ends only well, or after an hour of not knowing."""
    life = Life(for_seconds)
    holds_since = None
    for truth, after in looks:
        before = life.alert
        after_status = life.look(truth, after)
        holds_since = (holds_since or life.now) if truth is YES else None
        was = None if before is None else before.status
        if after_status is FIRING and was is not FIRING:
            assert truth is YES
            assert (life.now - holds_since).total_seconds() >= for_seconds
        if was is FIRING and after_status is not FIRING:
            assert after_status is RESOLVED
            assert truth is not YES
        if truth is YES:
            assert after_status in {PENDING, FIRING}
        if life.alert is not None:
            assert life.alert.well_since is None or life.alert.unknown_since is None
            assert len(life.alert.firings) <= len(looks)


def test_labels_as_people_read_them():
    assert about({"experiment": "late"}) == "late"
    assert about({"experiment": "late", "model": "x"}) == "experiment=late, model=x"
    assert about({"model": ""}) == "this deployment"
