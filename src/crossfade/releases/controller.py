"""`Controller`: brings every rollout from where it is to where it should be, again and again.

Level-triggered: a turn looks at what is, and needs no memory of its own, so it goes on after any end. Every serving
process has one; a lease lets one of them work, and each of its writes checks in the same transaction that the lease is
still its own. Somebody who slept through its end, or saw an older state of the rollout, changes nothing.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime

import msgspec

from crossfade.core.clock import Clock, utc_now
from crossfade.core.wording import in_one_line
from crossfade.errors import CrossfadeError, UnavailableError
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.changing import Change, StaleError, keep_evidence
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.moves import completing, ending, entering, pausing
from crossfade.releases.policy import Abort, Action, Complete, Enter, Pause, RollBack, Situation, Wait, next_action
from crossfade.releases.rollout import ACTIVE, LEGAL, Rollout, RolloutStatus
from crossfade.releases.store import RolloutStore
from crossfade.releases.surroundings import Surroundings
from crossfade.settings import ReleaseSettings
from crossfade.storage.attendant import Attendant
from crossfade.storage.database import Database
from crossfade.storage.lease import Lease, LostLeaseError

_log = logging.getLogger(__name__)

LEASE = "releases"
CONTROLLER = "controller"
"""The principal of what happens by itself."""

_FORGIVEN = 4
"""Turns in a row in which a rollout could not be attended to; one more, and it waits for a person."""


class Controller(Attendant):
    """Turns from time to time, on a thread of its own.

    Args:
        store: The rollouts.
        database: Where they are.
        surroundings: What is around them.
        measurer: Makes checks.
        lease: Lets one process work at a time.
        settings: How often.
        clock: What time it is.
    """

    def __init__(
        self,
        store: RolloutStore,
        database: Database,
        surroundings: Surroundings,
        measurer: Measurer,
        lease: Lease,
        settings: ReleaseSettings,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(LEASE, lease, settings.poll_seconds)
        self._store = store
        self._database = database
        self._surroundings = surroundings
        self._measurer = measurer
        self._clock = clock
        self._failed: dict[str, int] = {}

    def turn(self) -> None:
        """Do once what there is to do; nothing when another process does it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        attended = self._store.attended()
        if not attended or not self._lease.hold():
            return
        processes = self._surroundings.processes()
        for rollout in attended:
            try:
                if not self._lease.keep():
                    return
                self._attend(rollout, processes)
                self._failed.pop(rollout.name, None)
            except LostLeaseError:
                return
            except StaleError:
                continue  # somebody was quicker; the next turn sees what they did
            except UnavailableError:
                raise
            except CrossfadeError as error:
                self._fail(rollout, error.message)
            except Exception as error:  # noqa: BLE001 - a bug that one rollout meets must not starve those after it
                self._fail(rollout, repr(error), bug=True)

    def _attend(self, rollout: Rollout, processes: tuple[ProcessStatus, ...]) -> None:
        now = self._clock()
        if rollout.status not in ACTIVE:
            if rollout.held_until is not None and rollout.held_until <= now:
                with self._database.write() as connection:
                    self._lease.check(connection)
                    self._store.let_go(connection, rollout, principal=CONTROLLER, epoch=self._lease.epoch)
            return
        situation = self._surroundings.of(rollout, processes, now)
        beside = msgspec.structs.replace(rollout, state=rollout.state.beside(situation.processes))
        evidence, state = self._measurer.look(beside, situation)
        seen = msgspec.structs.replace(rollout, evidence=evidence, state=state)
        action = next_action(seen, situation)
        if isinstance(action, Wait) and action.reason != state.words and rollout.status is not RolloutStatus.PAUSED:
            state = msgspec.structs.replace(state, words=action.reason)
            seen = msgspec.structs.replace(seen, state=state)
        if isinstance(action, Wait) and self._is_unevenly_rolled(seen, processes):
            action = Enter(state.step, f"step {state.step + 1} again: other processes serve now")
        if (evidence, state) == (rollout.evidence, rollout.state) and isinstance(action, Wait):
            return
        self._write(rollout, seen, situation, self._change(seen, action, processes, now))

    def _is_unevenly_rolled(self, rollout: Rollout, processes: tuple[ProcessStatus, ...]) -> bool:
        """Tell whether the processes of a rolling step are not those that should answer with the new version."""
        if rollout.status is not RolloutStatus.PROGRESSING or not processes:
            return False
        return set(_rolled(rollout, rollout.state.step, processes)) != set(rollout.state.processes)

    def _fail(self, rollout: Rollout, problem: str, *, bug: bool = False) -> None:
        """Say that a rollout cannot be attended to; when it stays so, a person has to look."""
        self.say(problem, rollout.name, bug=bug)
        self._failed[rollout.name] = self._failed.get(rollout.name, 0) + 1
        if self._failed[rollout.name] <= _FORGIVEN or RolloutStatus.PAUSED not in LEGAL[rollout.status]:
            return
        pause = pausing(rollout, in_one_line(f"it cannot be attended to: {problem}"))
        try:
            with self._database.write() as connection:
                self._lease.check(connection)
                self._store.act(connection, rollout, pause, principal=CONTROLLER, epoch=self._lease.epoch)
        except UnavailableError:
            raise
        except (StaleError, LostLeaseError, CrossfadeError) as error:
            _log.warning("rollout `%s` is not paused: %s", rollout.name, error)

    def _change(
        self, rollout: Rollout, action: Action, processes: tuple[ProcessStatus, ...], now: datetime
    ) -> Change | None:
        match action:
            case Wait():
                return None
            case Enter(step, reason):
                return entering(rollout, step, reason, now, _rolled(rollout, step, processes))
            case Complete(reason):
                return completing(rollout, reason, now)
            case RollBack(reason, latch):
                return ending(rollout, "rollback", RolloutStatus.ROLLED_BACK, reason, now, latch=latch)
            case Abort(reason):
                return ending(rollout, "abort", RolloutStatus.ABORTED, reason, now, latch=False)
            case Pause(reason, waiting_for):
                return pausing(rollout, reason, waiting_for)

    def _write(self, before: Rollout, seen: Rollout, situation: Situation, change: Change | None) -> None:
        with self._database.write() as connection:
            self._lease.check(connection)
            self._surroundings.confirm(connection, before, situation)
            after = keep_evidence(connection, before, seen.evidence, seen.state)
            if change is not None:
                after = self._store.act(connection, after, change, principal=CONTROLLER, epoch=self._lease.epoch)
        if change is not None:
            _log.info("rollout `%s`: %s: %s", after.name, change.kind, change.reason)


def _rolled(rollout: Rollout, step: int, processes: tuple[ProcessStatus, ...]) -> tuple[str, ...]:
    """Return which processes answer with the new version; none where units decide, or all do."""
    weight = rollout.plan.steps[step].weight
    if rollout.plan.kind != "rolling" or not 0 < weight < 1 or len(processes) < 2:
        return ()  # of one process, units get their part
    wanted = min(math.ceil(weight * len(processes)), len(processes) - 1)  # one is left to compare with
    live = sorted(process.process for process in processes)
    kept = [process for process in live if process in rollout.state.processes]
    return tuple(sorted([*kept, *(process for process in live if process not in kept)][:wanted]))
