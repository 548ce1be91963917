"""That the campaign of rollouts notices every broken promise; it runs for minutes, so `make stress` runs it."""

from types import SimpleNamespace

from crossfade.releases.rollout import RolloutStatus
from tests.stress.open_loop import Seen
from tests.stress.rollouts import WAYS, Outcome


def platform(status, *, champion, candidate="1.0.1"):
    """A platform that has one rollout, from 1.0.0, which is over."""
    found = SimpleNamespace(
        status=RolloutStatus(status), candidate=candidate, stable="1.0.0", subject="m", reason="because"
    )
    return SimpleNamespace(
        rollouts=SimpleNamespace(find=lambda _name: found),
        registry=SimpleNamespace(model=lambda _name: SimpleNamespace(aliases={"champion": champion})),
    )


def test_plans_of_the_campaign_can_be():
    for plan, _ in WAYS.values():
        plan.checked()


def test_it_notices_what_happened_to_requests():
    traffic = Seen()
    traffic.versions.update({"1.0.0": 5, "1.0.1": 1})
    traffic.failed.append("ConnectError")
    traffic.mixed.append("1.0.0 answered [1.0]")
    outcome = Outcome()
    outcome.judge(traffic)
    assert outcome.violations == ["failed: ConnectError", "mixed: 1.0.0 answered [1.0]"]
    assert (outcome.requests, outcome.versions) == (7, 2)


def test_it_notices_another_end_and_another_champion():
    outcome = Outcome()
    outcome.end(platform("completed", champion="1.0.1"), "promoted", "m-1", "completed")
    outcome.end(platform("rolled_back", champion="1.0.0"), "returned", "m-2", "rolled_back")
    assert outcome.violations == []
    outcome.end(platform("rolled_back", champion="1.0.0"), "promoted", "m-3", "completed")
    outcome.end(platform("rolled_back", champion="1.0.1"), "by check", "m-4", "rolled_back")
    assert outcome.violations == [
        "m-3 (promoted) is rolled_back: because",
        "m-3 (promoted) ended, and the champion is not 1.0.1",
        "m-4 (by check) ended, and the champion is not 1.0.0",
    ]
    assert outcome.ended == {
        "promoted: completed": 1,
        "returned: rolled_back": 1,
        "promoted: rolled_back": 1,
        "by check: rolled_back": 1,
    }
