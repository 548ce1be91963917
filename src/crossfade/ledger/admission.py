"""Which events can be used: whatever is sent, roll-ups stay numbers, and rows stay within what a database takes."""

from __future__ import annotations

from functools import lru_cache

from crossfade.core.identity import check_name
from crossfade.errors import InvalidNameError
from crossfade.ledger.events import Exposure
from crossfade.ledger.metrics import LARGEST, RESERVED, is_text

MAX_UNIT = 512
"""Characters of a unit."""
MAX_ID = 64
"""Characters of an id."""
LAST_US = 253_402_300_799_999_999
"""The end of the year 9999."""
_MAX_REVISION = 2**63 - 1


def problem_of_exposure(event: Exposure) -> str:
    """Return why an exposure cannot be used, in one word; empty when it can."""
    if not _is_key(event.unit, MAX_UNIT):
        return "unit"
    if not _is_key(event.id, MAX_ID):
        return "id"
    if not is_slug(event.variant):
        return "variant"
    if not 0 <= event.at_us <= LAST_US:
        return "time"
    if not 0 <= event.revision <= _MAX_REVISION:
        return "revision"
    return "" if 0 < event.propensity <= 1 else "propensity"  # which NaN is not


def problem_of_outcome(name: str, value: float, at_us: int) -> str:
    """Return why an outcome cannot be used, in one word; empty when it can."""
    if not is_slug(name) or name in RESERVED:
        return "name"
    if not 0 <= at_us <= LAST_US:
        return "time"
    return "" if abs(value) <= LARGEST else "value"  # which NaN is not


def problem_of_subject(subject: str) -> str:
    """Return why nothing can be about a unit or a decision; empty when it can."""
    return "" if _is_key(subject, MAX_UNIT) else "unit"


def is_slug(name: str) -> bool:
    """Tell whether a name is one that experiments, variants and outcomes may have."""
    return len(name) <= MAX_ID and _is_slug(name)


@lru_cache(maxsize=10_000)
def _is_slug(name: str) -> bool:
    try:
        check_name(name)
    except InvalidNameError:
        return False
    return True


def _is_key(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and is_text(text)
