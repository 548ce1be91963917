"""Requests at fixed times, whatever becomes of the ones before, and what came back: the load of every swap test.

Version `1.0.N` answers `1000 N + x` to a row `x`, so that an answer tells which version gave it, and for which row:
neither versions nor requests may be mixed up within a batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Ask = Callable[[list[float]], Awaitable[tuple[str, list[float]]]]
"""Sends one request with these rows, and returns who answered what. Raises whatever goes wrong."""

ROWS = 1000


def answer_of(version: str, row: float) -> float:
    """What a version has to answer to a row."""
    return ROWS * float(version.rpartition(".")[2]) + row


@dataclass
class Seen:
    """What came back: answers by version, what failed, and answers that were not those of their version and rows."""

    versions: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were asked."""
        return self.versions.total() + len(self.failed)


@dataclass
class OpenLoop:
    """Sends `rate` requests a second, `burst` at a time, until `ending` is set."""

    ask: Ask
    rate: float
    burst: int = 4
    ending: bool = False
    seen: Seen = field(default_factory=Seen)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        start, sent = loop.time(), 0
        async with asyncio.TaskGroup() as tasks:
            while not self.ending:
                for number in range(sent, sent + self.burst):
                    tasks.create_task(self._send([float((number * 5 + i) % ROWS) for i in range(1 + number % 4)]))
                sent += self.burst
                await asyncio.sleep(max(0.0, start + sent / self.rate - loop.time()))

    async def _send(self, rows: list[float]) -> None:
        try:
            version, answers = await self.ask(rows)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not happen
            self.seen.failed.append(repr(error))
            return
        self.seen.versions[version] += 1
        if [round(answer) for answer in answers] != [answer_of(version, row) for row in rows]:
            self.seen.mixed.append(f"{version} answered {answers} to {rows}")
