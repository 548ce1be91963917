"""The gRPC service as tritonclient sees it, and its refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import crossfade
from crossfade.core.tensors import DTYPES
from crossfade.errors import (
    CrossfadeError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExceededError,
    RemoteControlError,
    UnavailableError,
)
from crossfade.serving.waiting import Priority
from crossfade.web.grpc_server import parse_peer
from tests.web.grpc.calls import call, grpc, infer_request, pb, refused

triton = pytest.importorskip("tritonclient.grpc.aio")
from tritonclient.grpc import InferInput, InferRequestedOutput  # noqa: E402
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402


@pytest.fixture
async def client(server):
    async with triton.InferenceServerClient(server) as client:
        yield client


def tensor(array, name="x"):
    item = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    item.set_data_from_numpy(array)
    return item


ROW = np.full((1, 30), 0.5)


# --- what tritonclient asks ---


async def test_health(client, predictions):
    assert await client.is_server_live()
    assert await client.is_server_ready()
    predictions.draining = True
    assert not await client.is_server_ready()
    assert await client.is_server_live()


async def test_server_metadata(client):
    metadata = await client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("crossfade", crossfade.__version__)
    assert "model_repository" in metadata.extensions


async def test_model_metadata(client):
    metadata = await client.get_model_metadata("lr", "1.2.0")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("lr", ["1.2.0"], "sklearn")
    assert [(item.name, item.datatype, list(item.shape)) for item in metadata.outputs] == [
        ("predict", "INT64", [-1]),
        ("predict_proba", "FP64", [-1, 2]),
    ]


async def test_model_configuration(client):
    config = (await client.get_model_config("people")).config
    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("people", "onnx", "crossfade", 50)
    assert [(item.name, item.data_type, list(item.dims)) for item in config.input] == [
        ("age", 12, [1]),
        ("city", 13, [1]),
    ]
    assert config.input[0].HasField("reshape")


async def test_statistics(client):
    for _ in range(3):
        await client.infer("lr", [tensor(np.ones((2, 30)))])
    (entry,) = (await client.get_inference_statistics("lr")).model_stats
    assert (entry.name, entry.version, entry.inference_count, entry.execution_count) == ("lr", "1.2.0", 6, 3)
    assert entry.inference_stats.success.count == 3
    assert entry.inference_stats.success.ns > 0
    assert entry.last_inference > 0
    assert [batch.batch_size for batch in entry.batch_stats] == [2]
    assert len((await client.get_inference_statistics()).model_stats) > 5


async def test_the_repository(client):
    assert await client.is_model_ready("lr")
    await client.unload_model("lr")
    assert not await client.is_model_ready("lr")
    index = {model.name: model for model in (await client.get_model_repository_index()).models}
    assert (index["lr"].state, index["lr"].reason) == ("UNAVAILABLE", "unloaded")
    assert index["people"].state == "READY"
    with pytest.raises(InferenceServerException, match="not ready"):
        await client.get_model_metadata("lr")
    await client.load_model("lr")
    assert await client.is_model_ready("lr")


async def test_ready_models_only(channel, predictions):
    predictions.models["lr"].ready = False
    index = await call(channel, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    assert "lr" not in {model.name for model in index.models}


async def test_the_example_of_the_reference(server):
    page = (Path(__file__).parents[3] / "docs" / "reference" / "grpc.md").read_text()
    code = page.split("```")[1].replace("127.0.0.1:8001", server).replace("churn@champion", "lr@champion")
    found = {}
    await asyncio.to_thread(exec, f"{code}\nanswer = _".replace("client.infer", "_ = client.infer"), found)
    assert found["answer"].tolist() == [0]
    found["client"].close()


async def test_an_inference(client):
    answer = await client.infer("lr", [tensor(ROW)], request_id="42")
    response = answer.get_response()
    assert (response.model_name, response.model_version, response.id) == ("lr", "1.2.0", "42")
    assert not response.parameters
    assert answer.as_numpy("predict").tolist() == [1]
    assert answer.as_numpy("predict_proba").shape == (1, 2)


async def test_wanted_outputs(client):
    answer = await client.infer("lr", [tensor(ROW)], outputs=[InferRequestedOutput("predict_proba")])
    assert answer.as_numpy("predict") is None
    assert answer.as_numpy("predict_proba").shape == (1, 2)


async def test_an_unknown_output_is_called_an_output(channel):
    request = infer_request()
    request.outputs.add(name="zzz")
    error = await refused(call(channel, "ModelInfer", request))
    assert "output `zzz`: expected one of the outputs predict, predict_proba" in error.details()


@pytest.mark.parametrize("datatype", DTYPES)
async def test_every_datatype_comes_back(client, datatype):
    random, dtype = np.random.default_rng(7), DTYPES[datatype]
    for shape in ((1, 1), (3, 5), (4, 0)):
        if datatype == "BYTES":
            array = np.array([["ü"] * shape[1]] * shape[0], dtype=object).reshape(shape)
        else:
            array = random.integers(0, 2, shape).astype(dtype)
        answer = (await client.infer(f"echo_{datatype.lower()}", [tensor(array)])).as_numpy("y")
        assert answer.shape == shape
        if datatype == "BYTES":
            assert [item.decode() for item in answer.ravel()] == array.ravel().tolist()
        else:
            np.testing.assert_array_equal(answer, array)
            assert answer.dtype == dtype


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_messages(client, algorithm):
    answer = await client.infer("lr", [tensor(ROW)], compression_algorithm=algorithm)
    assert answer.as_numpy("predict").tolist() == [1]


async def test_typed_contents_are_answered_typed(channel):
    answer = await call(channel, "ModelInfer", infer_request())
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.int64_contents) == [1]
    assert len(answer.outputs[1].contents.fp64_contents) == 2


async def test_columns(channel):
    request = pb.ModelInferRequest(model_name="people")
    request.inputs.add(name="age", datatype="FP64", shape=[2]).contents.fp64_contents.extend([1.0, float("nan")])
    request.inputs.add(name="city", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        [b"Bonn", "Köln".encode()]
    )
    answer = await call(channel, "ModelInfer", request)
    assert list(answer.outputs[0].contents.bytes_contents) == [b"Bonn!", "Köln!".encode()]


async def test_a_fallback_is_said(channel):
    answer = await call(channel, "ModelInfer", infer_request("lr@fallback"))
    assert answer.parameters["fallback"].bool_param is True


@pytest.mark.parametrize(
    ("model", "version"), [("lr@champion", ""), ("lr:1.2.0", ""), ("lr", "1.2.0"), ("lr", "v1.2.0")]
)
async def test_every_spelling_of_a_version(channel, model, version):
    assert (await call(channel, "ModelInfer", infer_request(model, version))).model_version == "1.2.0"


# --- terms ---


async def test_a_deadline_is_carried(channel, predictions):
    await call(channel, "ModelInfer", infer_request())
    await call(channel, "ModelInfer", infer_request(), timeout=20)
    await call(channel, "ModelInfer", infer_request(), timeout=20, metadata=(("x-request-timeout-ms", "500"),))
    await call(channel, "ModelInfer", infer_request(), timeout=90_000)
    none, carried, shorter, longest = [terms.timeout_seconds for terms in predictions.terms]
    assert none is None
    assert 19 < carried < 21, "gRPC rounds it on the way"
    assert shorter == 0.5
    assert longest == 3600


async def test_a_priority_is_carried(channel, predictions):
    await call(channel, "ModelInfer", infer_request(), metadata=(("x-request-priority", "batch"),))
    assert predictions.terms[0].priority is Priority.BATCH
    error = await refused(call(channel, "ModelInfer", infer_request(), metadata=(("x-request-priority", "vip"),)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "X-Request-Priority" in error.details()


async def test_a_trace_arrives_with_and_without_a_deadline(client, predictions):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    for timeout in (None, 10.0):
        await client.infer("lr", [tensor(ROW)], headers=headers, client_timeout=timeout)
    answer = await client.infer("lr", [tensor(ROW)], request_id="mine", headers=headers)
    assert [terms.trace.trace_id for terms in predictions.terms] == [trace] * 3
    assert predictions.request_ids == [trace, trace, "mine"]
    assert answer.get_response().id == "mine"


async def test_a_call_whose_deadline_passes_is_let_go(channel, predictions):
    left = asyncio.Event()

    async def hold(_ref, _terms, _asker):
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    predictions.hold = hold
    error = await refused(call(channel, "ModelInfer", infer_request(), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(left.wait(), 10)


# --- refusals ---


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (infer_request("nope"), "NOT_FOUND", "model `nope` is not registered (list models"),
        (infer_request("lr", "9.9.9"), "NOT_FOUND", "lr:9.9.9"),
        (infer_request("../lr"), "INVALID_ARGUMENT", "not a model reference"),
        (infer_request("x" * 50_000), "INVALID_ARGUMENT", "not a model reference"),
        (infer_request("lr", "a b"), "INVALID_ARGUMENT", "lr:a b"),
        (infer_request(""), "INVALID_ARGUMENT", "not a model reference"),
        (pb.ModelInferRequest(model_name="lr"), "INVALID_ARGUMENT", "`inputs` is empty"),
        (b"\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest"),
        (infer_request("echo_int8"), "INVALID_ARGUMENT", "expected INT8, got FP64"),
    ],
)
async def test_refusals_have_codes_and_sentences(channel, request_, code, words):
    error = await refused(call(channel, "ModelInfer", request_))
    assert error.code() is grpc.StatusCode[code]
    assert words in error.details()
    assert len(error.details()) < 2_100


@pytest.mark.parametrize(
    ("fault", "code", "retry_after"),
    [
        (ModelNotFoundError(name="m"), "NOT_FOUND", None),
        (OverloadedError(ref="m:1", waiting=3, retry_after_seconds=7), "UNAVAILABLE", "7"),
        (QuotaExceededError(name="m", limit=2.0, retry_after_seconds=3), "RESOURCE_EXHAUSTED", "3"),
        (UnavailableError(problem="p"), "UNAVAILABLE", None),
        (DeadlineExceededError(ref="m:1", stage="waiting"), "DEADLINE_EXCEEDED", None),
        (RemoteControlError(caller="c"), "PERMISSION_DENIED", None),
    ],
)
async def test_every_family_of_errors_has_its_code(channel, predictions, fault, code, retry_after):
    async def fail(_ref, _terms, _asker):
        raise fault

    predictions.hold = fail
    error = await refused(call(channel, "ModelInfer", infer_request()))
    assert error.code() is grpc.StatusCode[code]
    assert error.details().startswith(fault.message)
    trailing = dict(error.trailing_metadata())
    assert trailing["crossfade-code"] == fault.code
    assert trailing.get("retry-after") == retry_after


def test_every_status_of_every_error_has_a_code():
    from crossfade.web.grpc_server import _CODES

    def family(kind):
        return {kind.http_status}.union(*(family(child) for child in kind.__subclasses__()))

    assert family(CrossfadeError) - set(_CODES) <= {406, 415, 422}
    assert {grpc.StatusCode[name] for name in _CODES.values()}


async def test_a_bug_tells_nothing(channel, capsys):
    error = await refused(call(channel, "ModelInfer", infer_request("broken")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert "urn:uuid:" in error.details()


async def test_methods_that_do_not_exist(channel):
    stub = channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus")
    assert (await refused(stub(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
async def test_nobody_loads_through_a_proxy(channel, header):
    request = pb.RepositoryModelUnloadRequest(model_name="lr")
    error = await refused(call(channel, "RepositoryModelUnload", request, metadata=((header, "10.0.0.1"),)))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (await call(channel, "ModelReady", pb.ModelReadyRequest(name="lr"))).ready


def test_callers_by_name():
    assert parse_peer("ipv4:10.1.2.3:50051") == ("10.1.2.3", 50051)
    assert parse_peer("ipv6:%5B::1%5D:7") == ("::1", 7)
    assert parse_peer("ipv6:[fe80::1]:7") == ("fe80::1", 7)
    for odd in ("unix:/tmp/socket", "unix:", "", "ipv4:10.1.2.3"):
        assert parse_peer(odd) is None
