"""Rollouts over REST: every verb of the client, rehearsals, and what hostile callers are told."""

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from crossfade.client import AsyncClient, verbs
from crossfade.errors import InvalidPlanError, LatchedError, RolloutConflictError, RolloutNotFoundError
from crossfade.releases.plan import PRESETS, RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import RolloutStatus
from crossfade.web.app import create_app
from tests import control
from tests.releases.life import turn_until

WANTED = RolloutRequest("tiny", "2.0.0", "fast", reason="better recall")
BY_HAND = RolloutPlan((Step(0.2, approval=True), Step(1.0)))


@pytest.fixture
def registered(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "2.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    return client


@pytest.fixture
def begun(registered, platform):
    """A rollout with a fifth of the traffic, which waits for an approval."""
    registered.create_rollout(RolloutRequest("tiny", "2.0.0", BY_HAND))
    turn_until(platform, "tiny", "paused")
    return registered


def test_a_rollout_is_begun_shown_and_listed(registered):
    made = registered.create_rollout(WANTED)
    assert (made.name, made.status, made.stable, made.candidate) == ("tiny-1", "preparing", "1.0.0", "2.0.0")
    assert made.plan == PRESETS["fast"]
    assert registered.rollout("tiny-1") == registered.rollout("tiny") == made
    assert registered.rollouts().items == registered.rollouts(subject="tiny", status="preparing").items == (made,)
    assert registered.rollouts(status="completed").items == ()
    assert registered.rollout_history("tiny") == ()


def test_plans_are_listed(client):
    assert client.plans() == PRESETS


def test_a_forecast_says_how_soon_errors_would_be_seen(registered):
    found = registered.forecast_rollout(WANTED)
    assert (found.subject, found.stable, found.candidate, found.fast) == ("tiny", "1.0.0", "2.0.0", False)
    assert [step.weight for step in found.steps] == [0.1, 0.5, 1.0]
    assert 500 < found.steps[0].requests_to_see < 10_000
    assert found.steps[2].requests_to_see is None
    with pytest.raises(RolloutNotFoundError):
        registered.rollout("tiny")


def test_every_verb(begun, platform):
    assert begun.rollout("tiny").state.waiting_for == "approval"
    assert begun.promote_rollout("tiny", reason="looks fine").status is RolloutStatus.PROGRESSING
    assert begun.pause_rollout("tiny").status is RolloutStatus.PAUSED
    assert begun.resume_rollout("tiny").status is RolloutStatus.PROGRESSING
    assert begun.promote_rollout("tiny", to_end=True).weight == 1.0
    turn_until(platform, "tiny", "completed")
    assert begun.model("tiny").aliases["champion"] == "2.0.0"
    back = begun.roll_back_rollout("tiny", reason="complaints")
    assert (back.status, back.weight, back.latched) == (RolloutStatus.ROLLED_BACK, 0.0, True)
    assert begun.model("tiny").aliases["champion"] == "1.0.0"
    with pytest.raises(LatchedError) as refused:
        begun.retry_rollout("tiny")
    assert refused.value.code == "latched"
    again = begun.retry_rollout("tiny", override_latch=True, reason="it was the sensor")
    assert (again.name, again.status) == ("tiny-2", RolloutStatus.PREPARING)
    assert begun.abort_rollout("tiny").status is RolloutStatus.ABORTED
    kinds = [entry.kind for entry in begun.rollout_history("tiny-1")]
    assert kinds == ["step", "pause", "approve", "pause", "resume", "step", "complete", "rollback"]
    assert {entry.by for entry in begun.rollout_history("tiny-1")} == {"controller", "tester"}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (verbs.create_rollout(WANTED), "roll tiny out from 1.0.0 to 2.0.0 in 3 steps"),
        (verbs.pause_rollout("tiny-1"), None),
    ],
)
def test_a_rehearsal_of_what_is_not_there_yet(registered, verb, words):
    if words is None:
        with pytest.raises(RolloutNotFoundError):
            registered.send(verbs.dry_run(verb))
    else:
        assert registered.send(verbs.dry_run(verb)).would == words


@pytest.mark.parametrize(
    "call",
    [
        verbs.promote_rollout("tiny"),
        verbs.abort_rollout("tiny"),
        verbs.roll_back_rollout("tiny"),
        verbs.resume_rollout("tiny"),
    ],
)
def test_rehearsals_change_nothing(begun, call):
    before = begun.rollout("tiny")
    assert "rollout tiny-1, which would be" in begun.send(verbs.dry_run(call)).would
    assert begun.rollout("tiny") == before


def test_a_retry_can_be_rehearsed(begun):
    begun.abort_rollout("tiny")
    assert begun.send(verbs.dry_run(verbs.retry_rollout("tiny"))).would == "roll tiny out to 2.0.0 again"
    assert begun.rollout("tiny").name == "tiny-1"


def test_changes_are_logged_once_each(registered):
    with capture_logs() as logs:
        registered.create_rollout(WANTED)
        registered.abort_rollout("tiny")
    events = [line["event"] for line in logs if line["event"].startswith("rollout.")]
    assert events == ["rollout.create", "rollout.abort"]


async def test_the_asynchronous_client_has_the_same_verbs(registered, platform):
    transport = httpx.ASGITransport(create_app(platform))
    async with AsyncClient("http://localhost", transport=transport) as client:
        made = await client.create_rollout(WANTED)
        assert await client.rollout("tiny") == made
        assert (await client.abort_rollout("tiny")).status is RolloutStatus.ABORTED


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (RolloutRequest("tiny", "1.0.0"), RolloutConflictError),
        (RolloutRequest("tiny", "2.0.0", "reckless"), InvalidPlanError),
        (RolloutRequest("tiny", "2.0.0", kind="planet"), InvalidPlanError),
    ],
)
def test_what_cannot_be_is_refused(registered, wanted, error):
    with pytest.raises(error):
        registered.create_rollout(wanted)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/rollouts", b"{}", 422),
        ("/api/v1/rollouts", b'{"subject": "tiny", "version": "2.0.0", "unknown": 1}', 422),
        ("/api/v1/rollouts", b'{"subject": "tiny", "version": "2.0.0", "plan": {"steps": [{"weight": NaN}]}}', 422),
        ("/api/v1/rollouts", b'{"subject": "tiny", "version": "2.0.0", "plan": {"steps": [{"weight": 1e999}]}}', 422),
        ("/api/v1/rollouts", b"[" * 100_000, 422),
        ("/api/v1/rollout-forecasts", b'{"subject": "", "version": ""}', 422),
        (
            "/api/v1/rollout-forecasts",
            b'{"subject": "tiny", "version": "2.0.0", "plan": {"steps": [{"weight": 1, "minimum_units": 1%s}]}}'
            % (b"0" * 20),
            422,
        ),
        ("/api/v1/rollouts/nothing/pause", b"{}", 404),
        ("/api/v1/rollouts/..%2F..%2Fetc/pause", b"{}", 404),
    ],
)
def test_hostile_requests_are_refused_in_words(http, path, body, status):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert msgspec.json.decode(answer.content)["code"]
