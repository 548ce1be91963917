"""Alerts over REST and both clients; and from a real server's own evaluation to a real receiver."""

import asyncio
import json
import time

import httpx
import pytest
import yaml

from crossfade.client import AsyncClient, Client, verbs
from crossfade.errors import ChannelNotFoundError, InvalidSilenceError, SilenceNotFoundError
from crossfade.notifications import signing
from crossfade.releases.requests import RolloutRequest
from tests import control
from tests.notifications.sinks import HttpSink
from tests.traffic.support import eventually

SECRET = "an example of a secret"


def test_nothing_fires_on_an_empty_platform(client):
    assert client.alerts() == ()
    assert client.alerts(status="firing", rule="A", model="churn", limit=1) == ()


def test_rules(client):
    names = [rule.name for rule in client.alert_rules()]
    assert "ModelErrorRateHigh" in names
    groups = yaml.safe_load(client.prometheus_rules())["groups"]
    assert [rule["alert"] for rule in groups[1]["rules"]] == names


def test_the_rule_file_is_yaml(http):
    answer = http.get("/api/v1/alerts/rules/prometheus")
    assert answer.headers["content-type"].startswith("application/yaml")


def test_silences(client):
    made = client.silence(["model=churn", "severity!=page"], seconds=60, reason="test")
    assert client.silences() == (made,)
    assert made.created_by == "tester"
    ended = client.end_silence(made.id, reason="done")
    assert ended.ended_by == "tester"
    assert client.silences() == ()
    assert client.silences(over=True) == (ended,)
    with pytest.raises(SilenceNotFoundError):
        client.end_silence("nobody")


def test_rehearsals(client):
    call = verbs.silence(["model=churn"], seconds=60, reason="test")
    assert client.send(verbs.dry_run(call)).would == "tell nobody of alerts with model=churn for 60 s"
    assert client.silences() == ()
    made = client.send(call)
    assert client.send(verbs.dry_run(verbs.end_silence(made.id))).would == f"end silence {made.id}"
    assert client.send(verbs.dry_run(verbs.try_channels())).would == "send a test to log"
    assert client.silences() == (made,)


def test_bodies_that_make_no_sense(http):
    good = {"matchers": ["model=x"], "seconds": 60, "reason": "r"}
    for change in (
        {"matchers": []},
        {"matchers": ["x"]},
        {"matchers": "model=x"},
        {"seconds": "60"},
        {"seconds": 1e999},
        {"seconds": None},
        {"reason": ""},
        {"more": 1},
    ):
        answer = http.post("/api/v1/alerts/silences", content=json.dumps(good | change))
        assert answer.status_code == 422, change
        assert answer.json()["hint"]


def test_errors_arrive_as_what_they_are(client):
    with pytest.raises(InvalidSilenceError):
        client.silence([], seconds=60, reason="test")
    with pytest.raises(ChannelNotFoundError):
        client.try_channels("nobody")


def test_channels_are_tried(client):
    (told,) = client.try_channels("log", reason="to see")
    assert (told.channel, told.problem) == ("log", "")


def test_questions_that_make_no_sense(http):
    for query in ("status=loud", "limit=0", "limit=1001", "model=A%20B", "rule=" + "x" * 65):
        assert http.get(f"/api/v1/alerts?{query}").status_code == 422


@pytest.mark.timeout(180)
def test_from_failing_requests_to_a_signed_webhook(tmp_path):
    """A real server whose model gets many requests, and fails at the last; a real receiver hears of it once."""
    home = control.registered_home(tmp_path, "1.0.0")
    with HttpSink() as sink:
        rules = {"ops": {"url": sink.url + "/hook", "secret": SECRET}}
        settings = {
            "CROSSFADE_NOTIFICATIONS__WEBHOOKS": json.dumps(rules),
            "CROSSFADE_NOTIFICATIONS__PRIVATE_HOSTS": '["127.0.0.1"]',
            "CROSSFADE_ALERTS__POLL_SECONDS": "0.2",
            "CROSSFADE_ALERTS__GROUP_WAIT_SECONDS": "0.1",
            "CROSSFADE_ALERTS__QUEUE_DEPTH": "1",
            "CROSSFADE_SLO__LATENCY_SECONDS": "0.0000001",
            "CROSSFADE_SLO__MIN_REQUESTS": "10",
        }
        with control.running_server(home, **settings) as server, Client(server.url) as client:
            for _ in range(20):
                client.predict("tiny", [[1.0, 2.0]])
            deadline = time.monotonic() + 60
            while not sink.requests:
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.05)
            path, headers, body = sink.requests[0]
            signing.verify(SECRET, headers, body)
            event = json.loads(body)
            assert (path, event["kind"], event["model"], event["severity"]) == ("/hook", "alert.firing", "tiny", "page")
            assert {each["rule"] for each in event["details"]["firing"]} <= {
                "LatencyBudgetBurnsFast",
                "LatencyBudgetBurns",
            }
            found = asyncio.run(_firing(server.url))
            assert {alert.rule for alert in found} >= {"LatencyBudgetBurnsFast", "LatencyBudgetBurnsSlowly"}
            deadline = time.monotonic() + 60
            shown = ""
            while 'crossfade_alerts_firing{alert="LatencyBudgetBurns",model="tiny",severity="page"} 1.0' not in shown:
                assert time.monotonic() < deadline, shown
                shown = httpx.get(f"{server.url}/metrics").text
            assert 'crossfade_notifications_total{channel="ops",result="sent"}' in shown
        log = server.log.read_text()
        assert SECRET not in log
        assert "Traceback" not in log


def test_whoever_wants_to_know_hears_of_every_change_of_a_rollout(tmp_path):
    """A real server, a real receiver; one of the channels hears only what asks for somebody."""
    home = control.registered_home(tmp_path, "1.0.0", "1.0.1")
    with HttpSink() as sink:
        receivers = {
            name: {"url": f"{sink.url}/{name}", "secret": SECRET, "least": least}
            for name, least in (("all", "info"), ("grave", "ticket"))
        }
        settings = {
            "CROSSFADE_NOTIFICATIONS__WEBHOOKS": json.dumps(receivers),
            "CROSSFADE_NOTIFICATIONS__PRIVATE_HOSTS": '["127.0.0.1"]',
        }
        with control.running_server(home, **settings) as server, Client(server.url) as client:
            client.create_rollout(RolloutRequest("tiny", "1.0.1", "careful"))
            client.pause_rollout("tiny", reason="lunch")
            client.abort_rollout("tiny", reason="never mind")
            eventually(lambda: any("rollout.aborted" in str(body) for _, _, body in sink.requests), 60)
            eventually(lambda: "/grave" in {path for path, _, _ in sink.requests}, 60)
        told = {"/all": [], "/grave": []}
        for path, headers, body in sink.requests:
            signing.verify(SECRET, headers, body)
            told[path].append(json.loads(body))
    kinds = [event["kind"] for event in told["/all"]]
    assert {"rollout.preparing", "rollout.paused", "rollout.aborted"} <= set(kinds)
    assert [event["kind"] for event in told["/grave"]] == ["rollout.paused"]
    assert len({event["id"] for event in told["/all"]}) == len(kinds)
    assert told["/grave"][0]["details"]["candidate"] == "1.0.1"


async def _firing(url):
    async with AsyncClient(url) as client:
        return await client.alerts(status="firing", model="tiny")
