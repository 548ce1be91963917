"""A version is ready in every process before anything is sent to it, and stays so until the block ends."""

import threading

import pytest

from crossfade.errors import DatabaseUnavailableError, LoadFailedError
from crossfade.storage.tables import candidates
from crossfade.traffic import fleet as fleet_module
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.readiness import Readiness
from tests.traffic.support import FAST, Clock, Process, publish_all


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fleet(registry, clock):
    return Fleet(registry.backend.database, FAST, clock)


@pytest.fixture
def version(registry):
    return publish_all(registry, "m", "1.0.0")[0]


@pytest.fixture
def readiness(fleet):
    return Readiness(fleet, 5.0)


@pytest.fixture
def process(fleet, clock, monkeypatch):
    process = Process(fleet, clock)
    process.report()
    monkeypatch.setattr(fleet_module.time, "sleep", lambda seconds: process.turn())
    return process


def asked(fleet, version):
    """Tell whether every process is asked for a version."""
    with fleet._database.read() as connection:
        return connection.scalar(candidates.select().where(candidates.c.semver == version.version)) is not None


def test_where_nobody_serves_nobody_is_asked(readiness, fleet, version):
    before = fleet.revision()
    with readiness.of(version, "ann"):
        assert not asked(fleet, version)
    assert fleet.revision() == before


def test_inside_the_block_it_is_ready_and_wanted_and_afterwards_nobody_asks(readiness, fleet, version, process):
    with readiness.of(version, "ann"):
        assert process.slots == {"m:1.0.0": ("ready", "")}
        assert asked(fleet, version)
    assert not asked(fleet, version)


def test_what_is_ready_already_is_not_waited_for(readiness, fleet, version, process, monkeypatch):
    process.slots["m:1.0.0"] = ("ready", "")
    process.report()
    monkeypatch.setattr(fleet_module.time, "sleep", pytest.fail)
    with readiness.of(version, "ann"):
        assert asked(fleet, version)


@pytest.mark.parametrize("state", [("failed", "its golden answers differ"), ("failed", "it is damaged")])
def test_what_fails_somewhere_never_gets_into_the_block(readiness, fleet, version, process, state):
    process.loads["m:1.0.0"] = state
    with pytest.raises(LoadFailedError, match=state[1]), readiness.of(version, "ann"):
        pytest.fail("it is not ready")
    assert not asked(fleet, version)


def test_a_fault_inside_the_block_is_the_callers_and_nobody_is_asked_any_more(readiness, fleet, version, process):
    with pytest.raises(KeyError), readiness.of(version, "ann"):
        raise KeyError
    assert not asked(fleet, version)


def test_a_database_that_vanishes_inside_the_block_does_not_hide_what_was_done(
    readiness, fleet, version, process, registry, caplog
):
    with readiness.of(version, "ann"):
        registry.backend.database.away = True
    assert "could not be withdrawn" in caplog.text
    with pytest.raises(DatabaseUnavailableError), readiness.of(version, "ann"):
        pytest.fail("nobody could be asked")


def test_two_who_want_the_same_do_not_take_it_from_each_other(fleet, version, process):
    inside, outcomes = threading.Barrier(2, timeout=10), []

    def want():
        with Readiness(fleet, 5.0).of(version, "ann"):
            inside.wait()
            outcomes.append(asked(fleet, version))
            inside.wait()

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True, True]
    assert not asked(fleet, version)
