"""How long a request may take, and who goes first: headers of every prediction."""

import pytest

from crossfade.serving.prediction import DEFAULT_TERMS, Terms
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
    ],
)
async def test_terms_travel_in_headers(client, predictions, headers, terms):
    assert (await infer(client, {"inputs": [X]}, headers=headers)).status_code == 200
    assert (await client.post("/api/v1/predict/lr", json=[ROW], headers=headers)).status_code == 200
    assert predictions.terms == [terms, terms]


@pytest.mark.parametrize(
    "headers",
    [{"X-Request-Timeout-Ms": value} for value in ("", "0", "-1", "1.5", "1e3", "3600001", "9" * 5000, "NaN", "²")]
    + [{"X-Request-Priority": value} for value in ("", "Online", "urgent", "0")],
)
async def test_terms_that_are_none_are_refused(client, predictions, headers):
    encoded = {name: value.encode() for name, value in headers.items()}
    (word,) = headers
    assert_oip_error(await infer(client, {"inputs": [X]}, headers=encoded), 422, word)
    assert_problem(await client.post("/api/v1/predict/lr", json=[ROW], headers=encoded), 422, "malformed_request")
    assert predictions.terms == []
