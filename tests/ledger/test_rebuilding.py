"""Rolling up anew: after metrics were declared late, and to see that nothing was lost; on both databases."""

import pytest
from sqlalchemy import delete, select

from crossfade.errors import EventsGoneError, ExperimentNotFoundError, InvalidMetricError
from crossfade.ledger import raw, rebuilding
from crossfade.ledger.metrics import MetricSpec
from crossfade.storage.tables import exposures, measures
from tests.ledger.support import SECOND, START, exposure, outcome

DELAY = MetricSpec("delay")
SLOW = MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5)


def ship_some(ledger, count=30):
    events = [exposure(f"unit-{n % 20}", n, latency_seconds=n / 10, dimensions={"carrier": "UA"}) for n in range(count)]
    ledger.ship(*events)
    ledger.ship(*(outcome("delay", float(n), n + 1, of=event) for n, event in enumerate(events)))
    ledger.ship(outcome("delay", 1.0, 0, of="nobody"), outcome("delay", 1.0, -5, of="unit-0"))


def test_a_metric_declared_late_has_all_values(ledger):
    ledger.declare(DELAY)
    ship_some(ledger)
    before = ledger.cell("delay").moments
    ledger.declare(DELAY, MetricSpec("latency_seconds"), dimensions=("carrier",))
    assert ledger.cell("delay").moments.m2 == pytest.approx(before.m2, rel=1e-12)
    assert ledger.mean("latency_seconds") == [pytest.approx(sum(n / 10 for n in range(30)) / 20)]
    assert {(cell.dimension, cell.value) for cell in ledger.evidence().cells} == {("", ""), ("carrier", "UA")}


def test_an_experiment_declared_late_has_all_events(ledger):
    ship_some(ledger)
    ledger.declare(DELAY)
    evidence = ledger.evidence()
    assert (evidence.exposures, evidence.outcomes, evidence.early, evidence.orphans) == (30, 30, 1, 1)
    assert (evidence.first_us, evidence.last_us) == (START, START + 30 * SECOND)
    ledger.ship(exposure("nobody"))
    assert (ledger.evidence().orphans, ledger.evidence().outcomes) == (0, 31)


def test_many_units_are_taken_in_groups(ledger, monkeypatch):
    monkeypatch.setattr(raw, "ROWS_AT_ONCE", 7)
    ledger.declare(DELAY, SLOW)
    ship_some(ledger)
    before = ledger.evidence()
    ledger.rebuild()
    after = ledger.evidence()
    assert [cell.metric for cell in after.cells] == [cell.metric for cell in before.cells]
    for one, other in zip(after.cells, before.cells, strict=True):
        assert one.moments.m2 == pytest.approx(other.moments.m2, rel=1e-12)
    assert after.arrivals == before.arrivals


def test_rebuilding_again_changes_nothing(ledger):
    ledger.declare(DELAY)
    ship_some(ledger)
    ledger.rebuild()
    first = ledger.evidence()
    ledger.rebuild()
    again = ledger.evidence()
    assert [cell.moments.mean.tolist() for cell in again.cells] == [cell.moments.mean.tolist() for cell in first.cells]
    assert (again.exposures, again.refused, again.orphans) == (first.exposures, first.refused, first.orphans)


def test_cuts_stay_unless_the_metric_changes(ledger):
    ledger.declare(DELAY, SLOW)
    ledger.ship(*(exposure(f"unit-{n}", n, latency_seconds=1.0) for n in range(400)))
    cut = ledger.cell("slow").cut
    assert cut == pytest.approx(1.0, rel=0.01)
    ledger.ship(*(exposure(f"more-{n}", n, latency_seconds=5.0) for n in range(4000)))
    ledger.declare(SLOW)
    assert ledger.cell("slow").cut == cut
    ledger.declare(MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.9))
    assert ledger.cell("slow").cut == pytest.approx(5.0, rel=0.01)


def test_declaring_the_same_again_does_nothing(ledger, monkeypatch):
    ledger.declare(DELAY)
    monkeypatch.setattr(rebuilding, "rebuild", None)  # would fail if it were called
    ledger.declare(DELAY)


def test_what_makes_no_sense_is_not_declared(ledger):
    with pytest.raises(InvalidMetricError):
        ledger.declare(MetricSpec("delay", level=0.5))
    with ledger.database.read() as connection:
        assert connection.execute(select(measures)).all() == []


def test_roll_ups_are_kept_when_their_events_are_gone(ledger):
    ledger.declare(DELAY)
    ship_some(ledger)
    before = ledger.evidence()
    with ledger.database.write() as connection:
        connection.execute(delete(exposures).where(exposures.c.unit == "unit-3"))
    for attempt in (ledger.rebuild, lambda: ledger.declare(DELAY, MetricSpec("latency_seconds"))):
        with pytest.raises(EventsGoneError, match="30 exposures, and 28 are kept"):
            attempt()
    assert ledger.evidence().exposures == before.exposures
    assert ledger.mean("latency_seconds") == []


def test_only_what_is_declared_can_be_rolled_up(ledger):
    with pytest.raises(ExperimentNotFoundError):
        ledger.rebuild()


def test_units_seen_in_two_variants_stay_out(ledger):
    ledger.declare(DELAY)
    ledger.ship(exposure("ada"), exposure("bob"))
    ledger.ship(exposure("ada", 1, "treatment"))
    ledger.rebuild()
    assert (ledger.evidence().multiple, int(ledger.cell("delay").moments.n)) == (1, 1)
