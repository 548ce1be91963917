"""`MailChannel`: events by e-mail, over SMTP."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from textwrap import shorten

import msgspec

from crossfade.core.wording import in_one_line
from crossfade.errors import NotificationFailedError
from crossfade.notifications.event import Event

SECONDS = 10.0
"""For each step of the protocol."""
_MAX_SUBJECT = 150


class MailChannel:
    """One SMTP server, and who gets the messages.

    Args:
        host: Of the server.
        port: Of the server.
        starttls: Encrypt the connection before anything is said; refuse a server that cannot.
        username: Empty sends without logging in.
        password: Of the user.
        sender: The address that messages are from.
        recipients: Addresses that they go to.
        context: How certificates are checked; default is as everywhere.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        starttls: bool,
        sender: str,
        recipients: Sequence[str],
        username: str = "",
        password: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._where = (host, port)
        self._starttls = starttls
        self._user = (username, password)
        self._sender = sender
        self._recipients = list(recipients)
        self._context = context

    def send(self, event: Event) -> None:
        """Hand a message to the server.

        Raises:
            NotificationFailedError: It was not taken; `again` says whether trying again makes sense.
        """
        message = self.message(event)
        try:
            with closing(smtplib.SMTP(*self._where, timeout=SECONDS)) as server:
                if self._starttls:
                    server.starttls(context=self._context or ssl.create_default_context())
                if self._user[0]:
                    server.login(*self._user)
                server.send_message(message)
                with suppress(
                    smtplib.SMTPException, OSError
                ):  # it is taken; how the server says goodbye does not matter
                    server.quit()
        except smtplib.SMTPResponseException as error:
            raise self._failed(f"it answered {error.smtp_code}", again=400 <= error.smtp_code < 500) from None
        except smtplib.SMTPNotSupportedError as error:
            raise self._failed(str(error), again=False) from error
        except smtplib.SMTPRecipientsRefused:
            raise self._failed("it refused every recipient", again=False) from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._failed(str(error)[:200] or type(error).__name__) from error

    def message(self, event: Event) -> EmailMessage:
        """Return the message. Nothing in an event can become a header of its own."""
        message = EmailMessage()
        subject = in_one_line(f"[{event.severity}] {event.summary}", None)
        message["Subject"] = shorten(subject, _MAX_SUBJECT, placeholder=" ...")
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Date"] = format_datetime(event.at)
        message["Message-ID"] = make_msgid(idstring=in_one_line(event.id, 64), domain="crossfade.invalid")
        details = msgspec.json.format(msgspec.json.encode(event.details), indent=2).decode()
        facts = {"what": event.kind, "about": event.subject, "model": event.model, "when": event.at.isoformat()}
        lines = [event.summary, "", *(f"{name}: {value}" for name, value in facts.items() if value), "", details, ""]
        message.set_content("\n".join(lines))
        return message

    def _failed(self, problem: str, *, again: bool = True) -> NotificationFailedError:
        return NotificationFailedError(channel=f"mail {self._where[0]}", problem=problem, again=again)
