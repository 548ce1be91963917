"""Evidence as an analysis reads it."""

import time

import pytest

from crossfade.errors import ExperimentNotFoundError
from crossfade.ledger.gaps import EVERY, Gap, note_gaps
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.ledger.store import Place, move_place
from crossfade.methods.stats.cuped import adjusted, adjustment
from crossfade.methods.stats.gradient import Mean, Ratio, estimate
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.quantiles import design_effect, of_sketch
from tests.ledger.support import START, exposure, outcome


def test_nothing_is_read_of_what_was_not_declared(ledger):
    with pytest.raises(ExperimentNotFoundError, match="flights"):
        ledger.evidence()


def test_evidence_of_no_events_is_empty(ledger):
    ledger.declare(MetricSpec("delay"))
    evidence = ledger.evidence()
    assert (evidence.experiment, evidence.cells, evidence.arrivals, evidence.refused) == ("flights", (), (), ())
    assert (evidence.first_us, evidence.last_us, evidence.incomplete) == (None, None, ())


def test_a_transaction_that_is_open_can_be_read_in(ledger):
    ledger.declare(MetricSpec("delay"))
    with ledger.database.read() as connection:
        assert read_evidence(connection, "flights").exposures == 0


def test_gaps_make_evidence_incomplete(ledger):
    ledger.declare(MetricSpec("delay"))
    with ledger.database.write() as connection:
        note_gaps(connection, "journal", [Gap("flights", "crash", 12), Gap("another", "crash", 3)], 0, 1)
    assert ledger.evidence().incomplete == ("12 exposures were lost when a process ended without warning",)
    ledger.ship(exposure("ada"))
    assert ledger.evidence().incomplete == ()  # the gap ended before the experiment's first event


def test_processes_that_have_fallen_silent_may_hold_events(ledger):
    ledger.declare(MetricSpec("delay"))
    now = time.time_ns() // 1000
    ledger.ship(exposure("ada", (now - START) // 1_000_000 - 7200))

    def seen(journal, minutes_ago, **place):
        with ledger.database.write() as connection:
            move_place(connection, journal, Place(**place), now - minutes_ago * 60_000_000)

    seen("alive", 2)
    seen("finished", 10, finished=True)
    seen("before", 600)  # it never heard of the experiment
    assert (ledger.evidence().awaited, ledger.evidence().incomplete) == ((), ())
    seen("behind", 10)
    assert ledger.evidence().awaited == ("a serving process has not been heard of for 10 minutes",)
    seen("behind", 0)
    assert ledger.evidence().awaited == ()


def test_events_of_a_machine_that_is_away_are_awaited_not_lost(ledger):
    ledger.declare(MetricSpec("delay"))
    with ledger.database.write() as connection:
        note_gaps(connection, "journal", [Gap(EVERY, "unreachable", None)], 0, 2**60)
    (awaited,) = ledger.evidence().awaited
    assert "are on a machine that has not been heard of" in awaited
    assert ledger.evidence().incomplete == ()


def test_cells_are_in_order(ledger):
    ledger.declare(MetricSpec("delay"), MetricSpec("arrived"), dimensions=("carrier",))
    ledger.ship(
        exposure("bob", 90_000, "treatment", dimensions={"carrier": "UA"}),
        exposure("ada", dimensions={"carrier": "UA"}),
        exposure("cyd", revision=0, dimensions={"carrier": "AA"}),
    )
    found = [(c.revision, c.day, c.variant, c.dimension, c.value, c.metric) for c in ledger.evidence().cells]
    assert found == sorted(found)
    assert len(found) == 12


def test_other_experiments_are_other_evidence(ledger):
    from crossfade.ledger.rebuilding import declare
    from tests.ledger.support import measures

    ledger.declare(MetricSpec("delay"))
    with ledger.database.write() as connection:
        declare(connection, measures(MetricSpec("delay"), experiment="trains"))
    ledger.ship(exposure("ada"), exposure("ada", experiment="trains", variant="treatment"))
    ledger.ship(outcome("delay", 3.0, 1, of="ada"), outcome("delay", 4.0, 1, of="ada", experiment="trains"))
    assert ledger.mean("delay") == [3.0]
    assert read_evidence(ledger.database, "trains").cells[0].moments.mean.tolist() == [4.0]


def test_the_methods_take_the_columns_as_they_are(ledger):
    ledger.declare(
        MetricSpec("delay", covariate="delay"),
        MetricSpec("each", kind="ratio", outcome="delay"),
        MetricSpec("median", kind="quantile", outcome="latency_seconds", level=0.5),
    )
    units = [f"unit-{n}" for n in range(200)]
    ledger.ship(*(outcome("delay", n % 7, -9, of=unit) for n, unit in enumerate(units)))
    ledger.ship(*(exposure(unit, at, latency_seconds=n * 0.01 + at) for at in range(3) for n, unit in enumerate(units)))
    ledger.ship(*(outcome("delay", n % 7 + n % 3, 9, of=unit) for n, unit in enumerate(units)))
    delay = ledger.cell("delay").moments
    fitted = adjustment(Moments.stack([delay]).within(), Mean(0), (Mean(1),))
    assert adjusted(delay, Mean(0), fitted).variance < estimate(delay, Mean(0)).variance / 2
    assert estimate(ledger.cell("each").moments, Ratio(0, 1)).value == pytest.approx(delay.mean[0])
    median = ledger.cell("median")
    share = median.moments.mean[0] / median.moments.mean[1]
    assert of_sketch(median.sketch, 0.5, design_effect=design_effect(median.moments, share)).value == pytest.approx(
        2, rel=0.05
    )
