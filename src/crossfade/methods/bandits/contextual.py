"""What policies that look at the request share: declared features, and probabilities for one context."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from crossfade.errors import InvalidContextError
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.spec import Spec, demand
from crossfade.methods.stats.distributions import Array

LARGEST = 1e6
"""Features beyond this, of either sign, would drown all others in rounding."""
MAX_FEATURES = 1_000
_FLOAT = np.dtype(np.float64)
_NUMBERS = (int, float, np.number, np.bool_)


class Feature(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A number that requests bring along.

    Args:
        name: Its key in the context. True and False are 1 and 0; spread categories over several features.
        default: What counts where it is missing, null or NaN; without one, such a request is refused.
    """

    name: str
    default: float | None = None


class ContextualSpec(Spec, frozen=True, kw_only=True):
    """A policy that learns a linear model of the reward for each variant.

    Args:
        features: In the order of the model; about the size of 1, because the regularization treats them alike.
        intercept: Whether a constant goes before them.
        regularization: How strongly coefficients are held near 0: like so many rewards of 0 along every feature.

    Raises:
        InvalidPolicyError: There is no feature, or two have the same name.
    """

    features: tuple[Feature, ...]
    intercept: bool = True
    regularization: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [feature.name for feature in self.features]
        demand(1 <= len(names) <= MAX_FEATURES, f"it has {len(names)} features instead of 1 to {MAX_FEATURES}")
        demand(len(set(names)) == len(names), "two features have the same name")
        defaults = [feature.default for feature in self.features if feature.default is not None]
        demand(
            all(abs(each) <= LARGEST for each in defaults),
            f"a default is no number between -{LARGEST:g} and {LARGEST:g}",
        )
        demand(
            1e-9 <= self.regularization < math.inf, f"`regularization` is {self.regularization}, which is not above 0"
        )

    @property
    def width(self) -> int:
        """How many coefficients the model of a variant has."""
        return len(self.features) + self.intercept

    def scorer(self, variants: Sequence[str], models: Sequence[Ridge]) -> Scorer:
        """Return what gives each variant its probability, for one context at a time."""
        raise NotImplementedError

    def vector(self, context: Mapping[str, Any]) -> list[float]:
        """Return the features of a context in their order, without the constant.

        Raises:
            InvalidContextError: One without a default is missing, or one is no usable number.
        """
        if not isinstance(context, Mapping):
            raise InvalidContextError(feature=self.features[0].name, problem="there is no context")
        return [_number(feature, context.get(feature.name)) for feature in self.features]

    def matrix(self, contexts: Iterable[Mapping[str, Any]]) -> Array:
        """Return the features of many contexts, `(n, d)`: what `Outcomes` takes."""
        rows = [self.vector(context) for context in contexts]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.features))

    def design(self, contexts: Array) -> Array:
        """Return features as the models take them: filled, and after a constant where there is one.

        Raises:
            InvalidContextError: There are more or fewer features, or one is missing or no usable number.
        """
        filled = self.filled(contexts)
        return np.column_stack([np.ones(len(filled)), filled]) if self.intercept else filled

    def filled(self, contexts: Array) -> Array:
        """Return features with defaults where they are missing.

        Args:
            contexts: `(n, d)`, NaN where missing.

        Raises:
            InvalidContextError: There are more or fewer features, or one is missing or no usable number.
        """
        if contexts.ndim != 2 or contexts.shape[1] != len(self.features):
            problem = f"contexts have the shape {contexts.shape} instead of (n, {len(self.features)})"
            raise InvalidContextError(feature=self.features[0].name, problem=problem)
        filled = contexts.copy()
        for feature, column in zip(self.features, filled.T, strict=True):
            if feature.default is not None:
                column[np.isnan(column)] = feature.default
            bad = np.flatnonzero(~(np.abs(column) <= LARGEST))
            if bad.size:
                _number(feature, float(column[bad[0]]))
        return filled


class Scorer:
    """Probabilities of all variants for one context: a policy at one moment, ready to be asked often.

    It holds nothing that changes, so threads may share it. Probabilities sum to 1 and are never below the floor.

    Args:
        spec: Of the policy.
        variants: In the order of the probabilities.
    """

    def __init__(self, spec: ContextualSpec, variants: Sequence[str]) -> None:
        self.variants = tuple(variants)
        self._spec = spec
        self._pick = _picker([feature.name for feature in spec.features])
        self._before = (1.0,) if spec.intercept else ()
        floor = min(spec.floor, 1 / len(self.variants))
        self._floor, self._rest = floor, 1 - len(self.variants) * floor

    def __call__(self, context: Mapping[str, Any]) -> list[float]:
        """Return the probability of each variant.

        Raises:
            InvalidContextError: A feature without a default is missing, or one is no usable number.
        """
        raise NotImplementedError

    def many(self, contexts: Array) -> Array:
        """Return the probabilities for many contexts at once, `(n, k)`.

        Args:
            contexts: `(n, d)`, as `ContextualSpec.matrix` gives them; NaN where missing.

        Raises:
            InvalidContextError: A feature without a default is missing, or one is no usable number.
        """
        return self._spec.floored(self._shares(self._spec.design(contexts)))

    def _shares(self, design: Array) -> Array:
        raise NotImplementedError

    def _vector(self, context: Mapping[str, Any]) -> Array:
        try:
            vector = np.array((*self._before, *self._pick(context)))
            # one product finds NaN, infinite and enormous values, all of which fail the comparison
            if vector.dtype is _FLOAT and vector.dot(vector) <= LARGEST * LARGEST:
                return vector
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            pass  # what is wrong, or whether there is a default, is found out below, where it may take its time
        return np.array((*self._before, *self._spec.vector(context)))


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) == 1:
        name = names[0]
        return lambda context: (context[name],)
    return itemgetter(*names)


def _number(feature: Feature, given: object) -> float:
    missing = given is None or (isinstance(given, float) and math.isnan(given))
    if missing and feature.default is not None:
        return float(feature.default)
    if missing:
        raise InvalidContextError(feature=feature.name, problem="it is missing and has no default")
    if not isinstance(given, _NUMBERS):
        raise InvalidContextError(feature=feature.name, problem=f"{str(given)[:40]!r} is no number")
    if not -LARGEST <= given <= LARGEST:
        raise InvalidContextError(feature=feature.name, problem=f"it is not between -{LARGEST:g} and {LARGEST:g}")
    return float(given)
