"""What people ask for: `AllocationSpec` of an experiment, `LayerSpec` of experiments that share their units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.identity import check_name
from crossfade.errors import InvalidAllocationError, InvalidLayerError, InvalidNameError
from crossfade.traffic.allocation.hashing import HASH, check_hash
from crossfade.traffic.allocation.ownership import TOLERANCE
from crossfade.traffic.allocation.segments import MAX_TEXT, Segment

UNIT = "unit_id"
"""What assignment is sticky to, unless a layer declares something else."""
MAX_VARIANTS = 64
MAX_STEPS = 100
MAX_OVERRIDES = 10_000
MAX_VALUE_BYTES = 2**16

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class VariantSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One arm of an experiment.

    Args:
        name: A slug.
        weight: Its fraction of the units that take part; the weights of an experiment sum to 1.
        value: What clients of feature flags are given, any JSON; its name by default.
    """

    name: str
    weight: float
    value: Any = None


class RampStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planned change: from when on, which fraction of the units takes part."""

    at: Moment
    coverage: float


class LayerSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Experiments that share their units, so that each unit is in one of them at most.

    Args:
        name: A slug.
        unit: What all of its experiments are sticky to: `unit_id` of the request, or an attribute of the context such
            as `session`. It belongs to the layer, since experiments that draw different units exclude nothing.
        holdout: Fraction of the units that never take part in anything here.
        root: Another layer whose holdout counts here, too.
        salt: What draws the units; `layer/NAME` by default. A new salt draws them all anew.
        hash: The algorithm.
    """

    name: str
    unit: str = UNIT
    holdout: float = 0.0
    root: str = ""
    salt: str = ""
    hash: str = HASH

    @property
    def drawn_by(self) -> str:
        """The salt in use."""
        return self.salt or f"layer/{self.name}"

    def checked(self) -> LayerSpec:
        """Return a copy that shares nothing with the caller, after all checks that need no other layer.

        Raises:
            InvalidLayerError: The first thing that is wrong.
            UnknownHashError: The hash is not known here.
        """
        spec = _copied(self, self.name, InvalidLayerError)
        for problem in _problems_of_layer(spec):
            raise InvalidLayerError(name=_cut(spec.name), problem=problem)
        check_hash(spec.hash)
        return spec


class AllocationSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who takes part in an experiment, and who gets which variant.

    Args:
        name: Of the experiment, a slug.
        variants: In an order that stays; their weights sum to 1.
        layer: Which it shares units in; without one it is alone, and sticky to `unit_id`.
        share: Fraction of its layer's units that are kept for it.
        coverage: Fraction of its units that takes part; all others get the fallback.
        segment: Which requests it is about; all by default.
        start_at: Before, everybody gets the fallback.
        end_at: From then on, everybody gets the fallback.
        ramp: Changes of the coverage that are yet to come, the earliest first.
        overrides: Unit -> variant, for people who try something out; they do not take part.
        sticky: Whether a unit keeps its variant; if not, every request draws one by its id.
        fallback: The variant of everybody who does not take part; the first one by default.
        salt: What draws the units; the name by default. A new salt draws them all anew.
        hash: The algorithm.

    Example:
        >>> both = (VariantSpec("control", 0.5), VariantSpec("treatment", 0.5))
        >>> AllocationSpec("late", both, coverage=0.1).checked().shares()
        {'control': 0.05, 'treatment': 0.05}
    """

    name: str
    variants: tuple[VariantSpec, ...]
    layer: str = ""
    share: float = 1.0
    coverage: float = 1.0
    segment: Segment | None = None
    start_at: Moment | None = None
    end_at: Moment | None = None
    ramp: tuple[RampStep, ...] = ()
    overrides: dict[str, str] = {}
    sticky: bool = True
    fallback: str = ""
    salt: str = ""
    hash: str = HASH

    @property
    def drawn_by(self) -> str:
        """The salt in use."""
        return self.salt or self.name

    @property
    def falls_back_to(self) -> str:
        """The variant of everybody who does not take part."""
        return self.fallback or self.variants[0].name

    def shares(self) -> dict[str, float]:
        """Return the fraction of the experiment's slots that each variant is meant to own."""
        return {variant.name: variant.weight * self.coverage for variant in self.variants}

    def at(self, moment: datetime) -> AllocationSpec:
        """Return what is asked for once the steps of the ramp are taken that are due by then."""
        due = [step for step in self.ramp if step.at <= moment]
        if not due:
            return self
        return msgspec.structs.replace(self, coverage=due[-1].coverage, ramp=self.ramp[len(due) :])

    def checked(self) -> AllocationSpec:
        """Return a copy that shares nothing with the caller, after all checks that do not need the layer.

        Raises:
            InvalidAllocationError: The first thing that is wrong.
            InvalidSegmentError: Its segment is wrong.
            UnknownHashError: The hash is not known here.
        """
        spec = _copied(self, self.name, InvalidAllocationError)
        for problem in (*_problems_of_experiment(spec), *_problems_of_variants(spec), *_rest_of_problems(spec)):
            raise InvalidAllocationError(name=_cut(spec.name), problem=problem)
        check_hash(spec.hash)
        if spec.segment is not None:
            spec.segment.check()
        return spec


S = TypeVar("S", LayerSpec, AllocationSpec)


def _copied(spec: S, name: Any, refused: type[InvalidAllocationError]) -> S:
    """Return a specification as a decoder would have made it, so that it means the same before and after storage."""
    try:
        return msgspec.convert(msgspec.to_builtins(spec, str_keys=True, builtin_types=(datetime,)), type(spec))
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise refused(name=_cut(name), problem=f"it is no specification ({problem_of(error, type(spec))})") from error


def _problems_of_layer(spec: LayerSpec) -> Iterator[str]:
    yield from _problems_of_name(spec.name, "layer")
    yield from _problems_of_salt(spec.salt)
    if not spec.unit or len(spec.unit) > MAX_TEXT:
        yield f"`unit` is the name of an attribute, 1 to {MAX_TEXT} characters"
    if not 0 <= spec.holdout < 1:
        yield f"`holdout` is {spec.holdout}, and 0 to less than 1 is possible"
    if spec.root == spec.name:
        yield "it cannot be its own root"


def _problems_of_experiment(spec: AllocationSpec) -> Iterator[str]:
    yield from _problems_of_name(spec.name, "experiment")
    yield from _problems_of_salt(spec.salt)
    for field, value in (("share", spec.share), ("coverage", spec.coverage)):
        if not 0 <= value <= 1:  # which NaN is not either
            yield f"`{field}` is {value}, and 0 to 1 is possible"
    if not spec.layer and spec.share != 1.0:
        yield "`share` says how much of a layer it gets, and it names none; `coverage` limits who takes part"


def _problems_of_variants(spec: AllocationSpec) -> Iterator[str]:
    names = [variant.name for variant in spec.variants]
    if not 1 <= len(names) <= MAX_VARIANTS:
        yield f"it has {len(names)} variants, and 1 to {MAX_VARIANTS} are possible"
    for name, times in Counter(names).items():
        yield from _problems_of_name(name, "variant")
        if times > 1:
            yield f"the variant `{_cut(name)}` is there {times} times"
    for variant in spec.variants:
        if not 0 <= variant.weight <= 1:  # which NaN is not either
            yield f"the weight of `{_cut(variant.name)}` is {variant.weight}, and 0 to 1 is possible"
        if problem := _problem_of_value(variant.value):
            yield f"the value of `{_cut(variant.name)}` {problem}"
    total = sum(variant.weight for variant in spec.variants)
    if abs(total - 1) > TOLERANCE:
        yield f"the weights sum to {total:.6g}, not to 1; `coverage` says how many units take part"
    if spec.fallback and spec.fallback not in names:
        yield f"the fallback `{_cut(spec.fallback)}` is none of its variants"


def _problems_of_overrides(spec: AllocationSpec) -> Iterator[str]:
    names = {variant.name for variant in spec.variants}
    if len(spec.overrides) > MAX_OVERRIDES:
        yield f"it has {len(spec.overrides)} overrides, and {MAX_OVERRIDES} are possible"
    for unit, name in spec.overrides.items():
        if not unit or len(unit) > MAX_TEXT:
            yield f"an override names a unit of 1 to {MAX_TEXT} characters"
        if name not in names:
            yield f"the override of `{_cut(unit)}` leads to `{_cut(name)}`, which is none of its variants"


def _rest_of_problems(spec: AllocationSpec) -> Iterator[str]:
    yield from _problems_of_overrides(spec)
    yield from _problems_of_times(spec)


def _problems_of_times(spec: AllocationSpec) -> Iterator[str]:
    if spec.start_at is not None and spec.end_at is not None and spec.start_at >= spec.end_at:
        yield "it ends before it starts"
    if len(spec.ramp) > MAX_STEPS:
        yield f"its ramp has {len(spec.ramp)} steps, and {MAX_STEPS} are possible"
    for before, after in zip(spec.ramp, spec.ramp[1:], strict=False):
        if before.at >= after.at:
            yield f"the step of its ramp at {after.at.isoformat()} is not after the one before it"
    for step in spec.ramp:
        if not 0 <= step.coverage <= 1:
            yield f"a step of its ramp has the coverage {step.coverage}, and 0 to 1 is possible"


def _problems_of_name(name: str, kind: str) -> Iterator[str]:
    try:
        check_name(name, kind)
    except InvalidNameError as error:
        yield f"{error.message}; {error.hint}"


def _problems_of_salt(salt: str) -> Iterator[str]:
    if len(salt) > MAX_TEXT or not _is_utf8(salt):
        yield f"a salt is a text of at most {MAX_TEXT} characters"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem_of_value(value: Any) -> str:
    try:
        encoded = msgspec.json.encode(value)
        if len(encoded) > MAX_VALUE_BYTES:
            return f"has more than {MAX_VALUE_BYTES} bytes"
        if msgspec.json.decode(encoded) != value:  # such as NaN, which becomes null
            return "is no JSON"
    except (TypeError, ValueError, RecursionError):
        return "is no JSON"
    return ""


def _cut(text: Any) -> str:
    return str(text)[:80]
