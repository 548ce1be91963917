"""Bodies of requests about configs."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.configs.spec import ConfigSpec


class DraftRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new version.

    Args:
        document: A JSON object. It is read as it was written: keys that are there twice are refused.
        spec: What documents have to be from this version on; by default what the version before had to be.
        reason: Why, for whoever approves it.
    """

    document: msgspec.Raw
    spec: ConfigSpec | None = None
    reason: str = ""


class ActivateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that everybody shall read.

    Args:
        expected: When given, the number that has to be active now, 0 for none, so that nobody's change is overwritten.
        reason: Kept in the audit log.
    """

    expected: int | None = None
    reason: str = ""


class DeployConfigRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that units shall read one after the other.

    Args:
        plan: The name of a plan of rollouts; a plan of one's own goes to `POST /api/v1/rollouts`.
        reason: Kept in the audit log.
    """

    plan: str = "careful"
    reason: str = ""


class ImpactRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to compare a version with.

    Args:
        against: The number of another version; by default the active one.
        rows: Inputs of the models that are asked, instead of captured predictions.
        limit: Rows that are replayed, at most.
    """

    against: int | None = None
    rows: tuple[dict[str, Any], ...] = ()
    limit: int = 1_000
