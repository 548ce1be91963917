"""Who is told of rollouts."""

import pytest

from crossfade.alerts.sources import DatabaseSources
from crossfade.errors import InvalidPlanError, NotificationFailedError, RolloutConflictError, WebhookRefusedError
from crossfade.notifications.channels import Channels
from crossfade.notifications.outbox import post, waiting
from crossfade.releases.announcing import Reach, Webhooks, event_of
from crossfade.releases.checks.spec import ExperimentCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.store import RolloutStore
from crossfade.settings import NotificationSettings
from tests.releases.life import PLAN, SUBJECTS

SECRET = "an example of a secret"


def test_a_rollback_is_told_with_its_reason_and_asks_for_attention(stage):
    stage.begin()
    rollout = stage.reach("rolled_back", old=90, new=10, new_bad=9)
    event = event_of(rollout, stage.clock())
    assert (event.kind, event.severity, event.model) == ("rollout.rolled_back", "ticket", "m")
    assert event.subject == "m:1.0.1"
    assert "was rolled back: check `errors` failed" in event.summary
    assert event.details["weight"] == 0.0
    assert event.details["rollout"] == "m-1"


def test_a_rollback_after_the_end_is_one_alert_though_the_champion_moves_back_with_it(stage):
    stage.begin()
    stage.reach("completed")
    stage.store.rollback("m", reason="regret")
    assert stage.champion == "1.0.0"
    (known,) = DatabaseSources(stage.database, stage.clock).rollbacks()
    assert (known.labels, known.reason) == ({"subject": "m-1", "model": "m"}, "regret")


def test_what_goes_well_is_for_information(stage):
    stage.begin()
    rollout = stage.reach("completed")
    event = event_of(rollout, stage.clock())
    assert (event.kind, event.severity) == ("rollout.completed", "info")
    assert "is complete: all 3 steps passed" in event.summary


def test_waiting_for_a_person_asks_for_one(stage):
    stage.begin(PLAN)
    going = event_of(stage.reach("progressing"), stage.clock())
    assert "goes on in step 1 of " in going.summary
    assert going.summary.endswith(f", with weight {going.details['weight']}: version 1.0.1 is ready")
    event = event_of(stage.store.pause("m", reason="lunch"), stage.clock())
    assert (event.kind, event.severity) == ("rollout.paused", "ticket")
    assert event.summary.endswith("waits for a person: lunch")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "http://169.254.169.254/", "ftp://example.com/", "http://[::1]/"]
)
def test_a_plan_cannot_make_the_server_call_what_is_private(url):
    with Channels(NotificationSettings()) as channels, pytest.raises(WebhookRefusedError):
        Webhooks(channels, SECRET).ask(url, {"event": "check.gate"})


def test_a_host_that_is_allowed_and_silent_is_an_error_in_words():
    settings = NotificationSettings(private_hosts=("127.0.0.1:1", "127.0.0.1"))
    with Channels(settings) as channels, pytest.raises(NotificationFailedError):
        Webhooks(channels, SECRET).ask("http://127.0.0.1:1/gate", {"event": "check.gate"})


GATE, QUERY = "http://10.0.0.7/gate", ThresholdCheck("up", query="up", minimum=1.0)


@pytest.mark.parametrize(
    ("check", "secret", "prometheus", "said"),
    [
        (QUERY, SECRET, False, "no server is configured: set `CROSSFADE_TELEMETRY__PROMETHEUS_URL`"),
        (WebhookCheck("gate", "https://hooks.example.com/gate"), "", True, "set `CROSSFADE_RELEASES__WEBHOOK_SECRET`"),
        (WebhookCheck("gate", "https://hooks.example.com/gate"), "short", True, "at least 16 characters"),
        (WebhookCheck("gate", "http://127.0.0.1/gate"), SECRET, True, "loopback"),
        (WebhookCheck("gate", "ftp://example.com/gate"), SECRET, True, "only `http` and `https` are allowed"),
        (WebhookCheck("gate", "https://ann:pass@example.com/"), SECRET, True, "has no user, password or fragment"),
        (WebhookCheck("gate", "http://169.254.169.254/latest"), SECRET, True, "where clouds keep their metadata"),
        (ExperimentCheck("late", "nobody"), SECRET, True, "waits for the experiment `nobody`, and there is none"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_check_that_can_never_be_answered_is_refused_at_once(stage, check, secret, prometheus, said, dry_run):
    plan = RolloutPlan((Step(0.5), Step(1.0)), checks=(check,))
    with Channels(NotificationSettings(private_hosts=("10.0.0.7", "169.254.169.254"))) as channels:
        reach = Reach(channels, secret, prometheus=prometheus)
        store = RolloutStore(stage.database, SUBJECTS, None, stage.clock, objection=reach.objection)
        with pytest.raises(InvalidPlanError, match=rf"the check `{check.name}` .*{said}"):
            store.create(RolloutRequest("m", "1.0.1", plan), dry_run=dry_run)
    assert not store.list().items


def test_what_can_be_asked_is_let_through(stage):
    plan = RolloutPlan((Step(0.5), Step(1.0)), checks=(WebhookCheck("gate", GATE), QUERY))
    with Channels(NotificationSettings(private_hosts=("10.0.0.7",))) as channels:
        reach = Reach(channels, SECRET, prometheus=True)
        store = RolloutStore(stage.database, SUBJECTS, None, stage.clock, objection=reach.objection)
        assert store.create(RolloutRequest("m", "1.0.1", plan)).plan.checks == plan.checks


def test_what_happens_is_told_in_its_own_transaction(stage):
    told = []

    def tell(connection, rollout):
        told.append((connection.in_transaction(), rollout.status.value))

    store = RolloutStore(stage.database, SUBJECTS, None, stage.clock, tell)
    store.create(RolloutRequest("m", "1.0.1", PLAN))
    store.abort("m")
    assert told == [(True, "preparing"), (True, "aborted")]


def test_messages_of_what_did_not_happen_are_not_sent(stage):
    def tell(connection, rollout):
        post(connection, event_of(rollout, stage.clock()), ("ops",), stage.clock())

    store = RolloutStore(stage.database, SUBJECTS, None, stage.clock, tell)
    store.create(RolloutRequest("m", "1.0.1", PLAN), dry_run=True)
    with pytest.raises(RolloutConflictError):
        store.create(RolloutRequest("m", "1.0.0", PLAN))
    with stage.database.read() as connection:
        assert waiting(connection, ()) == []
    store.create(RolloutRequest("m", "1.0.1", PLAN))
    store.abort("m", dry_run=True)
    with stage.database.read() as connection:
        assert [event.kind for _, event in waiting(connection, ())] == ["rollout.preparing"]
