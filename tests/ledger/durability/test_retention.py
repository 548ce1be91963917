import threading

import pytest
from sqlalchemy import select

from crossfade.ledger import retention
from crossfade.ledger.retention import prune
from crossfade.ledger.store import add_exposures, add_outcomes
from crossfade.storage.tables import exposures, outcomes
from tests.ledger.durability.streams import an_exposure, an_outcome, stored_exposures, stored_outcomes


def fill(database, count=50):
    """Store events whose times and ids go different ways; return the ids by time."""
    made = [an_exposure(number, at_us=1_000 * number) for number in range(count)]
    reported = [an_outcome((number * 7) % count, at_us=1_000 * number) for number in range(count)]
    with database.write() as connection:
        add_exposures(connection, made)
        add_outcomes(connection, reported)
    return [each.id for each in made], [each.id for each in reported]


@pytest.mark.parametrize("page", [1, 7, 1_000])
def test_only_older_events_are_deleted(database, monkeypatch, page):
    monkeypatch.setattr(retention, "PAGE", page)
    made, reported = fill(database)
    assert sum(prune(database, 20_000)) == 40
    assert stored_exposures(database) == sorted(made[20:])
    assert stored_outcomes(database) == sorted(reported[20:])
    assert sum(prune(database, 20_000)) == 0
    assert sum(prune(database, 10**12)) == 60
    assert sum(prune(database, 10**12)) == 0


def test_others_write_in_between(sqlite, monkeypatch):
    monkeypatch.setattr(retention, "PAGE", 5)
    fill(sqlite, 200)
    written = []

    def write():
        for number in range(20):
            with sqlite.write() as connection:
                add_outcomes(connection, [an_outcome(f"new-{number}", at_us=10**12)])
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    sum(prune(sqlite, 10**9))
    writer.join()
    assert len(written) == 20
    assert stored_outcomes(sqlite) == sorted(f"outcome-new-{number}" for number in range(20))


def test_what_cannot_be_stored_twice_is_told_once(database):
    """Within one transaction as across them: the first of an id counts."""
    with database.write() as connection:
        new = add_outcomes(connection, [an_outcome(1, value=1.0), an_outcome(1, value=2.0), an_outcome(2)])
        assert [(each.id, each.value) for each in new] == [("outcome-1", 1.0), ("outcome-2", 1.0)]
        event = an_exposure()
        assert add_exposures(connection, [event, event]) == [event]
        assert add_exposures(connection, [event]) == []
        assert add_outcomes(connection, []) == []
    with database.read() as connection:
        assert connection.scalar(select(outcomes.c.value).where(outcomes.c.id == "outcome-1")) == 1.0
        assert connection.scalar(select(exposures.c.unit)) == event.unit
