"""Reading Prometheus: every kind of answer is told apart, and no server can hold up or mislead whoever asks."""

import json
import math
import shutil
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from crossfade.errors import InvalidQueryError, PrometheusUnavailableError, SettingsError
from crossfade.settings import TelemetrySettings
from crossfade.telemetry import prometheus
from crossfade.telemetry.prometheus import MAX_SAMPLES, Outcome, PrometheusClient, Sample, open_prometheus
from tests import servers
from tests.notifications.sinks import HttpSink

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = NOW.timestamp()


@pytest.fixture
def sink():
    with HttpSink() as running:
        yield running


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def client(sink, clock):
    return PrometheusClient(sink.url, clock=lambda: NOW, monotonic=lambda: clock[0])


def vector(*values, at=AT):
    result = [{"metric": {"model": f"m{number}"}, "value": [at, value]} for number, value in enumerate(values)]
    return answer("vector", result)


def answer(kind, result):
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


def problem(kind, text="no"):
    return json.dumps({"status": "error", "errorType": kind, "error": text}).encode()


def test_what_is_asked(sink):
    sink.body = vector("1")
    client = PrometheusClient(sink.url + "/prometheus/", token="a token", timeout=3, max_age=60)
    client.query('up{job="a"}', NOW)
    ((path, headers, body),) = sink.requests
    assert path == "/prometheus/api/v1/query"
    assert headers["Authorization"] == "Bearer a token"
    asked = {name: value[0] for name, value in parse_qs(body.decode()).items()}
    assert asked == {"query": 'up{job="a"}', "time": f"{AT:.3f}", "timeout": "3s"}


def test_numbers(sink, client):
    sink.body = vector("0.25", "-1e-3", "NaN", "+Inf", "-Inf", "7")
    found = client.query("x")
    assert found[0] == Sample({"model": "m0"}, 0.25, AT)
    assert [sample.value for sample in found if not math.isnan(sample.value)] == [0.25, -0.001, math.inf, -math.inf, 7]


def test_a_scalar(sink, client):
    sink.body = answer("scalar", [AT, "3"])
    assert client.query("3") == [Sample({}, 3.0, AT)]


@pytest.mark.parametrize(
    ("body", "outcome", "value"),
    [
        (vector("0.25"), Outcome.VALUE, 0.25),
        (vector("0"), Outcome.VALUE, 0.0),
        (vector("-0"), Outcome.VALUE, 0.0),
        (vector("1e308"), Outcome.VALUE, 1e308),
        (answer("scalar", [AT, "3"]), Outcome.VALUE, 3.0),
        (vector(), Outcome.EMPTY, None),
        (vector("1", "1"), Outcome.SEVERAL, None),
        (vector("NaN"), Outcome.NOT_A_NUMBER, None),
        (answer("scalar", [AT, "NaN"]), Outcome.NOT_A_NUMBER, None),
        (vector("+Inf"), Outcome.INFINITE, None),
        (vector("-Inf"), Outcome.INFINITE, None),
        (vector("1", at=AT - 121), Outcome.STALE, None),
        (vector("NaN", at=AT - 121), Outcome.STALE, None),
        (vector("1", at=AT + 121), Outcome.STALE, None),
        (vector("1", at=AT - 120), Outcome.VALUE, 1.0),
        (vector("1", at=1e300), Outcome.STALE, None),
    ],
)
def test_outcomes_are_told_apart(sink, client, body, outcome, value):
    sink.bodies = [body]
    sink.body = problem("bad_data")  # such as `timestamp` of a scalar
    sink.statuses = [200, 400]
    reading = client.read("x")
    assert (reading.outcome, reading.value) == (outcome, value)
    assert not client.resting


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (answer("matrix", [{"metric": {}, "values": [[AT, "1"]]}]), "matrix"),
        (answer("string", [AT, "text"]), "string"),
        (answer("vector", [{"metric": {}, "histogram": [AT, {"count": "1"}]}]), "histogram"),
        (vector(*["1"] * (MAX_SAMPLES + 1)), "more than 10000"),
    ],
)
def test_answers_of_another_kind(sink, client, body, says, monkeypatch):
    monkeypatch.setattr(prometheus, "MAX_ANSWER_BYTES", 10 * 2**20)
    sink.body = body
    with pytest.raises(InvalidQueryError, match=says):
        client.read("x")
    assert not client.resting


@pytest.mark.parametrize(("status", "kind"), [(400, "bad_data"), (422, "execution")])
def test_a_question_that_makes_no_sense_says_so_and_trips_nothing(sink, client, status, kind):
    for _ in range(5):
        sink.statuses, sink.body = [status], problem(kind, "parse error\nat char 3")
        with pytest.raises(InvalidQueryError, match="parse error at char 3"):
            client.query("sum(")
    assert not client.resting


@pytest.mark.parametrize("query", ["", "  ", "x" * 10_001, "a\0b"])
def test_questions_that_are_not_asked(sink, client, query):
    with pytest.raises(InvalidQueryError):
        client.query(query)
    assert sink.requests == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (503, problem("timeout", "query timed out")),
        (422, problem("timeout")),
        (400, b"<html>a proxy</html>"),
        (404, b"not found"),
        (401, b""),
        (302, b""),
        (200, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"status": "success"}'),
        (200, problem("bad_data")),
        (200, answer("vector", {})),
        (200, answer("vector", [1])),
        (200, answer("vector", [{"metric": {}}])),
        (200, answer("vector", [{"metric": {}, "value": [AT]}])),
        (200, answer("vector", [{"metric": {}, "value": [AT, 1]}])),
        (200, answer("vector", [{"metric": {"a": 1}, "value": [AT, "1"]}])),
        (200, answer("vector", [{"metric": {}, "value": ["1", "1"]}])),
        (200, answer("tensor", [])),
        (200, answer("scalar", [])),
        (200, vector("one")),
        (200, vector("1_0")),
        (200, vector(" 1")),
        (200, vector("")),
        (200, vector("nan")),
        (200, vector("Infinity")),
        (200, vector("1e999")),
        (200, b"[" * 50_000),
        (200, b"\xff\xfe"),
    ],
)
def test_answers_that_are_none(sink, client, status, body):
    sink.statuses, sink.body = [status], body
    with pytest.raises(PrometheusUnavailableError):
        client.read("x")


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b'{"hello": 1}', b"", b'{"status": "success"}'])
def test_a_success_that_is_no_answer_of_prometheus_says_so(sink, client, body):
    sink.body = body
    with pytest.raises(PrometheusUnavailableError, match="it answered 200, but with no answer of Prometheus"):
        client.query("x")


def test_an_answer_that_is_too_large(sink, client):
    sink.body = answer("string", [AT, "x" * prometheus.MAX_ANSWER_BYTES])
    with pytest.raises(PrometheusUnavailableError, match="larger"):
        client.query("x")


def test_an_answer_that_takes_too_long(sink):
    sink.stream = lambda out: time.sleep(0.3)
    with pytest.raises(PrometheusUnavailableError, match="no answer within"):
        PrometheusClient(sink.url, timeout=0.1).query("x")


def test_a_server_that_keeps_failing_is_left_alone_and_found_again(sink, client, clock):
    sink.statuses = [500] * 3
    for _ in range(3):
        with pytest.raises(PrometheusUnavailableError, match="500"):
            client.query("x")
    assert client.resting
    with pytest.raises(PrometheusUnavailableError, match="left alone for a while; lastly: it answered 500"):
        client.query("x")
    assert len(sink.requests) == 3
    clock[0] += 10
    sink.body = vector(str(AT))
    assert client.read("x").value == AT
    assert not client.resting


@pytest.mark.parametrize(
    ("measured", "outcome"), [(AT - 121, Outcome.STALE), (AT - 119, Outcome.VALUE), ("NaN", Outcome.VALUE)]
)
def test_the_real_time_of_a_sample_counts(sink, client, measured, outcome):
    sink.bodies = [vector("1"), vector(str(measured))]
    assert client.read("x").outcome is outcome
    assert b"timestamp%28x%0A%29" in sink.requests[1][2]


def test_nobody_listens():
    with pytest.raises(PrometheusUnavailableError):
        PrometheusClient("http://127.0.0.1:1").query("x")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:9090", "ftp://x", "http://", "http://[", "http://h:x", "http://h/?a", "http://u:p@h", "http://ä"],
)
def test_addresses_that_make_no_sense(url):
    with pytest.raises(SettingsError):
        PrometheusClient(url)


def test_neither_token_nor_answer_is_said(sink):
    sink.statuses, sink.body = [401], b"secret of the answer"
    with pytest.raises(PrometheusUnavailableError) as raised:
        PrometheusClient(sink.url, token="secret of ours").query("x")
    assert "secret" not in str(raised.value)


def test_the_settings_name_it(sink):
    assert open_prometheus(TelemetrySettings()) is None
    settings = TelemetrySettings(prometheus_url=sink.url, prometheus_token="a token", prometheus_timeout_seconds=2.0)
    client = open_prometheus(settings)
    sink.body = vector("1")
    client.query("x")
    assert sink.requests[0][1]["Authorization"] == "Bearer a token"
    assert b"timeout=2s" in sink.requests[0][2]
    assert "a token" not in repr(settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real Prometheus, with nothing to scrape but itself."""
    program = shutil.which("prometheus")
    if program is None:
        servers.absent("Prometheus: Debian's package `prometheus` has it")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    port = servers.free_port()
    scrape = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: itself
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
    (folder / "prometheus.yml").write_text(scrape)
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    running = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(lambda: b'"1"' in _fetch(f"{url}/api/v1/query?query=up"))
        yield url
    finally:
        running.terminate()
        running.wait(30)


def _fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return b""


def _await(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_same_with_a_real_server(server):
    client = PrometheusClient(server)
    assert client.read("up").value == 1
    assert client.read("1 + 1").value == 2
    assert client.query('up{job="itself"}')[0].labels["job"] == "itself"
    assert client.read("nothing_like_this").outcome is Outcome.EMPTY
    assert client.read("vector(0) / 0").outcome is Outcome.NOT_A_NUMBER
    assert client.read("vector(1) / 0").outcome is Outcome.INFINITE
    assert client.read("prometheus_http_requests_total or up").outcome is Outcome.SEVERAL
    for question in ("up[5m]", '"text"', "sum(", "up +"):
        with pytest.raises(InvalidQueryError):
            client.read(question)


def test_a_real_server_gives_old_samples_as_if_they_were_of_now(server):
    later = datetime.now(UTC) + timedelta(seconds=200)
    tolerant, strict = (PrometheusClient(server, max_age=seconds) for seconds in (1000, 100))
    assert tolerant.read("up", later).value == 1
    for question in ("up", 'up{job="itself"}', "(up)", "up # as a comment says"):
        assert strict.read(question, later).outcome is Outcome.STALE
    assert strict.read("up", later + timedelta(seconds=400)).outcome is Outcome.EMPTY
    assert strict.read("2", later).value == 2
