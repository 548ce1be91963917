"""Bodies of requests about experiments."""

from __future__ import annotations

from typing import Literal

import msgspec


class ReweightRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New weights, a new coverage, or both."""

    weights: dict[str, float] | None = None
    coverage: float | None = None
    reason: str = ""


class DecideRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shall follow.

    Args:
        action: `ship` a variant to everybody, or `keep` what is; empty does what the analysis says.
        variant: Which one to ship.
        reason: Why, when it is not what the analysis says.
    """

    action: Literal["", "ship", "keep"] = ""
    variant: str = ""
    reason: str = ""
