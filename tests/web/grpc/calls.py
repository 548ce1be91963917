"""What the tests of the gRPC service share: calls with another implementation's messages, and refusals."""

from __future__ import annotations

import pytest

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")


def call(channel, method, request=None, **options):
    """Call a method with the other implementation's messages."""
    answer = getattr(pb, f"{method}Response")
    stub = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return stub(getattr(pb, f"{method}Request")() if request is None else request, **options)


async def refused(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


def infer_request(model="lr", version="", **fields):
    request = pb.ModelInferRequest(model_name=model, model_version=version, **fields)
    request.inputs.add(name="x", datatype="FP64", shape=[1, 30]).contents.fp64_contents.extend([0.5] * 30)
    return request
