"""What is reported once traffic was changed: the move of an alias, answers that are not given any more."""

from __future__ import annotations

import msgspec

from crossfade.registry.versions import AliasMove


class SwitchReport(msgspec.Struct, frozen=True):
    """What a switch did.

    Args:
        move: The entry in the alias's history; its `seq` is 0 when this was a dry run.
        processes: How many live processes had the version ready.
        late: Processes (`host/pid`) that did not yet answer from the new revision when the waiting ended.
        seconds: From the call to the end of the waiting.
    """

    move: AliasMove
    processes: int
    late: tuple[str, ...] = ()
    seconds: float = 0.0


class Invalidation(msgspec.Struct, frozen=True):
    """Whose answers are not given any more.

    Args:
        model: The model.
        version: Its semver; None means every version.
        generation: The revision from which on answers are computed anew; 0 in a dry run.
        processes: How many live processes follow it.
        late: Processes (`host/pid`) that did not follow it yet when the waiting ended.
    """

    model: str
    version: str | None
    generation: int
    processes: int = 0
    late: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`name:1.2.0`, or the name alone for every version."""
        return self.model if self.version is None else f"{self.model}:{self.version}"
