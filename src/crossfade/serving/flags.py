"""`FlagService`: experiments as feature flags, for programs that have something else to decide than who answers.

Asking for one flag exposes the unit, if it takes part: whoever asks is about to act on the answer. Asking for all of
them does not: pages fetch every flag and use few, and units that never saw their variant would hide its effect. A flag
that was decided exposes nobody, and is answered for as long as programs ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossfade.core.identity import new_id
from crossfade.serving.enrolment import Enroller
from crossfade.traffic.allocation.evaluation import (
    TARGETING_KEY,
    Flag,
    FlagFailure,
    evaluate,
    evaluate_all,
)
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.routing import Asker


class FlagService:
    """Evaluates flags by the newest snapshot.

    Args:
        follower: The snapshot.
        enroller: Keeps exposures.
    """

    def __init__(self, follower: SnapshotFollower, enroller: Enroller) -> None:
        self._follower = follower
        self._enroller = enroller

    def evaluate(self, key: str, context: Mapping[str, Any]) -> tuple[Flag | FlagFailure, str]:
        """Evaluate one flag, and expose the unit when it takes part.

        Returns:
            The flag, and the id of the decision for outcomes; empty when the unit does not take part.
        """
        router, request_id = self._follower.snapshot.router, new_id()
        flag = evaluate(router, key, context, request_id)
        if isinstance(flag, FlagFailure) or not flag.metadata["enrolled"]:
            return flag, ""
        unit = context.get(TARGETING_KEY)
        asker = Asker(unit if isinstance(unit, str) else None, context, request_id=request_id)
        return flag, self._enroller.expose(
            router.experiments[key], flag.variant, float(flag.metadata["propensity"]), asker
        )

    def evaluate_all(self, context: Mapping[str, Any]) -> list[Flag | FlagFailure]:
        """Evaluate every flag; nobody is exposed."""
        return evaluate_all(self._follower.snapshot.router, context, new_id())
