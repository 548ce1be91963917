"""What the tests of the data plane share: requests, and checks of refusals."""

from __future__ import annotations

from typing import Any

import httpx

ROW = [0.5] * 30
X = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": ROW}


async def infer(client: httpx.AsyncClient, document: Any, model: str = "lr", **options: Any) -> httpx.Response:
    return await client.post(f"/v2/models/{model}/infer", json=document, **options)


def assert_oip_error(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    for word in words:
        assert word in response.json()["error"]


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:crossfade:{code}"
    assert problem["instance"].startswith("urn:uuid:")
    assert problem["detail"]
    return problem
