"""What is reported about a config: who runs what of it, and what a version would change."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from crossfade.configs.difference import Difference
from crossfade.configs.replaying import ReplayedModel

DriftState = Literal["current", "differs", "stale"]


class ClientState(msgspec.Struct, frozen=True):
    """One client of a config.

    Args:
        client: As it calls itself.
        state: `current`, `differs` from what it should read, or `stale`: it has not been heard of for a while.
        number: Of the version that it runs; None for a document that is no version of this config.
        expected: Of the version that it should read.
        unit: Whom it reads for.
        digest: Of what it runs.
        seen_at: When it was heard of.
    """

    client: str
    state: DriftState
    number: int | None
    expected: int | None
    unit: str
    digest: str
    seen_at: datetime


class DriftReport(msgspec.Struct, frozen=True):
    """Who runs what of one config.

    Args:
        name: The config.
        active: The number of its active version.
        current, differs, stale: How many clients.
        clients: Those that differ first, then the stale, the longest unheard of first; not all when there are many.
    """

    name: str
    active: int | None
    current: int
    differs: int
    stale: int
    clients: tuple[ClientState, ...]


class Affected(msgspec.Struct, frozen=True):
    """Which units read the config, counted among exposures.

    Args:
        units: Different ones.
        exposures: Theirs.
        days: Over how many days.
        complete: Whether all exposures of these days were looked at; if not, the newest were.
    """

    units: int
    exposures: int
    days: int
    complete: bool = True


class ImpactReport(msgspec.Struct, frozen=True):
    """What a version would change.

    Args:
        name: The config.
        number: The version.
        against: The version that it was compared with; None: an empty document.
        changed: How many differences there are.
        changes: The differences, a JSON Patch; not all when there are many.
        affected: Which units read the config; None when its specification does not say how to count them.
        replays: What the declared models answer with both documents.
    """

    name: str
    number: int
    against: int | None
    changed: int
    changes: tuple[Difference, ...]
    affected: Affected | None
    replays: tuple[ReplayedModel, ...]
