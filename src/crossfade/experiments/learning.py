"""`Learner`: bandits learn from decisions that have matured, beside the requests.

What a policy has learned and the weights that follow are one transaction, so that after a crash nothing is learned
twice. A decision counts once, when it is as old as the experiment says; an exposure that reaches the database after its
time was learned is counted as late, and not learned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, func, select

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import first_id, milliseconds_of
from crossfade.errors import ExperimentConflictError
from crossfade.experiments.learned import BanditReport, Learned
from crossfade.experiments.record import Status, experiment_of
from crossfade.experiments.rows import row_of
from crossfade.experiments.spec import BanditSpec, ExperimentSpec
from crossfade.experiments.store import ExperimentStore
from crossfade.ledger.metrics import LARGEST
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextFreePolicy, ContextualPolicy, Policy
from crossfade.methods.stats.values import NotEstimable
from crossfade.storage.database import Database
from crossfade.storage.lease import Lease
from crossfade.storage.tables import exposures, outcomes

_AT_ONCE = 50_000
_SETTLE_SECONDS = 2.0
"""Events need about a second from a request to the database; so much later a time is taken to be complete."""
_SAME = 0.002
"""Weights that differ by less are not worth a revision: a fifth of a percentage point."""
_PARAMETERS = 500


class Learner:
    """Lets the bandits of a platform learn.

    Args:
        store: The experiments.
        database: Where events are.
        clock: What time it is.
        behind_seconds: How long the oldest event of this process has waited for the database. After an outage nothing
            is learned of a time whose events are still on their way: what is not there yet would count as not earned.
    """

    def __init__(
        self,
        store: ExperimentStore,
        database: Database,
        clock: Clock = utc_now,
        behind_seconds: Callable[[], float] = float,
    ) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._behind_seconds = behind_seconds

    def learn(self, name: str, lease: Lease | None = None) -> int:
        """Learn everything that has matured; returns how many decisions that were.

        Args:
            name: A running experiment with a bandit.
            lease: Held by this process; without one nobody else may do this.

        Raises:
            ExperimentConflictError: It is no bandit, or does not run.
            LostLeaseError: Another process holds the lease.
        """
        total = 0
        while count := self._learn_some(name, lease):
            total += count
            if count < _AT_ONCE:
                break
        return total

    def report(self, name: str) -> BanditReport:
        """Return what a bandit knows.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentConflictError: It is no bandit, or has not started.
        """
        with self._database.read() as connection:
            row = row_of(connection, self._store.find(name).name)
            bandit, learned = _bandit(row), _learned(row)
            where = (exposures.c.experiment == name) & _until(learned.until_ms)
            seen = connection.execute(select(func.count()).where(where)).scalar_one()
            earned = (outcomes.c.name == bandit.reward) & (outcomes.c.decision == exposures.c.id) & _usable()
            rewards = connection.execute(select(func.count()).where(where & earned)).scalar_one()
        late = max(int(seen) - learned.decisions, 0)
        policy = learned.policy
        weights: dict[str, float] = {}
        chances: dict[str, float] | NotEstimable = NotEstimable("the best variant is another one for each context")
        if isinstance(policy, ContextFreePolicy):
            weights, chances = policy.weights(), policy.chances()
        return BanditReport(
            name,
            msgspec.to_builtins(bandit.policy)["kind"],
            weights,
            {} if isinstance(chances, NotEstimable) else chances,
            learned.decisions,
            late,
            _moment(learned.until_ms),
            late_rewards=max(int(rewards) - learned.rewards, 0),
            reason=chances.reason if isinstance(chances, NotEstimable) else "",
        )

    def _learn_some(self, name: str, lease: Lease | None) -> int:
        now = self._clock()
        with self._database.write() as connection:
            if lease is not None:
                lease.check(connection)
            row = row_of(connection, name)
            bandit, before = _bandit(row), _learned(row)
            if row.status != Status.RUNNING:
                raise ExperimentConflictError(name=name, problem=f"is {row.status}, so it does not learn")
            settled = bandit.maturity_seconds + self._behind_seconds() + _SETTLE_SECONDS
            until = int((now.timestamp() - settled) * 1000)
            if until <= before.until_ms:
                return 0
            decisions = _matured(connection, name, before.until_ms, until)
            if len(decisions) > _AT_ONCE:
                decisions, until = _whole_milliseconds(decisions)
            policy, rewards = before.policy, before.rewards
            if decisions:
                matured, count = _as_outcomes(connection, bandit, policy, decisions)
                policy, rewards = policy.learn(matured, _moment(until)), rewards + count
            policy = policy.advance(_moment(until))
            self._save(connection, row, Learned(policy, until, before.decisions + len(decisions), rewards), now)
        return len(decisions)

    def _save(self, connection: Connection, row: Row[Any], learned: Learned, now: datetime) -> None:
        policy, text = learned.policy, msgspec.json.encode(learned).decode()
        if isinstance(policy, ContextualPolicy):
            self._store.teach(connection, row, text, policy=policy, decisions=learned.decisions, at=now)
            return
        weights = policy.weights()
        told = experiment_of(row, now).weights
        moved = max(abs(weights[name] - told[name]) for name in weights)
        changed = weights if moved > _SAME else None
        self._store.teach(connection, row, text, weights=changed, decisions=learned.decisions, at=now)


def _bandit(row: Row[Any]) -> BanditSpec:
    bandit = msgspec.json.decode(row.spec, type=ExperimentSpec).bandit
    if bandit is None:
        raise ExperimentConflictError(name=row.name, problem="is no bandit: its weights are changed by hand")
    return bandit


def _learned(row: Row[Any]) -> Learned:
    if row.learned is None:
        raise ExperimentConflictError(name=row.name, problem="has not started, so it has learned nothing")
    return msgspec.json.decode(row.learned, type=Learned)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _matured(connection: Connection, name: str, after: int, until: int) -> list[Any]:
    """Return the decisions of the milliseconds after `after` up to `until`: a range of the primary key."""
    columns = (exposures.c.id, exposures.c.at_us, exposures.c.variant, exposures.c.propensity, exposures.c.context)
    where = (exposures.c.experiment == name) & (exposures.c.id >= first_id(after + 1)) & _until(until)
    return list(connection.execute(select(*columns).where(where).order_by(exposures.c.id).limit(_AT_ONCE + 1)))


def _until(milliseconds: int) -> ColumnElement[bool]:
    return exposures.c.id < first_id(milliseconds + 1)


def _whole_milliseconds(decisions: list[Any]) -> tuple[list[Any], int]:
    """Cut a list that goes on, so that decisions of one millisecond stay together; returns what was its last, too."""
    last = milliseconds_of(decisions[-1].id)
    return [row for row in decisions if milliseconds_of(row.id) < last], last - 1


def _usable() -> ColumnElement[bool]:
    """Return which outcomes count: what roll-ups refuse must not stop a bandit either."""
    return outcomes.c.value.between(-LARGEST, LARGEST)


def _as_outcomes(
    connection: Connection, bandit: BanditSpec, policy: Policy, decisions: list[Row[Any]]
) -> tuple[Outcomes, int]:
    """Return decisions with what they earned, and how many outcomes that were."""
    earned: defaultdict[str, float] = defaultdict(float)
    count = 0
    for start_at in range(0, len(decisions), _PARAMETERS):
        ids = [row.id for row in decisions[start_at : start_at + _PARAMETERS]]
        query = select(outcomes.c.decision, outcomes.c.value).where(
            outcomes.c.decision.in_(ids), outcomes.c.name == bandit.reward, _usable()
        )
        for decision, value in connection.execute(query):
            earned[decision] += value
            count += 1
    rewards = np.array([earned[row.id] for row in decisions])
    if isinstance(policy, ContextFreePolicy) and policy.spec.bounded:
        rewards = rewards.clip(0.0, 1.0)  # one decision that earned twice is a success, and no reason to stop learning
    contexts = None
    if isinstance(policy, ContextualPolicy):
        contexts = policy.spec.matrix(msgspec.json.decode(row.context) for row in decisions)
    matured = Outcomes(
        [row.variant for row in decisions],
        rewards,
        np.array([row.at_us / 1e6 for row in decisions]),
        np.array([row.propensity for row in decisions]),
        contexts,
        [row.id for row in decisions],
    )
    return matured, count
