"""Callers that send too much, too slowly, or nothing."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from tests.web.grpc.calls import call, grpc, infer_request, pb, refused
from tests.web.grpc.conftest import LIMIT

METHOD = "/inference.GRPCInferenceService/ModelInfer"


async def still_answers(channel):
    assert (await call(channel, "ModelInfer", infer_request())).model_version == "1.2.0"


async def test_a_message_that_is_too_large(channel):
    error = await refused(call(channel, "ModelInfer", b"\0" * (LIMIT + 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await still_answers(channel)


async def test_a_message_that_unpacks_to_too_much(channel):
    packed = call(channel, "ModelInfer", b"\0" * (500 * LIMIT), compression=grpc.Compression.Gzip)
    assert (await refused(packed)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await still_answers(channel)


async def test_too_many_rows(channel):
    request = pb.ModelInferRequest(model_name="echo_int8", raw_input_contents=[b"\0" * 51])
    request.inputs.add(name="x", datatype="INT8", shape=[51, 1])
    error = await refused(call(channel, "ModelInfer", request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "51 rows, at most 50" in error.details()


async def test_headers_that_are_too_large(channel):
    error = await refused(call(channel, "ModelInfer", infer_request(), metadata=(("x", "y" * 100_000),)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await still_answers(channel)


async def test_a_call_without_a_message(channel):
    error = await refused(channel.stream_unary(METHOD)(iter(())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "without a message" in error.details()


async def test_a_second_message_is_not_looked_at(channel):
    first = infer_request().SerializeToString()
    answer = await channel.stream_unary(METHOD)(iter((first, b"\xff")))
    assert pb.ModelInferResponse.FromString(answer).model_name == "lr"


def slowly(channel, seconds):
    async def messages():
        await asyncio.sleep(seconds)
        yield infer_request().SerializeToString()

    return channel.stream_unary(METHOD)(messages())


async def test_a_message_that_takes_its_time_is_answered(channel):
    answer = await slowly(channel, 0.3)
    assert pb.ModelInferResponse.FromString(answer).model_name == "lr"


async def test_a_message_that_takes_too_long(channel):
    error = await refused(slowly(channel, 30))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "within 1.0 seconds" in error.details()
    await still_answers(channel)


async def test_only_so_many_may_be_slow_and_the_quick_are_answered(channel):
    calls = [refused(slowly(channel, 30)) for _ in range(5)]
    waiting = asyncio.gather(*calls)
    for _ in range(10):
        await still_answers(channel)
    codes = sorted(error.code().name for error in await waiting)
    assert codes == ["DEADLINE_EXCEEDED"] * 3 + ["UNAVAILABLE"] * 2, "three bodies of the largest size fit"
    await still_answers(channel)


async def test_large_messages_count_with_the_bodies_of_http(channel, bodies):
    request = pb.ModelInferRequest(model_name="echo_fp64", raw_input_contents=[np.zeros(15_000).tobytes()])
    request.inputs.add(name="x", datatype="FP64", shape=[1, 15_000])
    bodies.grow(0, bodies.limit_bytes - 100_000)
    error = await refused(call(channel, "ModelInfer", request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(error.trailing_metadata())["crossfade-code"] == "bodies_busy"
    await still_answers(channel)
    bodies.release(bodies.limit_bytes - 100_000)
    assert (await call(channel, "ModelInfer", request)).outputs[0].shape == [1, 15_000]


async def test_callers_that_hang_up(channel, server, bodies):
    calls = [call(channel, "ModelInfer", infer_request()) for _ in range(20)]
    await asyncio.sleep(0)
    for waiting in calls:
        waiting.cancel()
    for waiting in calls:
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await still_answers(channel)
    assert bodies.held_bytes == 0


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 4096, b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 9000],
)
async def test_what_is_no_grpc_at_all(channel, server, noise):
    host, port = server.split(":")

    def send():
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            try:
                connection.sendall(noise)
                while connection.recv(4096):
                    pass
            except OSError:
                pass

    sending = asyncio.create_task(asyncio.to_thread(send))
    await still_answers(channel)
    await sending
    await still_answers(channel)


async def test_many_callers_at_once(server):
    async def caller():
        async with grpc.aio.insecure_channel(server, options=(("grpc.use_local_subchannel_pool", 1),)) as own:
            for _ in range(5):
                await still_answers(own)

    await asyncio.gather(*(caller() for _ in range(20)))


# --- half a message ---


def frame(kind, flags, stream, payload=b""):
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header as HPACK writes it without its tables."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def half_a_message(promised, sent):
    """The bytes of a call whose message is announced with one size and goes no further than another."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", METHOD.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    head = frame(1, 4, 1, b"".join(literal(*header) for header in headers))
    data = b"\0" + promised.to_bytes(4, "big") + b"\0" * sent
    pieces = [frame(0, 0, 1, data[start : start + 16_000]) for start in range(0, len(data), 16_000)]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + head + b"".join(pieces)


async def test_half_messages_are_given_up_on(channel, server, bodies):
    host, port = server.split(":")

    async def send(promised, sent):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(half_a_message(promised, sent))
        received = b""
        async with asyncio.timeout(20):
            while b"grpc-status" not in received and (piece := await reader.read(65536)):
                received += piece
        writer.close()
        return received

    answers = asyncio.gather(*(send(LIMIT - 10, 60_000) for _ in range(6)), send(2**32 - 1, 100))
    await still_answers(channel)
    for received in await answers:
        assert b"grpc-status" in received, "the call was ended by the server"
    await still_answers(channel)
    assert bodies.held_bytes == 0
