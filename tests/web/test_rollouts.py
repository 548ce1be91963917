"""Rollouts in a real server: real traffic, a version that refuses what the old one takes, and one that is fine."""

import threading

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crossfade.client import Client
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from tests import control
from tests.traffic.support import eventually

PLAN = RolloutPlan((Step(0.3, minimum_units=5), Step(1.0)), checks=(ErrorRateCheck("errors"),))
QUESTION = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}


@pytest.fixture
def server(tmp_path):
    home = control.registered_home(tmp_path, "1.0.0", "1.0.1", "1.0.2")
    with control.running_server(home, CROSSFADE_RELEASES__POLL_SECONDS="0.1") as running:
        yield running


class Traffic(threading.Thread):
    """Asks the champion until it is told to stop.

    Attributes:
        answers: Status and version of each answer.
    """

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url = url
        self.answers = []
        self.ending = threading.Event()

    def run(self):
        with httpx.Client(base_url=self.url) as http:
            while not self.ending.wait(0.005):
                answer = http.post("/v2/models/tiny/infer", json=QUESTION)
                self.answers.append((answer.status_code, answer.json().get("model_version")))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join()


def test_a_version_takes_over_and_gives_back_without_a_failed_request(server):
    with Client(server.url) as client, Traffic(server.url) as traffic:
        client.create_rollout(RolloutRequest("tiny", "1.0.1", PLAN))
        eventually(lambda: client.rollout("tiny").status == "completed", 60)
        eventually(lambda: traffic.answers[-1] == (200, "1.0.1"))
        assert client.roll_back_rollout("tiny", reason="a try").weight == 0.0
        asked = len(traffic.answers)
        eventually(lambda: len(traffic.answers) > asked + 5)
        after = traffic.answers[asked + 1 :]
    assert {status for status, _ in traffic.answers} == {200}
    assert {version for _, version in after} == {"1.0.0"}
    assert {version for _, version in traffic.answers} == {"1.0.0", "1.0.1"}


def test_a_version_that_refuses_what_the_old_one_takes_is_taken_back(tmp_path):
    """2.0.0 wants three numbers where everybody sends two."""
    home = control.registered_home(tmp_path, "1.0.0")
    with (
        control.running_server(home, CROSSFADE_RELEASES__POLL_SECONDS="0.1") as server,
        Client(server.url) as client,
        Traffic(server.url) as traffic,
    ):
        model = LogisticRegression().fit(np.eye(3), [0, 1, 1])
        client.register("tiny", model, example=np.eye(3), version="2.0.0")
        client.create_rollout(RolloutRequest("tiny", "2.0.0", PLAN))
        eventually(lambda: client.rollout("tiny").status == "rolled_back", 60)
        over = len(traffic.answers)
        # the process follows within a moment
        eventually(lambda: len(traffic.answers) > over + 20 and set(traffic.answers[-20:]) == {(200, "1.0.0")})
        rollout = client.rollout("tiny")
        aliases = client.model("tiny").aliases
    assert "check `errors` failed" in rollout.reason
    assert (rollout.weight, rollout.latched) == (0.0, True)
    assert aliases["champion"] == "1.0.0"
    assert 0 < sum(status != 200 for status, _ in traffic.answers) < 200
