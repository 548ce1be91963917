"""The transport that calls an application in this process."""

import subprocess
import sys
import threading

import httpx
import pytest

from crossfade.web.inprocess import InProcessTransport


def client_of(app):
    return httpx.Client(transport=InProcessTransport(app), base_url="http://localhost:1234")


async def echo(scope, receive, send):
    assert scope["type"] == "http"
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    await send({"type": "http.response.body", "body": scope["query_string"] + b"|" + body})


def test_requests_arrive_as_they_were_sent():
    with client_of(echo) as client:
        answer = client.post("/a%2Fb?x=1", content=b"hello")
    assert (answer.content, answer.headers["x-path"]) == (b"x=1|hello", "/a%2Fb")


def test_bodies_stream_both_ways_piece_by_piece():
    produced, seen_at = [], []

    def pieces():
        for number in range(50):
            produced.append(number)
            yield b"%02d" % number

    async def answer_at_once(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            seen_at.append(len(produced))
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    with client_of(answer_at_once) as client, client.stream("POST", "/", content=pieces()) as answer:
        received = answer.iter_raw()
        assert next(received) == b"00"
        assert len(produced) < 10, "the application runs only a little ahead of the reader"
        assert b"".join(received) == b"".join(b"%02d" % number for number in range(1, 50))
    assert seen_at == sorted(seen_at)


def test_a_fault_of_the_application_reaches_the_caller():
    async def broken(scope, receive, send):
        raise ValueError("a bug")

    with client_of(broken) as client, pytest.raises(ValueError, match="a bug"):
        client.get("/")


def test_a_fault_after_the_answer_began_reaches_the_reader():
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("late")

    with client_of(broken) as client, pytest.raises(ValueError, match="late"):
        client.get("/")


def test_a_fault_while_producing_the_body_reaches_the_caller():
    def pieces():
        yield b"x"
        raise OSError("disk")

    with client_of(echo) as client, pytest.raises(OSError, match="disk"):
        client.post("/", content=pieces())


def test_a_reader_who_leaves_ends_the_application():
    ended = threading.Event()

    async def endless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        finally:
            ended.set()

    with client_of(endless) as client:
        with client.stream("GET", "/") as answer:
            next(answer.iter_raw())
        assert ended.wait(5)


def test_after_the_request_the_application_hears_of_the_end():
    heard = []

    async def waiting(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        heard.append((await receive())["type"])

    with client_of(waiting) as client:
        with client.stream("GET", "/") as answer:
            next(answer.iter_raw())
        client.close()
    assert heard == ["http.disconnect"]


def test_requests_from_several_threads_are_answered():
    with client_of(echo) as client:
        answers = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(client.post("/", content=b"%d" % n).content))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == sorted(b"|%d" % n for n in range(8))


def test_one_that_nobody_closed_does_not_keep_the_program_alive():
    code = """
import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from crossfade.web.inprocess import InProcessTransport

app = FastAPI()

@app.get("/")
def show():  # on a worker thread
    return 1

@app.get("/endless")
async def endless():
    async def pieces():
        while True:
            yield b"x"
    return StreamingResponse(pieces())

first, second = (httpx.Client(transport=InProcessTransport(app), base_url="http://localhost") for _ in range(2))
print(first.get("/").json())
print(second.send(second.build_request("GET", "/endless"), stream=True).status_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n200\n", "")


def test_after_closing_it_begins_anew():
    transport = InProcessTransport(echo)
    for _ in range(2):
        transport.close()
        assert transport.handle_request(httpx.Request("GET", "http://localhost/?a")).read() == b"a|"
    transport.close()
