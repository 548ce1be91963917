from __future__ import annotations

import gzip
import json
import struct
import zlib

import httpx
import numpy as np
import pytest

from crossfade.core.tensors import DTYPES
from crossfade.settings import HttpSettings
from tests.web.dataplane.requests import ROW, X, assert_oip_error, assert_problem, infer
from tests.web.small_server import small_app

# --- the Open Inference Protocol ---


async def test_an_inference(client):
    response = await infer(client, {"id": "42", "inputs": [X]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    answer = response.json()
    assert answer["model_name"] == "lr"
    assert answer["model_version"] == "1.2.0"
    assert answer["id"] == "42"
    assert [output["name"] for output in answer["outputs"]] == ["predict", "predict_proba"]
    assert answer["outputs"][0] == {"name": "predict", "datatype": "INT64", "shape": [1], "data": [1]}
    assert answer["outputs"][1]["shape"] == [1, 2]


@pytest.mark.parametrize(
    "model", ["lr", "lr@champion", "lr:1.2.0", "lr%3A1.2.0", "lr/versions/1.2.0", "lr/versions/v1.2.0"]
)
async def test_every_spelling_of_a_version(client, model):
    assert (await infer(client, {"inputs": [X]}, model)).json()["model_version"] == "1.2.0"


async def test_selected_outputs(client):
    answer = (await infer(client, {"inputs": [X], "outputs": [{"name": "predict_proba"}]})).json()
    assert [output["name"] for output in answer["outputs"]] == ["predict_proba"]
    assert_oip_error(await infer(client, {"inputs": [X], "outputs": [{"name": "nope"}]}), 422, "nope")


async def test_binary_both_ways(client):
    x = np.full((2, 30), -1.0)
    item = {"name": "x", "shape": [2, 30], "datatype": "FP64", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    response = await client.post("/v2/models/lr/infer", content=head + x.tobytes(), headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    size = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:size])["outputs"]
    assert [output["parameters"]["binary_data_size"] for output in outputs] == [16, 32]
    assert struct.unpack("<2q", response.content[size : size + 16]) == (0, 0)
    assert len(response.content) == size + 48


async def test_a_raw_body(client):
    headers = {"inference-header-content-length": "0"}
    response = await client.post("/v2/models/lr/infer", content=np.ones(60).tobytes(), headers=headers)
    size = int(response.headers["inference-header-content-length"])
    assert struct.unpack("<2q", response.content[size : size + 16]) == (1, 1)


@pytest.mark.parametrize("datatype", ["INT8", "UINT64", "FP16", "BOOL"])
async def test_other_datatypes_arrive_as_they_are(client, datatype):
    data = [True, False] if datatype == "BOOL" else [1, 0]
    item = {"name": "x", "shape": [1, 2], "datatype": datatype, "data": data}
    answer = (await infer(client, {"inputs": [item]}, f"echo_{datatype.lower()}")).json()
    assert answer["outputs"][0] == {"name": "y", "datatype": datatype, "shape": [1, 2], "data": data}


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
@pytest.mark.parametrize("datatype", list(DTYPES))
async def test_every_datatype_comes_back_bit_by_bit(client, datatype, encoding):
    random, dtype = np.random.default_rng(7), DTYPES[datatype]
    for shape in ((1, 1), (3, 5), (4, 0)):
        if datatype == "BYTES":
            tail = b"".join(struct.pack("<I", n) + b"x" * n for n in random.integers(0, 9, np.prod(shape)))
        else:
            tail = random.integers(0, 2, shape).astype(dtype).tobytes()
        item = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(tail)}}
        head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
        body = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](head + tail)
        headers = {"inference-header-content-length": str(len(head)), "content-encoding": encoding}
        headers["accept-encoding"] = encoding
        response = await client.post(f"/v2/models/echo_{datatype.lower()}/infer", content=body, headers=headers)
        size = int(response.headers["inference-header-content-length"])
        assert json.loads(response.content[:size])["outputs"][0]["shape"] == list(shape)
        assert response.content[size:] == tail


async def test_text_and_raw_bytes(client):
    item = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["é", ""]}
    for model in ("echo_bytes", "raw_bytes"):
        assert (await infer(client, {"inputs": [item]}, model)).json()["outputs"][0]["data"] == ["é", ""]


async def test_what_is_not_finite_is_null(client):
    output = (await infer(client, {"inputs": [X]}, "infinite")).json()["outputs"][0]
    assert output["data"] == [None]
    assert output["parameters"] == {"non_finite": True}


async def test_a_fallback_says_so(client):
    assert (await infer(client, {"inputs": [X]}, "lr@fallback")).json()["parameters"] == {"fallback": True}
    response = await client.post("/api/v1/predict/lr@fallback", json=[ROW])
    assert response.json()["fallback"] is True
    assert response.json()["alias"] == "fallback"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_bodies_both_ways(client, encoding):
    body = json.dumps({"inputs": [X]}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers = {"content-encoding": encoding, "accept-encoding": encoding}
    response = await client.post("/v2/models/lr/infer", content=packed, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-encoding"] == encoding
    assert response.headers["vary"] == "accept-encoding"
    assert response.json()["model_name"] == "lr"


async def test_a_small_answer_is_not_compressed_for_a_client_that_merely_accepts_it(client):
    response = await infer(client, {"inputs": [X]}, headers={"accept-encoding": "gzip, deflate"})
    assert "content-encoding" not in response.headers


async def test_bombs_are_refused(client):
    bomb = gzip.compress(bytes(10**6))
    response = await client.post("/v2/models/lr/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert_oip_error(response, 413, "larger than 100000 bytes")


async def test_large_bodies_are_refused(client):
    assert_oip_error(await client.post("/v2/models/lr/infer", content=b" " * 100_001), 413)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nope/infer", 404),
        ("/v2/models/nope", 404),
        ("/v2/models/nope/ready", 404),
        ("/v2/models/lr/versions/9.9.9/infer", 404),
        ("/v2/models/nope/stats", 404),
        ("/v2/models/nope/config", 404),
        ("/v2/models/lr/versions/9.9.9/stats", 404),
        ("/v2/models/lr/versions/9.9.9/config", 404),
        ("/v2/models/UPPER/infer", 422),
        ("/v2/nothing", 404),
    ],
)
async def test_unknown_things(client, path, status):
    method = "POST" if path.endswith("infer") else "GET"
    assert_oip_error(await client.request(method, path, json={"inputs": [X]} if method == "POST" else None), status)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [NaN]}]}']
)
async def test_bodies_that_are_no_requests(client, body):
    assert_oip_error(await client.post("/v2/models/lr/infer", content=body), 422, "the request cannot be read")


async def test_inputs_that_do_not_fit(client):
    wrong = X | {"shape": [1, 29], "data": ROW[:29]}
    assert_oip_error(
        await infer(client, {"inputs": [wrong]}), 422, "`x`", "expected shape [-1, 30]", "got shape [1, 29]"
    )
    assert_oip_error(await infer(client, {"inputs": [X | {"name": "z"}]}), 422, "`x`", "got nothing")
    rows = X | {"shape": [51, 30], "data": ROW * 51}
    assert_oip_error(await infer(client, {"inputs": [rows]}), 422, "51 rows, at most 50")


# --- models and the server ---


async def test_server_metadata(client):
    for path in ("/v2", "/v2/"):
        document = (await client.get(path)).json()
        assert document["name"] == "crossfade"
        assert document["extensions"] == ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]


async def test_model_metadata(client):
    for path in ("/v2/models/lr", "/v2/models/lr/", "/v2/models/lr/versions/1.2.0"):
        document = (await client.get(path)).json()
        assert document["name"] == "lr"
        assert document["versions"] == ["1.2.0"]
        assert document["platform"] == "sklearn"
        assert document["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 30]}]


async def test_model_configuration(client):
    for path in ("/v2/models/lr/config", "/v2/models/lr/versions/1.2.0/config"):
        document = (await client.get(path)).json()
        assert (document["name"], document["platform"], document["max_batch_size"]) == ("lr", "sklearn", 50)
        assert document["input"] == [{"name": "x", "data_type": "TYPE_FP64", "dims": [30]}]
        assert document["output"][0]["data_type"] == "TYPE_INT64"


async def test_statistics_count_what_was_asked(client):
    async def statistics(path):
        return (await client.get(path)).json()["model_stats"]

    (before,) = await statistics("/v2/models/lr/stats")
    assert (before["inference_count"], before["last_inference"]) == (0, 0)
    rows = X | {"shape": [2, 30], "data": ROW * 2}
    for inputs in ([X], [rows], [rows]):
        assert (await infer(client, {"inputs": inputs})).status_code == 200
    for path in ("/v2/models/lr/stats", "/v2/models/lr/versions/1.2.0/stats"):
        (after,) = await statistics(path)
        assert (after["name"], after["version"]) == ("lr", "1.2.0")
        assert (after["inference_count"], after["execution_count"]) == (5, 3)
        assert [(size["batch_size"], size["compute_infer"]["count"]) for size in after["batch_stats"]] == [
            (1, 1),
            (2, 2),
        ]
    everything = {item["name"]: item["inference_count"] for item in await statistics("/v2/models/stats")}
    assert everything["lr"] == 5
    assert everything["people"] == 0


async def test_what_does_not_answer_has_no_statistics_and_no_configuration(client):
    await client.post("/v2/repository/models/lr/unload")
    for document in ("stats", "config"):
        assert_oip_error(await client.get(f"/v2/models/lr/{document}"), 503, "unloaded")
    everything = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert "lr" not in {item["name"] for item in everything}


async def test_health(client, predictions):
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await client.get("/readyz")).json() == {"status": "ready", "waiting_for": []}
    predictions.draining = True
    response = await client.get("/v2/health/ready")
    assert (response.status_code, response.json()) == (503, {"ready": False})
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "waiting", "waiting_for": ["draining"]})
    assert (await client.get("/healthz")).status_code == 200


async def test_loading_and_unloading(client):
    assert (await client.get("/v2/models/lr/ready")).json() == {"name": "lr", "ready": True}
    assert (await client.post("/v2/repository/models/lr/unload")).status_code == 200
    response = await client.get("/v2/models/lr/ready")
    assert (response.status_code, response.json()) == (503, {"name": "lr", "ready": False})
    response = await infer(client, {"inputs": [X]})
    assert_oip_error(response, 503, "unloaded")
    assert response.headers["retry-after"] == "1"
    assert_oip_error(await client.get("/v2/models/lr"), 503, "unloaded")
    assert_problem(await client.post("/api/v1/predict/lr", json=[ROW]), 503, "not_served")
    assert "lr" in (await client.get("/readyz")).json()["waiting_for"]
    index = {item["name"]: item for item in (await client.post("/v2/repository/index")).json()}
    assert index["lr"] == {"name": "lr", "version": "1.2.0", "state": "UNAVAILABLE", "reason": "unloaded"}
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert index.keys() - {item["name"] for item in ready} == {"lr"}
    assert (await client.post("/v2/repository/models/lr/load", json={"parameters": {}})).status_code == 200
    assert (await client.get("/v2/models/lr/ready")).json()["ready"] is True
    assert_oip_error(await client.post("/v2/repository/models/nope/load"), 404)


@pytest.mark.parametrize(("address", "status"), [("10.1.2.3", 403), ("::1", 200), ("127.0.0.9", 200)])
async def test_only_this_machine_loads_and_unloads(predictions, address, status):
    app = small_app(HttpSettings(), predictions)
    transport = httpx.ASGITransport(app, client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for action in ("unload", "load"):
            response = await client.post(f"/v2/repository/models/lr/{action}")
            assert response.status_code == status
        assert (await client.get("/v2/models/lr/ready")).status_code == 200


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
async def test_a_proxy_on_this_machine_does_not_make_its_callers_local(client, header):
    response = await client.post("/v2/repository/models/lr/unload", headers={header: "127.0.0.1"})
    assert_oip_error(response, 403, "ALLOW_REMOTE_CONTROL")
    assert (await infer(client, {"inputs": [X]}, headers={header: "127.0.0.1"})).status_code == 200


async def test_a_caller_without_an_address_is_not_local(predictions):
    transport = httpx.ASGITransport(small_app(HttpSettings(), predictions), client=None)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert_oip_error(await client.post("/v2/repository/models/lr/unload"), 403, "another machine")


async def test_other_machines_load_and_unload_when_they_may(predictions):
    app = small_app(HttpSettings(allow_remote_control=True), predictions)
    transport = httpx.ASGITransport(app, client=("10.1.2.3", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for action in ("unload", "load"):
            assert (await client.post(f"/v2/repository/models/lr/{action}")).status_code == 200


@pytest.mark.parametrize("body", [b"[", b'{"ready": 1}', b"[" * 100_000])
async def test_index_bodies_are_checked(client, body):
    assert_oip_error(await client.post("/v2/repository/index", content=body), 422)


async def test_metrics(client):
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.content == b"# no metrics\n"
