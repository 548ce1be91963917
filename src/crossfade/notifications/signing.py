"""Signatures of webhooks: who receives one can tell that it comes from here, was not changed, and is not an old one.

The header `Crossfade-Signature` is `v1=` and the hexadecimal HMAC-SHA256, under the shared secret, of the value of
`Crossfade-Timestamp` (seconds since 1970), a full stop, and the body as it was sent.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping

from crossfade.errors import WebhookSignatureError

TIMESTAMP, SIGNATURE = "Crossfade-Timestamp", "Crossfade-Signature"
REPLAY_SECONDS = 300
"""How far the timestamp of a genuine request may be from the receiver's clock."""
_MAX_STAMP = 12


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a body.

    Example:
        >>> sign("an example of a secret", 1767225600, b"{}")[:19]
        'v1=ee31de95d6a73ab2'
    """
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """Check a webhook that was received; ask for this before the body is even parsed.

    Args:
        secret: As the sender has it.
        headers: Of the request, whatever their case.
        body: The bytes as they arrived.
        now: Seconds since 1970; default is the clock.

    Raises:
        WebhookSignatureError: It is not signed with this secret, was changed on the way, or is older than
            `REPLAY_SECONDS`. Within that time remember `Crossfade-Delivery`: it is the same when a request comes again.

    Example:
        >>> signed = {TIMESTAMP: "1767225600", SIGNATURE: sign("an example of a secret", 1767225600, b"{}")}
        >>> verify("an example of a secret", signed, b"{}", now=1767225601)
    """
    given = {name.lower(): value for name, value in headers.items()}
    stamp, signature = given.get(TIMESTAMP.lower(), ""), given.get(SIGNATURE.lower(), "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= _MAX_STAMP):
        raise WebhookSignatureError(problem=f"it has no `{TIMESTAMP}`")
    if not hmac.compare_digest(sign(secret, int(stamp), body).encode(), signature.encode("utf-8", "replace")):
        raise WebhookSignatureError(problem="its signature is another one")
    if abs((time.time() if now is None else now) - int(stamp)) > REPLAY_SECONDS:
        raise WebhookSignatureError(problem=f"it was signed more than {REPLAY_SECONDS} s ago")
