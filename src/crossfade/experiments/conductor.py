"""`Conductor`: what happens to experiments by itself: bandits learn, and decisions act where they were told to.

Every serving process has one; a lease lets one of them work at a time. Whatever fails is logged and tried again at the
next turn; nothing here is on the way of a request.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Self

from crossfade.errors import CrossfadeError, ExperimentConflictError, UnavailableError
from crossfade.experiments.judging import AUTO, Judge
from crossfade.experiments.learning import Learner
from crossfade.experiments.record import Experiment, Status
from crossfade.experiments.requests import DecideRequest
from crossfade.experiments.store import ExperimentStore
from crossfade.settings import ExperimentSettings
from crossfade.storage.lease import Lease, LostLeaseError

_log = logging.getLogger(__name__)

LEASE = "experiments"
_PAGE = 1000


class Conductor:
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
        self._store = store
        self._judge = judge
        self._learner = learner
        self._lease = lease
        self._seconds = settings.poll_seconds
        self._due: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-conductor", daemon=True)

    def start(self) -> None:
        """Begin to turn."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and let another process go on."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._lease.release()
        except UnavailableError as error:
            _log.warning("the lease of experiments runs out by itself: %s", error)

    def __enter__(self) -> Self:
        """Begin to turn."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

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
                self._attend(experiment)
            except LostLeaseError:
                return
            except CrossfadeError as error:
                self._say(experiment.name, str(error))
            except Exception as error:  # noqa: BLE001 - a bug that one experiment meets must not starve those after it
                self._say(experiment.name, repr(error), bug=True)

    def _attend(self, experiment: Experiment) -> None:
        bandit = experiment.spec.bandit
        now = time.monotonic()
        if bandit is not None and now >= self._due.get(experiment.name, 0.0):
            self._due[experiment.name] = now + bandit.update_seconds
            self._learner.learn(experiment.name, self._lease)
        if experiment.spec.decision.auto:
            self._decide(experiment.name)

    def _decide(self, name: str) -> None:
        try:
            decided = self._judge.decide(name, DecideRequest(), principal=AUTO)
        except ExperimentConflictError as error:  # not decided yet: what is missing is in the analysis
            _log.debug("%s", error)
            return
        assert decided.verdict is not None  # noqa: S101 - it was decided
        _log.info("experiment `%s`: %s %s: %s", name, decided.verdict.action, decided.verdict.variant, decided.reason)

    def _running(self) -> list[Experiment]:
        found = self._store.list(status=Status.RUNNING.value, limit=_PAGE).items
        return [each for each in found if each.spec.bandit is not None or each.spec.decision.auto]

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            try:
                self.turn()
            except UnavailableError as error:
                self._say("", str(error))
            except Exception:  # noqa: BLE001 - a bug must not end what attends to all other experiments
                _log.exception("a turn failed")

    def _say(self, name: str, problem: str, *, bug: bool = False) -> None:
        """Log a problem once, until it changes."""
        if self._said.get(name) != problem:
            self._said[name] = problem
            _log.warning("experiment `%s` is not attended to: %s", name or "*", problem, exc_info=bug)
