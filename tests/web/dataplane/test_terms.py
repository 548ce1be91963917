"""How long a request may take, and who goes first: headers of every prediction."""

import pytest

from crossfade.serving.holding import DEFAULT_TERMS, Terms
from crossfade.serving.waiting import Priority
from tests.web.dataplane.requests import ROW, X, assert_oip_error, assert_problem, infer


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        ({}, DEFAULT_TERMS),
        ({"X-Request-Timeout-Ms": "250"}, Terms(0.25)),
        ({"X-Request-Timeout-Ms": "3600000"}, Terms(3600.0)),
        ({"X-Request-Priority": "shadow"}, Terms(None, Priority.SHADOW)),
        ({"X-Request-Timeout-Ms": "1", "X-Request-Priority": "batch"}, Terms(0.001, Priority.BATCH)),
        ({"X-Request-Timeout-Ms": "1", "X-Request-Priority": "online"}, Terms(0.001)),
        ({"X-Request-Replay": "true"}, Terms(replay=True)),
        ({"X-Request-Replay": "true", "X-Request-Priority": "batch"}, Terms(None, Priority.BATCH, replay=True)),
    ],
)
async def test_terms_travel_in_headers(client, predictions, headers, terms):
    assert (await infer(client, {"inputs": [X]}, headers=headers)).status_code == 200
    assert (await client.post("/api/v1/predict/lr", json=[ROW], headers=headers)).status_code == 200
    assert predictions.terms == [terms, terms]


@pytest.mark.parametrize(
    "headers",
    [{"X-Request-Timeout-Ms": value} for value in ("", "0", "-1", "1.5", "1e3", "3600001", "9" * 5000, "NaN", "²")]
    + [{"X-Request-Priority": value} for value in ("", "Online", "urgent", "0")]
    + [{"X-Request-Replay": value} for value in ("", "True", "false", "1")],
)
async def test_terms_that_are_none_are_refused(client, predictions, headers):
    encoded = {name: value.encode() for name, value in headers.items()}
    (word,) = headers
    assert_oip_error(await infer(client, {"inputs": [X]}, headers=encoded), 422, word)
    refused = await client.post("/api/v1/predict/lr", json=[ROW], headers=encoded)
    assert_problem(refused, 422, "malformed_request")
    assert "openapi.json" in refused.json()["hint"]
    assert predictions.terms == []


TRACE = "0af7651916cd43dd8448eb211c80319c"
VALID = f"00-{TRACE}-b7ad6b7169203331-01"


async def test_a_traced_request_is_known_by_its_trace(client, predictions):
    headers = {"traceparent": VALID}
    plain = (await client.post("/api/v1/predict/lr", json=[ROW], headers=headers)).json()
    unnamed = (await client.post("/v2/models/lr/infer", json={"inputs": [X]}, headers=headers)).json()
    named = (await client.post("/v2/models/lr/infer", json={"id": "7", "inputs": [X]}, headers=headers)).json()
    empty = (await client.post("/v2/models/lr/infer", json={"id": "", "inputs": [X]}, headers=headers)).json()
    mlflow = await client.post("/models/lr/invocations", json={"inputs": [ROW]}, headers=headers)
    assert mlflow.status_code == 200
    assert (plain["request_id"], unnamed["id"], named["id"], empty["id"]) == (TRACE, TRACE, "7", "")
    assert [terms.trace.trace_id for terms in predictions.terms] == [TRACE] * 5
    assert predictions.request_ids == [TRACE, TRACE, "7", "", TRACE]


@pytest.mark.parametrize("value", ["", "00", VALID.upper(), VALID + "-x", "00-" + "0" * 32 + VALID[35:], "é" * 55])
async def test_a_traceparent_that_is_none_changes_nothing(client, predictions, value):
    headers = {"traceparent": value.encode()}
    answer = await client.post("/v2/models/lr/infer", json={"inputs": [X]}, headers=headers)
    plain = (await client.post("/api/v1/predict/lr", json=[ROW], headers=headers)).json()
    assert answer.status_code == 200
    assert "id" not in answer.json()
    assert len(plain["request_id"]) == 36
    assert [terms.trace for terms in predictions.terms] == [None, None]
