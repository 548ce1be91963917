"""When somebody is told: company is waited for, distance is kept, what stays is repeated, silence is kept."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crossfade.alerts.grouping import MAX_TOLD, group_of, plan
from crossfade.alerts.record import Alert, AlertStatus, alert_id
from crossfade.settings import AlertSettings
from tests.alerts.support import START

SETTINGS = AlertSettings(group_wait_seconds=30, group_interval_seconds=300, repeat_seconds=14_400)


class Crowd:
    """Alerts of one group, and what is told of them."""

    def __init__(self):
        self.now = START
        self.alerts = {}
        self.group = None

    def fire(self, rule="A"):
        labels = {"model": "churn"}
        self.alerts[rule] = Alert(
            alert_id(rule, labels),
            rule,
            "page",
            labels,
            AlertStatus.FIRING,
            f"{rule} is so",
            "why",
            1.0,
            self.now,
            self.now,
        )

    def end(self, rule="A"):
        self.alerts[rule] = replace(self.alerts[rule], status=AlertStatus.RESOLVED, resolved_at=self.now)

    def silence(self, rule="A", silenced=True):
        self.alerts[rule] = replace(self.alerts[rule], silenced=silenced)

    def after(self, seconds):
        """Return (firing, resolved) of the message that is due, or None."""
        self.now += timedelta(seconds=seconds)
        self.group, note = plan(self.group, self.alerts.values(), self.now, SETTINGS)
        return note and ([alert.rule for alert in note.firing], [alert.rule for alert in note.resolved])


@pytest.fixture
def crowd():
    return Crowd()


def test_nothing_is_told_of_nothing(crowd):
    assert crowd.after(0) is None
    assert crowd.group is None


def test_the_first_waits_for_company(crowd):
    crowd.fire("A")
    assert crowd.after(0) is None
    crowd.fire("B")
    assert crowd.after(29) is None
    assert crowd.after(1) == (["A", "B"], [])


def test_it_is_not_told_again_before_it_is_time_to_repeat(crowd):
    crowd.fire()
    crowd.after(0)
    assert crowd.after(30) == (["A"], [])
    assert [crowd.after(each) for each in (1, 299, 3600, 10_499)] == [None] * 4
    assert crowd.after(1) == (["A"], [])


def test_news_keep_a_distance(crowd):
    crowd.fire("A")
    crowd.after(0)
    crowd.after(30)
    crowd.fire("B")
    assert crowd.after(299) is None
    crowd.fire("C")
    assert crowd.after(1) == (["A", "B", "C"], [])


def test_the_end_is_told_once(crowd):
    crowd.fire("A")
    crowd.fire("B")
    crowd.after(0)
    crowd.after(30)
    crowd.end("A")
    assert crowd.after(300) == (["B"], ["A"])
    crowd.end("B")
    assert crowd.after(300) == ([], ["B"])
    assert crowd.group is None
    assert crowd.after(20_000) is None


def test_what_ended_before_anybody_was_told_is_nobodys_business(crowd):
    crowd.fire()
    crowd.after(0)
    crowd.end()
    assert crowd.after(30) is None
    assert crowd.group is None


def test_one_that_ended_and_began_again_is_news(crowd):
    crowd.fire()
    crowd.after(0)
    crowd.after(30)
    crowd.now += timedelta(seconds=100)
    crowd.fire()
    assert crowd.after(100) is None
    assert crowd.after(100) == (["A"], [])


def test_a_silenced_one_is_in_no_message(crowd):
    crowd.fire("A")
    crowd.fire("B")
    crowd.silence("A")
    crowd.after(0)
    assert crowd.after(30) == (["B"], [])
    crowd.end("A")
    assert crowd.after(20_000) == (["B"], [])


def test_nobody_is_told_that_a_silenced_one_is_over(crowd):
    crowd.fire()
    crowd.after(0)
    crowd.after(30)
    crowd.silence()
    assert crowd.after(20_000) is None
    crowd.end()
    crowd.silence()
    assert crowd.after(20_000) is None
    assert crowd.group is None


def test_after_the_silence_it_is_repeated_when_it_is_time(crowd):
    crowd.fire()
    crowd.after(0)
    crowd.after(30)
    crowd.silence()
    assert crowd.after(10_000) is None
    crowd.silence(silenced=False)
    assert crowd.after(10) is None
    assert crowd.after(4_400) == (["A"], [])


def test_one_that_was_silenced_from_the_beginning_is_told_when_the_silence_ends(crowd):
    crowd.fire()
    crowd.silence()
    assert crowd.after(7_200) is None
    crowd.silence(silenced=False)
    crowd.after(0)
    assert crowd.after(30) == (["A"], [])


def test_groups_are_of_one_severity_and_of_equal_labels():
    alert = Alert("1", "A", "page", {"model": "churn", "kind": "x"}, AlertStatus.FIRING, "", "", None, START)
    key, labels = group_of(alert, SETTINGS)
    assert labels == {"model": "churn"}
    assert group_of(replace(alert, rule="B", labels={"model": "churn"}), SETTINGS)[0] == key
    assert group_of(replace(alert, severity="ticket"), SETTINGS)[0] != key
    assert group_of(replace(alert, labels={"model": "other"}), SETTINGS)[0] != key
    assert group_of(replace(alert, labels={}), SETTINGS)[1] == {}
    assert group_of(alert, AlertSettings(group_by=()))[1] == {}


def test_the_words_of_a_message(crowd):
    for number in range(MAX_TOLD + 5):
        crowd.fire(f"R{number:03}")
    crowd.now += timedelta(seconds=30)
    group, _ = plan(None, crowd.alerts.values(), START, SETTINGS)
    _, note = plan(group, crowd.alerts.values(), crowd.now, SETTINGS)
    event = note.event(crowd.now)
    assert (event.kind, event.severity, event.model, event.subject) == ("alert.firing", "page", "churn", "churn")
    assert event.summary.endswith(f"is so (why), and {MAX_TOLD + 4} more")
    assert len(event.details["firing"]) == MAX_TOLD
    assert event.details["firing_count"] == MAX_TOLD + 5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fire", "end", "silence", "speak"]),
        st.sampled_from("ABC"),
        st.sampled_from([1, 31, 301, 15_000]),
    ),
    max_size=50,
)


@given(STEPS)
def test_whatever_happens(steps):
    """Messages keep their distance; nobody hears of an end without a beginning, nor of what is silenced."""
    crowd, told, last = Crowd(), set(), None
    for verb, rule, seconds in steps:
        known = crowd.alerts.get(rule)
        active = known is not None and known.status is AlertStatus.FIRING
        if verb == "fire" and not active:
            crowd.fire(rule)
        elif verb == "end" and active:
            crowd.end(rule)
        elif verb in {"silence", "speak"} and known is not None:
            crowd.silence(rule, silenced=verb == "silence")
        note = crowd.after(seconds)
        if note is None:
            continue
        firing, over = note
        assert firing or over
        assert not any(crowd.alerts[each].silenced for each in (*firing, *over))
        assert set(over) <= told
        if last is not None and crowd.group is not None and told:
            assert crowd.now - last >= timedelta(seconds=30)
        told = (told | set(firing)) - set(over)
        last = crowd.now
