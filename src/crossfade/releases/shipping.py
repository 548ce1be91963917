"""`Shipping`: rollouts of what experiments have decided for; implements `crossfade.experiments.judging.Releases`."""

from __future__ import annotations

from crossfade.errors import RolloutConflictError
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
        self,
        model: str,
        version: str,
        plan: str,
        *,
        experiment: str,
        expected: str | None,
        reason: str,
        principal: str,
        dry_run: bool,
    ) -> None:
        """Begin to roll a version out in place of an experiment that has its traffic; again changes nothing.

        Args:
            model, version: What everybody shall get.
            plan: A preset's name.
            experiment: The one that has decided for it.
            expected: When given, the champion that it must replace.
            reason, principal: Why, and who, for the audit log.
            dry_run: Only check.

        Raises:
            InvalidPlanError: There is no such plan.
            RolloutConflictError: Something else is being rolled out, or everybody gets something else than `expected`.
            LatchedError: The version was rolled back before.
        """
        wanted = RolloutRequest(model, version, plan, reason=reason, experiment=experiment, expected=expected)
        try:
            self._store.create(wanted, principal=principal, dry_run=dry_run)
        except RolloutConflictError:
            if not self._has_begun(model, version):
                raise

    def _has_begun(self, model: str, version: str) -> bool:
        """Tell whether it has begun, or is over: whoever began it may have ended before the experiment did."""
        if self._store.stable(model) == version:
            return True
        mine = (each for each in self._store.attended() if each.kind == "model" and each.subject == model)
        return any(each.active and each.candidate == version for each in mine)
