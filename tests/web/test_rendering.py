"""Text is rendered once for all who ask meanwhile, and nobody gets what is older than the question."""

import asyncio
import threading
import time

import pytest

from crossfade.web import rendering as module
from crossfade.web.rendering import Rendering


class Renderer:
    """Renders as slowly as it is told; what it returns is which rendering that was."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.began = 0
        self.at_once = 0
        self.most_at_once = 0
        self.going = threading.Event()

    def __call__(self):
        self.began += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.going.set()
        time.sleep(self.seconds)
        self.at_once -= 1
        return b"%d" % self.began


async def test_all_who_ask_at_once_share_one():
    renderer = Renderer()
    rendering = Rendering(renderer)
    assert await asyncio.gather(*(rendering() for _ in range(50))) == [b"1"] * 50
    assert await rendering() == b"2"


async def test_who_asks_while_one_is_made_gets_the_next_one():
    renderer = Renderer(0.05)
    rendering = Rendering(renderer)
    first = asyncio.create_task(rendering())
    await asyncio.to_thread(renderer.going.wait)
    later = [asyncio.create_task(rendering()) for _ in range(20)]
    assert (await first, set(await asyncio.gather(*later))) == (b"1", {b"2"})
    assert renderer.most_at_once == 1


async def test_it_rests_in_between():
    renderer = Renderer(0.01)
    rendering = Rendering(renderer)
    began, rounds = time.monotonic(), 4
    for _ in range(rounds):
        await rendering()
    assert time.monotonic() - began >= 0.01 * (rounds + module.REST * (rounds - 1))


async def test_one_who_leaves_takes_it_from_nobody():
    renderer = Renderer(0.05)
    rendering = Rendering(renderer)
    leaving, staying = asyncio.create_task(rendering()), asyncio.create_task(rendering())
    await asyncio.to_thread(renderer.going.wait)
    leaving.cancel()
    assert await staying == b"1"
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_what_fails_is_told_to_all_and_tried_anew():
    results = [ZeroDivisionError("a bug"), b"fine"]

    def render():
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    rendering = Rendering(render)
    told = await asyncio.gather(rendering(), rendering(), return_exceptions=True)
    assert [type(each) for each in told] == [ZeroDivisionError] * 2
    assert await rendering() == b"fine"
