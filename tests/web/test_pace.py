"""How slowly an upload may arrive."""

import asyncio
import itertools

import pytest

from crossfade.errors import UploadTooSlowError
from crossfade.web.pace import SLOWEST_BYTES_PER_SECOND, Pace


async def arriving(size, pause, count=None):
    """Yield pieces of `size` bytes, one after each pause, for ever or `count` times."""
    for _ in itertools.count() if count is None else range(count):
        await asyncio.sleep(pause)
        yield bytes(size)


async def pieces(pace, stream):
    """Read until the end, slower than it arrives."""
    sizes = []
    while (piece := await pace.next_piece(stream)) is not None:
        sizes.append(len(piece))
        await asyncio.sleep(0.02)
    return sizes


async def test_an_upload_ends():
    assert await pieces(Pace(1), arriving(5, 0, count=3)) == [5, 5, 5]


async def test_a_silent_upload_is_refused():
    with pytest.raises(UploadTooSlowError, match=str(SLOWEST_BYTES_PER_SECOND)):
        await Pace(0.05).next_piece(arriving(1, 60))


async def test_an_upload_that_drips_is_refused_although_it_moves():
    async with asyncio.timeout(10):
        with pytest.raises(UploadTooSlowError):
            await pieces(Pace(0.2), arriving(1, 0.01))


async def test_an_upload_at_the_lowest_rate_lasts_as_long_as_it_likes():
    size = SLOWEST_BYTES_PER_SECOND // 20
    assert len(await pieces(Pace(0.4), arriving(size, 0.02, count=60))) == 60


async def test_a_slow_reader_is_not_the_sender_s_fault():
    assert len(await pieces(Pace(0.1), arriving(1, 0, count=20))) == 20


async def test_bytes_earn_a_longer_pause_up_to_a_bound(monkeypatch):
    monkeypatch.setattr("crossfade.web.pace._FIRST_SECONDS", 0.1)

    async def stream():
        yield bytes(SLOWEST_BYTES_PER_SECOND * 3600)
        await asyncio.sleep(0.2)
        yield b"after a pause that was earned"
        await asyncio.sleep(60)
        yield b"never"

    pace, arriving = Pace(1.0), stream()
    assert await pace.next_piece(arriving)
    assert await pace.next_piece(arriving)
    async with asyncio.timeout(10):
        with pytest.raises(UploadTooSlowError):
            await pace.next_piece(arriving)
