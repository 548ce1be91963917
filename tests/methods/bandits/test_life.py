"""A policy through a random life, beside a model that keeps every row and computes from scratch."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossfade.errors import InvalidDecisionLogError, InvalidPolicyError
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextFreePolicy, decode, start
from tests.methods.bandits.support import CONTEXT_FREE, CONTEXTUAL, DAY, NOW, WIDTH, as_context, made

VARIANTS = ("a", "b", "c", "d", "e")


class Life(RuleBasedStateMachine):
    """What happens to a policy: rewards early and late, time, variants that come and go, restarts."""

    @initialize(
        kind=st.sampled_from((*CONTEXT_FREE, *CONTEXTUAL)),
        half_life=st.sampled_from([None, DAY, 30 * DAY]),
        floor=st.sampled_from([0.0, 0.01, 0.2]),
    )
    def begins(self, kind, half_life, floor):
        self.policy = start(made(kind, half_life_seconds=half_life, floor=floor), ["a"], NOW)
        self.now = NOW
        self.rows = {"a": []}  # since the variant came: (decided at, reward, context)
        self.gone = set()

    @rule(hours=st.floats(0, 100))
    def time_passes(self, hours):
        self.now += timedelta(hours=hours)
        self.policy = self.policy.advance(self.now)

    @rule(data=st.data(), count=st.integers(0, 6))
    def rewards_come(self, data, count):
        random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        among = [*self.rows, *self.gone]
        names = [among[place] for place in random.integers(len(among), size=count)]
        rewards, contexts = random.random(count), random.normal(size=(count, WIDTH))
        decided = self.now.timestamp() - random.uniform(0, 5 * DAY, count)
        outcomes = Outcomes(names, rewards, decided, contexts=contexts)
        self.policy = self.policy.learn(outcomes, self.now)
        for name, *row in zip(names, decided, rewards, contexts, strict=True):
            if name in self.rows:
                self.rows[name].append(row)

    @rule(name=st.sampled_from(VARIANTS))
    def a_variant_comes(self, name):
        if name in self.rows:
            with pytest.raises(InvalidPolicyError):
                self.policy.add(name)
            return
        self.policy = self.policy.add(name)
        self.rows[name] = []
        self.gone.discard(name)

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def a_variant_goes(self, data):
        name = data.draw(st.sampled_from(sorted(self.rows)))
        self.policy = self.policy.remove(name)
        del self.rows[name]
        self.gone.add(name)

    @rule()
    def it_is_stored_and_read(self):
        read = decode(self.policy.encode())
        assert read == self.policy
        self.policy = read

    @rule()
    def a_bad_batch_changes_nothing(self):
        before = self.policy.encode()
        bad = Outcomes(["nobody"], [1.0], [self.now.timestamp()], contexts=np.zeros((1, WIDTH)))
        with pytest.raises(InvalidDecisionLogError):
            self.policy.learn(bad, self.now)
        assert self.policy.encode() == before

    @invariant()
    def it_knows_what_the_rows_say(self):
        assert set(self.policy.variants) == set(self.rows)
        assert set(self.policy.retired) == self.gone
        assert self.policy.at == self.now
        for name, known in self.policy.known().items():
            rows = self.rows[name]
            kept = self.policy.spec.keep_each(np.array([self.now.timestamp() - decided for decided, _, _ in rows]))
            rewards = np.array([reward for _, reward, _ in rows])
            assert known.weight == pytest.approx(kept.sum(), rel=1e-6, abs=1e-9)
            if isinstance(self.policy, ContextFreePolicy):
                if rows and kept.sum() > 1e-6:
                    assert known.mean == pytest.approx(kept @ rewards / kept.sum(), rel=1e-6)
            elif rows:
                design = self.policy.spec.design(np.array([context for _, _, context in rows]))
                assert known.moment == pytest.approx(tuple(design.T @ (kept * rewards)), rel=1e-6, abs=1e-9)

    @invariant()
    def it_gives_probabilities(self):
        if isinstance(self.policy, ContextFreePolicy):
            found = list(self.policy.weights().values())
        else:
            found = self.policy.scorer()(as_context(np.linspace(-1, 1, WIDTH)))
        assert len(found) == len(self.rows)
        assert sum(found) == pytest.approx(1, abs=1e-9)
        assert min(found) >= self.policy.spec.floor - 1e-12


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
