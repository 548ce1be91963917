"""What the frames of a ledger's journal hold: events, and what is needed to tell whether some are missing."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.ledger.events import Exposure, Outcome

MAX_EXPOSURES = 256
"""In one record: encoding so many takes a fraction of a millisecond, for which the event loop may have to wait."""


class Began(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first record of every segment.

    Args:
        written: Experiment -> exposures written to the segments before.
    """

    written: dict[str, int]


class Exposures(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Exposures, in the order in which they happened."""

    events: list[Exposure]


class Outcomes(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One batch of outcomes."""

    events: list[Outcome]


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The last record of a journal whose process came to an orderly end."""


Record = Began | Exposures | Outcomes | Ended


def _plain(value: object) -> object:
    """Turn a scalar of numpy, which is what models answer with, into a number of Python's."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"{type(value).__name__} cannot be recorded")
    return item()


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder(Record)
_loose_decoder = msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw]])
_KINDS: dict[int, Any] = {1: Exposure, 2: Outcome}


def encode_record(record: Record) -> bytes:
    """Return a record as the payload of a frame.

    Raises:
        TypeError, ValueError, OverflowError: It holds what cannot be written, such as a half of a surrogate pair.
    """
    return _encoder.encode(record)


def decode_record(payload: bytes) -> Record:
    """Return the record of a frame.

    Raises:
        msgspec.DecodeError: It is none.
    """
    try:
        record: Record = _decoder.decode(payload)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    return record


def salvage(payload: bytes) -> tuple[list[Exposure], list[Outcome], int]:
    """Return what can be read of a record that as a whole cannot: exposures, outcomes, and how many events cannot.

    Example:
        >>> salvage(b"garbage")
        ([], [], 1)
    """
    exposures: list[Exposure] = []
    outcomes: list[Outcome] = []
    try:
        kind, parts = _loose_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [], [], 1
    if kind not in _KINDS:
        return [], [], 1
    unread = 0
    for part in parts:
        try:
            event = msgspec.msgpack.decode(part, type=_KINDS[kind])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            unread += 1
        else:
            (exposures if kind == 1 else outcomes).append(event)
    return exposures, outcomes, unread
