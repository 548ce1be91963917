"""An alias moves only with the consent of every live process, and says why when it does not."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    AliasMovedError,
    AliasNotFoundError,
    ConflictError,
    DatabaseUnavailableError,
    InvalidNameError,
    InvalidSemverError,
    ModelNotFoundError,
    NoPreviousVersionError,
    NotReadyError,
    RejectedVersionError,
    VersionNotFoundError,
)
from crossfade.storage.tables import candidates
from crossfade.traffic import fleet as fleet_module
from crossfade.traffic import switch as switch_module
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from crossfade.traffic.unloading import set_unloaded
from tests.traffic.support import FAST, Clock, Process, move, publish_all


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fleet(registry, clock):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0")
    publish_all(registry, "fraud", "1.0.0")
    return Fleet(registry.backend.database, FAST, clock)


@pytest.fixture
def switch(registry, fleet):
    return AliasSwitch(registry, fleet, FAST)


@pytest.fixture
def process(fleet, clock, monkeypatch):
    """One process that takes its turn whenever somebody waits."""
    process = Process(fleet, clock)
    process.report()
    monkeypatch.setattr(fleet_module.time, "sleep", lambda seconds: process.turn())
    monkeypatch.setattr(switch_module, "FOLLOW_SECONDS", 0.2)
    return process


def points_to(registry, name="churn", alias="champion"):
    return registry.model(name).aliases.get(alias)


# --- without processes ---


def test_without_processes_the_alias_moves_at_once(switch, registry):
    before = registry.backend.database.revision()
    report = switch.move("churn", "champion", "1.0.0", reason="first", principal="ann")
    assert (report.processes, report.late) == (0, ())
    assert (report.move.source, report.move.target) == (None, "1.0.0")
    assert (report.move.moved_by, report.move.reason) == ("ann", "first")
    assert report.move.seq == before + 1, "nothing was announced"
    assert points_to(registry) == "1.0.0"


@pytest.mark.parametrize(
    "version", ["1.1.0", "v1.1.0", "churn:1.1.0", "churn@other", ModelRef("churn", version="1.1.0")]
)
def test_a_version_can_be_spelled_in_many_ways(switch, registry, version):
    move(registry, "churn", "1.1.0", "other")
    assert switch.move("churn", "champion", version).move.target == "1.1.0"


def test_moving_to_where_it_is_changes_nothing(switch, registry):
    first = switch.move("churn", "champion", "1.0.0")
    before = registry.backend.database.revision()
    assert switch.move("churn", "champion", "1.0.0").move == first.move
    assert registry.backend.database.revision() == before


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("churn", "champion", "9.9.9"), VersionNotFoundError),
        (("nobody", "champion", "1.0.0"), ModelNotFoundError),
        (("churn", "Not an alias", "1.0.0"), InvalidNameError),
        (("churn", "champion", "newest"), InvalidSemverError),
        (("churn", "champion", "fraud:1.0.0"), ConflictError),
    ],
)
def test_what_cannot_be_is_refused_before_anything_happens(switch, fleet, arguments, error, dry_run):
    before = fleet.revision()
    with pytest.raises(error):
        switch.move(*arguments, dry_run=dry_run)
    assert fleet.revision() == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_expectation_that_does_not_hold_is_refused(switch, registry, dry_run):
    switch.move("churn", "champion", "1.0.0")
    with pytest.raises(AliasMovedError, match=r"points to 1.0.0, not to 1.1.0"):
        switch.move("churn", "champion", "1.2.0", expected="1.1.0", dry_run=dry_run)
    with pytest.raises(AliasMovedError, match=r"points to nothing, not to 1.1.0"):
        switch.move("churn", "other", "1.2.0", expected="1.1.0", dry_run=dry_run)
    assert switch.move("churn", "champion", "1.2.0", expected="1.0.0", dry_run=dry_run).move.source == "1.0.0"


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_rejected_version_is_refused(switch, registry, dry_run):
    registry.transition("churn:1.1.0", "rejected")
    with pytest.raises(RejectedVersionError):
        switch.move("churn", "champion", "1.1.0", dry_run=dry_run)


def test_a_dry_run_changes_nothing(switch, fleet, process):
    before = fleet.revision()
    report = switch.move("churn", "champion", "1.0.0", reason="try", dry_run=True)
    assert (report.move.seq, report.move.source, report.move.target) == (0, None, "1.0.0")
    assert report.processes == 1
    assert fleet.revision() == before


# --- with a process ---


def test_the_version_is_ready_before_the_alias_moves(switch, registry, process):
    report = switch.move("churn", "champion", "1.0.0", reason="first")
    assert (report.processes, report.late) == (1, ())
    assert report.seconds >= 0
    assert points_to(registry) == "1.0.0"
    assert process.slots["churn:1.0.0"] == ("ready", "")
    with registry.backend.database.read() as connection:
        assert connection.execute(candidates.select()).all() == []


def test_what_nobody_is_to_serve_cannot_be_tried_out_and_nobody_waits_for_it(switch, registry, fleet, process):
    switch.move("churn", "champion", "1.0.0")
    set_unloaded(registry.backend.database, "churn", unloaded=True, principal="ann")
    before = fleet.revision()
    with pytest.raises(NotReadyError, match="somebody asked not to serve"):
        switch.move("churn", "champion", "1.1.0")
    assert fleet.revision() == before, "no candidate was announced"
    assert switch.move("churn", "champion", "1.0.0").move.target == "1.0.0"
    assert switch.remove("churn", "champion").move.target is None


def test_a_version_that_fails_somewhere_leaves_the_alias_alone(switch, registry, process):
    switch.move("churn", "champion", "1.0.0")
    process.loads["churn:1.1.0"] = ("failed", "it gives other answers")
    with pytest.raises(NotReadyError) as caught:
        switch.move("churn", "champion", "1.1.0")
    assert caught.value.message == (
        "`churn:1.1.0` did not become ready, so `churn@champion` was not moved: it gives other answers"
    )
    assert points_to(registry) == "1.0.0"
    with registry.backend.database.read() as connection:
        assert connection.execute(candidates.select()).all() == [], "the request is withdrawn"
    process.loads.clear()
    assert switch.move("churn", "champion", "1.1.0").move.target == "1.1.0"


def test_a_version_that_is_ready_everywhere_moves_without_waiting(switch, fleet, process, monkeypatch):
    process.slots = {"churn:1.0.0": ("ready", "")}
    process.report()
    monkeypatch.setattr(fleet, "wait_ready", None)
    monkeypatch.setattr(switch_module, "FOLLOW_SECONDS", 0)
    assert switch.move("churn", "champion", "1.0.0").move.target == "1.0.0"


def test_a_version_that_is_ready_everywhere_is_asked_for_until_the_alias_has_moved(
    switch, registry, process, monkeypatch
):
    """Otherwise a concurrent switch could make it superfluous, and processes would unload it."""
    process.slots = {"churn:1.0.0": ("ready", "")}
    process.report()
    move_alias, asked = registry.move_alias, []

    def move_and_look(*arguments, **options):
        with registry.backend.database.read() as connection:
            asked.extend(row.semver for row in connection.execute(candidates.select()))
        return move_alias(*arguments, **options)

    monkeypatch.setattr(registry, "move_alias", move_and_look)
    switch.move("churn", "champion", "1.0.0")
    assert asked == ["1.0.0"]


def test_a_change_while_readiness_is_looked_at_means_waiting(switch, registry, fleet, process, monkeypatch):
    process.slots = {"churn:1.0.0": ("ready", "")}
    process.report()
    add = fleet.add_candidate
    process.loads["churn:1.0.0"] = ("failed", "it was unloaded meanwhile, and does not load any more")

    def change_first(*arguments, **options):
        move(registry, "churn", "1.2.0", "other")
        return add(*arguments, **options)

    monkeypatch.setattr(fleet, "add_candidate", change_first)
    with pytest.raises(NotReadyError, match="does not load any more"):
        switch.move("churn", "champion", "1.0.0")
    assert points_to(registry) is None


def test_a_request_that_another_switch_withdraws_is_made_again(switch, registry, fleet, clock, process, monkeypatch):
    wait, waits = fleet.wait_ready, []

    def disturbed(candidate, *arguments, **options):
        waits.append(candidate)
        found = wait(candidate, *arguments, **options)
        if len(waits) == 1:
            clock.advance(0.1)
            other = fleet.add_candidate("churn", "1.0.0", principal="bob")
            fleet.remove_candidate(other, principal="bob")
        return found

    monkeypatch.setattr(fleet, "wait_ready", disturbed)
    assert switch.move("churn", "champion", "1.0.0").move.target == "1.0.0"
    assert len(waits) == 2
    with registry.backend.database.read() as connection:
        assert connection.execute(candidates.select()).all() == []


# --- with a silent process ---


def test_an_alias_does_not_move_behind_the_back_of_a_silent_process(switch, registry, fleet, clock, monkeypatch):
    Process(fleet, clock).report()
    clock.advance(7)
    # its own clockwork: threads that other tests have left behind sleep, too, and would make the time fly
    own = SimpleNamespace(sleep=lambda _seconds: clock.advance(1), monotonic=time.monotonic)
    monkeypatch.setattr(fleet_module, "time", own)
    with pytest.raises(NotReadyError, match=r"`churn@champion` was not moved: process host/7 has been silent since"):
        switch.move("churn", "champion", "1.0.0")
    assert points_to(registry) is None
    clock.advance(30 * FAST.heartbeat_seconds)
    assert switch.move("churn", "champion", "1.0.0").processes == 0, "it counts as gone"


def test_rolling_back_does_not_wait_for_a_silent_process_that_had_the_version(switch, registry, fleet, clock, process):
    clock.now = datetime.now(UTC) + timedelta(minutes=1)
    for version in ("1.0.0", "1.1.0"):
        switch.move("churn", "champion", version)
    clock.advance(7)
    fleet.wait_revision = lambda revision, timeout: ()
    process.turn = lambda: pytest.fail("nobody waits")
    assert switch.rollback("churn").move.target == "1.0.0"
    assert points_to(registry) == "1.0.0"


def test_an_old_report_of_readiness_does_not_count(switch, registry, process):
    process.slots = {"churn:1.0.0": ("ready", "")}
    process.report()
    publish_all(registry, "churn", "2.0.0")
    before = registry.backend.database.revision()
    assert switch.move("churn", "champion", "1.0.0").move.seq == before + 2


def test_processes_that_do_not_follow_are_named(switch, registry, process):
    process.slots = {"churn:1.0.0": ("ready", "")}
    process.report()
    process.follows = False
    report = switch.move("churn", "champion", "1.0.0")
    assert report.late == ("host/7",)
    assert points_to(registry) == "1.0.0"


def test_a_request_that_cannot_be_withdrawn_does_not_hide_the_move(switch, registry, process, monkeypatch, caplog):
    def fail(candidate, *, principal):
        raise DatabaseUnavailableError(problem="it is away")

    monkeypatch.setattr(switch._fleet, "remove_candidate", fail)
    assert switch.move("churn", "champion", "1.0.0").move.target == "1.0.0"
    assert "could not be withdrawn" in caplog.text


def test_of_two_switches_with_one_expectation_one_wins(registry, fleet, process):
    move(registry, "churn", "1.0.0")
    outcomes = []

    def attempt(version):
        try:
            switch = AliasSwitch(registry, fleet, FAST)
            outcomes.append(switch.move("churn", "champion", version, expected="1.0.0").move.target)
        except AliasMovedError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=attempt, args=(version,)) for version in ("1.1.0", "1.2.0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert AliasMovedError in outcomes
    assert points_to(registry) in outcomes


# --- rollback and removal ---


def test_rolling_back(switch, registry, process):
    for version in ("1.0.0", "1.1.0"):
        switch.move("churn", "champion", version)
    assert switch.rollback("churn", dry_run=True).move.target == "1.0.0"
    assert points_to(registry) == "1.1.0"
    report = switch.rollback("churn", principal="ann")
    assert (report.move.source, report.move.target) == ("1.1.0", "1.0.0")
    assert (report.move.reason, report.move.moved_by) == ("rollback", "ann")
    with pytest.raises(NoPreviousVersionError):
        switch.rollback("churn")


def test_rolling_back_another_alias(switch, registry):
    for version in ("1.0.0", "1.1.0"):
        switch.move("churn", "other", version)
    assert switch.rollback("churn", "other", reason="worse").move.reason == "worse"
    with pytest.raises(AliasNotFoundError):
        switch.rollback("churn", "unknown")


def test_removing_an_alias(switch, registry, process):
    switch.move("churn", "other", "1.0.0")
    assert switch.remove("churn", "other", dry_run=True).move.target is None
    assert points_to(registry, alias="other") == "1.0.0"
    with pytest.raises(AliasMovedError):
        switch.remove("churn", "other", expected="1.1.0")
    report = switch.remove("churn", "other", expected="1.0.0", reason="over")
    assert (report.move.source, report.move.target, report.late) == ("1.0.0", None, ())
    for dry_run in (True, False):
        with pytest.raises(AliasNotFoundError):
            switch.remove("churn", "other", dry_run=dry_run)
