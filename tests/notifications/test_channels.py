"""Channels and couriers: nobody waits, one channel delays no other, attempts are spaced, and nothing is lost unseen."""

import logging
import threading
from datetime import UTC, datetime

import pytest

from crossfade.errors import ChannelNotFoundError, NotificationFailedError, SettingsError, WebhookRefusedError
from crossfade.notifications.channels import Channels
from crossfade.notifications.courier import ATTEMPTS, MAX_WAITING, Courier, Result
from crossfade.notifications.event import Event, Severity
from crossfade.notifications.log import LogChannel
from crossfade.settings import NotificationSettings, Settings
from tests.notifications.sinks import HttpSink

AT = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "an example of a secret"


def event(severity="info", summary="10 % of traffic", **fields):
    return Event("rollout.step", "churn:2.1.0", summary, AT, severity, "churn", **fields)


class Recorder:
    """A channel that keeps events, and fails as it is told."""

    def __init__(self):
        self.events = []
        self.problems = []
        self.arrived = threading.Semaphore(0)

    def send(self, event):
        problem = self.problems.pop(0) if self.problems else None
        if problem is not None:
            raise problem
        self.events.append(event)
        self.arrived.release()


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def failure(again=True):
    return NotificationFailedError(channel="x", problem="no", again=again)


@pytest.fixture
def courier():
    """A courier without a thread: `turn` is called by hand."""
    clock, channel = Clock(), Recorder()
    made = Courier("x", channel, monotonic=clock, chance=lambda: 0.5)
    made._start = lambda: None
    made.clock, made.channel, made.told = clock, channel, []
    return made


def done(courier):
    return lambda result, problem: courier.told.append((result, problem))


def test_an_event_is_told(courier):
    courier.bring(event(), done(courier))
    assert courier.turn() is None
    assert courier.channel.events == [event(id=courier.channel.events[0].id)]
    assert courier.told == [(Result.SENT, "")]
    assert courier.counts == {Result.SENT: 1, Result.FAILED: 0, Result.DROPPED: 0}


def test_attempts_are_spaced_and_end(courier, caplog):
    courier.channel.problems = [failure() for _ in range(ATTEMPTS)]
    courier.bring(event(), done(courier))
    pauses = []
    while (pause := courier.turn()) is not None:
        pauses.append(pause)
        assert courier.turn() == pause  # it is not tried before
        courier.clock.now += pause
    assert pauses == [1, 2, 4, 8, 16]
    assert courier.told == [(Result.FAILED, "x was not told: no")]
    assert "was not told to `x`" in caplog.text


def test_a_later_attempt_may_work_and_is_the_same_event(courier):
    courier.channel.problems = [failure()]
    sent = event()
    courier.bring(sent)
    courier.clock.now += courier.turn()
    assert courier.turn() is None
    assert courier.channel.events == [sent]
    assert courier.counts[Result.SENT] == 1


@pytest.mark.parametrize(
    "problem", [failure(again=False), WebhookRefusedError(host="x", problem="private"), KeyError("bug")]
)
def test_what_makes_no_sense_is_not_tried_again(courier, problem):
    courier.channel.problems = [problem]
    courier.bring(event(), done(courier))
    assert courier.turn() is None
    assert courier.told[0][0] is Result.FAILED
    courier.bring(event())
    courier.turn()
    assert len(courier.channel.events) == 1


def test_one_that_waits_for_its_next_attempt_delays_none(courier):
    courier.channel.problems = [failure()]
    first, second = event(), event()
    courier.bring(first)
    courier.turn()
    courier.bring(second)
    courier.turn()
    assert courier.channel.events == [second]


def test_too_many_are_dropped_counted_and_logged(courier, caplog):
    for _ in range(MAX_WAITING + 3):
        courier.bring(event(), done(courier))
    assert courier.counts[Result.DROPPED] == 3
    assert courier.told == [(Result.DROPPED, "too many events wait")] * 3
    assert caplog.text.count("too many events wait") == 3


def test_what_waits_at_the_end_is_counted(courier):
    courier.bring(event(), done(courier))
    courier.close()
    assert courier.told == [(Result.DROPPED, "the process ended")]
    courier.bring(event(), done(courier))
    assert courier.told[1][0] is Result.DROPPED


def test_nobody_waits_and_a_channel_that_hangs_delays_no_other():
    hang, other = threading.Event(), Recorder()

    class Hanging:
        def send(self, event):
            hang.wait(30)

    with Channels(NotificationSettings(), {"a": (Hanging(), Severity.INFO), "b": (other, Severity.INFO)}) as channels:
        for name in ("a", "b") * 5:
            channels.bring(name, event(), lambda *_: None)
        for _ in range(5):
            assert other.arrived.acquire(timeout=30)
        hang.set()
    assert channels.counts["b", "sent"] == 5
    assert sum(channels.counts["a", str(result)] for result in Result) == 5


def test_a_channel_is_told_from_its_least_severity_on():
    made = {"all": (Recorder(), Severity.INFO), "pages": (Recorder(), Severity.PAGE)}
    with Channels(NotificationSettings(), made) as channels:
        assert [channels.of(severity) for severity in ("info", "ticket")] == [("all",)] * 2
        assert channels.of("page") == ("all", "pages")


def test_one_channel_can_be_told_alone():
    first = Recorder()
    with Channels(NotificationSettings(), {"a": (first, Severity.PAGE)}) as channels:
        channels.send("a", event())
        assert len(first.events) == 1
        for call in (lambda: channels.send("b", event()), lambda: channels.bring("b", event(), lambda *_: None)):
            with pytest.raises(ChannelNotFoundError, match="there are: a"):
                call()


def test_the_settings_make_them(monkeypatch, tmp_path):
    rules = '{"ops": {"url": "https://hooks.example.com/x", "secret": "an example of a secret", "least": "page"}}'
    monkeypatch.setenv("CROSSFADE_NOTIFICATIONS__WEBHOOKS", rules)
    monkeypatch.setenv("CROSSFADE_NOTIFICATIONS__MAIL_HOST", "localhost")
    monkeypatch.setenv("CROSSFADE_NOTIFICATIONS__MAIL_TO", '["ops@example.com"]')
    settings = Settings.load(home=tmp_path).notifications
    assert SECRET not in repr(settings)
    assert "hooks.example.com" not in repr(settings)
    with Channels(settings) as channels:
        assert channels.names == ("log", "mail", "ops")
        assert [channels.of(severity) for severity in ("info", "ticket", "page")] == [
            ("log",),
            ("log", "mail"),
            ("log", "mail", "ops"),
        ]


@pytest.mark.parametrize(
    "rules",
    [
        {"webhooks": {"ops": {"url": "ftp://example.com/token-of-the-path", "secret": SECRET}}},
        {"webhooks": {"ops": {"url": "https://u:p@example.com/token-of-the-path", "secret": SECRET}}},
        {"webhooks": {"ops": {"url": "https://example.com/token-of-the-path", "secret": "short"}}},
    ],
)
def test_a_webhook_that_cannot_be_is_refused_at_the_start(rules):
    with pytest.raises(SettingsError, match=r"notifications\.webhooks\.ops") as raised:
        Channels(NotificationSettings(**rules))
    assert "token-of-the-path" not in str(raised.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"mail_host": "localhost"},
        {"mail_to": ("no address",)},
        {"mail_to": ("a@b.c\nBcc: d@e.f",)},
        {"mail_to": ("a@b.c, d@e.f",)},
        {"mail_from": "nobody"},
        {"webhooks": {"log": {"url": "https://example.com/", "secret": SECRET}}},
        {"webhooks": {"ops": {"url": "https://example.com/", "secret": SECRET, "least": "loud"}}},
        {"webhooks": {"ops": {"url": "https://example.com/"}}},
    ],
)
def test_settings_that_make_no_sense(rules):
    with pytest.raises(ValueError):
        NotificationSettings(**rules)


def test_only_listed_hosts_may_be_private():
    with HttpSink() as sink:
        listed = Channels(NotificationSettings(private_hosts=("127.0.0.1",)))
        listed.webhook(sink.url, SECRET).send({"id": "1"})
        with pytest.raises(WebhookRefusedError):
            Channels(NotificationSettings()).webhook(sink.url, SECRET).send({"id": "2"})
        assert len(sink.requests) == 1


def test_an_event_through_a_webhook_of_the_settings():
    with HttpSink() as sink:
        rules = {"ops": {"url": sink.url, "secret": SECRET}}
        settings = NotificationSettings(webhooks=rules, private_hosts=("127.0.0.1",))
        with Channels(settings) as channels:
            channels.send("ops", event(details={"weight": 0.1}))
    assert b'"at":"2026-01-01T00:00:00Z"' in sink.requests[0][2]


def test_lines_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    LogChannel().send(event("page", "it\nbroke\x1b[31m"))
    LogChannel().send(event())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "rollout.step churn:2.1.0: it broke [31m"),
        ("INFO", "rollout.step churn:2.1.0: 10 % of traffic"),
    ]
