"""What people do with alerts: silences and their conditions, what cannot be, and what is left in the audit log."""

import math
import re
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from crossfade.alerts import store as stores
from crossfade.alerts.record import Alert, AlertStatus, ChannelTrial, Matcher, SilenceRequest, Told
from crossfade.errors import (
    ChannelNotFoundError,
    InvalidPageError,
    InvalidSilenceError,
    MalformedRequestError,
    NotificationFailedError,
    SilenceNotFoundError,
)
from crossfade.storage.tables import alerts, audit
from crossfade.storage.times import to_text
from tests.alerts.support import START, Watch


@pytest.fixture
def watch(database):
    return Watch(database)


@pytest.fixture
def local(sqlite):
    return Watch(sqlite)


def wanted(*matchers, seconds=3600.0, reason="load test"):
    return SilenceRequest(matchers, seconds, reason)


def actions(watch):
    with watch.database.read() as connection:
        return connection.scalars(select(audit.c.action).order_by(audit.c.seq)).all()


def stored(watch, rule="A", status=AlertStatus.FIRING, at=0, **labels):
    import msgspec

    moment = START + timedelta(seconds=at)
    alert = Alert(f"{rule}-{at}", rule, "page", labels, status, "", "", None, moment, moment)
    with watch.database.write() as connection:
        body = msgspec.json.encode(alert).decode()
        connection.execute(insert(alerts).values(id=alert.id, status=status, changed_at=to_text(moment), body=body))
    return alert


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("model=churn", True),
        ("model=chur?", True),
        ("model=*", True),
        ("model=other", False),
        ("model!=other", True),
        ("model!=churn", False),
        ("rule=Model*", True),
        ("rule=model*", False),
        ("severity=page", True),
        ("severity!=page", False),
        ("kind!=?*", True),
        ("model!=?*", False),
        ("kind=*", True),
        ("kind=x", False),
        ("kind!=x", True),
        ("model = churn", True),
        ("model=[a-d]hurn", True),
    ],
)
def test_matchers(text, matches):
    alert = Alert("1", "ModelErrorRateHigh", "page", {"model": "churn"}, AlertStatus.FIRING, "", "", None, START)
    matcher = Matcher.parse(text)
    assert matcher.matches(alert) is matches
    assert Matcher.parse(str(matcher)) == matcher


@pytest.mark.parametrize(
    "text", ["", "model", "=x", "!=x", "a b=c", "ü=x", "model=\n", "model=\0", "model=" + "x" * 200, "mo-del=x", "1a=x"]
)
def test_what_is_no_matcher(text):
    with pytest.raises(InvalidSilenceError):
        Matcher.parse(text)


@pytest.mark.parametrize("text", ["model=", "model= ", "model!=", "rule="])
def test_a_matcher_without_a_value_is_a_variable_that_is_not_set(text):
    with pytest.raises(InvalidSilenceError, match=r"names no value; alerts without the label are `\w+!=\?\*`"):
        Matcher.parse(text)


def test_hostile_patterns_take_no_time():
    alert = Alert("1", "A", "page", {"model": "a" * 60 + "b"}, AlertStatus.FIRING, "", "", None, START)
    assert not Matcher("model", "*a" * 60 + "*c").matches(alert)


def test_a_silence_from_beginning_to_end(watch):
    made = watch.store.silence(wanted("model=churn", "rule=Model*"), principal="ann")
    assert made.ends_at == START + timedelta(hours=1)
    assert watch.store.silences() == (made,)
    watch.clock.wait(60)
    ended = watch.store.end_silence(made.id, reason="done", principal="bob")
    assert (ended.ends_at, ended.ended_by, ended.created_by) == (watch.clock(), "bob", "ann")
    assert watch.store.silences() == ()
    assert watch.store.silences(over=True) == (ended,)
    assert watch.store.end_silence(made.id, principal="carl") == ended
    assert actions(watch) == ["alert.silence", "alert.unsilence"]


def test_it_runs_out_by_itself(local):
    local.store.silence(wanted("model=churn"))
    local.clock.wait(3599)
    assert len(local.store.silences()) == 1
    local.clock.wait(1)
    assert local.store.silences() == ()


def test_the_newest_first(local):
    made = [local.store.silence(wanted(f"model=m{number}")).id for number in range(3)]
    assert [each.id for each in local.store.silences()] == made[::-1]


def test_rehearsals_change_nothing(local):
    local.store.silence(wanted("model=churn"), dry_run=True)
    assert local.store.silences() == ()
    made = local.store.silence(wanted("model=churn"))
    local.store.end_silence(made.id, dry_run=True)
    assert local.store.silences() == (made,)
    assert actions(local) == ["alert.silence"]


@pytest.mark.parametrize(
    "request_",
    [
        wanted(),
        wanted("model"),
        wanted(*["model=x"] * 21),
        wanted("model=x", reason=""),
        wanted("model=x", reason="  "),
        wanted("model=x", seconds=0),
        wanted("model=x", seconds=-1),
        wanted("model=x", seconds=math.nan),
        wanted("model=x", seconds=math.inf),
        wanted("model=x", seconds=31 * 86_400),
    ],
)
def test_silences_that_cannot_be(local, request_):
    with pytest.raises(InvalidSilenceError):
        local.store.silence(request_)
    assert actions(local) == []


@pytest.mark.parametrize("reason", ["a\0b", "x" * 2001, "\ud800"])
def test_reasons_that_no_history_can_keep(local, reason):
    with pytest.raises(MalformedRequestError):
        local.store.silence(wanted("model=x", reason=reason))


@pytest.mark.parametrize(
    ("matcher", "said"),
    [
        ("rule=ModelErrorRateHi", "no rule is called `ModelErrorRateHi`; near are ModelErrorRateHigh"),
        ("rule!=ModelErorRateHigh", "near are ModelErrorRateHigh"),
        ("rule=model*", "no rule is called `model*`; see them with `crossfade alerts rules`"),
        ("rule=Nope", "no rule is called `Nope`; see them"),
    ],
)
def test_a_rule_that_does_not_exist_cannot_be_silenced(local, matcher, said):
    with pytest.raises(InvalidSilenceError, match=re.escape(said)):
        local.store.silence(wanted("model=churn", matcher))
    assert actions(local) == []


@pytest.mark.parametrize("matcher", ["foo=bar", "foo!=bar", "Model=churn"])
def test_what_no_alert_has_cannot_be_silenced(local, matcher):
    label = matcher.split("=")[0].rstrip("!")
    said = f"no alert has `{label}`; there are alert, config, experiment, kind, model, operation, "
    with pytest.raises(InvalidSilenceError, match=re.escape(said)):
        local.store.silence(wanted(matcher))
    assert actions(local) == []


def test_there_is_an_end_to_silences(local, monkeypatch):
    monkeypatch.setattr(stores, "MAX_SILENCES", 2)
    for _ in range(2):
        local.store.silence(wanted("model=x"))
    with pytest.raises(InvalidSilenceError, match="2 already"):
        local.store.silence(wanted("model=x"))


@pytest.mark.parametrize("name", ["", "nobody", "x" * 1000, "a\0b", "ü"])
def test_ending_what_is_not_there(local, name):
    with pytest.raises(SilenceNotFoundError):
        local.store.end_silence(name)


def test_lists(watch):
    old = stored(watch, "A", AlertStatus.RESOLVED, 1, model="churn")
    firing = stored(watch, "B", AlertStatus.FIRING, 2, model="churn")
    newer = stored(watch, "B", AlertStatus.FIRING, 3, model="other")
    pending = stored(watch, "C", AlertStatus.PENDING, 4)
    assert [each.id for each in watch.store.list()] == [newer.id, firing.id, pending.id, old.id]
    assert watch.store.list(status="resolved") == (old,)
    assert watch.store.list(rule="B", model="churn") == (firing,)
    assert len(watch.store.list(limit=2)) == 2
    assert watch.store.list(rule="nobody") == ()
    watch.store.silence(wanted("model=churn"))
    assert [each.silenced for each in watch.store.list(model="churn")] == [True, True]
    for limit in (0, 1001):
        with pytest.raises(InvalidPageError):
            watch.store.list(limit=limit)


def test_channels_are_tried(local):
    failing = NotificationFailedError(channel="mail x", problem="no")

    def send(name, event):
        if name == "mail":
            raise failing
        local.channels.told.append((name, event))

    local.channels.names, local.channels.send = ("log", "mail"), send
    assert local.store.channels(ChannelTrial("")) == ("log", "mail")
    assert local.store.try_channels(ChannelTrial("", reason="why"), principal="ann") == (
        Told("log"),
        Told("mail", "mail x was not told: no"),
    )
    assert local.store.try_channels(ChannelTrial("log")) == (Told("log"),)
    assert local.channels.kinds == ["alert.test"] * 2
    assert actions(local) == ["alert.test"] * 2
    with pytest.raises(ChannelNotFoundError):
        local.store.try_channels(ChannelTrial("nobody"))
