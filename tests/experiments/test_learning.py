"""Bandits learn what has matured, once, and their weights follow."""

import msgspec
import pytest
from sqlalchemy import select

from crossfade.core.clock import utc_now
from crossfade.errors import (
    ExperimentConflictError,
    ExperimentNotFoundError,
    InvalidExperimentError,
)
from crossfade.experiments.learned import Learned
from crossfade.experiments.learning import Learner
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.events import Outcome
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import start
from crossfade.storage.changes import verify_audit
from crossfade.storage.lease import Lease, LostLeaseError
from crossfade.storage.tables import audit, experiments
from crossfade.traffic.allocation.allocation import Allocation
from crossfade.traffic.routing import Asker, ExperimentRoute, Router, Traffic
from tests.experiments.bandits import START, spec
from tests.ledger.support import store


def stored(casino, name="coins"):
    with casino.database.read() as connection:
        row = connection.execute(select(experiments).where(experiments.c.name == name)).one()
    return msgspec.json.decode(row.learned, type=Learned), msgspec.json.decode(row.routing, type=ExperimentRoute)


def test_weights_follow_what_was_earned(casino):
    casino.begin(spec())
    assert casino.weights() == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    casino.wait(10)
    for arm, wins in (("a", 10), ("b", 11), ("c", 40)):
        casino.play(arm, wins, 100 - wins)
    casino.wait(10)
    assert casino.learn() == 300
    weights = casino.weights()
    assert weights["c"] > 0.85
    assert min(weights.values()) >= 0.05 - 1e-12
    assert sum(weights.values()) == pytest.approx(1)
    report = casino.learner.report("coins")
    assert (report.kind, report.decisions, report.late) == ("beta_thompson", 300, 0)
    assert report.weights == pytest.approx(weights)
    assert report.chances["c"] > 0.99


def test_it_knows_what_the_policy_alone_would_know(casino):
    casino.begin(spec())
    casino.wait(10)
    played = [(casino.play(arm, wins, 50 - wins), wins) for arm, wins in (("a", 5), ("b", 9), ("c", 20))]
    casino.wait(10)
    casino.learn()
    decisions = [(each, number < wins) for exposures, wins in played for number, each in enumerate(exposures)]
    outcomes = Outcomes(
        [each.variant for each, _ in decisions],
        [float(won) for _, won in decisions],
        [each.at_us / 1e6 for each, _ in decisions],
        [each.propensity for each, _ in decisions],
    )
    learned, _ = stored(casino)
    alone = start(BetaThompson(floor=0.05), ("a", "b", "c"), START).learn(outcomes, learned.policy.at)
    assert learned.policy.weights() == pytest.approx(alone.weights())


def test_nothing_is_learned_twice_and_nothing_before_its_time(casino):
    casino.begin(spec(maturity_seconds=60))
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(60)
    assert casino.learn() == 0  # events need a moment to reach the database
    casino.wait(5)
    assert casino.learn() == 10
    assert casino.learn() == 0
    casino.wait(100)
    assert casino.learn() == 0
    assert casino.learner.report("coins").decisions == 10


def test_rewards_of_other_names_and_experiments_are_not_its_own(casino):
    casino.begin(spec())
    casino.begin(spec("dice"))
    casino.wait(10)
    casino.play("a", 0, 10)
    casino.play("b", 10, 0, name="dice")
    casino.wait(10)
    assert casino.learn() == 10
    learned, _ = stored(casino)
    known = learned.policy.known()
    assert known["a"].n == pytest.approx(10)
    assert known["a"].mean == pytest.approx(0)
    assert known["b"].n == 0


def test_what_comes_late_is_counted_and_not_learned(casino):
    casino.begin(spec())
    casino.wait(100)
    casino.play("a", 5, 5)
    casino.wait(10)
    casino.learn()
    casino.play("b", 3, 0, late_seconds=60)
    casino.wait(10)
    assert casino.learn() == 0
    report = casino.learner.report("coins")
    assert (report.decisions, report.late) == (10, 3)


def test_rewards_that_come_late_are_counted_and_not_learned(casino):
    casino.begin(spec())
    casino.wait(100)
    played = casino.play("a", 5, 5)
    casino.wait(10)
    assert casino.learn() == 10
    with casino.database.write() as connection:
        store(connection, [], [Outcome("late", 0, "click", 1.0, played[9].id)])
    casino.wait(10)
    assert casino.learn() == 0
    report = casino.learner.report("coins")
    assert (report.decisions, report.late, report.late_rewards) == (10, 0, 1)


def test_a_reward_that_no_sum_can_hold_stops_no_bandit(casino):
    casino.begin(spec(policy=GaussianThompson(floor=0.01)))
    casino.wait(10)
    casino.play("a", 3, 0, reward=1e300)
    casino.play("b", 3, 0, reward=2.0)
    casino.wait(10)
    assert casino.learn() == 6
    assert casino.learner.report("coins").late_rewards == 0
    assert stored(casino)[0].policy.known()["b"].mean == pytest.approx(2.0)


def test_rewards_outside_of_a_policys_range_are_cut(casino):
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 10, 0, reward=7.0)
    casino.play("b", 10, 0, reward=-7.0)
    casino.wait(10)
    assert casino.learn() == 20
    known = stored(casino)[0].policy.known()
    assert known["a"].mean == pytest.approx(1)
    assert known["b"].mean == pytest.approx(0)


def test_rewards_of_any_size_are_for_policies_that_take_them(casino):
    casino.begin(spec(policy=GaussianThompson(floor=0.01)))
    casino.wait(10)
    casino.play("a", 10, 0, reward=70.0)
    casino.play("b", 10, 0, reward=10.0)
    casino.wait(10)
    assert casino.learn() == 20
    assert stored(casino)[0].policy.known()["a"].mean == pytest.approx(70)


def test_each_change_of_weights_is_a_revision_and_an_audit_entry(casino):
    casino.begin(spec())
    before = casino.store.find("coins").revision
    casino.wait(10)
    casino.play("a", 50, 50)
    casino.wait(10)
    casino.learn()
    assert casino.store.find("coins").revision == before + 1
    with casino.database.read() as connection:
        actions = [(row.action, row.principal) for row in connection.execute(select(audit).order_by(audit.c.seq))]
        verify_audit(connection)
    assert actions[-1] == ("experiment.learn", "bandit")
    assert [item.what for item in casino.store.history("coins").items] == ["running", "create"]
    learned = casino.store.history("coins", learned=True).items[0]
    assert (learned.what, learned.by, learned.details["decisions"]) == ("learn", "bandit", 100)
    casino.wait(100)
    casino.learn()  # nothing new: no revision
    assert casino.store.find("coins").revision == before + 1


def test_weights_that_hardly_move_are_no_revision(casino):
    casino.begin(spec(policy=EpsilonGreedy(floor=0.05)))
    casino.wait(10)
    casino.play("a", 10, 10)
    casino.wait(10)
    casino.learn()
    revision = casino.store.find("coins").revision
    casino.play("a", 10, 10)
    casino.wait(10)
    assert casino.learn() == 20
    assert casino.store.find("coins").revision == revision


def test_a_process_without_the_lease_learns_nothing(casino):
    casino.begin(spec())
    first, second = (Lease(casino.database, "experiments", 30, casino.clock) for _ in range(2))
    assert first.hold()
    casino.wait(31)
    casino.play("a", 5, 5)
    casino.wait(10)
    assert second.hold()
    with pytest.raises(LostLeaseError):
        casino.learn(lease=first)
    assert casino.learner.report("coins").decisions == 0
    assert casino.learn(lease=second) == 10


def test_only_running_bandits_learn(casino):
    both = (Variant("a", 0.5), Variant("b", 0.5))
    casino.begin(ExperimentSpec("split", both))
    with pytest.raises(ExperimentConflictError, match="is no bandit"):
        casino.learn("split")
    with pytest.raises(ExperimentConflictError, match="is no bandit"):
        casino.learner.report("split")
    casino.store.create(spec())
    with pytest.raises(ExperimentConflictError, match="has not started"):
        casino.learner.report("coins")
    casino.store.start("coins")
    casino.store.pause("coins")
    casino.wait(100)
    with pytest.raises(ExperimentConflictError, match="is paused"):
        casino.learn()
    with pytest.raises(ExperimentNotFoundError):
        casino.learner.report("nobody")


def test_its_weights_are_not_changed_by_hand(casino):
    casino.begin(spec())
    with pytest.raises(ExperimentConflictError, match="follow what it learns"):
        casino.store.reweight("coins", {"a": 1.0, "b": 0.0, "c": 0.0})
    assert casino.store.reweight("coins", coverage=0.5).coverage == 0.5


def test_variants_come_and_go(casino):
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 40, 60)
    casino.play("b", 10, 90)
    casino.play("c", 10, 90)
    casino.wait(10)
    casino.learn()
    changed = casino.store.amend(spec(arms=("a", "b", "d")), reason="a fourth coin")
    assert set(changed.weights) == {"a", "b", "d"}
    known = stored(casino)[0].policy.known()
    assert known["a"].n == pytest.approx(100)
    assert known["d"].n == 0
    assert changed.weights["d"] > 0.2  # nothing is known of it, so it may be the best
    casino.play("d", 90, 10)
    casino.play("c", 5, 0)  # decided before the change reached everybody
    casino.wait(10)
    assert casino.learn() == 105
    assert casino.weights()["d"] > 0.8


def test_it_may_begin_warm(casino):
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 40, 60)
    casino.play("b", 10, 90)
    casino.play("c", 10, 90)
    casino.wait(10)
    casino.learn()
    warm = casino.begin(spec("warm", warm_from="coins", trust=0.5))
    assert warm.weights["a"] > 0.8
    assert stored(casino, "warm")[0].policy.known()["a"].n == pytest.approx(50)
    casino.store.create(spec("lost", warm_from="nobody"))
    with pytest.raises(ExperimentNotFoundError):
        casino.store.start("lost")
    both = ExperimentSpec("cold", (Variant("a", 0.5), Variant("b", 0.5)))
    casino.begin(both)
    casino.store.create(spec("from_split", warm_from="cold"))
    with pytest.raises(ExperimentConflictError, match="has learned nothing"):
        casino.store.start("from_split")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"maturity_seconds": -1.0}, "maturity_seconds"),
        ({"maturity_seconds": float("nan")}, "maturity_seconds"),
        ({"trust": 2.0}, "trust"),
        ({"reward": "score"}, "measured while answering"),
        ({"metrics": (MetricSpec("latency_seconds", kind="mean"),)}, "names no `model`"),
        ({"policy": BetaThompson(floor=0.6)}, "floor"),
        ({"policy": LinUCB(features=(Feature("x"),))}, "needs a `model`"),
    ],
)
def test_bandits_that_cannot_be(casino, fields, problem):
    with pytest.raises(InvalidExperimentError, match=problem):
        casino.store.create(spec(**fields))


def test_what_a_policy_cannot_take_is_told(casino):
    casino.begin(spec())
    arms = ("a", *(f"v{number}" for number in range(30)))
    with pytest.raises(InvalidExperimentError, match=r"a floor of 0\.05 for each of 31 variants"):
        casino.store.amend(spec(arms=arms, policy=BetaThompson(floor=0.05)))


def test_a_context_decides_and_its_draw_can_be_repeated():
    policy = start(LinUCB(features=(Feature("x"),), floor=0.1), ("a", "b"), START)
    rows = [("a", 1.0, 1.0), ("a", 0.0, -1.0), ("b", 0.0, 1.0), ("b", 1.0, -1.0)] * 50
    outcomes = Outcomes(
        [arm for arm, _, _ in rows],
        [reward for _, reward, _ in rows],
        [START.timestamp()] * len(rows),
        contexts=[[x] for _, _, x in rows],
    )
    policy = policy.learn(outcomes, START)
    wanted = ExperimentSpec(
        "ctx", (Variant("a", 0.5, "1.0.0"), Variant("b", 0.5, "1.1.0")), model="churn", sticky=False
    )
    route = ExperimentRoute(
        Allocation.create(wanted.allocation()), "churn", {"a": "1.0.0", "b": "1.1.0"}, policy=policy
    )
    router = Router(Traffic((), (route,)), utc_now())
    chosen = {x: [router.route("churn", Asker(None, {"x": x}, "", f"r{n}")) for n in range(400)] for x in (1.0, -1.0)}
    assert sum(each.version == "1.0.0" for each in chosen[1.0]) > 330
    assert sum(each.version == "1.1.0" for each in chosen[-1.0]) > 330
    for x, each in chosen.items():
        again = [router.route("churn", Asker(None, {"x": x}, "", f"r{n}")) for n in range(400)]
        assert again == each
        probabilities = dict(zip(("a", "b"), policy.scorer()({"x": x}), strict=True))
        assert all(one.decision.propensity == probabilities[one.decision.variant] for one in each)
    broken = router.route("churn", Asker(None, {"x": "many"}, "", "r1"))
    assert (broken.version, broken.decision.reason, broken.decision.enrolled) == (None, "error", False)
    fallbacks = {router.route("churn", Asker(None, {}, "", f"r{n}")).decision.variant for n in range(40)}
    assert fallbacks == {"a"}, "who cannot be judged gets the fallback, and no lot"


def test_after_an_outage_it_waits_for_what_is_on_its_way(casino):
    behind = [0.0]
    learner = Learner(casino.store, casino.database, casino.clock, lambda: behind[0])
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(60)
    behind[0] = 70.0  # the oldest event that waits is older than these decisions
    assert learner.learn("coins") == 0
    casino.play("a", 0, 3, late_seconds=58)  # they arrive in the end
    behind[0] = 0.0
    assert learner.learn("coins") == 13
    assert learner.report("coins").late == 0


def test_rewards_are_no_events_that_could_not_be_used(casino):
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 5, 5)
    evidence = read_evidence(casino.database, "coins")
    assert (evidence.exposures, evidence.refused, evidence.orphans) == (10, (), 0)
