"""E-mail against a real SMTP server: what arrives, what is encrypted, and what no event can inject."""

import email
import email.policy
import ssl
from datetime import UTC, datetime

import pytest

from crossfade.errors import NotificationFailedError
from crossfade.notifications.event import Event
from crossfade.notifications.mail import MailChannel
from tests.notifications.sinks import SmtpSink, certificate

EVENT = Event(
    "rollout.rolled_back",
    "churn:2.1.0",
    "rolled back: 3x the errors of the baseline",
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "page",
    "churn",
    {"weight": 0.1, "reason": "zu viele Fehler (ä)"},
)


def channel(sink, **options):
    options = {"starttls": False, "sender": "crossfade@example.com", "recipients": ["ops@example.com"]} | options
    return MailChannel("127.0.0.1", sink.port, **options)


def read(sink):
    return email.message_from_bytes(sink.messages[-1][2], policy=email.policy.default)


def test_what_arrives():
    with SmtpSink() as sink:
        channel(sink, recipients=["ops@example.com", "oncall@example.com"]).send(EVENT)
    ((sender, recipients, _),) = sink.messages
    assert "crossfade@example.com" in sender
    assert ["ops@example.com" in recipients[0], "oncall@example.com" in recipients[1]] == [True, True]
    message = read(sink)
    assert message["Subject"] == "[page] rolled back: 3x the errors of the baseline"
    assert message["To"] == "ops@example.com, oncall@example.com"
    assert message["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    text = message.get_content()
    for part in ("about: churn:2.1.0", "model: churn", '"weight": 0.1', "zu viele Fehler (ä)"):
        assert part in text
    assert sink.logins == []


@pytest.mark.parametrize(
    "evil", ["a\r\nBcc: everybody@example.com", "a\nBcc: x@example.com\n\nbody", "a\0\x1b[31m\u2028b"]
)
def test_no_event_can_write_a_header(evil):
    event = Event(evil, evil, evil, EVENT.at, "page", evil, {"x": evil}, id=evil)
    with SmtpSink() as sink:
        channel(sink).send(event)
    assert len(sink.messages[0][1]) == 1
    message = read(sink)
    assert message["Bcc"] is None
    assert set(message.keys()) <= {
        "Subject", "From", "To", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip


def test_a_line_of_a_dot_ends_nothing():
    event = Event("x", "x", "a\n.\nRCPT TO:<x@example.com>\nb", EVENT.at)
    with SmtpSink() as sink:
        channel(sink).send(event)
    assert len(sink.messages[0][1]) == 1
    assert "RCPT TO:<x@example.com>\r\nb" in read(sink).get_content()


def test_a_very_long_summary_is_cut_in_the_subject():
    with SmtpSink() as sink:
        channel(sink).send(Event("x", "x", "extraordinarily " * 1000, EVENT.at))
    subject = read(sink)["Subject"]
    assert len(subject) <= 150
    assert subject.endswith(" extraordinarily ...")


def test_the_connection_is_encrypted_before_the_password_is_said(tmp_path):
    cert = certificate(tmp_path, "127.0.0.1")
    with SmtpSink(cert) as sink:
        trusting = ssl.create_default_context(cafile=str(cert))
        channel(sink, starttls=True, username="u", password="p", context=trusting).send(EVENT)
    assert sink.encrypted == [True]
    assert len(sink.logins) == 1


def test_a_server_that_cannot_encrypt_gets_nothing():
    with SmtpSink() as sink, pytest.raises(NotificationFailedError, match="STARTTLS") as raised:
        channel(sink, starttls=True, username="u", password="p").send(EVENT)
    assert raised.value.facts["again"] is False
    assert (sink.messages, sink.logins) == ([], [])


def test_a_certificate_that_nobody_vouches_for_gets_nothing(tmp_path):
    cert = certificate(tmp_path, "127.0.0.1")
    with SmtpSink(cert) as sink, pytest.raises(NotificationFailedError, match=r"(?i)certificate"):
        channel(sink, starttls=True, username="u", password="p").send(EVENT)
    assert (sink.messages, sink.logins) == ([], [])


@pytest.mark.parametrize(
    ("verb", "answer", "again"),
    [
        ("DATA", "451 try later", True),
        ("DATA", "554 spam", False),
        ("MAIL", "550 not you", False),
        ("RCPT", "550 nobody", False),
        ("AUTH", "535 wrong password for u", False),
    ],
)
def test_refusals(verb, answer, again):
    with SmtpSink() as sink:
        sink.answers[verb] = answer
        with pytest.raises(NotificationFailedError) as raised:
            channel(sink, username="u", password="a password").send(EVENT)
    assert raised.value.facts["again"] is again
    assert "a password" not in str(raised.value)


@pytest.mark.parametrize("goodbye", ["421 too busy", "500 what", "nonsense"])
def test_what_was_taken_is_taken_whatever_comes_after(goodbye):
    with SmtpSink() as sink:
        sink.answers["QUIT"] = goodbye
        channel(sink).send(EVENT)
    assert len(sink.messages) == 1


def test_nobody_listens():
    with SmtpSink() as sink:
        pass
    with pytest.raises(NotificationFailedError) as raised:
        channel(sink).send(EVENT)
    assert raised.value.facts["again"] is True
