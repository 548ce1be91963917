"""Signatures: published vectors, and everything that makes one worthless."""

import hashlib
import hmac

import pytest

from crossfade.errors import WebhookSignatureError
from crossfade.notifications.signing import REPLAY_SECONDS, SIGNATURE, TIMESTAMP, sign, verify

SECRET = "an example of a secret"
NOW = 1767225600
BODY = b'{"kind":"rollout.step"}'


def signed(body=BODY, at=NOW, secret=SECRET):
    return {TIMESTAMP: str(at), SIGNATURE: sign(secret, at, body)}


def test_the_construction_by_an_independent_reading_of_rfc_2104():
    key = SECRET.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + b"1767225600." + BODY).digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert sign(SECRET, NOW, BODY) == f"v1={outer}"


@pytest.mark.parametrize(
    ("key", "data", "digest"),
    [  # RFC 4231, test cases 2 and 6: the primitive is the one that everybody else has
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ],
)
def test_the_primitive(key, data, digest):
    assert hmac.new(key, data, hashlib.sha256).hexdigest() == digest


@pytest.mark.parametrize(
    ("secret", "at", "body", "signature"),
    [
        (SECRET, NOW, b"{}", "v1=ee31de95d6a73ab2"),
        ("sixteen letters!", 0, b"", "v1="),
    ],
)
def test_vectors(secret, at, body, signature):
    assert sign(secret, at, body).startswith(signature)
    assert len(sign(secret, at, body)) == 3 + 64


def test_what_was_signed_is_accepted_whatever_the_case_of_headers():
    verify(SECRET, signed(), BODY, now=NOW)
    verify(SECRET, {name.upper(): value for name, value in signed().items()}, BODY, now=NOW)


@pytest.mark.parametrize("seconds", [-REPLAY_SECONDS, 0, REPLAY_SECONDS])
def test_within_the_window(seconds):
    verify(SECRET, signed(), BODY, now=NOW + seconds)


@pytest.mark.parametrize("seconds", [-REPLAY_SECONDS - 1, REPLAY_SECONDS + 1, 1e9, float("inf")])
def test_a_replay_is_refused(seconds):
    with pytest.raises(WebhookSignatureError, match="ago"):
        verify(SECRET, signed(), BODY, now=NOW + seconds)


def test_without_a_clock_the_present_counts():
    with pytest.raises(WebhookSignatureError):
        verify(SECRET, signed(at=1), BODY)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        ({TIMESTAMP: str(NOW)}, BODY),
        ({SIGNATURE: sign(SECRET, NOW, BODY)}, BODY),
        (signed(), BODY + b" "),
        (signed(), b""),
        (signed(secret="another secret of it"), BODY),
        (signed() | {TIMESTAMP: str(NOW + 1)}, BODY),
        (signed() | {TIMESTAMP: "-1"}, BODY),
        (signed() | {TIMESTAMP: "١٧٦٧"}, BODY),
        (signed() | {TIMESTAMP: "9" * 400}, BODY),
        (signed() | {TIMESTAMP: "nan"}, BODY),
        (signed() | {SIGNATURE: ""}, BODY),
        (signed() | {SIGNATURE: "ü" * 67}, BODY),
        (signed() | {SIGNATURE: signed()[SIGNATURE].removeprefix("v1=")}, BODY),
        (signed() | {SIGNATURE: signed()[SIGNATURE].replace("v1", "v0")}, BODY),
        (signed() | {SIGNATURE: signed()[SIGNATURE].upper()}, BODY),
    ],
)
def test_everything_else_is_refused(headers, body):
    with pytest.raises(WebhookSignatureError):
        verify(SECRET, headers, body, now=NOW)


def test_every_bit_of_a_body_counts():
    for index in range(len(BODY) * 8):
        changed = bytearray(BODY)
        changed[index // 8] ^= 1 << index % 8
        with pytest.raises(WebhookSignatureError):
            verify(SECRET, signed(), bytes(changed), now=NOW)
