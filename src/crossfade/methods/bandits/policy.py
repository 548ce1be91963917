"""Policies: what is known about the variants, and how that becomes weights or probabilities; state, and pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.hashing import canonical_json
from crossfade.errors import InvalidDecisionLogError, InvalidPolicyError
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import ContextualSpec, Scorer
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.kl_ucb import KLUCB
from crossfade.methods.bandits.lin_ts import LinTS
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.spec import Spec, demand
from crossfade.methods.bandits.square_cb import SquareCB
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.bandits.ucb1 import UCB1
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import NotEstimable

MAX_VARIANTS = 100
"""With as many, exact weights take a second or two; with a thousand they would fill the memory."""
MAX_NAME = 200

ContextFreeKind = BetaThompson | GaussianThompson | UCB1 | KLUCB | EpsilonGreedy
ContextualKind = LinUCB | LinTS | SquareCB
PolicySpec = ContextFreeKind | ContextualKind
"""What people ask for; as JSON, `kind` tells which one it is."""


class Evidence(Protocol):
    """What is known about one variant."""

    def times(self, factor: float) -> Self:
        """Return it with every reward counted that much."""

    def plus(self, other: Self) -> Self:
        """Return both together."""


E = TypeVar("E", bound=Evidence)


class _Policy(msgspec.Struct, Generic[E], frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="policy"):
    """What policies of both sorts have in common.

    Args:
        at: Up to when it has learned and forgotten, with a time zone.
        variants: Among which it chooses.
        retired: Variants that were removed: rewards that still come for them are left out.
        evidence: What is known about each variant.

    Raises:
        InvalidPolicyError: Variants are none, too many, or named alike; the floor is too high for so many; or the
            evidence does not belong to them.
    """

    at: datetime
    variants: tuple[str, ...]
    evidence: tuple[E, ...]
    retired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        demand(self.at.tzinfo is not None, "`at` has no time zone")
        count = len(self.variants)
        demand(1 <= count <= MAX_VARIANTS, f"it has {count} variants instead of 1 to {MAX_VARIANTS}")
        names = (*self.variants, *self.retired)
        demand(len(set(names)) == len(names), "two variants have the same name")
        demand(all(1 <= len(name) <= MAX_NAME for name in names), f"a name has not 1 to {MAX_NAME} characters")
        demand(len(self.evidence) == count, f"there is evidence of {len(self.evidence)} variants, and {count} of them")
        self._spec().check_floor(count)

    def advance(self, at: datetime) -> Self:
        """Return the policy at a later moment, when it has forgotten more; an earlier moment changes nothing."""
        if at <= self.at:
            return self
        keep = self._spec().keep_after((at - self.at).total_seconds())
        evidence = self.evidence if keep == 1.0 else tuple(each.times(keep) for each in self.evidence)
        return msgspec.structs.replace(self, at=at, evidence=evidence)

    def learn(self, outcomes: Outcomes, at: datetime) -> Self:
        """Return the policy after these rewards. In which order and in how many batches they come makes no difference.

        Args:
            outcomes: Each decision once, when no more reward can come for it.
            at: Now: how old a decision is counts from here.

        Raises:
            InvalidDecisionLogError: A variant is unknown, a reward out of the range of the policy, or something that
                the policy looks at is not there.
            InvalidContextError: A feature is missing and has no default, or is no usable number.
        """
        later = self.advance(at)
        kept = self._spec().keep_each(later.at.timestamp() - outcomes.decided_at)
        fresh = self._count(outcomes, kept)
        evidence = tuple(old.plus(new) for old, new in zip(later.evidence, fresh, strict=True))
        return msgspec.structs.replace(later, evidence=evidence)

    def add(self, variant: str) -> Self:
        """Return the policy with one more variant, of which nothing is known but the prior.

        Raises:
            InvalidPolicyError: It has that variant, or the floor is too high for one more.
        """
        demand(variant not in self.variants, f"it has a variant `{variant}`")
        return msgspec.structs.replace(
            self,
            variants=(*self.variants, variant),
            evidence=(*self.evidence, self._nothing()),
            retired=tuple(name for name in self.retired if name != variant),
        )

    def remove(self, variant: str) -> Self:
        """Return the policy without a variant; nothing is lost that is known about the others.

        Raises:
            InvalidPolicyError: It has no such variant, or no other.
        """
        demand(variant in self.variants, f"it has no variant `{variant}`")
        kept = {name: each for name, each in self.known().items() if name != variant}
        return msgspec.structs.replace(
            self, variants=tuple(kept), evidence=tuple(kept.values()), retired=(*self.retired, variant)
        )

    def known(self) -> dict[str, E]:
        """Return the evidence by variant."""
        return dict(zip(self.variants, self.evidence, strict=True))

    def warm(self, evidence: Mapping[str, E], trust: float = 1.0) -> Self:
        """Return the policy with what is known from elsewhere added: another policy's `known()`, or estimates.

        Args:
            evidence: Of some of its variants; what it says of others is left out.
            trust: How much a reward from there counts, 0 to 1.

        Raises:
            InvalidPolicyError: `trust` is no fraction, or the evidence is of other features.
        """
        demand(0 <= trust <= 1, f"`trust` is {trust}, which is not between 0 and 1")
        nothing = self._nothing()
        extra = [evidence.get(name, nothing).times(trust) for name in self.variants]
        merged = tuple(old.plus(new) for old, new in zip(self.evidence, extra, strict=True))
        return msgspec.structs.replace(self, evidence=merged)

    def encode(self) -> bytes:
        """Return it as canonical JSON: equal policies are equal bytes, and reading them gives the very same numbers."""
        return canonical_json(self)

    def _spec(self) -> Spec:
        raise NotImplementedError

    def _nothing(self) -> E:
        raise NotImplementedError

    def _count(self, outcomes: Outcomes, kept: Array) -> Sequence[E]:
        raise NotImplementedError


class ContextFreePolicy(_Policy[Tally], frozen=True, kw_only=True, tag="context_free"):
    """A policy that ends as one weight for each variant, for whoever asks.

    Args:
        spec: What was asked for; another one may take its place, because evidence is the same for all kinds.

    Example:
        >>> from datetime import datetime, UTC
        >>> policy = start(BetaThompson(floor=0.05), ["a", "b"], datetime(2026, 1, 1, tzinfo=UTC))
        >>> policy.weights()
        {'a': 0.5, 'b': 0.5}
    """

    spec: ContextFreeKind

    def weights(self) -> dict[str, float]:
        """Return the probability of each variant: none is below the floor, and they sum to 1."""
        shares = self.spec.floored(self.spec.shares(self.evidence))
        return dict(zip(self.variants, shares.tolist(), strict=True))

    def chances(self) -> dict[str, float] | NotEstimable:
        """Return the probability that each variant is the best, by the posterior of its kind or by normal means."""
        found = self.spec.chances(self.evidence)
        return found if isinstance(found, NotEstimable) else dict(zip(self.variants, found.tolist(), strict=True))

    def _spec(self) -> Spec:
        return self.spec

    def _nothing(self) -> Tally:
        return Tally()

    def _count(self, outcomes: Outcomes, kept: Array) -> list[Tally]:
        if self.spec.bounded:
            outcomes.check_rewards()
        importance = None
        if self.spec.weigh_by_propensity:
            if outcomes.propensities is None:
                raise InvalidDecisionLogError(problem="there are no propensities, and the policy weighs by them")
            importance = 1 / outcomes.propensities
        return [
            Tally.of(outcomes.rewards[rows], kept[rows], None if importance is None else importance[rows])
            for rows in outcomes.rows_of(self.variants, self.retired)
        ]


class ContextualPolicy(_Policy[Ridge], frozen=True, kw_only=True, tag="contextual"):
    """A policy whose probabilities depend on the request.

    Args:
        spec: What was asked for; another one with the same features may take its place.

    Example:
        >>> from datetime import datetime, UTC
        >>> from crossfade.methods.bandits.contextual import Feature
        >>> spec = LinUCB(features=(Feature("distance"),))
        >>> ask = start(spec, ["a", "b"], datetime(2026, 1, 1, tzinfo=UTC)).scorer()
        >>> ask({"distance": 0.3})
        [0.5, 0.5]
    """

    spec: ContextualKind

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.spec.width
        demand(all(len(each.moment) == width for each in self.evidence), f"the evidence is not of {width} coefficients")

    def scorer(self) -> Scorer:
        """Return what gives each variant its probability: what serving asks, until the policy has learned more."""
        return self.spec.scorer(self.variants, self.evidence)

    def _spec(self) -> ContextualSpec:
        return self.spec

    def warm(self, evidence: Mapping[str, Ridge], trust: float = 1.0) -> Self:
        """Return the policy with what is known from elsewhere added: another policy's `known()`, or `Ridge.of` a log.

        Raises:
            InvalidPolicyError: `trust` is no fraction, or the evidence is of other features.
        """
        width = self.spec.width
        demand(all(len(each.moment) == width for each in evidence.values()), "the evidence is of other features")
        return super().warm(evidence, trust)

    def _nothing(self) -> Ridge:
        return Ridge.nothing(self.spec.width)

    def _count(self, outcomes: Outcomes, kept: Array) -> list[Ridge]:
        if outcomes.contexts is None:
            raise InvalidDecisionLogError(problem="there are no contexts, and the policy looks at them")
        design = self.spec.design(outcomes.contexts)
        return [
            Ridge.of(design[rows], outcomes.rewards[rows], kept[rows])
            for rows in outcomes.rows_of(self.variants, self.retired)
        ]


Policy = ContextFreePolicy | ContextualPolicy


def start(spec: PolicySpec, variants: Sequence[str], at: datetime) -> Policy:
    """Return a policy that knows nothing but its prior.

    Args:
        spec: What is asked for.
        variants: Among which it chooses.
        at: Now.

    Raises:
        InvalidPolicyError: Variants are none, too many, or named alike; or the floor is too high for so many.
    """
    names = tuple(variants)
    if isinstance(spec, ContextualSpec):
        return ContextualPolicy(spec=spec, at=at, variants=names, evidence=(Ridge.nothing(spec.width),) * len(names))
    return ContextFreePolicy(spec=spec, at=at, variants=names, evidence=(Tally(),) * len(names))


def decode(document: bytes) -> Policy | PolicySpec:
    """Read a policy, or what is asked of one, from JSON.

    Raises:
        InvalidPolicyError: It is neither.
    """
    wanted: Any = Policy
    try:
        content = msgspec.json.decode(document)
        if isinstance(content, dict) and "kind" in content:  # policies tell their kind by another field
            wanted = PolicySpec
        found: Policy | PolicySpec = msgspec.convert(content, wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPolicyError(
            problem=f"it is no stored policy and no specification ({problem_of(error, wanted)})"
        ) from error
    return found
