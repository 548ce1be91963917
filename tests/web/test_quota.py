"""A quota as clients meet it: every front door of a real server."""

import httpx
import numpy as np
import pytest

from crossfade.client import Client
from crossfade.errors import CrossfadeError, QuotaExceededError, UnavailableError
from tests import control
from tests.servers import free_port


def test_only_a_quota_answers_429():
    def descend(kind):
        return [kind, *(below for child in kind.__subclasses__() for below in descend(child))]

    assert [kind for kind in descend(CrossfadeError) if kind.http_status == 429] == [QuotaExceededError]
    assert issubclass(QuotaExceededError, UnavailableError)


def test_every_front_door_says_when_to_come_back(tmp_path):
    from crossfade.platform import open_platform
    from crossfade.settings import Settings

    triton = pytest.importorskip("tritonclient.grpc")
    home, port = tmp_path / "home", free_port()
    with open_platform(Settings(home=home)) as platform, control.local_client(platform) as client:
        control.register(client, tmp_path, "1.0.0")
        client.move_alias("tiny", "champion", "1.0.0")
    rules = {"CROSSFADE_SERVING__MAX_REQUESTS_PER_SECOND": "0.01", "CROSSFADE_GRPC__PORT": str(port)}
    oip = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    with control.running_server(home, **rules) as server, httpx.Client(base_url=server.url) as http:
        assert http.post("/v2/models/tiny/infer", json=oip).status_code == 200
        refused = [
            http.post("/v2/models/tiny/infer", json=oip),
            http.post("/v2/models/tiny/infer", content=b"is not even read"),
            http.post("/api/v1/predict/tiny", json=[[1.0, 2.0]]),
            http.post("/invocations", json={"inputs": [[1.0, 2.0]]}),
        ]
        assert [answer.status_code for answer in refused] == [429] * 4
        assert all(80 <= int(answer.headers["retry-after"]) <= 100 for answer in refused)
        assert "at most 0.01 requests a second" in refused[0].json()["error"]
        assert refused[2].json()["code"] == "quota_exceeded"
        assert refused[3].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as remote:
            x = triton.InferInput("x", [1, 2], "FP32")
            x.set_data_from_numpy(np.ones((1, 2), np.float32))
            with pytest.raises(triton.InferenceServerException) as caught:
                remote.infer("tiny", [x])
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            assert remote.get_model_metadata("tiny").platform == "onnx", "questions about a model are no predictions"
        assert http.get("/v2/models/tiny/ready").status_code == 200
        metrics = http.get("/metrics").text
        assert 'crossfade_shed_total{model="tiny",priority="online",reason="quota",version="1.0.0"} 5.0' in metrics


def test_the_client_raises_what_the_server_raised():
    facts = {"name": "tiny", "limit": 1.0, "retry_after_seconds": 7}
    problem = {"code": "quota_exceeded", "detail": "d", "facts": facts}
    transport = httpx.MockTransport(lambda _: httpx.Response(429, json=problem))
    with Client("http://models.example", transport=transport) as client, pytest.raises(QuotaExceededError) as caught:
        client.status()
    assert caught.value.hint.startswith("try again after 7 s")
