"""Exposures as both databases can keep them.

What a client sends ends in exposures: the unit, the attributes of its request. If something odd in there made an
exposure unusable, anybody could make an experiment incomplete. So it is replaced, always by the same.
"""

from __future__ import annotations

from hashlib import blake2b
from math import isfinite
from typing import Any

import msgspec

from crossfade.ledger.events import Exposure, ShadowAnswer
from crossfade.ledger.store import MAX_UNIT, storable

_KEPT = MAX_UNIT - 33


def mended(each: Exposure) -> Exposure | None:
    r"""Return an exposure with whatever its client sent replaced where it cannot be kept; None when that is not enough.

    Example:
        >>> mended(Exposure("a", 0, "late", 1, "control", "x\0y")).unit
        'x�y'
    """
    changes: dict[str, Any] = {}
    if (unit := keepable_unit(each.unit)) != each.unit:
        changes["unit"] = unit
    if each.score is not None and not isfinite(each.score):
        changes["score"] = None
    if each.context and not all(map(isfinite, each.context.values())):
        changes["context"] = {name: value for name, value in each.context.items() if isfinite(value)}
    if each.shadows and not all(map(_is_finite, each.shadows)):
        changes["shadows"] = tuple(map(_finite, each.shadows))
    if changes:
        each = msgspec.structs.replace(each, **changes)
    return each if storable(each) else None


def encodable(each: Exposure) -> Exposure:
    """Return an exposure whose texts are Unicode: halves of surrogate pairs can be received, but not written."""
    dimensions = {_text(name): _text(value) for name, value in each.dimensions.items()}
    context = {_text(name): value for name, value in each.context.items()}
    return msgspec.structs.replace(each, unit=_text(each.unit), dimensions=dimensions, context=context)


def keepable_unit(unit: str) -> str:
    """Return the name under which a unit is kept: its own, or for an odd one another that is always the same."""
    if "\0" in unit:
        unit = unit.replace("\0", "\ufffd")
    if len(unit) <= MAX_UNIT:
        return unit
    return f"{unit[:_KEPT]}#{blake2b(unit.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _is_finite(shadow: ShadowAnswer) -> bool:
    return (shadow.score is None or isfinite(shadow.score)) and isfinite(shadow.latency_seconds)


def _finite(shadow: ShadowAnswer) -> ShadowAnswer:
    score = shadow.score if shadow.score is None or isfinite(shadow.score) else None
    latency = shadow.latency_seconds if isfinite(shadow.latency_seconds) else 0.0
    return msgspec.structs.replace(shadow, score=score, latency_seconds=latency)


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
