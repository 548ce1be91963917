"""Well-formed HTTP with hostile content, against a real server."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from tests.web.dataplane.hostile import BODY, assert_refused

# --- hostile content and paths ---

X = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": [0] * 30}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\x00" * 100,
        b"\xff\xfe{}",
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
        json.dumps({"inputs": [X | {"shape": [-1, 30]}]}).encode(),
        json.dumps({"inputs": [X | {"shape": [2**62, 2**62]}]}).encode(),
        json.dumps({"inputs": [X | {"shape": [2**63]}]}).encode(),
        json.dumps({"inputs": [X | {"shape": [0, 2**62]}]}).encode(),
        json.dumps({"inputs": [X | {"shape": [30]}]}).encode(),
        json.dumps({"inputs": [X | {"data": [float("nan")] * 30}]}).encode(),
        json.dumps({"inputs": [X | {"data": [float("-inf")] * 30}]}).encode(),
        json.dumps({"inputs": [X | {"data": [None] * 30}]}).encode(),
        json.dumps({"inputs": [X | {"data": [True] * 30}]}).encode(),
        json.dumps({"inputs": [X] * 5000}).encode(),
        b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP64","data":[1e999]}]}',
    ],
)
def test_hostile_json_is_refused(server, body):
    response = httpx.post(f"{server.url}/v2/models/lr/infer", content=body)
    assert response.status_code == 422
    assert response.json()["error"]


@pytest.mark.parametrize("header", ["-1", "99999", "1e3", "abc", "9" * 100, "0", "5"])
def test_lying_binary_headers_are_refused(server, header):
    headers = {"inference-header-content-length": header}
    response = httpx.post(f"{server.url}/v2/models/lr/infer", content=BODY, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_binary_inputs_are_refused(server, value):
    x = np.full((1, 30), value)
    item = {"name": "x", "shape": [1, 30], "datatype": "FP64", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [item]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    response = httpx.post(f"{server.url}/v2/models/lr/infer", content=head + x.tobytes(), headers=headers)
    assert response.status_code == 422
    assert "finite" in response.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd",
        "/v2/models/../../../etc/passwd",
        "/v2/models/%2e%2e/%2e%2e/etc/passwd",
        "/v2/models/%252e%252e%252fetc/infer",
        "/v2/models/..%2f..%2fetc%2fpasswd/infer",
        "/v2/models/..\\..\\windows/infer",
        "/v2/models/%5c%5cserver/infer",
        "/v2/models/lr%00.txt/infer",
        "/v2/models/lr%0d%0aX-Injected:%201/infer",
        "/v2/models/%c0%ae%c0%ae/infer",
        "/v2//etc/passwd",
        "/v2/models//infer",
        "/v2/models/lr/versions/..%2f..%2f/infer",
        "/api/v1/predict/..%2f..%2fetc",
        "/api/v1/predict/%2e%2e",
        "/api/v1/predict//etc/passwd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_path_tricks_are_refused(server, path, method):
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = server.exchange(request.encode())
    assert_refused(answer, 404, 422, 400)
    assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"", b"127.0.0.1@evil.example"])
def test_foreign_hosts_are_refused(server, host):
    answer = server.exchange(b"GET /v2 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host)
    assert "does not answer for the host" in assert_refused(answer, 403)


def test_memory_does_not_grow_with_refused_requests(server):
    def refuse() -> None:
        for _ in range(300):
            assert client.post("/v2/models/lr/infer", content=b"{").status_code == 422

    with httpx.Client(base_url=server.url) as client:
        refuse()
        before = server.memory()
        refuse()
        assert server.memory() - before < 4 * 2**20
