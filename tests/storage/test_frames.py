import io
import itertools
import random
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.storage import frames
from crossfade.storage.frames import HEAD_BYTES, MAX_PAYLOAD_BYTES, Damage, Frame, marker_of, pack_frame, read_frames

MARKER = marker_of("a.log")
PAYLOADS = st.lists(st.binary(max_size=300), max_size=8)


def read(content: bytes, start: int = 0, marker: bytes = MARKER) -> list[Frame | Damage]:
    return list(read_frames(io.BytesIO(content), marker, start, len(content)))


def written(payloads: list[bytes]) -> bytes:
    return b"".join(pack_frame(MARKER, number, payload) for number, payload in enumerate(payloads, start=1))


def payloads(parts: list[Frame | Damage]) -> list[bytes]:
    return [part.payload for part in parts if isinstance(part, Frame)]


def check_whole(parts: list[Frame | Damage], size: int) -> None:
    """Parts lie one behind the other, from the beginning to the end, and damage is told once."""
    at = 0
    for part in parts:
        assert part.start == at
        assert part.end > part.start
        at = part.end
    assert at == size
    kinds = [type(part) for part in parts]
    assert (Damage, Damage) not in set(itertools.pairwise(kinds))


@given(PAYLOADS)
def test_what_is_written_is_read(given_payloads):
    content = written(given_payloads)
    parts = read(content)
    assert payloads(parts) == given_payloads
    assert [part.number for part in parts] == list(range(1, len(given_payloads) + 1))
    check_whole(parts, len(content))


@given(PAYLOADS, st.data())
def test_a_torn_end_costs_only_what_it_tears(given_payloads, data):
    content = written(given_payloads)
    cut = data.draw(st.integers(0, len(content)))
    parts = read(content[:cut])
    whole = [part for part in read(content) if part.end <= cut]
    assert [part for part in parts if isinstance(part, Frame)] == whole
    check_whole(parts, cut)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8), st.data())
def test_a_flipped_bit_costs_one_frame(given_payloads, data):
    content = bytearray(written(given_payloads))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    parts = read(bytes(content))
    check_whole(parts, len(content))
    left = payloads(parts)
    assert len(left) == len(given_payloads) - 1
    hit = next(index for index, part in enumerate(read(written(given_payloads))) if part.end > place)
    assert left == given_payloads[:hit] + given_payloads[hit + 1 :]


@given(PAYLOADS, st.binary(max_size=200), PAYLOADS)
def test_garbage_between_frames_is_skipped(before, garbage, after):
    content = written(before) + garbage + written(after)
    parts = read(content)
    assert payloads(parts) == before + after
    check_whole(parts, len(content))


@given(st.binary(max_size=2_000), st.integers(0, 2_000))
def test_anything_can_be_read_from_anywhere(content, start):
    for part in read(content, min(start, len(content))):
        assert isinstance(part, Damage)


def test_a_frame_that_a_client_sends_in_a_frame_is_content():
    theirs = pack_frame(marker_of("b.log"), 1, b"evil")
    content = written([theirs, b"next"])
    broken = bytearray(content)
    broken[3] ^= 1  # the outer head is lost, so its content is looked through
    assert payloads(read(bytes(broken))) == [b"next"]


def test_a_frame_belongs_to_its_file():
    assert payloads(read(written([b"x"]), marker=marker_of("c.log"))) == []


def head(length: int) -> bytes:
    fields = struct.pack("<8sQII", MARKER, 1, length, 0)
    return fields + struct.pack("<I", crc32(fields))


@pytest.mark.parametrize("length", [1, 2**31, 2**32 - 1, MAX_PAYLOAD_BYTES + 1])
def test_a_length_beyond_the_file_is_damage_and_reads_nothing(length):
    parts = read(head(length))
    assert parts == [Damage(0, HEAD_BYTES)]


def test_behind_an_intact_head_the_next_frame_is_where_it_says():
    """Even when the damaged payload holds what looks like a frame: it is content."""
    inner = pack_frame(MARKER, 7, b"content")
    content = bytearray(written([inner + b"tail", b"next"]))
    content[HEAD_BYTES + len(inner) + 1] ^= 1
    assert payloads(read(bytes(content))) == [b"next"]


def test_heads_across_the_edge_of_a_window_are_found(monkeypatch):
    monkeypatch.setattr(frames, "_WINDOW_BYTES", 64)
    for offset in range(1, 140):
        content = b"\xff" * offset + written([b"first", b"second"])
        assert payloads(read(content)) == [b"first", b"second"], offset


def test_a_file_full_of_markers_is_read_once(monkeypatch):
    stream = io.BytesIO(MARKER * 100_000)
    reads = []
    original = stream.read
    monkeypatch.setattr(frames, "_WINDOW_BYTES", 2**16)

    class Counting(io.BytesIO):
        def read(self, size=-1):
            reads.append(size)
            return original(size)

        def seek(self, place, whence=0):
            return stream.seek(place, whence)

    assert list(read_frames(Counting(), MARKER, 0, 800_000)) == [Damage(0, 800_000)]
    assert sum(reads) < 2 * 800_000


def test_a_file_that_is_shorter_than_was_said_is_damage():
    content = written([b"whole", b"cut"])
    parts = list(read_frames(io.BytesIO(content[:-1]), MARKER, 0, len(content)))
    assert payloads(parts) == [b"whole"]
    assert isinstance(parts[-1], Damage)


def test_too_long_a_record_is_refused(monkeypatch):
    monkeypatch.setattr(frames, "MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10"):
        pack_frame(MARKER, 1, bytes(11))


def test_markers_differ():
    names = [f"{random.random()}.log" for _ in range(1_000)]
    assert len({marker_of(name) for name in names}) == len(names)
    assert marker_of("a.log") == MARKER
