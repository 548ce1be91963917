from __future__ import annotations

from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from crossfade.settings import HttpSettings
from tests.web.dataplane.requests import ROW, X, assert_oip_error, assert_problem, infer
from tests.web.small_server import small_app

# --- plain rows ---


async def test_plain_rows(client):
    rows = [{"age": 41, "city": "Bern"}, {"age": None, "city": "Basel"}]
    answer = (await client.post("/api/v1/predict/people", json={"rows": rows})).json()
    assert answer.pop("request_id")
    assert answer == {"model": "people", "version": "0.1.0", "alias": "champion", "predictions": ["Bern!", "Basel!"]}


async def test_plain_rows_of_a_version_have_no_alias(client):
    assert "alias" not in (await client.post("/api/v1/predict/lr:1.2.0", json=[ROW])).json()


@pytest.mark.parametrize("way", ["query", "field"])
async def test_probabilities(client, way):
    if way == "query":
        response = await client.post("/api/v1/predict/lr?probabilities=true", json=[ROW])
    else:
        response = await client.post("/api/v1/predict/lr", json={"rows": [ROW], "probabilities": True})
    answer = response.json()
    assert answer["predictions"] == [1]
    assert answer["classes"] == [False, True]
    assert sum(answer["probabilities"][0]) == pytest.approx(1)


async def test_plain_refusals_are_problems(client):
    path = "/api/v1/predict/people"
    assert_problem(await client.post(path, content=b"{"), 422, "malformed_request")
    problem = assert_problem(await client.post(path, json=[{"age": "x", "city": "y"}]), 422, "signature_mismatch")
    assert problem["facts"]["field"] == "age"
    assert_problem(await client.post("/api/v1/predict/nope", json=[ROW]), 404, "model_not_found")
    assert_problem(await client.post("/api/v1/predict/UPPER", json=[ROW]), 422, "invalid_ref")
    assert_problem(await client.post("/api/v1/predict/a/b", json=[ROW]), 404, "not_found")
    assert_problem(await client.post(f"{path}?probabilities=maybe", json=[ROW]), 422, "malformed_request")
    assert_problem(await client.post(f"{path}?x=1", json=[ROW]), 422, "malformed_request")
    assert_problem(
        await client.post("/api/v1/predict/lr?probabilities=false", json=[ROW] * 51), 422, "malformed_request"
    )


# --- everything else ---


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models/lr", "/healthz", "/metrics"])
async def test_head_is_like_get(client, path):
    assert (await client.head(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/lr/infer", "POST"),
        ("PUT", "/v2/models/lr/infer", "POST"),
        ("POST", "/v2/models/lr", "GET, HEAD"),
        ("DELETE", "/v2", "GET, HEAD"),
        ("OPTIONS", "/v2", "GET, HEAD"),
    ],
)
async def test_wrong_methods(client, method, path, allowed):
    response = await client.request(method, path)
    assert_oip_error(response, 405, "only")
    assert response.headers["allow"] == allowed


async def test_wrong_methods_of_plain_routes(client):
    assert_problem(await client.get("/api/v1/predict/lr"), 405, "method_not_allowed")
    assert_problem(await client.post("/metrics"), 405, "method_not_allowed")


async def test_other_paths_go_to_the_control_plane(client):
    for path in ("/", "/api/v1/models", "/docs", "/v2x"):
        assert (await client.get(path)).content == b"control"


async def test_foreign_callers_are_refused(client):
    response = await client.get("/v2", headers={"host": "evil.example"})
    assert_oip_error(response, 403, "evil.example")
    response = await infer(client, {"inputs": [X]}, headers={"origin": "https://evil.example"})
    assert_oip_error(response, 403, "may not change anything")
    response = await client.post("/api/v1/predict/lr", json=[ROW], headers={"sec-fetch-site": "cross-site"})
    assert_problem(response, 403, "origin_not_allowed")


@pytest.mark.parametrize("origin", [b"http://[", b"http://\xff\xfe", "http://ex\u00e4mple".encode(), b"", b"\x00"])
async def test_origins_that_are_none_are_refused(client, origin):
    response = await client.post("/api/v1/predict/lr", json=[ROW], headers=[(b"origin", origin)])
    assert_problem(response, 403, "origin_not_allowed")


@pytest.mark.parametrize("path", ["/v2/models/broken/infer", "/api/v1/predict/broken"])
async def test_a_bug_is_logged_once_and_shows_nothing(client, path):
    document = {"inputs": [X]} if path.startswith("/v2") else [ROW]
    with capture_logs() as logs:
        response = await client.post(path, json=document)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert [log["event"] for log in logs] == ["bug"]
    assert str(logs[0]["exc_info"]).startswith("secret detail")
    assert logs[0]["request_id"] in response.text


async def test_a_bug_is_a_problem_document_for_who_asks_for_them(client):
    headers = {"accept": "application/problem+json"}
    response = await infer(client, {"inputs": [X]}, "broken", headers=headers)
    assert_problem(response, 500, "internal_error")


async def test_known_paths_are_remembered_up_to_a_bound(predictions, monkeypatch):
    monkeypatch.setattr("crossfade.web.dataplane._MAX_KNOWN_PATHS", 8)
    app = small_app(HttpSettings(), predictions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for number in range(20):
            assert (await client.get(f"/v2/models/m{number}")).status_code == 404
    assert len(app._known) <= 8


async def test_a_client_that_hangs_up_gets_nothing(predictions):
    app = small_app(HttpSettings(), predictions)
    sent: list[Any] = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v2/models/lr/infer",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await app(scope, receive, send)
    assert sent == []


async def test_what_is_not_http_goes_to_the_control_plane(predictions):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await small_app(HttpSettings(), predictions, app)({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
