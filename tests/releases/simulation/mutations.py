"""Deliberate mistakes, each of which the oracle has to notice: the proof that the simulation proves something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
from sqlalchemy import text

from crossfade.configs import configs
from crossfade.configs import store as config_store
from crossfade.releases import controller, policy, store
from crossfade.releases.changing import find_row
from crossfade.releases.checks import measuring
from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.moves import completing, ending
from crossfade.releases.rollout import Rollout, RolloutStatus, rollout_of
from crossfade.releases.subjects.configs import ConfigSubject
from crossfade.releases.subjects.models import ModelSubject
from crossfade.releases.surroundings import Surroundings
from crossfade.storage.lease import Lease

Mistake = Callable[[], AbstractContextManager[object]]


def _lease_is_not_checked() -> AbstractContextManager[object]:
    return patch.object(Lease, "check", lambda self, connection: None)


@contextmanager
def _seen_is_not_compared() -> Iterator[None]:
    """Whoever writes takes the row for what they saw."""
    keep = controller.keep_evidence

    def careless(connection: Any, rollout: Rollout, evidence: Any, state: Any) -> Rollout:
        now = rollout_of(find_row(connection, rollout.name))
        return keep(connection, msgspec.structs.replace(rollout, seen=now.seen), evidence, state)

    with patch.object(controller, "keep_evidence", careless):
        yield


@contextmanager
def _neither_lease_nor_seen() -> Iterator[None]:
    with _lease_is_not_checked(), _seen_is_not_compared():
        yield


@contextmanager
def _two_rollbacks() -> Iterator[None]:
    """No index forbids them, and nothing is compared."""
    create = store.RolloutStore.create

    def without_index(self: Any, *args: Any, **options: Any) -> Rollout:
        with self._database.write() as connection:
            connection.execute(text("DROP INDEX IF EXISTS rollout_transitions_one_rollback"))
        return create(self, *args, **options)

    with _seen_is_not_compared(), patch.object(store.RolloutStore, "create", without_index):
        yield


def _situation(**facts: Any) -> AbstractContextManager[object]:
    of = Surroundings.of

    def seen(self: Surroundings, *args: Any) -> Any:
        return msgspec.structs.replace(of(self, *args), **facts)

    return patch.object(Surroundings, "of", seen)


def _nobody_is_behind() -> AbstractContextManager[object]:
    return _situation(behind=())


def _readers_are_taken_for_followers() -> AbstractContextManager[object]:
    """What a process has read of the board of configs is not asked for."""
    return patch.object(ConfigSubject, "behind", ModelSubject.behind)


def _everybody_is_ready() -> AbstractContextManager[object]:
    return _situation(ready=True, problem="")


def _somebody_always_lives() -> AbstractContextManager[object]:
    return _situation(processes=("a",))


def _subject_is_not_confirmed() -> AbstractContextManager[object]:
    return patch.object(Surroundings, "confirm", lambda *_: None)


@contextmanager
def _no_traffic_passes() -> Iterator[None]:
    measure = measuring.error_rate.measure

    def lenient(check: Any, rollout: Rollout) -> Measurement:
        found = measure(check, rollout)
        return Measurement(CheckResult.PASS, "fine") if found.result is CheckResult.NO_TRAFFIC else found

    with patch.object(measuring.error_rate, "measure", lenient):
        yield


@contextmanager
def _failures_pass() -> Iterator[None]:
    with patch.object(measuring.error_rate, "measure", lambda *_: Measurement(CheckResult.PASS, "fine")):
        yield


def _weight_stays_after_an_abort() -> AbstractContextManager[object]:
    def kept(rollout: Rollout, *args: Any, **options: Any) -> Any:
        return msgspec.structs.replace(ending(rollout, *args, **options), weight=rollout.weight)

    return patch.object(store, "ending", kept)


def _completion_is_not_everything() -> AbstractContextManager[object]:
    return patch.object(controller, "completing", lambda *args: msgspec.structs.replace(completing(*args), weight=0.99))


def _nothing_is_latched() -> AbstractContextManager[object]:
    create = store.RolloutStore.create

    def forgiving(self: Any, wanted: Any, **options: Any) -> Rollout:
        return create(self, msgspec.structs.replace(wanted, override_latch=True), **options)

    return patch.object(store.RolloutStore, "create", forgiving)


@contextmanager
def _pauses_are_ignored() -> Iterator[None]:
    decide = policy.next_action

    def hasty(rollout: Rollout, seen: Any) -> Any:
        if rollout.status is RolloutStatus.PAUSED and rollout.state.step >= 0:
            rollout = msgspec.structs.replace(rollout, status=RolloutStatus.PROGRESSING)
        return decide(rollout, seen)

    with patch.object(controller, "next_action", hasty):
        yield


@contextmanager
def _changes_without_record() -> Iterator[None]:
    from crossfade.releases import changing

    def silent(connection: Any, **_: Any) -> int:
        return int(connection.execute(text("UPDATE head SET revision = revision + 1 RETURNING revision")).scalar_one())

    with patch.object(changing, "commit_change", silent):
        yield


def _readers_are_not_told() -> AbstractContextManager[object]:
    """What is committed does not count as a change of what is read."""
    write = config_store._set

    def quiet(connection: Any, name: str, values: Mapping[str, object]) -> None:
        write(connection, name, {column: value for column, value in values.items() if column != "changed"})

    return patch.object(config_store, "_set", quiet)


def _units_are_drawn_anew() -> AbstractContextManager[object]:
    """Each step draws its units by something else than the one before."""
    grow = store.next_route

    def drawn(route: Any, weight: float, **options: Any) -> Any:
        found = grow(route, weight, **options)
        spec = msgspec.structs.replace(found.allocation.spec, salt=f"{weight}")
        return msgspec.structs.replace(found, allocation=msgspec.structs.replace(found.allocation, spec=spec))

    return patch.object(store, "next_route", drawn)


def _units_keep_a_bad_config() -> AbstractContextManager[object]:
    """A config that is taken back is still read by whoever read it."""
    withdraw = ConfigSubject.withdraw

    def kept(self: ConfigSubject, connection: Any, rollout: Rollout, **options: Any) -> None:
        routing = self._store.row(connection, rollout.subject).routing
        withdraw(self, connection, rollout, **options)
        config_store._set(connection, rollout.subject, {"routing": routing})

    return patch.object(ConfigSubject, "withdraw", kept)


def _a_bad_config_stays_approved() -> AbstractContextManager[object]:
    withdraw = ConfigSubject.withdraw

    def forgiven(self: ConfigSubject, connection: Any, rollout: Rollout, *, failed: bool, **said: Any) -> None:
        withdraw(self, connection, rollout, failed=False, **said)

    return patch.object(ConfigSubject, "withdraw", forgiven)


def _people_activate_past_a_rollout() -> AbstractContextManager[object]:
    return patch.object(configs, "_require_calm", lambda _row: None)


def _units_do_not_count() -> AbstractContextManager[object]:
    return patch.object(measuring, "units_of", lambda *_: (0, 0))


MUTATIONS: Mapping[str, Mistake] = {
    "the lease is not checked": _lease_is_not_checked,
    "`seen` is not compared": _seen_is_not_compared,
    "neither lease nor `seen`": _neither_lease_nor_seen,
    "no index, and no `seen`": _two_rollbacks,
    "nobody is ever behind": _nobody_is_behind,
    "who follows models follows configs": _readers_are_taken_for_followers,
    "everybody is always ready": _everybody_is_ready,
    "somebody always lives": _somebody_always_lives,
    "the subject is not confirmed": _subject_is_not_confirmed,
    "no traffic passes": _no_traffic_passes,
    "failures pass": _failures_pass,
    "the weight stays after an abort": _weight_stays_after_an_abort,
    "a completion is not everything": _completion_is_not_everything,
    "nothing is latched": _nothing_is_latched,
    "pauses are ignored": _pauses_are_ignored,
    "changes leave no record": _changes_without_record,
    "readers of a config are not told": _readers_are_not_told,
    "units of a config are drawn anew": _units_are_drawn_anew,
    "units keep a bad config": _units_keep_a_bad_config,
    "a bad config stays approved": _a_bad_config_stays_approved,
    "people activate past a rollout": _people_activate_past_a_rollout,
    "units that read a config do not count": _units_do_not_count,
}
