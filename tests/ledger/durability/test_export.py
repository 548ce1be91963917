from datetime import UTC, datetime

import pytest

from crossfade.errors import MissingExtraError
from crossfade.ledger import export as module
from crossfade.ledger.export import export_events
from crossfade.ledger.gaps import Gap, note_gaps
from crossfade.ledger.store import add_exposures, add_outcomes
from tests.ledger.durability.streams import an_exposure, an_outcome

parquet = pytest.importorskip("pyarrow.parquet")
AT_US = 1_800_000_000_123_456


@pytest.fixture
def filled(database):
    made = [an_exposure(number, at_us=AT_US, score=0.5, dimensions={"country": "DE"}) for number in range(30)]
    others = [an_exposure(number, experiment="other") for number in range(10)]
    reported = [
        *(an_outcome(f"d{number}", decision=each.id, value=2.0) for number, each in enumerate(made)),
        *(an_outcome(f"o{number}", decision=each.id) for number, each in enumerate(others)),
        *(an_outcome(f"u{number}") for number in range(5)),
        an_outcome("orphan", decision="unknown"),
    ]
    with database.write() as connection:
        add_exposures(connection, made + others)
        add_outcomes(connection, reported)
    return database


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_an_export_has_what_belongs_to_the_experiment(filled, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(module, "ROWS", rows)
    exported = export_events(filled, "late", tmp_path / "late.parquet")
    assert (exported.exposures, exported.outcomes, exported.incomplete) == (30, 35, ())
    table = parquet.read_table(tmp_path / "late.parquet").to_pylist()
    exposures = [row for row in table if row["kind"] == "exposure"]
    outcomes = [row for row in table if row["kind"] == "outcome"]
    assert len(exposures) == 30
    first = exposures[0]
    assert first["at"] == datetime.fromtimestamp(AT_US // 10**6, UTC).replace(microsecond=AT_US % 10**6)
    assert (first["experiment"], first["variant"], first["score"], first["error"]) == ("late", "treatment", 0.5, False)
    assert (first["dimensions"], first["name"], first["value"]) == ('{"country":"DE"}', None, None)
    named = {row["id"] for row in outcomes}
    assert named == {f"outcome-{kind}{number}" for kind, count in (("d", 30), ("u", 5)) for number in range(count)}
    assert {row["decision"] for row in outcomes} == {"", *(row["id"] for row in exposures)}
    assert not list(tmp_path.glob("*.part"))


def test_an_experiment_without_events_is_an_empty_table(database, tmp_path):
    exported = export_events(database, "nobody", tmp_path / "x.parquet")
    assert (exported.exposures, exported.outcomes) == (0, 0)
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 0


def test_what_is_missing_is_told(database, tmp_path):
    with database.write() as connection:
        note_gaps(connection, "a", [Gap("late", "crash", 3)], 0, 1)
    exported = export_events(database, "late", tmp_path / "x.parquet")
    assert exported.incomplete == ("3 exposures were lost when a process ended without warning",)


def test_a_failure_leaves_the_file_that_was_there(filled, tmp_path, monkeypatch):
    target = tmp_path / "late.parquet"
    target.write_text("before")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        export_events(filled, "late", target)
    assert target.read_text() == "before"
    assert not list(tmp_path.glob("*.part"))


def test_it_says_what_to_install(database, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        export_events(database, "late", tmp_path / "x.parquet")
