"""Several workers look like one server to whoever asks for metrics."""

import os
import signal
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossfade.serving.capture_files import find_files
from tests import control
from tests.serving.collector import collector
from tests.traffic.support import eventually

BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
ANSWERED = ("crossfade_requests_total", ("code", "2xx"), ("model", "tiny"), ("version", "1.0.0"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return control.registered_home(tmp_path_factory.mktemp("workers"), "1.0.0")


def scrape(server):
    """Ask whichever worker takes a new connection."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        for sample in family.samples
    }


def ask(server, times):
    for _ in range(times):
        assert httpx.post(f"{server.url}/v2/models/tiny/infer", json=BODY).status_code == 200


def places(server):
    """Return the number of every worker that has published."""
    return {dict(name[1:])["worker"] for name in scrape(server) if name[0] == "process_cpu_seconds_total"}


def worker_of(server):
    """Return the process id of one of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if "multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_text())


def test_a_scrape_answers_for_all_workers_and_outlives_one(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with control.running_server(home, "--workers", "2") as server:
        ask(server, 40)
        eventually(lambda: scrape(server)[ANSWERED] == 40)
        assert places(server) == {"0", "1"}
        assert scrape(server)["crossfade_slots", ("state", "ready")] == 2
        (folder,) = tmp_path.glob("crossfade-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        os.kill(worker_of(server), signal.SIGKILL)
        restarts = ("crossfade_worker_restarts_total", ("reason", "SIGKILL"))
        least = 40
        while (seen := scrape(server)).get(restarts) != 1 or seen["crossfade_slots", ("state", "ready")] != 2:
            assert seen[ANSWERED] >= least
            least = seen[ANSWERED]
            ask(server, 1)
        assert seen[ANSWERED] >= least
        assert server.stop(signal.SIGTERM) == 0
        assert not folder.exists()


def test_one_process_counts_for_itself(home):
    with control.running_server(home) as server:
        ask(server, 3)
        seen = scrape(server)
        assert seen[ANSWERED] == 3
        assert ("process_cpu_seconds_total",) in seen
        assert not [name for name in seen if name[0] == "crossfade_worker_restarts_total"]


def test_traces_and_captures_leave_every_worker(home, tmp_path):
    trace = "0af7651916cd43dd8448eb211c80319c"
    with collector() as collecting:
        looked_at = {
            "CROSSFADE_TELEMETRY__OTLP_ENDPOINT": collecting.url,
            "CROSSFADE_TELEMETRY__SAMPLE_RATIO": "0",
            "CROSSFADE_CAPTURE__MODELS": '{"tiny": {"ratio": 1}}',
            "CROSSFADE_CAPTURE__FOLDER": str(tmp_path / "captures"),
        }
        with control.running_server(home, "--workers", "2", **looked_at) as server:
            ask(server, 10)
            answer = httpx.post(
                f"{server.url}/v2/models/tiny/infer",
                json=BODY,
                headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
            )
            assert answer.json()["id"] == trace
            eventually(lambda: scrape(server).get(("crossfade_traces_total", ("result", "sent"))) == 1)
            assert server.stop(signal.SIGTERM) == 0  # what waited is written on the way out
    assert {span.trace_id.hex() for span in collecting.spans()} == {trace}
    assert [span.name for span in collecting.spans()] == ["predict tiny", "queue", "preprocess", "predict"]
    rows = [row for path in find_files(tmp_path / "captures") for row in pq.read_table(path)["request_id"].to_pylist()]
    assert len(rows) == len(set(rows)) == 11
    assert trace in rows


def test_a_dead_collector_costs_no_answer(home):
    away = {
        "CROSSFADE_TELEMETRY__OTLP_ENDPOINT": "http://127.0.0.1:9",
        "CROSSFADE_TELEMETRY__SAMPLE_RATIO": "1",
    }
    with control.running_server(home, **away) as server:
        ask(server, 20)
        eventually(lambda: scrape(server)["crossfade_traces_total", ("result", "failed")] > 0, seconds=20)
        assert server.stop(signal.SIGTERM) == 0
    assert server.log.read_text().count("does not take traces") == 1
    assert "Traceback" not in server.log.read_text()
