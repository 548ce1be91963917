"""`Shipping`: rollouts of what experiments have decided for; implements `crossfade.experiments.judging.Releases`."""

from __future__ import annotations

from crossfade.errors import RolloutConflictError, RolloutNotFoundError
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.store import RolloutStore


class Shipping:
    """Begins rollouts for experiments.

    Args:
        store: The rollouts.
    """

    def __init__(self, store: RolloutStore) -> None:
        self._store = store

    def begin(
        self, model: str, version: str, plan: str, *, experiment: str, reason: str, principal: str, dry_run: bool
    ) -> None:
        """Begin to roll a version out in place of an experiment that has its traffic; again changes nothing.

        Raises:
            InvalidPlanError: There is no such plan.
            RolloutConflictError: Something else is being rolled out.
            LatchedError: The version was rolled back before.
        """
        wanted = RolloutRequest(model, version, plan, reason=reason, experiment=experiment)
        try:
            self._store.create(wanted, principal=principal, dry_run=dry_run)
        except RolloutConflictError:
            if not self._is_under_way(model, version):
                raise

    def require_unlatched(self, model: str, version: str) -> None:
        """Refuse a version that was rolled back before: it does not come again by itself.

        Raises:
            LatchedError: It was.
        """
        self._store.require_unlatched(model, version)

    def _is_under_way(self, model: str, version: str) -> bool:
        """Tell whether it has begun already: whoever began it may have ended before the experiment did."""
        try:
            found = self._store.find(model)
        except RolloutNotFoundError:
            return False
        return found.active and found.candidate == version
