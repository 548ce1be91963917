"""Kept answers over HTTP, by real servers: one process, several, with Redis, and with a Redis that is no more."""

import contextlib
import socket
import threading
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossfade.client import Client
from tests import control, servers
from tests.traffic.support import eventually

ON = {"CROSSFADE_CACHE__MODE": "on"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry whose model `tiny` has a champion with factor 1, and a second version with factor 2."""
    return control.registered_home(tmp_path_factory.mktemp("cached"), "1.0.0", "1.0.1")


@contextlib.contextmanager
def serving(home, *options, **settings):
    with (
        control.running_server(home, *options, **ON, **settings) as server,
        httpx.Client(base_url=server.url, timeout=20) as http,
    ):
        yield server, http
        http.close()
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


def infer(http, *values, model="tiny", **more):
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [float(value) for value in values]}
    answer = http.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def answered(http, *values, **more):
    return infer(http, *values, **more)["outputs"][0]["data"][0]


def lookups(http):
    return {key: count for key, count in http.get("/api/v1/cache").json()["lookups"].items() if count}


def metric(http, name):
    families = text_string_to_metric_families(http.get("/metrics").text)
    return {
        tuple(sorted(sample.labels.values())): sample.value
        for f in families
        for sample in f.samples
        if sample.name == name
    }


def test_equal_requests_are_computed_once_and_every_request_keeps_its_own_id(home):
    with serving(home) as (_, http):
        first, second = infer(http, 1, 2, id="first"), infer(http, 1, 2, id="second")
        assert (first.pop("id"), second.pop("id")) == ("first", "second")
        assert first == second
        assert answered(http, 2, 2) == 4.0
        assert http.post("/api/v1/predict/tiny", json={"rows": [[1.0, 2.0]]}).json()["predictions"] == [[3.0]]
        assert lookups(http) == {"computed": 2, "memory": 2}, "both front doors ask the same question"
        assert metric(http, "crossfade_cache_lookups_total")["1.0.0", "memory", "tiny"] == 2
        assert metric(http, "crossfade_batch_rows_sum")["1.0.0", "tiny"] == 2
        assert metric(http, "crossfade_cache_bytes")[()] > 0
        assert metric(http, "crossfade_requests_total")["1.0.0", "2xx", "tiny"] == 4


def test_the_very_same_request_is_answered_with_the_same_bytes_and_counted(home):
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    with serving(home) as (_, http):
        for body in ({"inputs": [tensor]}, {"inputs": [tensor], "parameters": {"binary_data_output": True}}):
            answers = [http.post("/v2/models/tiny/infer", json=body) for _ in range(3)]
            assert len({answer.content for answer in answers}) == 1
            assert len({answer.headers.get("inference-header-content-length") for answer in answers}) == 1
        assert lookups(http) == {"computed": 1, "memory": 5}
        assert metric(http, "crossfade_requests_total")["1.0.0", "2xx", "tiny"] == 6
        assert metric(http, "crossfade_rows_total")["1.0.0", "tiny"] == 6
        packed = http.post("/v2/models/tiny/infer", json={"inputs": [tensor]}, headers={"accept-encoding": "gzip"})
        assert packed.json() == http.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json()
        traced = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        answer = http.post("/v2/models/tiny/infer", json={"inputs": [tensor]}, headers=traced).json()
        assert answer["id"] == "0af7651916cd43dd8448eb211c80319c", "a trace is part of the answer"


def test_off_nothing_is_kept(home):
    with control.running_server(home) as server, httpx.Client(base_url=server.url) as http:
        for _ in range(2):
            answered(http, 1, 2)
        assert lookups(http) == {}
        assert metric(http, "crossfade_batch_rows_sum")["1.0.0", "tiny"] == 2


def test_a_moved_alias_and_a_rollback_never_give_the_other_versions_answer(home):
    with serving(home) as (server, http), Client(server.url) as client:
        for version, factor in (("1.0.1", 2), ("1.0.0", 1), ("1.0.1", 2), ("1.0.0", 1)):
            client.move_alias("tiny", "champion", version)
            for _ in range(2):
                assert answered(http, 1, 2) == factor * 3.0
        assert lookups(http) == {"computed": 2, "memory": 6}, (
            "what was kept before the move is found after the way back"
        )


def test_an_invalidation_reaches_every_process(home):
    with serving(home, "--workers", "2") as (server, http), Client(server.url) as client:
        http.headers["connection"] = "close"  # every request is a new connection, so every process gets some of them

        def ask_everybody():
            for _ in range(30):
                assert answered(http, 1, 2) == 3.0
            return max(lookups(http).get("computed", 0) for _ in range(30))

        assert ask_everybody() == 1
        done = client.invalidate_answers("tiny", reason="test")
        assert (done.processes, done.late) == (2, ())
        assert ask_everybody() == 2
        assert client.invalidate_answers("tiny:1.0.1").version == "1.0.1"
        assert ask_everybody() == 2, "another version's answers are kept"


def test_servers_share_what_they_computed(home, redis_url):
    shared = {"CROSSFADE_CACHE__REDIS_URL": redis_url, "CROSSFADE_CACHE__REDIS_TIMEOUT_SECONDS": "2"}
    with serving(home, **shared) as (_, http):
        assert answered(http, 5, 6) == 11.0
        time.sleep(0.2)
    with serving(home, **shared) as (server, http):
        for _ in range(2):
            assert answered(http, 5, 6) == 11.0
        assert lookups(http) == {"shared": 1, "memory": 1}
        with Client(server.url) as client:
            client.invalidate_answers("tiny")
        assert answered(http, 5, 6) == 11.0
        assert lookups(http) == {"shared": 1, "memory": 1, "computed": 1}


@contextlib.contextmanager
def silent_server():
    """Accepts connections, and never says anything."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


@contextlib.contextmanager
def dead_server():
    yield f"redis://127.0.0.1:{servers.free_port()}/0"


@pytest.mark.parametrize("server", [silent_server, dead_server])
def test_predictions_go_on_without_redis_and_soon_do_not_wait_for_it(home, server):
    with server() as url, serving(home, CROSSFADE_CACHE__REDIS_URL=url) as (_, http):
        for number in range(10):
            assert answered(http, number, 1) == number + 1.0
        eventually(lambda: set(metric(http, "crossfade_cache_breaker_open").values()) == {1.0}, 20)
        before = metric(http, "crossfade_cache_problems_total")["read",]
        for number in range(100, 120):
            assert answered(http, number, 1) == number + 1.0
        after = metric(http, "crossfade_cache_problems_total")["read",]
        assert before >= 5
        assert after - before < 10, "the breaker is open: only probes ask"
        assert answered(http, 1, 1) == 2.0
        assert lookups(http)["memory"] == 1
        assert http.get("/api/v1/cache").json()["breakers"]["read"] == "open"


def test_a_full_redis_does_not_matter(home):
    with (
        servers.redis("--maxmemory", "1", "--maxmemory-policy", "noeviction") as url,
        serving(home, CROSSFADE_CACHE__REDIS_URL=url) as (_, http),
    ):
        for number in range(10):
            assert answered(http, number, 1) == number + 1.0
        assert metric(http, "crossfade_cache_problems_total")["write",] >= 1
