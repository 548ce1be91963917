"""The load generator, against servers that answer what a test wants."""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest

from benchmarks.load import http_request, quantile, run_load, run_paced

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def answering(answer, pause=0.0):
    """A server that gives the same answer, in two pieces, to whatever ends with `}`; with none, it hangs up."""

    async def talk(reader, writer):
        while await reader.readuntil(b"}"):
            await asyncio.sleep(pause)
            if not answer:
                break
            writer.write(answer[:-1])
            await asyncio.sleep(0)
            writer.write(answer[-1:])
        writer.close()

    async def serve():
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            await ending.wait()

    ports, started = [], threading.Event()
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    loop.set_exception_handler(lambda *_: None)  # clients that hang up
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED], ids=["whole", "chunked"])
@pytest.mark.parametrize("paced", [False, True], ids=["closed", "open"])
def test_every_answer_is_counted_once(answer, paced):
    with answering(answer) as port:
        request = http_request(port, "/", b"{}")
        if paced:
            load = run_paced(port, request, rate=200, connections=4, seconds=0.5)
        else:
            load = run_load(port, request, connections=4, seconds=0.2)
    assert load.errors == 0
    assert load.requests == len(load.due) == len(load.latencies) > 10
    assert min(load.latencies) > 0


def test_several_requests_take_turns():
    heard = []

    async def talk(reader, writer):
        while request := await reader.readuntil(b"}"):
            heard.append(request[-2:])
            writer.write(WHOLE)

    async def serve():
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            requests = [http_request(port, "/", b"%d}" % number) for number in range(3)]
            return await asyncio.to_thread(run_load, port, *requests, connections=2, seconds=0.1)

    load = asyncio.run(serve())
    assert load.requests == len(heard)
    counts = [heard.count(b"%d}" % number) for number in range(3)]
    assert max(counts) - min(counts) <= 1


def test_an_open_loop_sends_what_is_due_and_counts_from_then():
    with answering(WHOLE, pause=0.05) as port:
        load = run_paced(port, http_request(port, "/", b"{}"), rate=100, connections=1, seconds=0.5)
    assert 20 < load.requests < 100  # of 50 expected, whatever the server manages
    assert load.quantile(0.9) > 3 * 0.05  # the one connection serves 20 a second: the others have waited
    assert load.seconds > load.requests * 0.05


def test_refusals_and_hanging_up_are_errors():
    with answering(REFUSED) as port:
        load = run_load(port, http_request(port, "/", b"{}"), connections=2, seconds=0.1)
        assert load.errors == load.requests > 0
    with answering(b"") as port:
        for load in (
            run_load(port, http_request(port, "/", b"{}"), connections=2, seconds=0.1),
            run_paced(port, http_request(port, "/", b"{}"), rate=100, connections=2, seconds=0.2),
        ):
            assert load.errors == 2
            assert load.requests == len(load.due) == 0


def test_latencies_belong_to_the_moments_they_were_due():
    before = time.perf_counter()
    with answering(WHOLE) as port:
        load = run_load(port, http_request(port, "/", b"{}"), connections=3, seconds=0.1)
    answered = [due + latency for due, latency in zip(load.due, load.latencies, strict=True)]
    assert before < min(load.due)
    assert max(answered) < time.perf_counter()


def test_quantiles():
    values = [float(number) for number in range(1, 1001)]
    assert quantile(values, 0.5) == pytest.approx(500, abs=1)
    assert quantile(values, 0.99) == pytest.approx(990, abs=1)
