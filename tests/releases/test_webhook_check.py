"""A check that asks somebody's service: over a real socket, signed, and believed only in words that are agreed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crossfade.notifications.channels import Channels
from crossfade.notifications.signing import verify
from crossfade.releases.announcing import Webhooks
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.checks.phase import CheckResult
from crossfade.releases.checks.spec import WebhookCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.settings import NotificationSettings
from tests.experiments.life import open_store

SECRET = "an example of a secret"


class Service(ThreadingHTTPServer):
    """Answers what a test says, and keeps what it heard."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.status, self.heard = b'{"result": "pass"}', 200, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/gate"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def service():
    running = Service()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def ask(stage, service):
    check = WebhookCheck("gate", service.url)
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=5), Step(1.0)), checks=(check,)))
    rollout = stage.reach("progressing")
    with Channels(NotificationSettings(private_hosts=("127.0.0.1",))) as channels:
        measurer = Measurer(stage.database, stage.health, open_store(stage.registry), None, Webhooks(channels, SECRET))
        yield lambda: measurer.measure(check, rollout, stage.clock())


def test_it_is_asked_with_a_signature_that_it_can_check(ask, service):
    assert ask().result is CheckResult.PASS
    ((headers, body),) = service.heard
    verify(SECRET, headers, body)
    assert headers["Crossfade-Event"] == "check.gate", "as the body says, where `kind` is what is rolled out"
    heard = json.loads(body)
    assert (heard["event"], heard["rollout"], heard["candidate"], heard["weight"]) == (
        "check.gate",
        "m-1",
        "1.0.1",
        0.5,
    )


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        (b'{"result": "fail", "reason": "the market is closed"}', CheckResult.FAIL, "the market is closed"),
        (b'{"result": "inconclusive"}', CheckResult.INCONCLUSIVE, "it answered inconclusive"),
        (b'{"result": "PASS"}', CheckResult.ERROR, "neither"),
        (b"{}", CheckResult.ERROR, "neither"),
        (b"[]", CheckResult.ERROR, "no JSON object"),
        (b"<html>", CheckResult.ERROR, "no JSON object"),
        (b'{"result": "pass"' + b" " * 70_000 + b"}", CheckResult.ERROR, ""),
    ],
)
def test_only_words_that_are_agreed_count(ask, service, answer, result, words):
    service.answer = answer
    found = ask()
    assert found.result is result
    assert words in found.reason


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_a_refusal_is_an_error_and_no_failure(ask, service, status):
    service.status = status
    assert ask().result is CheckResult.ERROR


def test_a_reason_without_end_is_cut(ask, service):
    service.answer = json.dumps({"result": "fail", "reason": "x" * 10_000}).encode()
    assert len(ask().reason) <= 500


def test_a_service_that_is_gone_is_an_error(ask, service):
    service.shutdown()
    service.server_close()
    assert ask().result is CheckResult.ERROR
