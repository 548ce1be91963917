"""What may become of an experiment, what may change while it runs, and what would make it another one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from crossfade.errors import ExperimentConflictError, InvalidExperimentError
from crossfade.experiments.learned import Learned
from crossfade.experiments.record import LEGAL, Experiment, Status
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.methods.bandits.policy import ContextFreePolicy

_STAYS = ("model", "layer", "sticky", "salt", "shadows", "metrics", "dimensions", "analysis", "bandit", "control")
"""Fields that its numbers depend on: changing one would mix two experiments."""


def check_transition(found: Experiment, status: Status) -> None:
    """Refuse a status that cannot follow the one that an experiment has.

    Raises:
        ExperimentConflictError: Names both.
    """
    if status not in LEGAL[found.status]:
        problem = f"is {found.status.value}, and cannot become {status.value}"
        raise ExperimentConflictError(name=found.name, problem=problem)


def check_amendment(before: ExperimentSpec, after: ExperimentSpec) -> None:
    """Refuse a change that would make a running experiment another one.

    Variants may come and go, but for the control, and a variant keeps its version; weights, coverage, share, segment,
    schedule, ramp, overrides, values and the decision may change.

    Raises:
        InvalidExperimentError: Names the first thing that has to stay.
    """
    for field in _STAYS:
        if getattr(before, field) != getattr(after, field):
            problem = f"`{field}` stays while it runs; stop it, and begin another one"
            raise InvalidExperimentError(name=before.name, problem=problem)
    known = {variant.name: variant for variant in before.variants}
    for variant in after.variants:
        same = known.get(variant.name)
        if same is not None and same.version != variant.version:
            problem = f"`{variant.name}` stays `{same.version}` while it runs; add a variant with the other version"
            raise InvalidExperimentError(name=before.name, problem=problem)


def check_weights(spec: ExperimentSpec, weights: Mapping[str, float]) -> None:
    """Refuse to give a shadow a weight.

    Raises:
        InvalidExperimentError: Names the shadow.
    """
    for name in spec.shadows:
        if name != spec.control and weights.get(name):
            raise InvalidExperimentError(name=spec.name, problem=f"`{name}` is a shadow, and cannot have a weight")


def relearned(learned: Learned, spec: ExperimentSpec) -> tuple[Learned, ExperimentSpec]:
    """Return what a bandit knows once its variants are those of `spec`, and `spec` with the weights that follow.

    Raises:
        InvalidPolicyError: There are too many variants, or none.
    """
    policy, names = learned.policy, [variant.name for variant in spec.variants]
    for name in names:
        if name not in policy.variants:
            policy = policy.add(name)
    for name in set(policy.variants) - set(names):
        policy = policy.remove(name)
    if isinstance(policy, ContextFreePolicy):
        weights = policy.weights()
        variants = tuple(
            Variant(variant.name, weights[variant.name], variant.version, variant.value) for variant in spec.variants
        )
        spec = msgspec.structs.replace(spec, variants=variants)
    return msgspec.structs.replace(learned, policy=policy), spec
