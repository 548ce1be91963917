"""Frames: how records lie in a file, so that whatever becomes of the file, intact ones are found and damage is told.

A frame is a head of 28 bytes and its payload. The head has a marker that belongs to the file, the frame's number, the
length and the CRC-32 of the payload, and a CRC-32 of the head itself: a length is believed only when its head is
intact, so a damaged one costs one frame and no memory. The marker follows from the file's name, which is random and
which no client ever learns: nobody can send content that looks like a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO
from zlib import crc32

_FIELDS = struct.Struct("<8sQII")
_CHECK = struct.Struct("<I")
HEAD_BYTES = _FIELDS.size + _CHECK.size
MAX_PAYLOAD_BYTES = 64 * 2**20
_WINDOW_BYTES = 256 * 2**10


@dataclass(frozen=True)
class Frame:
    """An intact record.

    Args:
        number: Given by whoever wrote it; frames of one writer count up from 1.
        payload: The record.
        start: Where it begins in the file.
        end: Where the next one begins.
    """

    number: int
    payload: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Damage:
    """Bytes that are no frame.

    Args:
        start: Where they begin in the file.
        end: Where the next frame, or the file, begins or ends.
    """

    start: int
    end: int


def marker_of(name: str) -> bytes:
    """Return the marker of all frames in the file of this name."""
    return blake2b(name.encode(), digest_size=8, person=b"cf-frames").digest()


def pack_frame(marker: bytes, number: int, payload: bytes) -> bytes:
    """Return a record as bytes of a file.

    Raises:
        ValueError: The payload is longer than `MAX_PAYLOAD_BYTES`.

    Example:
        >>> len(pack_frame(marker_of("a"), 1, b"four"))
        32
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(payload)} bytes; a frame has at most {MAX_PAYLOAD_BYTES}")
    fields = _FIELDS.pack(marker, number, len(payload), crc32(payload))
    return b"".join((fields, _CHECK.pack(crc32(fields)), payload))


def read_frames(stream: BinaryIO, marker: bytes, start: int, end: int) -> Iterator[Frame | Damage]:
    """Yield everything between two places of a file, in order and without gaps: frames, and damage between them.

    Memory is bounded by the longest frame. Time is linear in the bytes, whatever they are.

    Args:
        stream: The file; nobody else may move its position meanwhile.
        marker: Of its frames.
        start: Where a frame begins, or where looking for one begins.
        end: What lies behind is not looked at.

    Raises:
        OSError: It cannot be read.

    Example:
        >>> from io import BytesIO
        >>> marker = marker_of("a")
        >>> content = b"garbage" + pack_frame(marker, 1, b"four") + b"torn"
        >>> [type(part).__name__ for part in read_frames(BytesIO(content), marker, 0, len(content))]
        ['Damage', 'Frame', 'Damage']
    """
    at = start
    damaged_from: int | None = None
    while at < end:
        found = _read_at(stream, marker, at, end)
        if isinstance(found, Frame):
            if damaged_from is not None:
                yield Damage(damaged_from, at)
            damaged_from = None
            yield found
            at = found.end
            continue
        if damaged_from is None:
            damaged_from = at
        # behind an intact head its length is true; otherwise the next frame may begin anywhere
        at = found if found is not None else _find(stream, marker, at + 1, end)
    if damaged_from is not None:
        yield Damage(damaged_from, end)


def _read_at(stream: BinaryIO, marker: bytes, at: int, end: int) -> Frame | int | None:
    """Return the frame that begins here, or where the one with a damaged payload ends, or None without any head."""
    stream.seek(at)
    head = stream.read(min(HEAD_BYTES, end - at))
    if not _is_head(head, marker):
        return None
    fields: tuple[bytes, int, int, int] = _FIELDS.unpack_from(head)
    _, number, length, checksum = fields
    behind = at + HEAD_BYTES + length
    if length > MAX_PAYLOAD_BYTES or behind > end:
        return end
    payload = stream.read(length)
    if len(payload) == length and crc32(payload) == checksum:
        return Frame(number, payload, at, behind)
    return behind


def _is_head(head: bytes, marker: bytes) -> bool:
    if len(head) < HEAD_BYTES or not head.startswith(marker):
        return False
    return bool(_CHECK.unpack_from(head, _FIELDS.size)[0] == crc32(head[: _FIELDS.size]))


def _find(stream: BinaryIO, marker: bytes, start: int, end: int) -> int:
    """Return where the next intact head is, or `end`."""
    at = start
    while at < end:
        stream.seek(at)
        window = stream.read(min(_WINDOW_BYTES + HEAD_BYTES, end - at))  # a head may begin in it and end behind
        place = window.find(marker)
        while place >= 0:
            if _is_head(window[place : place + HEAD_BYTES], marker):
                return at + place
            place = window.find(marker, place + 1)
        at += _WINDOW_BYTES
    return end
