"""Status, garbage, OpenAPI, and what every route does alike."""

import contextlib
import json
from datetime import UTC, datetime

import httpx
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

import crossfade
from crossfade.client import verbs
from crossfade.registry.requests import ProcessStatus
from crossfade.web.app import PARTS, create_app, create_control_plane
from crossfade.web.inprocess import InProcessTransport
from crossfade.web.outcomes import outcome_paths
from tests import control

ROUTES = [route for part in PARTS for route in part.routes.routes]


def test_the_status_names_release_revision_and_processes(client, platform, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    now = client.version("tiny:1.0.0").version.created_at
    here = ProcessStatus("p1", "here", 1, now, datetime.now(UTC), 1, {"tiny:1.0.0": ("ready", "")})
    platform.fleet.report(here)
    status = client.status()
    assert (status.release, status.revision) == (crossfade.__version__, platform.database.revision())
    assert [process.slots for process in status.processes] == [{"tiny:1.0.0": ("ready", "")}]


def test_settings_are_not_exposed(http):
    assert "database_url" not in http.get("/api/v1/status").text
    assert http.get("/api/v1/settings").status_code == 404


def test_garbage_is_collected(client):
    assert client.collect_garbage().blobs == 0


def test_the_openapi_document_is_valid(http):
    document = http.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_route_is_documented(http):
    document = http.get("/openapi.json").json()
    assert len(ROUTES) > 15
    for route in ROUTES:
        assert isinstance(route, APIRoute)
        if not route.include_in_schema:  # HEAD of what GET documents
            continue
        for method in route.methods:
            operation = document["paths"][f"/api/v1{route.path_format}"][method.lower()]
            assert operation["description"], f"{route.path_format} has no docstring"
            assert {"403", "422", "503"} <= set(operation["responses"]), f"{route.path_format} never refuses"
            assert "default" not in operation["responses"], "every status is named"
            success = str(route.status_code)
            assert "schema" in str(operation["responses"][success]["content"])
            for parameter in operation.get("parameters", ()):
                documented = parameter.get("description") or parameter["in"] == "path"
                assert documented, f"{route.path_format}: `{parameter['name']}` is not documented"


def test_every_change_can_be_rehearsed(http):
    document = http.get("/openapi.json").json()
    pure = {"propose_version", "check_compatibility", "verify_version", "begin_upload", "put_blob", "record_outcomes"}
    pure |= {"forecast_rollout", "assess_config", "try_safety_policy"}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if method == "get" or operation["operationId"] in pure:
                continue
            names = [parameter["name"] for parameter in operation["parameters"]]
            assert "dry_run" in names, operation["operationId"]
            assert "Rehearsal" in json.dumps(operation["responses"])


def test_answers_have_exactly_the_documented_fields(client, http, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.0")
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    examples = {
        "Version": client_json(http, "/api/v1/models/tiny/versions")["items"][0],
        "RegisteredModel": client_json(http, "/api/v1/models/tiny"),
        "VersionDetails": client_json(http, "/api/v1/versions/tiny:1.0.0"),
        "ComparisonReport": client_json(http, "/api/v1/compare?a=tiny:1.0.0&b=tiny:1.0.1"),
        "HistoryEntry": client_json(http, "/api/v1/models/tiny/history")["items"][0],
        "AliasMove": client_json(http, "/api/v1/models/tiny/aliases/champion/history")["items"][0],
        "ServerStatus": client_json(http, "/api/v1/status"),
    }
    for name, example in examples.items():
        assert set(example) <= set(schemas[name]["properties"]), name
        assert set(schemas[name].get("required", ())) <= set(example), name


def client_json(http, path):
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_the_reference_page_needs_no_script_and_no_other_host(http):
    page = http.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "<script" not in page.text
    assert "https://" not in page.text
    for route in ROUTES:
        assert f"/api/v1{route.path_format}" in page.text


def test_the_control_plane_alone_has_the_same_routes(platform):
    app = create_control_plane(platform)
    assert app.openapi() is app.openapi()
    documented = {f"/api/v1{route.path_format}" for route in ROUTES}
    assert set(app.openapi()["paths"]) == documented | set(outcome_paths())


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_problem_document(http):
    answer = http.get("/api/v1/models/nothing")
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert body == {
        "type": "urn:crossfade:model_not_found",
        "title": "No model has this name",
        "status": 404,
        "detail": "model `nothing` is not registered",
        "instance": answer.headers["x-request-id"],
        "code": "model_not_found",
        "hint": "list models with `crossfade models list`",
        "facts": {"name": "nothing", "suggestion": ""},
    }


@pytest.mark.parametrize("query", ["limit=many", "limit=0", "limit=5000", f"prefix={'x' * 65}", f"cursor={'x' * 201}"])
def test_invalid_parameters_name_the_field(http, query):
    body = http.get(f"/api/v1/models?{query}").json()
    field = query.partition("=")[0]
    assert body["code"] == "invalid_input"
    assert f"`{field}`" in body["detail"]
    assert body["facts"]["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"version": 1}', b"{}", b'{"version": "1.0.0", "surprise": 1}', b"\xff", b"[" * 100_000]
)
def test_malformed_bodies_are_refused(http, body):
    answer = http.put("/api/v1/models/tiny/aliases/champion", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_unknown_paths_and_methods_are_problems_too(http):
    unknown, wrong = http.get("/api/v1/nonsense"), http.patch("/api/v1/models")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert http.get("/api/v1/models/").status_code == 404, "no redirects"


def test_a_fault_tells_nothing_but_its_id(platform, monkeypatch):
    def fail(**_):
        raise RuntimeError("secret in a message")

    monkeypatch.setattr(type(platform.registry), "list_models", lambda *_, **__: fail())

    async def app(scope, receive, send):
        with contextlib.suppress(RuntimeError):  # the framework raises again what it answered
            await create_app(platform)(scope, receive, send)

    transport = InProcessTransport(app)
    with httpx.Client(base_url="http://localhost", transport=transport) as http:
        answer = http.get("/api/v1/models")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.json()["instance"] in answer.json()["hint"]


# --- callers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[", "crossfade.local"])
def test_foreign_hosts_are_refused(http, host):
    answer = http.get("/api/v1/models", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "10.0.0.7:80"])
def test_own_names_and_addresses_are_accepted(http, host):
    assert http.get("/api/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=lambda headers: next(iter(headers)),
)
def test_other_sites_change_nothing(http, method, headers):
    answer = http.request(method, "/api/v1/garbage", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")


def test_the_own_site_may_change_things(http):
    answer = http.post("/api/v1/garbage?dry_run=true", headers={"origin": "http://localhost"})
    assert answer.status_code == 200


def test_every_answer_restrains_browsers(http):
    for path in ("/api/v1/models", "/api/v1/models/nothing", "/openapi.json"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-request-id"].startswith("urn:uuid:")


def test_every_answer_has_an_id_of_its_own(http):
    assert len({http.get("/api/v1/models").headers["x-request-id"] for _ in range(3)}) == 3


def test_rehearsals_are_calls(client):
    assert client.send(verbs.dry_run(verbs.collect_garbage())).dry_run is True
