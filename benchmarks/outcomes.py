"""What events cost: durable outcomes beside bare `fdatasync` of the same bytes, acknowledgements, taking exposures."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from benchmarks.harness import Result, cpu_seconds, crossfade_server
from benchmarks.load import http_request, quantile
from crossfade.core.identity import new_id
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.ledger import Ledger, now_us
from crossfade.ledger.validation import encode_outcomes
from crossfade.settings import LedgerSettings
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate

BATCH, BATCHES, AT_ONCE = 1_000, 200, 4
RATE, RATE_SECONDS, SMALL_BATCH = 5_000, 5.0, 10
EXPOSURES = 100_000
GOAL_US = 20.0
"""For a durable outcome: 50,000 a second."""
GOAL_P99_MS = 50.0
GOAL_EXPOSE_US = 3.0
NEVER = 3600.0


def batches(count: int, size: int) -> list[list[Outcome]]:
    return [[Outcome(new_id(), now_us(), "late", 1.0, new_id()) for _ in range(size)] for _ in range(count)]


def body_of(batch: list[Outcome]) -> bytes:
    rows = [{"id": each.id, "name": each.name, "value": each.value, "decision": each.decision} for each in batch]
    return msgspec.json.encode({"outcomes": rows})


def bare_fsync(folder: Path, made: list[list[Outcome]]) -> float:
    """Microseconds for each outcome when the same bytes are written and synchronised, one batch at a time."""
    payloads = [encode_outcomes(batch, now_us(), 400) for batch in made]
    handle = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    started = time.perf_counter()
    for payload in payloads:
        os.write(handle, payload)
        os.fdatasync(handle)
    seconds = time.perf_counter() - started
    os.close(handle)
    return seconds / sum(map(len, made)) * 1e6


def opened(folder: Path, name: str, *, ships: bool) -> Ledger:
    database = open_database(f"sqlite:///{folder / name}.db")
    migrate(database)
    ledger = Ledger(database, LedgerSettings(poll_seconds=0.5 if ships else NEVER), folder / name)
    ledger.start()
    return ledger


async def record_all(ledger: Ledger, made: list[list[Outcome]]) -> float:
    waiting = iter(made)

    async def work() -> None:
        for batch in waiting:
            await ledger.record_async(batch)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


def in_process(folder: Path) -> Iterator[Result]:
    made = batches(BATCHES, BATCH)
    baseline = bare_fsync(folder, made)
    for name, ships in (("outcomes_durable", False), ("outcomes_durable_while_shipping", True)):
        ledger = opened(folder, name, ships=ships)
        seconds = uvloop.run(record_all(ledger, batches(BATCHES, BATCH)))
        value = seconds / (BATCHES * BATCH) * 1e6
        yield Result(name, value, "us each", goal=GOAL_US)
        yield Result(f"{name}_beside_fsync", value, "us each", baseline)
        if ships:
            started = time.perf_counter()
            ledger.flush(120)
            yield Result("outcomes_shipped_after", time.perf_counter() - started, "s")
        ledger.close()


class Idle:
    """In the place of a ledger: what is measured then is the machine and the event loop."""

    async def record_async(self, _outcomes: list[Outcome]) -> None:
        await asyncio.sleep(0.001)


async def acknowledge(ledger: Ledger | Idle) -> list[float]:
    """Milliseconds until single outcomes are acknowledged that come at random moments."""
    loop, chance, waits = asyncio.get_running_loop(), random.Random(1), []

    async def one(due: float) -> None:
        await ledger.record_async([Outcome(new_id(), now_us(), "late", 1.0, "d")])
        waits.append((loop.time() - due) * 1e3)

    due, tasks = loop.time(), set()
    end = due + RATE_SECONDS
    while due < end:
        due += chance.expovariate(RATE)
        if (pause := due - loop.time()) > 0.0005:
            await asyncio.sleep(pause)
        tasks.add(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return waits


def acknowledgements(folder: Path) -> Iterator[Result]:
    idle = uvloop.run(acknowledge(Idle()))
    ledger = opened(folder, "acks", ships=True)
    waits = uvloop.run(acknowledge(ledger))
    ledger.close()
    p99 = quantile(waits, 0.99)
    yield Result("outcome_ack_p50_at_5000_a_second", statistics.median(waits), "ms", statistics.median(idle))
    yield Result("outcome_ack_p99_at_5000_a_second", p99, "ms", goal=GOAL_P99_MS)
    yield Result("outcome_ack_p99_beside_an_idle_loop", p99, "ms", quantile(idle, 0.99))


def exposures(folder: Path) -> Iterator[Result]:
    made = [
        Exposure(new_id(), now_us(), "late", 1, "control", f"u{number}", 0.5, "m", "1.0.0", 0.3, 0.001)
        for number in range(EXPOSURES)
    ]
    ledger = opened(folder, "exposures", ships=False)
    ledger._feed._max_waiting = EXPOSURES
    time.sleep(0.1)
    before, started = time.process_time(), time.thread_time()
    for event in made:
        ledger.expose(event)
    caller = time.thread_time() - started
    while ledger._feed.waits():
        time.sleep(0.01)
    written = time.process_time() - before
    yield Result("expose_on_the_event_loop", caller / EXPOSURES * 1e6, "us", goal=GOAL_EXPOSE_US)
    yield Result("expose_with_encoding_and_writing", written / EXPOSURES * 1e6, "us of CPU")
    before, started = time.process_time(), time.perf_counter()
    ledger.close()
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    yield Result("ship_to_sqlite", seconds / EXPOSURES * 1e6, "us each")
    yield Result("ship_to_sqlite_cpu", cpu / EXPOSURES * 1e6, "us of CPU")


async def send_all(port: int, requests: list[bytes], at_once: int) -> float:
    waiting = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            await read_answer(reader)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - started


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    await reader.readexactly(length)


async def send_paced(port: int, requests: list[bytes], rate: float) -> list[float]:
    """Milliseconds until requests that are due at random moments are answered."""
    loop, chance, waits = asyncio.get_running_loop(), random.Random(2), []
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(request: bytes, due: float) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await read_answer(reader)
        waits.append((loop.time() - due) * 1e3)
        idle.append((reader, writer))

    due, tasks = loop.time(), set()
    for request in requests:
        due += chance.expovariate(rate)
        if (pause := due - loop.time()) > 0.0005:
            await asyncio.sleep(pause)
        tasks.add(asyncio.create_task(one(request, due)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return waits


def over_http(folder: Path) -> Iterator[Result]:
    path = "/api/v1/outcomes"
    with crossfade_server(folder / "home") as (port, pid):
        large = [http_request(port, path, body_of(batch)) for batch in batches(BATCHES, BATCH)]
        baseline = bare_fsync(folder, batches(BATCHES, BATCH))
        before = cpu_seconds(pid)
        seconds = uvloop.run(send_all(port, large, AT_ONCE))
        value = seconds / (BATCHES * BATCH) * 1e6
        yield Result("outcomes_over_http", value, "us each", goal=GOAL_US)
        yield Result("outcomes_over_http_beside_fsync", value, "us each", baseline)
        yield Result("outcomes_over_http_cpu", (cpu_seconds(pid) - before) / (BATCHES * BATCH) * 1e6, "us of CPU")
        time.sleep(2)
        count = int(RATE * RATE_SECONDS / SMALL_BATCH)
        small = [http_request(port, path, body_of(batch)) for batch in batches(count, SMALL_BATCH)]
        waits = uvloop.run(send_paced(port, small, RATE / SMALL_BATCH))
        yield Result("outcomes_over_http_p50_at_5000_a_second", statistics.median(waits), "ms")
        yield Result("outcomes_over_http_p99_at_5000_a_second", quantile(waits, 0.99), "ms", goal=GOAL_P99_MS)


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from in_process(folder)
        yield from acknowledgements(folder)
        yield from exposures(folder)
        yield from over_http(folder)
