from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from crossfade.errors import BodyTooLargeError, MalformedRequestError
from crossfade.web.compression import pack_body, unpack_body

BODY = b'{"inputs": []}' * 10


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(BODY, mtime=0)),
        (b"GZIP ", gzip.compress(BODY, mtime=0)),
        (b"x-gzip", gzip.compress(BODY, mtime=0)),
        (b"deflate", zlib.compress(BODY)),
        (b"identity", BODY),
        (b"", BODY),
    ],
)
def test_known_encodings_are_undone(encoding, packed):
    assert unpack_body(packed, encoding, 1000) == BODY


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"\xff"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(MalformedRequestError, match="gzip or deflate"):
        unpack_body(BODY, encoding, 1000)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"not compressed",
        gzip.compress(BODY, mtime=0)[:-1],
        gzip.compress(BODY, mtime=0)[:20],
        gzip.compress(BODY, mtime=0) + b"x",
        gzip.compress(BODY, mtime=0)[:-8] + bytes(8),
    ],
)
def test_damaged_bodies_are_refused(packed):
    with pytest.raises(MalformedRequestError):
        unpack_body(packed, b"gzip", 1000)


def test_the_limit_is_exact():
    packed = gzip.compress(bytes(1000))
    assert len(unpack_body(packed, b"gzip", 1000)) == 1000
    with pytest.raises(BodyTooLargeError):
        unpack_body(packed, b"gzip", 999)


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(bytes(32 * 2**20), 1)
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        unpack_body(bomb, b"gzip", 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("accepted", [b"gzip", b" GZIP"])
def test_a_client_that_names_one_coding_gets_it(accepted):
    packed, coding = pack_body(b"{}", accepted)
    assert coding == b"gzip"
    assert gzip.decompress(packed) == b"{}"
    packed, coding = pack_body(b"{}", b"deflate")
    assert coding == b"deflate"
    assert zlib.decompress(packed) == b"{}"


@pytest.mark.parametrize(
    ("accepted", "size", "expected"),
    [
        (b"gzip, deflate, br", 100, None),
        (b"gzip, deflate, br", 10_000, b"gzip"),
        (b"br;q=1.0, gzip;q=0.5", 10_000, b"gzip"),
        (b"br, gzip; q=0", 10_000, None),
        (b"gzip;q=0.0, br", 10_000, None),
        (b"br", 10_000, None),
        (b"*", 10_000, None),
        (b"", 10_000, None),
        (b"identity", 10_000, None),
    ],
)
def test_others_get_it_when_it_is_worth_the_time(accepted, size, expected):
    packed, coding = pack_body(bytes(size), accepted)
    assert coding == expected
    assert (gzip.decompress(packed) if coding else packed) == bytes(size)
