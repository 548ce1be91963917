"""What people ask for: `SafetyPolicySpec`: checks of the answers of a model, and what is given instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from crossfade.core.identity import Semver, check_name
from crossfade.core.tensors import Label
from crossfade.errors import InvalidNameError, InvalidSafetyPolicyError, InvalidSemverError
from crossfade.methods.drift.stability import ReferenceSample
from crossfade.safety.language import parse
from crossfade.safety.levels import Level

MAX_CHECKS = 50
MAX_CLASSES = 10_000
MAX_BINS = 100
MAX_REFERENCE = 100_000
MAX_WINDOW = 100_000
Mode = Literal["block", "fall_back"]
"""What emergency mode does: it refuses, or it gives what the fallback of the policy gives without asking the model."""


class _Check(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"
):
    """A condition on answers.

    Args:
        name: Unique in the policy; overrides and the history name it.
        level: What a violation is.
    """

    name: str
    level: Level = Level.UNSAFE


class FiniteCheck(_Check, frozen=True, kw_only=True, tag="finite"):
    """No number of an output is NaN or infinite.

    Args:
        output: Which one; empty: every output of numbers.
    """

    output: str = ""


class RangeCheck(_Check, frozen=True, kw_only=True, tag="range"):
    """A number lies between two others, both included; NaN lies nowhere.

    Args:
        output: Whose.
        column: Of the output, when it has several; None: all of them.
        minimum, maximum: At least one of the two.
    """

    output: str
    column: int | None = None
    minimum: float | None = None
    maximum: float | None = None


class RelationCheck(_Check, frozen=True, kw_only=True, tag="relation"):
    """An output stands in a relation to an input, another output, or a number: `left operator times * right + plus`.

    Args:
        left: Name of an output or input.
        operator: `<`, `<=`, `>`, `>=`, `==` or `!=`.
        right: Name of an output or input, or a number.
        times, plus: What is done to the right side.
    """

    left: str
    operator: Literal["<", "<=", ">", ">=", "==", "!="]
    right: str | float
    times: float = 1.0
    plus: float = 0.0


class ChangeCheck(_Check, frozen=True, kw_only=True, tag="change"):
    """From one answer to the next about the same unit, a number changes by so much at most.

    Args:
        output: Whose.
        maximum: The most that it may change.
        per_seconds: When given, so much in this time, in proportion; else from one answer to the next.
        by: The input that says which unit a row is about; empty: the unit that the request names.
        forget_seconds: After this time without an answer, a unit starts anew.
    """

    output: str
    maximum: float
    per_seconds: float | None = None
    by: str = ""
    forget_seconds: float = 3600.0


class DistributionCheck(_Check, frozen=True, kw_only=True, tag="distribution"):
    """The newest answers of a version are distributed like a reference, by the population stability index.

    Args:
        output: Whose.
        column: Of the output, when it has several.
        values: A sample of what answers look like; when the policy is put, it becomes the `reference`.
        bins: That the sample is cut into.
        reference: Edges and shares.
        window: How many answers, in each process, are compared.
        threshold: Of the index; customary are 0.1 for a small and 0.25 for a large shift.
    """

    output: str
    column: int = 0
    values: tuple[float, ...] = ()
    bins: int = 10
    reference: ReferenceSample | None = None
    window: int = 1000
    threshold: float = 0.25


class ClassesCheck(_Check, frozen=True, kw_only=True, tag="classes"):
    """An output is one of a few values."""

    output: str
    allowed: tuple[Label, ...]


class ExpressionCheck(_Check, frozen=True, kw_only=True, tag="expression"):
    """A condition in the language of `crossfade.safety.language`, for example `predict <= 2 * inputs['capacity']`."""

    expression: str


Check = FiniteCheck | RangeCheck | RelationCheck | ChangeCheck | DistributionCheck | ClassesCheck | ExpressionCheck


class LastSafe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="last_safe"
):
    """The newest safe answer of this process.

    Args:
        per: `unit`: about the unit that the request names; `model`: about any.
        max_age_seconds: An older one is not given any more.
    """

    per: Literal["unit", "model"] = "unit"
    max_age_seconds: float = 3600.0


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """The same answer always.

    Args:
        outputs: Output -> its value for one row: a number, a text, or a list for an output of several columns.
    """

    outputs: Mapping[str, Any]


class OtherVersion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="version"
):
    """What another version of the model answers, when that is safe. Every process keeps it ready."""

    version: str


class Refuse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="refuse"):
    """No answer at all; every chain ends so, said or not."""


Fallback = LastSafe | Constant | OtherVersion | Refuse


class SafetyPolicySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the answers of a model have to be, and what is given when they are not.

    Args:
        model: Whose.
        checks: All of them are looked at; the worst finding counts.
        fallback: What is given instead of an unsafe row; the first that can be given.
        latch: What a CRITICAL answer turns on for the model, until a person ends it; empty: nothing.
        max_units: Units of which the last answer is remembered, in each process.
    """

    model: str
    checks: tuple[Check, ...]
    fallback: tuple[Fallback, ...] = ()
    latch: Literal["", "block", "fall_back"] = ""
    max_units: int = 10_000


def checked(spec: SafetyPolicySpec) -> SafetyPolicySpec:
    """Return a policy that can be used, its samples turned into references.

    Raises:
        InvalidSafetyPolicyError: Something in it cannot be used.
        InvalidNameError: The model can have no such name.

    Example:
        >>> low = RangeCheck(name="low", output="predict", minimum=0)
        >>> checked(SafetyPolicySpec(model="load", checks=(low,))).checks[0].name
        'low'
    """
    check_name(spec.model)
    if not 1 <= len(spec.checks) <= MAX_CHECKS:
        raise InvalidSafetyPolicyError(problem=f"it has 1 to {MAX_CHECKS} checks")
    names = [check.name for check in spec.checks]
    if len(set(names)) != len(names):
        raise InvalidSafetyPolicyError(problem="two checks have the same name")
    if not 1 <= spec.max_units <= 1_000_000:
        raise InvalidSafetyPolicyError(problem="`max_units` is 1 to 1,000,000")
    for fallback in spec.fallback:
        _check_fallback(fallback)
    return msgspec.structs.replace(spec, checks=tuple(_checked(check) for check in spec.checks))


def _checked(check: Check) -> Check:
    try:
        check_name(check.name, kind="check")
    except InvalidNameError as error:
        raise InvalidSafetyPolicyError(problem=error.message) from None
    if check.level is Level.SAFE:
        raise InvalidSafetyPolicyError(problem=f"check `{check.name}`: a violation is no level `safe`")
    problem = ""
    if isinstance(check, ExpressionCheck):
        parse(check.expression)
    elif isinstance(check, DistributionCheck):
        return _with_reference(check)
    elif isinstance(check, RangeCheck):
        problem = _of_range(check)
    elif isinstance(check, RelationCheck):
        finite = all(map(_finite, (check.times, check.plus)))
        side = isinstance(check.right, str) or _finite(check.right)
        problem = "" if finite and side else "its numbers are finite"
    elif isinstance(check, ChangeCheck):
        given = (check.forget_seconds, *(() if check.per_seconds is None else (check.per_seconds,)))
        possible = (
            _finite(check.maximum) and check.maximum >= 0 and all(_finite(value) and value > 0 for value in given)
        )
        problem = "" if possible else "its numbers are finite and not negative, and times more than 0"
    elif isinstance(check, ClassesCheck):
        problem = "" if 1 <= len(check.allowed) <= MAX_CLASSES else f"it allows 1 to {MAX_CLASSES} values"
    if problem:
        raise InvalidSafetyPolicyError(problem=f"check `{check.name}`: {problem}")
    return check


def _of_range(check: RangeCheck) -> str:
    bounds = [bound for bound in (check.minimum, check.maximum) if bound is not None]
    if not bounds or not all(map(_finite, bounds)) or bounds != sorted(bounds):
        return "it has a finite `minimum`, a finite `maximum` not below it, or both"
    return "a column is not negative" if check.column is not None and check.column < 0 else ""


def _with_reference(check: DistributionCheck) -> DistributionCheck:
    def refuse(problem: str) -> InvalidSafetyPolicyError:
        return InvalidSafetyPolicyError(problem=f"check `{check.name}`: {problem}")

    if not (20 <= check.window <= MAX_WINDOW and 2 <= check.bins <= MAX_BINS and check.column >= 0):
        raise refuse(f"`window` is 20 to {MAX_WINDOW}, `bins` 2 to {MAX_BINS}, a column not negative")
    if not (_finite(check.threshold) and check.threshold > 0) or len(check.values) > MAX_REFERENCE:
        raise refuse(f"`threshold` is more than 0, and a sample has at most {MAX_REFERENCE} values")
    if bool(check.values) == (check.reference is not None):
        raise refuse("it has either `values` or a `reference`")
    try:
        reference = check.reference or ReferenceSample.of(check.values, check.bins)
    except ValueError as error:
        raise refuse(str(error)) from None
    if problem := reference.problem():
        raise refuse(problem)
    if len(reference.shares) > MAX_BINS:
        raise refuse(f"a reference has at most {MAX_BINS} bins")
    if check.threshold < 2 * reference.noise(check.window):
        least = 2 * reference.noise(check.window)
        raise refuse(f"a threshold below {least:.2g} would be passed by chance; take a larger window or reference")
    return msgspec.structs.replace(check, reference=reference, values=())


def _check_fallback(fallback: Fallback) -> None:
    if isinstance(fallback, OtherVersion):
        try:
            exact = str(Semver.parse(fallback.version)) == fallback.version
        except InvalidSemverError:
            exact = False
        if not exact:
            raise InvalidSafetyPolicyError(problem=f"fallback: `{fallback.version[:80]}` is no semantic version")
    elif isinstance(fallback, LastSafe) and not (_finite(fallback.max_age_seconds) and fallback.max_age_seconds > 0):
        raise InvalidSafetyPolicyError(problem="fallback: `max_age_seconds` is finite and more than 0")
    elif isinstance(fallback, Constant) and not fallback.outputs:
        raise InvalidSafetyPolicyError(problem="fallback: a constant has outputs")


def _finite(number: float) -> bool:
    return math.isfinite(number)
