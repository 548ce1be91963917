"""What differs between two versions: evaluations, signatures, parameters, size."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from crossfade.core.compatibility import SignatureDiff, compare_signatures
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Version


class EvaluationChange(msgspec.Struct, frozen=True):
    """One measurement of both versions.

    Args:
        name: Of the measurement.
        a: Its value for the first version; None when it was not measured.
        b: Its value for the second version.
        difference: `b - a`; None when one side is missing.
        percent: The difference relative to |a|, times 100; None when one side is missing or `a` is 0.
    """

    name: str
    a: float | None
    b: float | None
    difference: float | None = None
    percent: float | None = None


class ParameterChange(msgspec.Struct, frozen=True):
    """One parameter that differs; None stands for "not given"."""

    name: str
    a: Any
    b: Any


class ComparisonReport(msgspec.Struct, frozen=True):
    """What differs between two versions, `b` seen from `a`.

    Args:
        a: The first version.
        b: The second version.
        evaluation: Every measurement that either has, by name.
        signature: What callers of `a` meet when they call `b`.
        parameters: Only those that differ, by name.
        size_difference_bytes: How much larger the files of `b` are.
    """

    a: Version
    b: Version
    evaluation: tuple[EvaluationChange, ...]
    signature: SignatureDiff
    parameters: tuple[ParameterChange, ...]
    size_difference_bytes: int


def compare(backend: RegistryBackend, a: Version, b: Version) -> ComparisonReport:
    """Compare two versions, of the same model or of different ones."""
    before, after = backend.card(a).parameters, backend.card(b).parameters
    return ComparisonReport(
        a=a,
        b=b,
        evaluation=tuple(
            evaluation_change(name, a.evaluation.get(name), b.evaluation.get(name))
            for name in sorted({*a.evaluation, *b.evaluation})
        ),
        signature=compare_signatures(backend.manifest(a).signature, backend.manifest(b).signature),
        parameters=tuple(
            ParameterChange(name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ),
        size_difference_bytes=b.size_bytes - a.size_bytes,
    )


def evaluation_change(name: str, a: float | None, b: float | None) -> EvaluationChange:
    """Compare one measurement.

    Example:
        >>> evaluation_change("auc", 0.5, 0.75).percent
        50.0
    """
    if a is None or b is None:
        return EvaluationChange(name, a, b)
    difference = b - a
    percent = 100.0 * difference / abs(a) if a else math.nan
    return EvaluationChange(name, a, b, _finite(difference), _finite(percent))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
