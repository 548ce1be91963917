"""Requests without rows are refused alike, through every front door of a real server, and hints name the model."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from crossfade.platform import open_platform
from crossfade.serving.protocol.npy import write_npy
from crossfade.settings import Settings
from tests import control

INFER, PLAIN, JSON = "/v2/models/tiny/infer", "/api/v1/predict/tiny", {"content-type": "application/json"}
INPUT = {"name": "x", "shape": [0, 2], "datatype": "FP32"}
HEAD = json.dumps({"inputs": [INPUT | {"parameters": {"binary_data_size": 0}}]}).encode()


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with open_platform(Settings(home=home)) as platform, control.local_client(platform) as client:
        control.register(client, home, "1.0.0")
        client.move_alias("tiny", "champion", "1.0.0")
    with control.running_server(home) as server, httpx.Client(base_url=server.url) as http:
        yield http


@pytest.mark.parametrize(
    ("path", "content", "headers"),
    [
        (INFER, json.dumps({"inputs": [INPUT | {"data": []}]}).encode(), JSON),
        (INFER, HEAD, {"inference-header-content-length": str(len(HEAD))}),
        (INFER, b"", {"inference-header-content-length": "0"}),
        (PLAIN, write_npy(np.zeros((0, 2), np.float32)), {"content-type": "application/x-npy"}),
        (PLAIN, b"[]", JSON),
        ("/invocations", b'{"inputs": []}', JSON),
    ],
    ids=["json", "binary", "raw", "npy", "rows", "invocations"],
)
def test_no_rows_are_refused(http, path, content, headers):
    answer = http.post(path, content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert "the request cannot be read" in answer.text
    assert "row" in answer.text


def test_hints_name_the_model_that_is_known(http):
    for content in (b"[]", b"[[1, 2, 3]]", b"{"):
        hint = http.post(PLAIN, content=content, headers=JSON).json()["hint"]
        assert "`crossfade models show tiny:1.0.0`" in hint
    assert "models show tiny:1.0.0" in http.post("/invocations", content=b"{", headers=JSON).text
