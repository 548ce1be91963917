"""The routes of `mlflow models serve`, over HTTP."""

from __future__ import annotations

import httpx
import pytest

import crossfade
from crossfade.errors import InvalidRefError
from crossfade.settings import HttpSettings
from tests.web.dataplane.requests import ROW
from tests.web.small_server import SmallPredictions, small_app, small_models

PEOPLE = {"dataframe_split": {"columns": ["city", "age"], "data": [["Bern", 41], ["Basel", None]]}}


def client_of(*names, **settings):
    predictions = SmallPredictions([model for model in small_models() if model.model in names])
    app = small_app(HttpSettings(max_body_bytes=100_000, **settings), predictions)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def assert_mlflow_error(response, status, code, words=""):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error_code", "message"]
    assert document["error_code"] == code
    assert words in document["message"]


async def test_the_only_model_is_meant():
    async with client_of("people") as client:
        response = await client.post("/invocations", json=PEOPLE)
        assert (response.status_code, response.json()) == (200, {"predictions": ["Bern!", "Basel!"]})
        text = await client.post("/invocations", content="age,city\n1,Bern\n", headers={"content-type": "text/csv"})
        assert text.json() == {"predictions": ["Bern!"]}


async def test_among_several_models_the_path_or_the_settings_choose():
    async with client_of("people", "lr") as client:
        refusal = await client.post("/invocations", json=PEOPLE)
        assert_mlflow_error(refusal, 400, "BAD_REQUEST", "names no model, and 2 are served")
        for path in ("people", "people:0.1.0", "people@champion"):
            response = await client.post(f"/models/{path}/invocations", json=PEOPLE)
            assert response.json() == {"predictions": ["Bern!", "Basel!"]}
    async with client_of("people", "lr", invocations_model="lr:1.2.0") as client:
        assert (await client.post("/invocations", json={"inputs": [ROW]})).json() == {"predictions": [1]}
        assert (await client.post("/models/people/invocations", json=PEOPLE)).status_code == 200
    with pytest.raises(InvalidRefError):
        client_of(invocations_model="LR")


async def test_a_server_without_models_says_so():
    async with client_of() as client:
        assert_mlflow_error(await client.post("/invocations", json=PEOPLE), 400, "BAD_REQUEST", "0 are served")


async def test_refusals_look_like_those_of_mlflow():
    async with client_of("lr") as client:
        path = "/invocations"
        assert_mlflow_error(await client.post(path, content=b"{"), 400, "BAD_REQUEST", "cannot be read")
        wide = {"inputs": [[*ROW, 1.0]]}
        assert_mlflow_error(await client.post(path, json=wide), 400, "INVALID_PARAMETER_VALUE", "`x`")
        unknown = await client.post("/models/nope/invocations", json=wide)
        assert_mlflow_error(unknown, 404, "RESOURCE_DOES_NOT_EXIST", "nope")
        assert_mlflow_error(await client.post(path, content=b" " * 100_001), 413, "BAD_REQUEST")
        assert_mlflow_error(await client.get(path), 405, "METHOD_NOT_ALLOWED")
        assert_mlflow_error(await client.post(path, headers={"host": "evil.example"}), 403, "PERMISSION_DENIED")
        await client.post("/v2/repository/models/lr/unload")
        away = await client.post(path, json={"inputs": [ROW]})
        assert_mlflow_error(away, 503, "TEMPORARILY_UNAVAILABLE")
        assert away.headers["retry-after"] == "1"


async def test_a_wrong_content_type_is_refused_in_plain_text():
    async with client_of("lr") as client:
        response = await client.post("/invocations", content=b"<a/>", headers={"content-type": "text/xml"})
        assert response.status_code == 415
        assert response.headers["content-type"].startswith("text/plain")
        assert "text/csv" in response.text


async def test_a_bug_shows_nothing():
    async with client_of("broken") as client:
        response = await client.post("/invocations", json={"inputs": [ROW]})
        assert_mlflow_error(response, 500, "INTERNAL_ERROR")
        assert "secret" not in response.text


async def test_health_and_version():
    async with client_of("lr") as client:
        for path in ("/ping", "/health", "/ping/"):
            response = await client.get(path)
            assert (response.status_code, response.text) == (200, "\n")
            assert response.headers["content-type"] == "text/plain; charset=utf-8", "MLflow says that it is JSON"
        assert (await client.get("/version")).text == crossfade.__version__
        await client.post("/v2/repository/models/lr/unload")
        assert (await client.get("/ping")).status_code == 503


async def test_what_is_not_finite_is_null():
    async with client_of("infinite") as client:
        assert (await client.post("/invocations", json={"inputs": [ROW]})).json() == {"predictions": [None]}
