"""The OpenAPI document says all that the server does, every route, status and answer, and nothing breaks it."""

import httpx
import pytest

from crossfade.web.documentation import ACTIONS
from crossfade.web.paths import TABLE
from tests.openapi import campaign

PREDICTING = {"/v2/models/tiny/infer", "/api/v1/predict/tiny", "/invocations", "/models/tiny/invocations"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with campaign.prefilled_server(tmp_path_factory.mktemp("openapi") / "home") as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def document(server):
    return httpx.get(f"{server.url}/openapi.json").json()


def test_every_path_of_the_data_plane_is_documented(document):
    assert {action for _, _, action in TABLE} == set(ACTIONS)
    for method, path, _ in TABLE:
        operation = document["paths"][path][method.lower()]
        assert operation["description"], path
        assert "200" in operation["responses"]
        assert "default" not in operation["responses"]
    identifiers = [item["operationId"] for methods in document["paths"].values() for item in methods.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_experiments_and_flags_are_documented(document):
    paths = document["paths"]
    for verb in ("start", "pause", "stop", "reweight", "decide"):
        operation = paths[f"/api/v1/experiments/{{experiment}}/{verb}"]["post"]
        assert {"200", "404", "409", "422"} <= set(operation["responses"])
    assert {"201", "409", "422"} <= set(paths["/api/v1/experiments"]["post"]["responses"])
    assert {"/api/v1/layers", "/api/v1/experiments/{experiment}/analysis", "/api/v1/outcomes"} <= set(paths)
    flag = paths["/ofrep/v1/evaluate/flags/{flag}"]["post"]
    assert {"200", "400", "404", "413"} <= set(flag["responses"])
    assert "422" not in flag["responses"], "OpenFeature knows no such status"
    assert {"200", "304", "400"} <= set(paths["/ofrep/v1/evaluate/flags"]["post"]["responses"])
    for path in ("/v2/models/{model}/infer", "/api/v1/predict/{model}", "/models/{model}/invocations"):
        names = {parameter["name"] for parameter in paths[path]["post"]["parameters"]}
        assert {"X-Unit-ID", "X-Experiment-ID", "X-Context"} <= names


def test_the_documented_examples_are_answered(server, document):
    paths = {path.replace("{model}", "tiny"): item for path, item in document["paths"].items()}
    with httpx.Client(base_url=server.url) as http:
        for path in PREDICTING - {"/invocations"}:  # which needs to be told whom it asks
            example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
            assert http.post(path, json=example).status_code == 200, path


def test_a_wrong_method_is_told_every_right_one(server):
    with httpx.Client(base_url=server.url) as http:
        answer = http.delete("/api/v1/jobs")
        assert (answer.status_code, answer.headers.get_list("allow")) == (405, ["GET, POST"])
        answer = http.patch("/api/v1/models/tiny/aliases/champion")
        assert (answer.status_code, answer.headers.get_list("allow")) == (405, ["DELETE, PUT"])


def test_numbers_that_no_manifest_can_hold_are_refused(server):
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2**70]}
    signature = {"inputs": [tensor], "outputs": [tensor]}
    manifest = {"name": "tiny", "version": "2.0.0", "flavor": "onnx", "files": [], "signature": signature}
    answer = httpx.post(f"{server.url}/api/v1/models/tiny/versions", json={"manifest": manifest})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_manifest"), answer.text


@pytest.mark.parametrize("route", ["models/tiny/proposal", "versions/tiny/compatibility"])
def test_signatures_that_nothing_can_have_are_not_compared(server, route):
    tensors = [{"name": "x", "datatype": "FP33", "shape": [-1, 2]}]
    answer = httpx.post(f"{server.url}/api/v1/{route}", json={"signature": {"inputs": tensors, "outputs": tensors}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_manifest"), answer.text


def test_a_stage_is_no_version_that_could_be_waited_for(server):
    answer = httpx.get(f"{server.url}/v2/models/tiny/versions/Production")
    assert answer.status_code == 422
    assert "`production` is no version: ask for one, or for an alias" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"7", b"[]", b"{", b'"x"', b"\xff"])
def test_what_is_no_object_loads_no_model(server, body):
    answer = httpx.post(f"{server.url}/v2/repository/models/spare/load", content=body)
    assert answer.status_code == 422
    assert httpx.post(f"{server.url}/v2/repository/models/spare/load", json={"parameters": {}}).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_schemathesis_finds_nothing(server, tmp_path):
    """Last, because it leaves the server in disorder. A few requests of each kind: `make schemathesis` sends many."""
    outcome = campaign.run(server, tmp_path, "--phases", "fuzzing", "--generation-deterministic", "-n", "8")
    assert outcome.passed, outcome.report
    assert outcome.requests > 800
