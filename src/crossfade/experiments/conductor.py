"""`Conductor`: what happens to experiments by itself: bandits learn, and decisions act where they were told to.

Every serving process has one; a lease lets one of them work at a time. Whatever fails is logged and tried again at the
next turn; nothing here is on the way of a request.
"""

from __future__ import annotations

import logging
import time

from crossfade.core.wording import in_one_line
from crossfade.errors import CrossfadeError, ExperimentConflictError, UnavailableError
from crossfade.experiments.judging import AUTO, Judge
from crossfade.experiments.learning import Learner
from crossfade.experiments.record import Experiment, Status
from crossfade.experiments.requests import DecideRequest
from crossfade.experiments.store import ExperimentStore
from crossfade.settings import ExperimentSettings
from crossfade.storage.attendant import Attendant
from crossfade.storage.lease import Lease, LostLeaseError

_log = logging.getLogger(__name__)

LEASE = "experiments"
_PAGE = 1000


class Conductor(Attendant):
    """Turns from time to time, on a thread of its own.

    Args:
        store: The experiments.
        judge: Decides.
        learner: Learns.
        lease: Lets one process work at a time.
        settings: How often.
    """

    def __init__(
        self, store: ExperimentStore, judge: Judge, learner: Learner, lease: Lease, settings: ExperimentSettings
    ) -> None:
        super().__init__(LEASE, lease, settings.poll_seconds)
        self._store = store
        self._judge = judge
        self._learner = learner
        self._due: dict[str, float] = {}

    def turn(self) -> None:
        """Do once what there is to do; nothing when another process does it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        running = self._running()
        if not running or not self._lease.hold():
            return
        for experiment in running:
            try:
                self._store.note(experiment, in_one_line(self._attend(experiment)))
            except LostLeaseError:
                return
            except UnavailableError as error:  # it passes, and nothing can be kept meanwhile
                self.say(str(error), experiment.name)
            except CrossfadeError as error:
                self.say(str(error), experiment.name)
                self._store.note(experiment, in_one_line(error.message))
            except Exception as error:  # noqa: BLE001 - a bug that one experiment meets must not starve those after it
                self.say(repr(error), experiment.name, bug=True)
                self._store.note(experiment, in_one_line(repr(error)))

    def _attend(self, experiment: Experiment) -> str:
        """Do what there is to do for one; return why nothing will happen by itself, empty when it may."""
        bandit = experiment.spec.bandit
        now = time.monotonic()
        if bandit is not None and now >= self._due.get(experiment.name, 0.0):
            self._due[experiment.name] = now + bandit.update_seconds
            self._learner.learn(experiment.name, self._lease)
        return self._decide(experiment.name) if experiment.spec.decision.auto else ""

    def _decide(self, name: str) -> str:
        try:
            decided = self._judge.decide(name, DecideRequest(), principal=AUTO)
        except ExperimentConflictError as error:  # not decided yet: what is missing is in the analysis
            _log.debug("%s", error)
            return error.message if error.facts.get("action") == "review" else ""  # which waits for a person
        assert decided.verdict is not None  # noqa: S101 - it was decided
        _log.info("experiment `%s`: %s %s: %s", name, decided.verdict.action, decided.verdict.variant, decided.reason)
        return ""

    def _running(self) -> list[Experiment]:
        found = self._store.list(status=Status.RUNNING.value, limit=_PAGE).items
        return [each for each in found if each.spec.bandit is not None or each.spec.decision.auto]
