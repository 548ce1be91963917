"""`Traffic`: the experiments that run, as a snapshot holds them; `Router`: the same, compiled for one moment.

A request for the champion of a model goes through the experiments on that model, in the order in which they started:
the first one that the unit takes part in decides which version answers. Whoever takes part in none gets the champion.
While a version of the model is rolled out, the rollout decides alone: no experiment runs then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from crossfade.core.clock import utc_now
from crossfade.core.identity import new_id
from crossfade.errors import ExperimentOverError, InvalidContextError
from crossfade.methods.bandits.draw import draw, number_of
from crossfade.methods.bandits.policy import ContextualPolicy
from crossfade.traffic.allocation.allocation import Allocation, Layer
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.assignment import Assigner
from crossfade.traffic.allocation.compiled import CompiledExperiment, Context, Decide, encoded, unit_in
from crossfade.traffic.allocation.decisions import Decision, Reason, Tally
from crossfade.traffic.allocation.hashing import seed_of
from crossfade.traffic.allocation.specs import UNIT


class ExperimentRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What serving has to know about one experiment.

    Args:
        allocation: Who takes part, and who gets which variant.
        model: The model whose traffic it takes; empty when it only answers as a flag.
        versions: Variant -> the semver behind it.
        champion: The semver of the champion when it started; empty when there was none.
        shadows: Variants that get a copy of every request that is decided here; their answers are recorded only.
        dimensions: Attributes of the context that exposures keep.
        unit: What a unit is: `unit_id`, or the attribute of the context that its layer draws by.
        scored: Whether a metric needs the score of answers.
        recorded: Whether exposures are kept: somebody reads them.
        paused: Whether everybody gets the champion for now. Units keep their slots.
        policy: Draws the variant of whoever takes part, by the context of the request; None: slots say it.
        processes: Of a rollout process by process: those where the last variant answers everybody. Everywhere else the
            first one does.
    """

    allocation: Allocation
    model: str = ""
    versions: Mapping[str, str] = {}
    champion: str = ""
    shadows: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    unit: str = UNIT
    scored: bool = False
    recorded: bool = True
    paused: bool = False
    policy: ContextualPolicy | None = None
    processes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.allocation.spec.name


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides about requests.

    Args:
        layers: What experiments share units in.
        experiments: Every experiment that has started and not ended.
        rollouts: Rollouts of models.
        over: Names of experiments that have ended, the newest ones: who asks for one is told so.
        decided: What everybody gets of flags whose experiments were decided, the newest ones.
    """

    layers: tuple[Layer, ...] = ()
    experiments: tuple[ExperimentRoute, ...] = ()
    rollouts: tuple[ExperimentRoute, ...] = ()
    over: tuple[str, ...] = ()
    decided: tuple[Decision, ...] = ()

    def allocations(self) -> Allocations:
        """Return what units are assigned by."""
        return Allocations(self.layers, tuple(experiment.allocation for experiment in self.experiments))


class Asker(msgspec.Struct, frozen=True, gc=False):
    """Who asks for a prediction.

    Args:
        unit: The `unit_id`.
        context: What else is known, as JSON: what segments look at.
        experiment: The only one that may decide, when the request names one.
        request_id: What experiments draw by that are not sticky; empty for anything.
    """

    unit: str | None = None
    context: Mapping[str, Any] | None = None
    experiment: str = ""
    request_id: str = ""


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """What was decided for one request.

    Args:
        decision: Who answers, and why.
        version: The semver that shall answer; None: the champion.
        route: The experiment that decided; None when the one that was named does not run.
    """

    decision: Decision
    version: str | None = None
    route: ExperimentRoute | None = None


class Router:
    """Decides which version of a model answers a request, by one revision of everything, at one moment.

    Args:
        traffic: What runs.
        at: The moment; aware.
        tally: Where decisions that fall back are counted.
        process: Which process this is, for rollouts process by process.

    Attributes:
        assigner: Decides by slots.
        due_at: When to compile again, because a schedule or a ramp wants it; None for never.
        experiments: Name -> what runs.
        models: Those that an experiment may decide for.

    Example:
        >>> Router(Traffic()).route("churn", Asker("user-1")) is None
        True
    """

    __slots__ = ("_decided", "_drawn", "_over", "_tally", "assigner", "due_at", "experiments", "models")

    def __init__(
        self, traffic: Traffic, at: datetime | None = None, tally: Tally | None = None, process: str = ""
    ) -> None:
        self._tally = Tally() if tally is None else tally
        self._over = frozenset(traffic.over)
        self._decided = {decision.experiment: decision for decision in traffic.decided}
        now = at or utc_now()
        paused = frozenset(experiment.name for experiment in traffic.experiments if experiment.paused)
        self.assigner = Assigner(traffic.allocations(), now, self._tally, paused)
        self.due_at = self.assigner.due_at
        self.experiments = {experiment.name: experiment for experiment in traffic.experiments}
        self._drawn = {
            experiment.name: _drawn_by(
                experiment.policy, experiment, self.assigner.experiments[experiment.name], self._tally
            )
            for experiment in traffic.experiments
            if experiment.policy is not None
        }
        models: defaultdict[str, dict[str, tuple[Decide, ExperimentRoute]]] = defaultdict(dict)
        for experiment in filter(lambda experiment: experiment.model, traffic.experiments):
            decide = self._drawn.get(experiment.name) or self.assigner.experiments[experiment.name]
            models[experiment.model][experiment.name] = decide, experiment
        for rollout in traffic.rollouts:
            models[rollout.model] = {rollout.name: (_released_by(rollout, now, self._tally, process), rollout)}
        self.models: Mapping[str, Mapping[str, tuple[Decide, ExperimentRoute]]] = dict(models)

    def route(self, model: str, asker: Asker) -> Assignment | None:
        """Return what was decided; None when no experiment is about this model and none was named."""
        deciders = self.models.get(model)
        if asker.experiment:
            named = None if deciders is None else deciders.get(asker.experiment)
            return self._not_running(asker.experiment) if named is None else _assigned(named, asker)
        if not deciders:
            return None
        first = None
        for decider in deciders.values():
            assignment = _assigned(decider, asker)
            if assignment.version is not None:
                return assignment
            first = first or assignment
        return first

    def decide(
        self, experiment: str, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> Decision:
        """Return what a unit gets of one experiment, whatever it is about: what a flag is.

        Raises:
            ExperimentNotFoundError: No experiment of this name runs.
            ExperimentOverError: One did, and no flag was decided by it.
        """
        decided = self._decided.get(experiment)
        if decided is not None:
            return decided
        if experiment in self._over:
            raise ExperimentOverError(name=experiment)
        drawn = self._drawn.get(experiment)
        if drawn is not None:
            return drawn(unit, context, request_id)
        return self.assigner.decide(experiment, unit, context, request_id)

    def decide_all(
        self, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> list[Decision]:
        """Return what a unit gets of every experiment and of every decided flag, in no particular order."""
        decisions = self.assigner.decide_all(unit, context, request_id)
        running = [
            self._drawn[decision.experiment](unit, context, request_id)
            if decision.enrolled and decision.experiment in self._drawn
            else decision
            for decision in decisions
        ]
        return [*running, *self._decided.values()]

    def _not_running(self, experiment: str) -> Assignment:
        self._tally.add("", Reason.NOT_RUNNING)  # whoever asks may invent names without end
        words = "it is over" if experiment in self._over else "no experiment of this name runs on this model"
        return Assignment(Decision(experiment[:80], "", Reason.NOT_RUNNING, words))


def decided_flag(route: ExperimentRoute, shipped: str) -> Decision:
    """Return what everybody gets of a flag since its experiment was decided, whoever asks; nobody takes part.

    Args:
        route: The experiment, as it was at its end.
        shipped: The variant that everybody gets; empty for the control.
    """
    spec, revision = route.allocation.spec, route.allocation.revision
    chosen = shipped or spec.falls_back_to
    values = {variant.name: variant.value for variant in spec.variants}
    words = f"it was decided: everybody gets `{chosen}`"
    return Decision(route.name, chosen, Reason.STATIC, words, revision=revision, value=values.get(chosen))


def _assigned(decider: tuple[Decide, ExperimentRoute], asker: Asker) -> Assignment:
    decide, experiment = decider
    request_id = asker.request_id
    if not (request_id or experiment.allocation.spec.sticky):
        request_id = new_id()  # whoever wants requests to be drawn need not number them
    decision = decide(asker.unit, asker.context, request_id)
    answers = decision.enrolled or decision.reason is Reason.OVERRIDE
    return Assignment(decision, experiment.versions[decision.variant] if answers else None, experiment)


def _released_by(rollout: ExperimentRoute, at: datetime, tally: Tally, process: str) -> Decide:
    """Let a rollout decide: by the unit, else by the request, for everybody who asks is part of it."""
    if rollout.processes:
        return _decided_by_process(rollout, process)
    decide = CompiledExperiment(rollout.allocation, (), at, tally).decide

    def decide_by_rollout(unit: str | None, context: Context | None, request_id: str | None) -> Decision:
        drawn_by = unit if encoded(unit) is not None else request_id
        return decide(drawn_by if encoded(drawn_by) is not None else new_id(), context, None)

    return decide_by_rollout


def _decided_by_process(rollout: ExperimentRoute, process: str) -> Decide:
    first, *_, last = rollout.allocation.spec.variants
    chosen = last if process in rollout.processes else first
    words = f"this process gives everybody `{chosen.name}`"
    share, revision = rollout.allocation.propensities().get(chosen.name, 1.0), rollout.allocation.revision
    decision = Decision(rollout.name, chosen.name, Reason.SPLIT, words, True, share, revision, chosen.value)
    return lambda _unit, _context, _request_id: decision


def _drawn_by(policy: ContextualPolicy, experiment: ExperimentRoute, decide: Decide, tally: Tally) -> Decide:
    """Let a policy draw the variant of whoever takes part; who that is stays as it was.

    The draw is a hash of the unit, or of the request where nothing is sticky, so that it can be repeated.
    """
    scorer, name, revision = policy.scorer(), experiment.name, experiment.allocation.revision
    spec = experiment.allocation.spec
    values = {variant.name: variant.value for variant in spec.variants}
    seed = seed_of(f"policy/{spec.drawn_by}")
    sticky, attribute, fallback = spec.sticky, experiment.unit, spec.falls_back_to

    def decide_by_policy(unit: str | None, context: Context | None, request_id: str | None) -> Decision:
        decision = decide(unit, context, request_id)
        if not decision.enrolled:
            return decision
        try:
            probabilities = scorer(context or {})
        except InvalidContextError as error:
            tally.add(name, Reason.ERROR)
            words = f"the policy cannot judge the context: {error.message}"
            return Decision(name, fallback, Reason.ERROR, words, revision=revision, value=values[fallback])
        drawn_by = request_id if not sticky else unit if attribute == UNIT else unit_in(context, attribute)
        place = draw(probabilities, number_of(drawn_by or new_id(), seed))
        chosen, propensity = scorer.variants[place], probabilities[place]
        words = f"the policy gives `{chosen}` a probability of {propensity:.4g} for this context"
        return Decision(name, chosen, Reason.SPLIT, words, True, propensity, revision, values[chosen])

    return decide_by_policy
