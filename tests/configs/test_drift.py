"""Drift: who runs what they should, who does not, who fell silent; and whatever clients say hurts nobody."""

import pytest

from crossfade.configs import drift as module
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.drift import Drift
from crossfade.errors import ConfigNotFoundError, DatabaseUnavailableError
from crossfade.settings import ConfigSettings
from crossfade.storage.tables import config_clients
from tests.configs.support import halves, make_active, make_approved

OTHER = "f" * 64


@pytest.fixture
def drift(database, clock):
    return Drift(database, DatabaseBoard(database, 1.0), ConfigSettings(), clock)


def digest(configs, number):
    return configs.version("limits", number).digest


def told(drift):
    report = drift.report("limits")
    return {each.client: (each.state, each.number, each.expected) for each in report.clients}


def kept(database):
    with database.read() as connection:
        return connection.execute(config_clients.select()).all()


def test_who_runs_what(configs, drift, clock):
    make_active(configs, document={"max": 1})
    drift.hear("limits", "old-one", "", digest(configs, 1))
    clock.advance(200)
    make_active(configs, document={"max": 2})
    drift.hear("limits", "a", "", digest(configs, 2))
    drift.hear("limits", "b", "", digest(configs, 1))
    drift.hear("limits", "c", "", OTHER)
    drift.hear("limits", "d", "", "")
    assert told(drift) == {
        "a": ("current", 2, 2),
        "b": ("differs", 1, 2),
        "c": ("differs", None, 2),
        "d": ("differs", None, 2),
        "old-one": ("stale", 1, 2),
    }
    report = drift.report("limits")
    assert (report.active, report.current, report.differs, report.stale) == (2, 1, 3, 1)
    assert [each.state for each in report.clients] == ["differs"] * 3 + ["stale", "current"]
    drift.hear("limits", "b", "", digest(configs, 2))
    assert told(drift)["b"] == ("current", 2, 2)


def test_in_a_rollout_each_unit_has_its_own_truth(configs, drift, database):
    make_active(configs, document={"max": 1})
    make_approved(configs, document={"max": 2})
    routing = halves(1, 2, weight=0.5, overrides={"early": "new", "late": "old"})
    with database.write() as connection:
        configs._store.route(connection, "limits", routing, principal="ann", reason="")
    drift.hear("limits", "a", "early", digest(configs, 2))
    drift.hear("limits", "b", "late", digest(configs, 2))
    drift.hear("limits", "c", "late", digest(configs, 1))
    assert told(drift) == {"a": ("current", 2, 2), "b": ("differs", 2, 1), "c": ("current", 1, 1)}


def test_where_nothing_is_active_having_nothing_is_right(configs, drift):
    configs.draft("limits", {"max": 1})
    drift.hear("limits", "a", "", "")
    drift.hear("limits", "b", "", OTHER)
    assert told(drift) == {"a": ("current", None, None), "b": ("differs", None, None)}
    with pytest.raises(ConfigNotFoundError):
        drift.report("nothing")


@pytest.mark.parametrize(
    ("name", "client", "unit", "what"),
    [
        ("limits", "", "", ""),
        ("limits", "x" * 129, "", ""),
        ("limits", "a\0b", "", ""),
        ("limits", "a\nb", "", ""),
        ("limits", "a", "x" * 257, ""),
        ("limits", "a", "\0", ""),
        ("limits", "a", "", "no digest"),
        ("limits", "a", "", "F" * 64),
        ("no/name", "a", "", ""),
        ("\ud800", "a", "", ""),
        ("limits", "\ud800", "", ""),
    ],
    ids=range(11),
)
def test_what_cannot_be_true_is_not_kept(configs, drift, database, name, client, unit, what):
    drift.hear(name, client, unit, what)
    drift.write()
    assert kept(database) == []


def test_it_is_written_now_and_then_and_forgotten_in_the_end(drift, database, clock):
    drift.hear("limits", "a", "", "")
    drift.upkeep()
    assert len(kept(database)) == 1, "the first time at once"
    drift.hear("limits", "b", "", "")
    drift.upkeep()
    assert len(kept(database)) == 1
    clock.advance(6)
    drift.upkeep()
    assert len(kept(database)) == 2
    clock.advance(86_400)
    drift.hear("limits", "c", "", "")
    drift.upkeep()
    assert [row.client for row in kept(database)] == ["c"]


def test_a_flood_of_names_takes_no_memory(drift, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    for number in range(1000):
        drift.hear("limits", f"c-{number}", "", "")
    drift.hear("limits", "c-1", "", OTHER)
    assert len(drift._heard) == 10
    assert drift._heard["limits", "c-1"][1] == OTHER


def test_what_could_not_be_written_is_written_later(drift, database):
    drift.hear("limits", "a", "", "")
    drift.hear("limits", "b", "", "")
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        drift.write()
    drift.hear("limits", "a", "", OTHER)
    database.away = False
    drift.write()
    assert {row.client: row.digest for row in kept(database)} == {"a": OTHER, "b": ""}


def test_a_report_names_the_urgent_ones_when_there_are_many(configs, drift, monkeypatch):
    monkeypatch.setattr(module, "MAX_LISTED", 3)
    make_active(configs, document={"max": 1})
    for number in range(5):
        drift.hear("limits", f"fine-{number}", "", digest(configs, 1))
        drift.hear("limits", f"odd-{number}", "", OTHER)
    report = drift.report("limits")
    assert (report.current, report.differs, len(report.clients)) == (5, 5, 3)
    assert {each.state for each in report.clients} == {"differs"}
