"""A whole experiment on a real server: two versions, 600 requests, their outcomes, and the better version ships."""

import threading

import httpx
import numpy as np
import pytest

from crossfade.client import Client
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.experiments.record import Status
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.requests import ReportedOutcome
from crossfade.registry.versions import Card
from tests import control
from tests.traffic.support import eventually

FLIGHTS = 600
SPEC = ExperimentSpec(
    "late_flights",
    (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.1.0")),
    model="delay",
    metrics=(
        MetricSpec("log_loss", outcome="late", loss="log", direction="down", missing="skip"),
        MetricSpec(
            "failed", kind="ratio", outcome="error", denominator="exposures", role="guardrail", direction="down"
        ),
    ),
    analysis=AnalysisSpec(smallest_units=50),
    decision=DecisionSpec(minimum_runtime_seconds=0.0),
)


@pytest.fixture(scope="module")
def flights():
    """Features of flights, and whether each was late, which the first of them says."""
    random = np.random.default_rng(7)
    features = random.normal(size=(FLIGHTS, 3))
    late = (features[:, 0] + random.normal(scale=0.5, size=FLIGHTS) > 0).astype(int)
    return features, late


def register_versions(client, features, late):
    """Register a version that knows nothing, and one that has learned."""
    linear = pytest.importorskip("sklearn.linear_model")
    shuffled = np.random.default_rng(3).permutation(late)
    for version, labels in (("1.0.0", shuffled), ("1.1.0", late)):
        model = linear.LogisticRegression().fit(features, labels)
        client.register("delay", model, version=version, example=features[:5], card=Card(description=version))
    client.move_alias("delay", "champion", "1.0.0")


class Passengers:
    """Keeps asking about flights in the background, whatever happens to the server's experiments."""

    def __init__(self, url, features):
        self.answers = []
        self._url = url
        self._rows = features[:20].tolist()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def _ask(self):
        with httpx.Client(base_url=self._url, timeout=30) as http:
            number = 0
            while not self._ending.wait(0.02):
                number += 1
                body = {"rows": [self._rows[number % 20]], "unit_id": f"passenger-{number % 40}"}
                self.answers.append(http.post("/api/v1/predict/delay", json=body).status_code)


def ask_about(url, features):
    """Ask about each flight once; returns what was answered."""
    answers = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for number, row in enumerate(features.tolist()):
            answer = http.post("/api/v1/predict/delay", json={"rows": [row], "unit_id": f"flight-{number}"})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
    return answers


def test_the_better_version_ships_and_nobody_gets_an_error(tmp_path, flights):
    features, late = flights
    with control.running_server(tmp_path / "home") as server, Client(server.url) as client:
        register_versions(client, features, late)
        client.create_experiment(SPEC)
        assert client.start_experiment("late_flights").status is Status.RUNNING
        eventually(lambda: "experiment" in predicted(server.url, features[0]))
        # passengers take part like everybody: their outcomes are not known, so the metric leaves them out
        with Passengers(server.url, features) as passengers:
            answers = ask_about(server.url, features)
            assert {answer["experiment"]["variant"] for answer in answers} == {"old", "new"}
            for answer in answers:
                assert answer["version"] == {"old": "1.0.0", "new": "1.1.0"}[answer["experiment"]["variant"]]
            client.record_outcomes(
                [
                    ReportedOutcome(f"landed-{number}", "late", float(late[number]), decision=decided["decision_id"])
                    for number, decided in enumerate(answer["experiment"] for answer in answers)
                ]
            )
            eventually(lambda: client.analyze_experiment("late_flights").decision.action == "ship", 30)
            report = client.analyze_experiment("late_flights")
            assert report.decision.variant == "new"
            loss = next(each for each in report.comparisons if each.metric == "log_loss")
            assert loss.reading == "better"
            assert sum(count for _, count in report.health.units) >= FLIGHTS
            decided = client.decide_experiment("late_flights")
            assert (decided.status, decided.verdict.action, decided.verdict.variant) == (Status.DECIDED, "ship", "new")
            assert client.model("delay").aliases["champion"] == "1.1.0"
            # before the server follows, the experiment itself answers every other one by 1.1.0
            eventually(lambda: "experiment" not in predicted(server.url, features[0]))
            assert predicted(server.url, features[0])["version"] == "1.1.0"
        assert len(passengers.answers) > 20
        assert set(passengers.answers) == {200}
        assert server.stop() == 0
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "experiment.decide" in log


def predicted(url, row):
    return httpx.post(f"{url}/api/v1/predict/delay", json={"rows": [row.tolist()], "unit_id": "somebody"}).json()
