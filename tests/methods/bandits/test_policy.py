"""Policies as state: learning in any order, forgetting, variants that come and go, and what is stored."""

import math
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.errors import InvalidContextError, InvalidDecisionLogError, InvalidPolicyError
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.draw import draw, number_of
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.kl_ucb import KLUCB
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextFreePolicy, decode, start
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.square_cb import SquareCB
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.bandits.ucb1 import UCB1
from tests.methods.bandits.support import (
    CONTEXT_FREE,
    CONTEXTUAL,
    DAY,
    NAMES,
    NOW,
    as_context,
    contexts,
    history,
    later,
    learned,
    made,
    part,
)

ALL = (*CONTEXT_FREE, *CONTEXTUAL)
KINDS = pytest.mark.parametrize("kind", ALL)


def numbers(policy):
    """All numbers that a policy knows."""
    return np.array([number for each in policy.evidence for number in flat(msgspec.structs.astuple(each))])


def flat(values):
    for value in values:
        yield from flat(value) if isinstance(value, tuple) else (value,)


def answers(policy):
    """What a policy would do."""
    if isinstance(policy, ContextFreePolicy):
        return list(policy.weights().values())
    return [each for row in contexts(5) for each in policy.scorer()(as_context(row))]


# --- learning ------------------------------------------------------------------------------------------------------


@KINDS
@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(12)), cuts=st.lists(st.integers(0, 12), max_size=3), data=st.data())
def test_order_and_batches_make_no_difference(kind, order, cuts, data):
    outcomes = history(12)
    fresh = start(made(kind, half_life_seconds=3 * DAY), NAMES, later(-20))
    at_once = fresh.learn(outcomes, NOW)
    policy, bounds = fresh, [0, *sorted(cuts), 12]
    for begin, end in pairwise(bounds):
        batch = part(outcomes, list(order[begin:end]))
        newest = max(batch.decided_at, default=later(-20).timestamp())
        moment = later(-(NOW.timestamp() - newest) / DAY * data.draw(st.floats(0, 1)))  # when it had matured, any time
        policy = policy.learn(batch, moment)
    assert numbers(policy.advance(NOW)) == pytest.approx(numbers(at_once), rel=1e-9, abs=1e-9)


@KINDS
def test_learning_changes_nothing_in_place(kind):
    before = start(made(kind), NAMES, NOW)
    document = before.encode()
    after = before.learn(history(), NOW)
    assert before.encode() == document != after.encode()


@KINDS
def test_nothing_to_learn_is_fine(kind):
    policy = learned(kind)
    assert policy.learn(part(history(), []), NOW) == policy


@KINDS
def test_forgetting_is_by_time_and_not_by_updates(kind):
    policy = learned(kind, half_life_seconds=7 * DAY)
    often = policy
    for hour in range(1, 24 * 7 + 1):
        often = often.advance(NOW + timedelta(hours=hour))
    once = policy.advance(later(7))
    assert numbers(often) == pytest.approx(numbers(once), rel=1e-9)
    assert often.at == once.at
    weights = [(each.n if isinstance(each, Tally) else each.weight) for each in policy.evidence]
    halves = [(each.n if isinstance(each, Tally) else each.weight) for each in once.evidence]
    assert halves == pytest.approx([each / 2 for each in weights])


@KINDS
def test_what_is_forgotten_is_the_prior(kind):
    policy = learned(kind, half_life_seconds=DAY)
    long_after = policy.advance(later(3_000))
    assert answers(long_after) == pytest.approx(answers(start(policy.spec, NAMES, NOW)))


@KINDS
def test_without_a_half_life_nothing_is_forgotten(kind):
    policy = learned(kind)
    assert policy.advance(later(1000)).evidence == policy.evidence


def test_time_does_not_go_back():
    policy = learned(BetaThompson, half_life_seconds=DAY)
    assert policy.advance(later(-5)) is policy
    assert policy.learn(history(5), later(-5)).at == NOW


def test_late_rewards_count_by_their_age():
    spec = BetaThompson(half_life_seconds=DAY)
    old = Outcomes(["a"], np.array([1.0]), np.array([later(-2).timestamp()]))
    assert start(spec, NAMES, NOW).learn(old, NOW).evidence[0].n == pytest.approx(0.25)


def test_a_clock_that_is_ahead_counts_as_now():
    spec = BetaThompson(half_life_seconds=DAY)
    future = Outcomes(["a"], np.array([1.0]), np.array([later(400_000).timestamp()]))
    found = start(spec, NAMES, NOW).learn(future, NOW)
    assert found.at == NOW
    assert found.evidence[0].n == 1


def test_a_world_that_changed_is_noticed_with_a_half_life_only():
    """`a` was better for months, then `b` is."""
    times = np.array([later(-day).timestamp() for day in range(100, 0, -1) for _ in range(20)])
    random = np.random.default_rng(0)
    chosen, new = random.integers(2, size=2000), times > later(-15).timestamp()
    rates = np.where(chosen == 0, np.where(new, 0.1, 0.5), np.where(new, 0.4, 0.2))
    outcomes = Outcomes(["ab"[each] for each in chosen], (random.random(2000) < rates).astype(float), times)
    forgets = start(BetaThompson(half_life_seconds=5 * DAY), "ab", NOW).learn(outcomes, NOW)
    keeps = start(BetaThompson(), "ab", NOW).learn(outcomes, NOW)
    assert forgets.weights()["b"] > 0.9
    assert keeps.weights()["a"] > 0.9


def test_weighing_by_propensity_undoes_good_times():
    """Both are alike; `b` was shown mostly on the good day."""
    random = np.random.default_rng(1)
    variants, rewards, propensities = [], [], []
    for rate, share in ((0.1, 0.2), (0.6, 0.9)):
        is_b = random.random(3_000) < share
        variants += ["b" if each else "a" for each in is_b]
        propensities += np.where(is_b, share, 1 - share).tolist()
        rewards += (random.random(3_000) < rate).astype(float).tolist()
    outcomes = Outcomes(variants, rewards, np.zeros(6_000), propensities)
    fooled = start(BetaThompson(), "ab", NOW).learn(outcomes, NOW)
    right = start(BetaThompson(weigh_by_propensity=True), "ab", NOW).learn(outcomes, NOW)
    assert fooled.chances()["b"] > 0.999
    assert abs(right.evidence[0].mean - right.evidence[1].mean) < 0.06
    assert right.evidence[0].n < fooled.evidence[0].n
    with pytest.raises(InvalidDecisionLogError, match="propensities"):
        right.learn(Outcomes(["a"], [1.0], [0.0]), NOW)


# --- variants that come and go -------------------------------------------------------------------------------------


@KINDS
def test_variants_come_and_go(kind):
    policy = learned(kind)
    more = policy.add("new")
    assert more.variants == (*NAMES, "new")
    assert more.evidence[:3] == policy.evidence
    assert len(answers(more)) == len(answers(policy)) * 4 // 3
    fewer = more.remove("b")
    assert fewer.variants == ("a", "c", "new")
    assert fewer.known()["c"] == policy.known()["c"]
    assert fewer.retired == ("b",)
    again = fewer.add("b")
    assert again.retired == ()
    assert again.known()["b"] == start(policy.spec, NAMES, NOW).evidence[0]


@KINDS
def test_rewards_of_retired_variants_are_left_out(kind):
    policy = learned(kind).remove("b")
    outcomes = history(30, seed=9)
    kept = part(outcomes, [row for row, name in enumerate(outcomes.variants) if name != "b"])
    assert policy.learn(outcomes, NOW) == policy.learn(kept, NOW)


@KINDS
def test_unknown_variants_are_refused(kind):
    outcomes = history(3)
    strange = Outcomes(["a", "zzz", "b"], outcomes.rewards, outcomes.decided_at, contexts=outcomes.contexts)
    with pytest.raises(InvalidDecisionLogError, match="zzz"):
        learned(kind).learn(strange, NOW)


def test_the_floor_has_to_leave_room():
    policy = start(BetaThompson(floor=1 / 3), NAMES, NOW)
    assert policy.weights() == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    with pytest.raises(InvalidPolicyError, match="floor"):
        policy.add("d")


@pytest.mark.parametrize("variants", [(), ("a", "a"), ("",), ("x" * 201,), tuple(map(str, range(101)))], ids=len)
def test_variants_that_cannot_be_are_refused(variants):
    with pytest.raises(InvalidPolicyError):
        start(BetaThompson(floor=0.0), variants, NOW)


def test_changes_that_cannot_be_are_refused():
    policy = start(BetaThompson(), ("a",), NOW)
    for change in (lambda: policy.add("a"), lambda: policy.remove("b"), lambda: policy.remove("a")):
        with pytest.raises(InvalidPolicyError):
            change()
    with pytest.raises(InvalidPolicyError, match="time zone"):
        start(BetaThompson(), ("a",), datetime(2026, 1, 1))  # noqa: DTZ001


# --- warm start ----------------------------------------------------------------------------------------------------


@KINDS
def test_a_warm_start_is_what_is_known_elsewhere(kind):
    source = learned(kind)
    fresh = start(source.spec, ("c", "a", "d"), NOW)
    warm = fresh.warm(source.known())
    assert warm.known()["a"] == source.known()["a"]
    assert warm.known()["d"] == fresh.known()["d"]
    half = fresh.warm(source.known(), trust=0.5)
    whole, counted = (each.known()["a"] for each in (warm, half))
    if isinstance(whole, Tally):
        assert counted.n == pytest.approx(whole.n / 2)
        assert counted.mean == whole.mean
    else:
        assert counted.weight == whole.weight / 2
    assert fresh.warm(source.known(), trust=0.0) == fresh
    for trust in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidPolicyError):
            fresh.warm(source.known(), trust=trust)


def test_a_warm_start_from_an_estimate():
    policy = start(BetaThompson(), ("a", "b"), NOW).warm(
        {"a": Tally.estimated(500, 0.03), "b": Tally.estimated(500, 0.06)}
    )
    assert policy.weights()["b"] > 0.95


def test_a_warm_start_from_other_features_is_refused():
    policy = start(LinUCB(features=(Feature("x"),)), NAMES, NOW)
    with pytest.raises(InvalidPolicyError, match="features"):
        policy.warm({"a": Ridge.nothing(7)})


def test_another_kind_takes_over_what_is_known():
    policy = learned(UCB1)
    taken_over = msgspec.structs.replace(policy, spec=BetaThompson())
    assert taken_over.weights() == learned(BetaThompson).weights()


# --- stored state --------------------------------------------------------------------------------------------------


@KINDS
def test_stored_and_read_it_is_the_same(kind):
    policy = learned(kind, half_life_seconds=DAY).add("new").remove("a")
    document = policy.encode()
    read = decode(document)
    assert read == policy
    assert read.encode() == document
    assert answers(read) == answers(policy)
    assert read.learn(part(history(20), [1, 2]), later(1)) == policy.learn(part(history(20), [1, 2]), later(1))


@KINDS
def test_a_specification_is_told_by_its_kind(kind):
    spec = made(kind, floor=0.02)
    document = msgspec.json.encode(spec)
    assert decode(document) == spec
    assert msgspec.json.decode(document)["kind"] == type(spec).__struct_config__.tag


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b'{"kind": "nothing"}',
        b'{"kind": "ucb1", "alhpa": 1}',
        b'{"kind": "ucb1", "alpha": -1}',
        b'{"kind": "lin_ucb"}',
        b'{"policy": "context_free"}',
        b"[" * 100_000,
    ],
    ids=lambda each: each[:24].decode(errors="replace"),
)
def test_documents_that_are_no_policy_are_refused(document):
    with pytest.raises(InvalidPolicyError):
        decode(document)


@KINDS
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["evidence"].pop(),
        lambda content: content["variants"].append("more"),
        lambda content: content.update(at="2026-01-01T00:00:00"),
        lambda content: content["evidence"].__setitem__(0, [1.0, None, 0.0, 0.0]),
        lambda content: content.update(retired=["a"]),
        lambda content: content.update(unknown=1),
    ],
    ids=["evidence", "variants", "zone", "null", "retired", "unknown"],
)
def test_damaged_documents_are_refused(kind, damage):
    content = msgspec.json.decode(learned(kind).encode())
    damage(content)
    with pytest.raises(InvalidPolicyError):
        decode(msgspec.json.encode(content))


def test_evidence_of_another_width_is_refused():
    policy = learned(LinUCB)
    with pytest.raises(InvalidPolicyError, match="coefficients"):
        msgspec.structs.replace(policy, evidence=(Ridge.nothing(2),) * 3)


def test_another_process_decides_the_same():
    code = "from tests.methods.bandits.test_policy import decided\nprint(decided())"  # with another seed of its hashes
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == decided()


def decided():
    """What every kind decides about some requests."""
    found = []
    for kind in ALL:
        policy = decode(learned(kind).encode())
        for number, row in enumerate(contexts(20)):
            chances = (
                list(policy.weights().values())
                if isinstance(policy, ContextFreePolicy)
                else policy.scorer()(as_context(row))
            )
            found.append(policy.variants[draw(chances, number_of(f"request-{number}", 3))])
    return "".join(found)


# --- outcomes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        {"rewards": [1.0]},
        {"rewards": [1.0, math.nan]},
        {"rewards": [1.0, math.inf]},
        {"rewards": [1.0, 1e200]},
        {"decided_at": [0.0]},
        {"decided_at": [0.0, math.nan]},
        {"propensities": [0.5, 0.0]},
        {"propensities": [0.5, 1.1]},
        {"propensities": [0.5, math.nan]},
        {"propensities": [0.5]},
        {"contexts": np.zeros((3, 4))},
        {"ids": ["x"]},
    ],
    ids=str,
)
def test_outcomes_that_cannot_be_are_refused(columns):
    with pytest.raises(InvalidDecisionLogError):
        Outcomes(**{"variants": ["a", "b"], "rewards": [0.0, 1.0], "decided_at": [0.0, 0.0]} | columns)


def test_messages_name_the_decision():
    with pytest.raises(InvalidDecisionLogError, match=r"`d2` .*`b`.* and 1 more"):
        Outcomes(["a", "b", "c"], [0.0, math.nan, math.nan], [0.0] * 3, ids=["d1", "d2", "d3"])


@pytest.mark.parametrize("kind", [BetaThompson, KLUCB])
@pytest.mark.parametrize("reward", [-0.1, 1.5])
def test_rewards_have_to_be_in_range_where_the_method_needs_it(kind, reward):
    with pytest.raises(InvalidDecisionLogError, match="between 0 and 1"):
        start(kind(), NAMES, NOW).learn(Outcomes(["a"], [reward], [0.0]), NOW)


@pytest.mark.parametrize("kind", [GaussianThompson, UCB1, EpsilonGreedy])
def test_rewards_may_be_anything_elsewhere(kind):
    outcomes = Outcomes(["a", "b", "c"] * 20, np.arange(60.0) % 7 * 1e6 - 3e6, np.zeros(60))
    assert sum(start(kind(), NAMES, NOW).learn(outcomes, NOW).weights().values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", CONTEXTUAL)
def test_policies_with_context_need_it(kind):
    policy, outcomes = learned(kind), history(3)
    without = Outcomes(outcomes.variants, outcomes.rewards, outcomes.decided_at)
    with pytest.raises(InvalidDecisionLogError, match="contexts"):
        policy.learn(without, NOW)
    for shape in ((3, 2), (3, 5)):
        narrow = Outcomes(outcomes.variants, outcomes.rewards, outcomes.decided_at, contexts=np.zeros(shape))
        with pytest.raises(InvalidContextError):
            policy.learn(narrow, NOW)
    missing = Outcomes(outcomes.variants, outcomes.rewards, outcomes.decided_at, contexts=np.full((3, 4), math.nan))
    with pytest.raises(InvalidContextError):
        policy.learn(missing, NOW)


def test_large_rewards_are_no_trouble_for_linear_models():
    outcomes = history(50)
    huge = Outcomes(outcomes.variants, outcomes.rewards * 1e90, outcomes.decided_at, contexts=outcomes.contexts)
    ask = start(made(SquareCB), NAMES, NOW).learn(huge, NOW).scorer()
    assert sum(ask(as_context(contexts(1)[0]))) == pytest.approx(1)
