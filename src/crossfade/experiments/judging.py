"""`Judge`: from the evidence of an experiment to a decision, and from a decision to what follows.

`decide` is the one function by which a decision acts: it moves the alias through the switch, then ends the experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import CHAMPION
from crossfade.errors import ExperimentConflictError, LatchedError, UncomparedChampionError
from crossfade.experiments.analysis import analyze
from crossfade.experiments.pauses import paused_seconds
from crossfade.experiments.record import ENDED, Experiment, Status, Verdict
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.requests import DecideRequest
from crossfade.experiments.store import ExperimentStore
from crossfade.ledger.decisions import export_decisions
from crossfade.ledger.export import Exported, export_events
from crossfade.ledger.reading import read_evidence
from crossfade.methods.bandits.contextual import ContextualSpec
from crossfade.registry.acceptance import MAX_REASON, attribution
from crossfade.registry.registry import LOCAL
from crossfade.storage.database import Database
from crossfade.traffic.switch import AliasSwitch

AUTO = "auto"
"""The principal of decisions that act by themselves."""
_ACTS = {"ship": "ship", "keep": "keep", "stop": "keep"}
"""What is done for what an analysis says; everything else needs a person or more data."""


class Releases(Protocol):
    """Rolls versions out by plan."""

    def begin(
        self,
        model: str,
        version: str,
        plan: str,
        *,
        experiment: str,
        expected: str | None,
        reason: str,
        principal: str,
        dry_run: bool,
    ) -> None:
        """Begin to roll a version out in place of an experiment that has its traffic; again changes nothing.

        Raises:
            CrossfadeError: It cannot be rolled out, or not by itself, or the champion is not the `expected` one.
        """


class Judge:
    """Judges the experiments of a platform.

    Args:
        store: The experiments.
        database: Where roll-ups are.
        switch: Moves aliases.
        clock: What time it is.
        releases: Rolls out what is shipped by plan; None where nothing does.
    """

    def __init__(
        self,
        store: ExperimentStore,
        database: Database,
        switch: AliasSwitch,
        clock: Clock = utc_now,
        releases: Releases | None = None,
    ) -> None:
        self._store = store
        self._database = database
        self._switch = switch
        self._clock = clock
        self._releases = releases

    def analyze(self, name: str) -> AnalysisReport:
        """Return what the evidence says now.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentConflictError: It has not started.
            MissingExtraError: scipy is not installed.
        """
        return self._analyze(self._store.find(name))

    def export(self, name: str, target: Path, *, reward: str = "") -> Exported:
        """Write the events of an experiment to a Parquet file.

        Args:
            name: The experiment.
            target: The file; it appears under its name when it is complete.
            reward: Name of an outcome: then each row is a decision with what it earned, as a log to evaluate policies
                on. Without it each row is an event.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentConflictError: There is no such outcome, or it was reported by unit.
            MissingExtraError: pyarrow is not installed.
        """
        spec = self._store.find(name).spec
        if not reward:
            return export_events(self._database, name, target)
        policy = None if spec.bandit is None else spec.bandit.policy
        features = [feature.name for feature in policy.features] if isinstance(policy, ContextualSpec) else []
        measured = {metric.source for metric in spec.metrics} | ({spec.bandit.reward} if spec.bandit else set())
        return export_decisions(
            self._database,
            name,
            target,
            reward=reward,
            declared=reward in measured,
            dimensions=spec.dimensions,
            features=features,
        )

    def decide(self, name: str, wanted: DecideRequest, *, principal: str = LOCAL, dry_run: bool = False) -> Experiment:
        """End an experiment by a decision: ship a variant to everybody, or keep what is.

        Args:
            name: The experiment.
            wanted: What shall follow; when it does not say, what the analysis says.
            principal: Who decides.
            dry_run: Only check, and say what would follow.

        Raises:
            ExperimentConflictError: It has not started, or is decided; the analysis says to wait or to look; there is
                nothing to ship; or somebody else has ended it meanwhile.
            UncomparedChampionError: The analysis would replace a champion that it knows nothing of.
            NotReadyError: A process cannot make the shipped version ready; everything stays as it is.
        """
        found = self._store.find(name)
        if found.status in {Status.DECIDED, Status.DRAFT}:
            raise ExperimentConflictError(name=name, problem=f"is {found.status.value}, so there is nothing to decide")
        verdict = self._verdict(found, wanted, principal)
        attribution(principal, verdict.reason)  # what cannot be kept at the end is refused before anything moves
        if verdict.action == "ship" and found.model:
            try:
                expected = self._expected(found, verdict, principal, said=bool(wanted.action))
                self._ship(found, verdict, principal, expected, dry_run=dry_run)
            except LatchedError as error:  # an experiment that runs keeps rollouts of its model away
                first = f"`crossfade experiments stop {name} --reason WHY`, then "
                raise LatchedError(**{**error.facts, "first": first}) from error
        return self._store.conclude(name, verdict, principal=principal, dry_run=dry_run)

    def _analyze(self, found: Experiment) -> AnalysisReport:
        if found.started_at is None:
            raise ExperimentConflictError(name=found.name, problem="has not started, so there is nothing to analyze")
        now = self._clock()
        until_us = None if found.finished_at is None else int(found.finished_at.timestamp() * 1e6)
        with self._database.read() as connection:
            evidence = read_evidence(connection, found.name, until_us)
            until = min(each for each in (found.finished_at, found.spec.end_at, now) if each is not None)
            paused = paused_seconds(connection, found.name, found.spec.begins(found.started_at), until)
        return analyze(evidence, found.spec.question(found.started_at, found.finished_at, paused), now)

    def _verdict(self, found: Experiment, wanted: DecideRequest, principal: str) -> Verdict:
        if wanted.variant and wanted.action != "ship":
            problem = f"ships `{wanted.variant[:80]}` only when the action is `ship`"
            raise ExperimentConflictError(name=found.name, problem=problem)
        if wanted.action:
            variant = wanted.variant if wanted.action == "ship" else ""
            if wanted.action == "ship" and variant not in {each.name for each in found.spec.variants}:
                raise ExperimentConflictError(name=found.name, problem=f"has no variant `{variant[:80]}` to ship")
            return Verdict(wanted.action, variant, wanted.reason or "decided by a person", principal)
        decision = self._analyze(found).decision
        action = _ACTS.get(decision.action)
        if action is None:
            missing = f"; missing: {decision.missing}" if decision.missing else ""
            problem = f"is not decided ({decision.action}): {decision.reason}{missing}"
            raise ExperimentConflictError(name=found.name, problem=problem, action=decision.action)
        return Verdict(action, decision.variant if action == "ship" else "", decision.reason[:MAX_REASON], principal)

    def _expected(self, found: Experiment, verdict: Verdict, principal: str, *, said: bool) -> str | None:
        """Return the only champion that may be replaced; None for whichever it is, when a person has said so.

        What decides by itself does not overrule a person who has moved the champion meanwhile. An analysis that a
        person follows replaces what it compares, and the champion of the start.
        """
        if principal == AUTO:
            return found.champion or None
        if said:
            return None
        champion = self._store.champion(found.model)
        if champion and champion not in {found.champion, *found.versions.values()}:
            raise UncomparedChampionError(
                name=found.name, model=found.model, champion=champion, variant=verdict.variant
            )
        return champion or None

    def _ship(
        self, found: Experiment, verdict: Verdict, principal: str, expected: str | None, *, dry_run: bool
    ) -> None:
        """Give a variant everything: by the plan, or at once where a person decides without one.

        What decides by itself always goes through the controller.
        """
        version = found.versions[verdict.variant]
        plan = found.spec.decision.plan or ("immediate" if principal == AUTO else "")
        if plan:
            self._roll_out(found, version, plan, expected, verdict, principal, dry_run=dry_run)
            return
        self._switch.move(
            found.model,
            CHAMPION,
            version,
            expected=expected,
            reason=f"experiment {found.name}: {verdict.reason}"[:MAX_REASON],
            principal=principal,
            dry_run=dry_run,
            within=self._ending(found, verdict, principal),
        )

    def _roll_out(
        self,
        found: Experiment,
        version: str,
        plan: str,
        expected: str | None,
        verdict: Verdict,
        principal: str,
        *,
        dry_run: bool,
    ) -> None:
        """Begin a rollout, which takes the experiment's traffic over; it ends once that has begun."""
        if self._releases is None:
            problem = f"ships by the plan `{plan}`, and nothing here rolls versions out"
            raise ExperimentConflictError(name=found.name, problem=problem)
        self._releases.begin(
            found.model,
            version,
            plan,
            experiment=found.name,
            expected=expected,
            reason=f"experiment {found.name}: {verdict.reason}"[:MAX_REASON],
            principal=principal,
            dry_run=dry_run,
        )

    @contextmanager
    def _ending(self, found: Experiment, verdict: Verdict, principal: str) -> Iterator[None]:
        """Let nothing move for an experiment that ended while a version was loaded; end it once it has moved."""
        status = self._store.find(found.name).status
        if status in ENDED and status is not found.status:
            problem = f"is {status.value} by somebody else meanwhile, so nothing is shipped"
            raise ExperimentConflictError(name=found.name, problem=problem)
        yield
        self._store.conclude(found.name, verdict, principal=principal)
