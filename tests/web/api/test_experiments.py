"""Experiments over REST: every verb of the client, rehearsals, and what hostile callers are told."""

import json

import httpx
import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from crossfade.client import AsyncClient
from crossfade.core.clock import utc_now
from crossfade.core.identity import new_id
from crossfade.errors import (
    ExperimentConflictError,
    ExperimentNotFoundError,
    InvalidAllocationError,
    InvalidExperimentError,
    LayerFullError,
    ReasonRequiredError,
)
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.experiments.record import Experiment, Status
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.rollups import fold
from crossfade.traffic.allocation.allocation import LayerSummary
from crossfade.traffic.allocation.specs import LayerSpec
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests import control
from tests.ledger.support import store as store_events

LATE = MetricSpec("late", kind="proportion", direction="down")
EXAMPLE = {
    "name": "late",
    "model": "tiny",
    "variants": [
        {"name": "old", "weight": 0.5, "version": "1.0.0"},
        {"name": "new", "weight": 0.5, "version": "2.0.0"},
    ],
    "metrics": [{"name": "late", "kind": "proportion", "direction": "down"}],
}


def plan(name="late", **options):
    both = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "2.0.0"))
    return ExperimentSpec(name, both, **{"model": "tiny", "metrics": (LATE,)} | options)


@pytest.fixture
def registered(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "2.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    return client


def observe(platform, name="late", units=400, late=(("old", 0.6), ("new", 0.3))):
    exposures, outcomes, at = [], [], int(utc_now().timestamp() * 1e6)
    for variant, rate in late:
        for number in range(units):
            seen = Exposure(new_id(), at, name, 1, variant, f"{variant}-{number}", 0.5)
            exposures.append(seen)
            outcomes.append(Outcome(new_id(), at, "late", float(number < rate * units), decision=seen.id))
    with platform.database.write() as connection:
        store_events(connection, exposures, outcomes)
        fold(connection, exposures, outcomes)


# --- every verb ---


def test_a_whole_life(registered, platform):
    client = registered
    spec = plan(analysis=AnalysisSpec(smallest_units=50), decision=DecisionSpec(minimum_runtime_seconds=0.0))
    made = client.create_experiment(spec)
    assert (made.status, made.created_by) == (Status.DRAFT, "tester")
    assert client.create_experiment(spec) == made
    assert client.start_experiment("late", reason="go").versions == {"old": "1.0.0", "new": "2.0.0"}
    assert client.pause_experiment("late", reason="lunch").status is Status.PAUSED
    assert client.start_experiment("late").status is Status.RUNNING
    assert client.reweight_experiment("late", {"old": 0.2, "new": 0.8}).revision == 2
    assert client.reweight_experiment("late", coverage=0.5).coverage == 0.5
    assert client.analyze_experiment("late").decision.action == "continue"
    observe(platform)
    report = client.analyze_experiment("late")
    assert (report.decision.action, report.decision.variant) == ("ship", "new")
    decided = client.decide_experiment("late")
    assert (decided.status, decided.verdict.action, decided.verdict.by) == (Status.DECIDED, "ship", "tester")
    assert client.model("tiny").aliases["champion"] == "2.0.0"
    assert [item.name for item in client.experiments().items] == ["late"]
    assert client.experiment("late") == decided


def test_stopping_and_lists(registered):
    client = registered
    for name in ("one", "other"):
        client.create_experiment(plan(name))
    assert client.stop_experiment("one", reason="no").reason == "no"
    assert [item.name for item in client.experiments(status="draft").items] == ["other"]
    assert [item.name for item in client.experiments(model="tiny").items] == ["other", "one"]
    page = client.experiments(limit=1)
    assert [item.name for item in client.experiments(cursor=page.next_cursor).items] == ["one"]


def test_what_was_done_is_told_with_who_and_why(registered, http):
    client = registered
    client.create_experiment(plan())
    client.create_experiment(plan("other"))
    client.start_experiment("late", reason="go")
    client.reweight_experiment("late", {"old": 0.2, "new": 0.8}, reason="slowly")
    client.stop_experiment("late", reason="no")
    page = client.experiment_history("late")
    assert [(item.what, item.by, item.reason) for item in page.items] == [
        ("stopped", "tester", "no"),
        ("reweight", "tester", "slowly"),
        ("running", "tester", "go"),
        ("create", "tester", ""),
    ]
    stopped, reweighted, _, created = page.items
    assert stopped.details == {"from": "running"}
    assert reweighted.details == {"weights": {"old": 0.2, "new": 0.8}, "coverage": None, "revision": 2}
    assert msgspec.convert(created.details["spec"], ExperimentSpec) == plan()
    seen, cursor = [], ""
    while cursor or not seen:
        part = client.experiment_history("late", limit=3, cursor=cursor)
        seen, cursor = [*seen, *part.items], part.next_cursor
    assert tuple(seen) == page.items
    for query in ("cursor=x", "limit=0", f"cursor={client.experiments(limit=1).next_cursor}"):
        assert http.get(f"/api/v1/experiments/late/history?{query}").status_code == 422, query


def test_layers(registered, http):
    client = registered
    assert client.layers() == ()
    made = client.create_layer(LayerSpec("all", holdout=0.1))
    assert made == LayerSummary("all", "unit_id", 0.1, "", {}, 0.9)
    assert client.create_layer(LayerSpec("all", holdout=0.1)) == made
    client.create_experiment(plan(layer="all", share=0.95))
    with pytest.raises(LayerFullError):
        client.start_experiment("late")
    with pytest.raises(InvalidAllocationError):
        client.create_layer(LayerSpec("all"))
    client.amend_experiment(plan(layer="all", share=0.6))
    client.start_experiment("late")
    assert http.get("/api/v1/layers").json() == [
        {"name": "all", "unit": "unit_id", "holdout": 0.1, "root": "", "experiments": {"late": 0.6}, "free": 0.3}
    ]
    client.stop_experiment("late", reason="enough")
    assert client.layers() == (made,)


async def test_the_asynchronous_client_does_the_same(registered, platform):
    transport = httpx.ASGITransport(create_app(platform))
    async with AsyncClient("http://localhost", transport=transport, principal="tester") as client:
        await client.create_experiment(plan())
        assert (await client.start_experiment("late")).status is Status.RUNNING
        assert (await client.reweight_experiment("late", coverage=0.5)).coverage == 0.5
        assert (await client.analyze_experiment("late")).decision.action == "continue"
        assert (await client.decide_experiment("late", "keep", reason="enough")).status is Status.DECIDED
        assert len((await client.experiments()).items) == 1
        assert (await client.layers()) == ()


def test_a_report_for_people_stands_alone(registered, http, platform):
    registered.create_experiment(plan(description="<script>alert(1)</script>"))
    assert http.get("/api/v1/experiments/late/report").status_code == 409
    registered.start_experiment("late")
    observe(platform)
    page = http.get("/api/v1/experiments/late/report")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "late" in page.text
    assert http.get("/api/v1/experiments/<script>/report").status_code == 404


# --- over HTTP ---


def test_the_example_of_the_command_line_is_taken(registered, http):
    answer = http.post("/api/v1/experiments", json=EXAMPLE, headers={"X-Crossfade-Principal": "ann"})
    assert answer.status_code == 201, answer.text
    assert http.post("/api/v1/experiments", json=EXAMPLE).status_code == 200
    changed = EXAMPLE | {"coverage": 0.5}
    answer = http.post("/api/v1/experiments", json=changed)
    assert (answer.status_code, answer.json()["code"]) == (409, "experiment_conflict")
    found = msgspec.json.decode(http.get("/api/v1/experiments/late").content, type=Experiment)
    assert found.spec.metrics[0] == LATE


def test_rehearsals_change_nothing(registered, http, platform):
    def rehearse(path, body):
        answer = http.post(f"/api/v1/{path}?dry_run=true", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["would"]

    revision = platform.database.revision()
    assert rehearse("experiments", EXAMPLE) == "write down experiment late with 2 variants"
    assert rehearse("layers", {"name": "all"}) == "make layer all"
    assert platform.database.revision() == revision
    registered.create_experiment(plan())
    registered.start_experiment("late")
    revision = platform.database.revision()
    assert rehearse("experiments/late/pause", {}) == "pause experiment late, which would be paused then"
    assert "stopped" in rehearse("experiments/late/stop", {"reason": "x"})
    assert "running" in rehearse("experiments/late/reweight", {"coverage": 0.5})
    assert rehearse("experiments/late/decide", {"action": "ship", "variant": "new"}) == "ship new: decided by a person"
    assert platform.database.revision() == revision
    assert registered.experiment("late").coverage == 1.0


IMPOSSIBLE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b"[" * 100_000,
    b'{"name": "late"}',
    json.dumps(EXAMPLE | {"surprise": 1}).encode(),
    json.dumps(EXAMPLE | {"variants": []}).encode(),
    json.dumps(EXAMPLE | {"variants": EXAMPLE["variants"][:1] * 2}).encode(),
    json.dumps(EXAMPLE | {"coverage": float("nan")}).encode(),
    json.dumps(EXAMPLE | {"coverage": 1e400}).encode(),
    json.dumps(EXAMPLE | {"name": "a" * 100_000}).encode(),
    json.dumps(EXAMPLE | {"metrics": [{"name": "late", "kind": "median"}]}).encode(),
    json.dumps(EXAMPLE | {"metrics": [{"name": "late", "outcome": "\ud800"}]}).encode(),
    json.dumps(EXAMPLE | {"segment": {"condition": {"a": {"$regex": "(a*)*$"}}}}).encode(),
    json.dumps(EXAMPLE | {"start_at": "yesterday"}).encode(),
    json.dumps(EXAMPLE | {"start_at": "2026-01-01T00:00:00"}).encode(),
    json.dumps(EXAMPLE | {"overrides": {"eve": "nobody"}}).encode(),
]


def test_a_specification_that_cannot_be_is_refused(registered, http, platform):
    revision = platform.database.revision()
    for body in IMPOSSIBLE:
        for path in ("experiments", "experiments?dry_run=true"):
            answer = http.post(f"/api/v1/{path}", content=body)
            assert answer.status_code == 422, (body[:200], answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 5_000
    assert platform.database.revision() == revision


HINTS = [
    ("experiments", "create", b"{"),
    ("experiments", "create", json.dumps(EXAMPLE | {"surprise": 1}).encode()),
    ("experiments", "create", b"[" * 100_000),
    ("layers", "layer", b'{"name": 7}'),
    ("experiments/late/stop", "stop", b'{"reason": 7}'),
    ("experiments/late/reweight", "reweight", b'{"weights": 7}'),
    ("experiments/late/decide", "decide", b'{"action": "explode"}'),
]


@pytest.mark.parametrize(("path", "command", "body"), HINTS)
def test_a_hint_names_the_command_that_shows_what_is_possible(http, path, command, body):
    problem = http.post(f"/api/v1/{path}", content=body).json()
    assert problem["code"] == "malformed_request"
    assert problem["hint"] == f"see the shape of a request with `crossfade experiments {command} --help`"


def test_one_that_is_not_there(http):
    for name in ("nobody", "x" * 300, "%00", "%ED%A0%80", "a%0Ab", "..%2f..", "'"):
        for verb in ("start", "pause", "stop", "reweight", "decide"):
            body = {"coverage": 0.5} if verb == "reweight" else {}
            answer = http.post(f"/api/v1/experiments/{name}/{verb}", json=body)
            assert answer.status_code in {404, 422}, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        for path in ("", "/history", "/analysis", "/report", "/bandit", "/export"):
            assert http.get(f"/api/v1/experiments/{name}{path}").status_code in {404, 422}, name


SENSELESS = [
    ("start", {"surprise": 1}),
    ("start", {"reason": 7}),
    ("stop", {}),
    ("stop", {"reason": " "}),
    ("stop", {"reason": "x" * 3_000}),
    ("pause", {"reason": "a\0"}),
    ("reweight", {}),
    ("reweight", {"weights": {"old": 1.0}}),
    ("reweight", {"weights": {"old": "1", "new": 0}}),
    ("reweight", {"weights": [1]}),
    ("reweight", {"coverage": 2}),
    ("decide", {"action": "explode"}),
    ("decide", {"action": "ship", "variant": 7}),
]


def test_what_makes_no_sense_changes_nothing(registered, http, platform):
    registered.create_experiment(plan())
    registered.start_experiment("late")
    revision = platform.database.revision()
    for verb, body in SENSELESS:
        answer = http.post(f"/api/v1/experiments/late/{verb}", json=body)
        assert answer.status_code == 422, (verb, body, answer.text)
    assert platform.database.revision() == revision


@pytest.mark.parametrize(
    ("path", "body", "accepted"),
    [
        ("/experiments", EXAMPLE | {"analysis": {"method": "bayes"}}, "'always_valid', 'fixed', 'group_sequential'"),
        ("/experiments/late/decide", {"action": "explode"}, "'', 'keep', 'ship'"),
        ("/rollouts", {"subject": "tiny", "version": "1.0.0", "plan": {"kind": "slow", "steps": []}}, "'blue_green', "),
        ("/safety/emergency/on", {"reason": "why", "mode": "off"}, "'block', 'fall_back'"),
    ],
)
def test_what_is_none_of_a_few_is_refused_with_those_that_are(http, path, body, accepted):
    answer = http.post(f"/api/v1{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request"), answer.text
    assert f"; accepted are {accepted}" in answer.json()["detail"]


def test_what_comes_at_the_wrong_time_is_a_conflict(registered, http):
    registered.create_experiment(plan())
    for verb, body in (("pause", {}), ("reweight", {"coverage": 0.5}), ("decide", {"action": "keep"})):
        answer = http.post(f"/api/v1/experiments/late/{verb}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "experiment_conflict")
    registered.start_experiment("late")
    for body in ({}, {"action": "ship"}, {"action": "ship", "variant": "nobody"}, {"variant": "new"}):
        assert http.post("/api/v1/experiments/late/decide", json=body).status_code == 409
    assert http.get("/api/v1/experiments?status=lost").status_code == 422
    assert http.get("/api/v1/experiments?cursor=x").status_code == 422
    assert http.get("/api/v1/experiments?model=No+Model").status_code == 422


def test_errors_arrive_as_what_they_are(registered):
    with pytest.raises(ExperimentNotFoundError):
        registered.experiment("nobody")
    with pytest.raises(InvalidExperimentError):
        registered.create_experiment(plan(shadows=("new",)))
    registered.create_experiment(plan())
    with pytest.raises(ExperimentConflictError, match="cannot become paused"):
        registered.pause_experiment("late")
    with pytest.raises(ReasonRequiredError, match="stopping an experiment needs a reason"):
        registered.stop_experiment("late", reason="")


def test_amending_over_rest(registered, http):
    registered.create_experiment(plan())
    assert registered.amend_experiment(plan(coverage=0.5), reason="slowly").coverage == 0.5
    answer = http.put("/api/v1/experiments/other", json=EXAMPLE)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_experiment")
    answer = http.put("/api/v1/experiments/late?dry_run=true", json=EXAMPLE)
    assert answer.status_code == 200
    assert registered.experiment("late").coverage == 0.5


def test_an_experiment_without_metrics_is_analyzed_too(registered, platform):
    registered.create_experiment(plan(metrics=()))
    registered.start_experiment("late")
    observe(platform)
    report = registered.analyze_experiment("late")
    assert report.comparisons == ()
    assert report.decision.action in {"continue", "review"}


def test_changes_are_logged(registered):
    structlog.reset_defaults()  # another test may have asked for warnings only
    with capture_logs() as logs:
        registered.create_experiment(plan())
        registered.start_experiment("late")
        registered.stop_experiment("late", reason="x")
    assert [each["event"] for each in logs] == [f"experiment.{verb}" for verb in ("create", "start", "stop")]


def test_the_routes_need_no_runtime(platform):
    assert platform.runtime is None
    with control.local_client(platform) as client:
        assert client.experiments().items == ()
    assert InProcessTransport(create_app(platform)) is not None
