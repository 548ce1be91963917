"""`Webhook`: tells another system of an event over HTTP, signed, and never a system that it has no business with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from crossfade.core.exchange import Answer, ExchangeError, exchange
from crossfade.core.identity import new_id
from crossfade.errors import NotificationFailedError, SettingsError, WebhookRefusedError
from crossfade.notifications.addresses import Resolve, allowed_addresses, literal, resolve, target_of
from crossfade.notifications.signing import SIGNATURE, TIMESTAMP, sign
from crossfade.settings import SHORTEST_SECRET

SECONDS = 5.0
"""For a whole request; looking up the name takes as long as the resolver lets it."""
MAX_ANSWER_BYTES = 64 * 2**10
MAX_BODY_BYTES = 256 * 2**10
DELIVERY, KIND = "Crossfade-Delivery", "Crossfade-Event"
_TRY_AGAIN = {408, 425, 429}
_PROBLEM = 200


class Webhook:
    """One receiver.

    Args:
        url: Where to; `http` or `https`.
        secret: Shared with the receiver; at least 16 characters.
        allow_private: Also send to addresses that are not on the public Internet. Only an operator may say so, for
            hosts that he names: `Channels.webhook` asks the settings.
        look_up: From a host to its addresses.
        wall: Seconds since 1970, for the timestamp.

    Raises:
        WebhookRefusedError: The URL is not one that may be called.
        SettingsError: The secret is too short.

    Example:
        >>> Webhook("ftp://example.com", "an example of a secret")
        Traceback (most recent call last):
        crossfade.errors.denied.WebhookRefusedError: nothing is sent to `example.com`: only `http` and `https` ...
    """

    def __init__(
        self,
        url: str,
        secret: str,
        allow_private: bool = False,
        *,
        look_up: Resolve = resolve,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < SHORTEST_SECRET:
            raise SettingsError(field="secret", problem=f"it needs at least {SHORTEST_SECRET} characters")
        self.target = target_of(url)
        self._url = url
        self._secret = secret
        self._private = allow_private
        self._look_up = look_up
        self._wall = wall

    def __repr__(self) -> str:
        """Name the receiver without path, query and secret: they let whoever knows them in."""
        return f"Webhook({self.target.host!r})"

    def require_address(self) -> None:
        """Refuse a host that is written as an address that nothing may be sent to; a name is looked up when it is sent.

        Raises:
            WebhookRefusedError: It is one.
        """
        if literal(self.target.host) is not None:
            allowed_addresses(self.target, private=self._private, look_up=lambda host, _port: [host])

    def send(self, event: Mapping[str, Any]) -> None:
        """Tell of an event; the answer only has to be a success.

        Args:
            event: JSON values. Its `id` goes into the header `Crossfade-Delivery`, its `kind` into `Crossfade-Event`.

        Raises:
            WebhookRefusedError: The host has an address that nothing may be sent to.
            NotificationFailedError: It was not received; `again` says whether trying again makes sense.
        """
        self._post(event, 0)

    def ask(self, event: Mapping[str, Any], *, kind: str = "") -> dict[str, Any]:
        """Tell of an event and return the JSON object that comes back.

        Args:
            event: As for `send`.
            kind: Goes into the header `Crossfade-Event` instead of what the event calls its kind.

        Raises:
            WebhookRefusedError: As for `send`.
            NotificationFailedError: As for `send`, or the answer is no JSON object of at most 64 KiB.
        """
        content = self._post(event, MAX_ANSWER_BYTES, kind).body
        try:
            found = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict):
            raise self._failed("the answer is no JSON object", again=False)
        return found

    def _post(self, event: Mapping[str, Any], max_bytes: int, kind: str = "") -> Answer:
        body = msgspec.json.encode(event)
        if len(body) > MAX_BODY_BYTES:
            raise self._failed(f"the event is larger than {MAX_BODY_BYTES} bytes", again=False)
        stamp = int(self._wall())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "crossfade",
            TIMESTAMP: str(stamp),
            SIGNATURE: sign(self._secret, stamp, body),
            DELIVERY: _header(event.get("id") or new_id()),
            KIND: _header(kind or event.get("kind") or "event"),
        }
        try:
            addresses = allowed_addresses(self.target, private=self._private, look_up=self._look_up)
            answer = exchange(
                "POST",
                self._url,
                headers=headers,
                body=body,
                addresses=addresses,
                seconds=SECONDS,
                max_bytes=max_bytes,
            )
        except WebhookRefusedError:
            raise
        except (ExchangeError, OSError) as error:
            raise self._failed(str(error)[:_PROBLEM]) from error
        self._judge(answer.status)
        return answer

    def _judge(self, status: int) -> None:
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise self._failed(f"it answered {status}, and redirects are not followed", again=False)
        raise self._failed(f"it answered {status}", again=status >= 500 or status in _TRY_AGAIN)

    def _failed(self, problem: str, *, again: bool = True) -> NotificationFailedError:
        return NotificationFailedError(channel=f"webhook {self.target.host}", problem=problem, again=again)


def _header(value: object) -> str:
    return "".join(letter for letter in str(value)[:120] if letter.isascii() and letter.isprintable())
