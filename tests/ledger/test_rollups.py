"""What counts of which unit, one rule at a time; on both databases."""

import math

import numpy as np
import pytest
from sqlalchemy import select

from crossfade.ledger import keeping, recounting
from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.ledger.metrics import LARGEST, MetricSpec
from crossfade.ledger.rollups import fold
from crossfade.ledger.waiting import let_go
from crossfade.storage.tables import exposures, ledger_counts, measures, outcomes, rollups, units, waiting_outcomes
from tests.ledger.support import DAY, START, Ledger, exposure, outcome

LATE = MetricSpec("late", kind="proportion")
DELAY = MetricSpec("delay")


def counts(ledger):
    with ledger.database.read() as connection:
        columns = (ledger_counts.c.experiment, ledger_counts.c.name, ledger_counts.c["count"])
        return {(experiment, name): count for experiment, name, count in connection.execute(select(*columns))}


def test_a_unit_is_one_row_however_often_it_came(ledger):
    ledger.declare(DELAY, MetricSpec("exposures"))
    first, second = exposure("ada"), exposure("ada", 5)
    ledger.ship(first, second, exposure("bob"), outcome("delay", 2.0, 1, of=first), outcome("delay", 3.0, 6, of=second))
    cell = ledger.cell("delay")
    assert (int(cell.moments.n), cell.moments.mean.tolist(), cell.day) == (2, [2.5], "2025-11-27")
    assert ledger.mean("exposures") == [1.5]
    assert [(each.units, each.weight) for each in ledger.evidence().arrivals] == [(2, 0.5)]


def test_the_first_exposure_decides(ledger):
    ledger.declare(DELAY, dimensions=("carrier",))
    early = exposure("ada", 0, revision=3, dimensions={"carrier": "UA"})
    late = exposure("ada", 86_400, revision=4, dimensions={"carrier": "AA"})
    ledger.ship(late, outcome("delay", 4.0, 86_401, of=late))
    assert ledger.cell("delay", revision=4, day="2025-11-28").value == ""
    ledger.ship(early)
    assert {(cell.revision, cell.day, cell.value) for cell in ledger.evidence().cells} == {
        (3, "2025-11-27", ""),
        (3, "2025-11-27", "UA"),
    }
    assert ledger.mean("delay") == [4.0]
    assert [(each.revision, each.units) for each in ledger.evidence().arrivals] == [(3, 1)]


def test_a_unit_seen_in_two_variants_counts_nowhere(ledger):
    ledger.declare(DELAY)
    one = exposure("ada")
    ledger.ship(one, exposure("bob"), outcome("delay", 4.0, 1, of=one))
    ledger.ship(exposure("ada", 9, "treatment"), outcome("delay", 5.0, 2, of=one))
    evidence = ledger.evidence()
    assert (evidence.multiple, evidence.outcomes, evidence.exposures) == (1, 0, 3)
    assert ledger.mean("delay") == [0.0]
    assert [(each.variant, each.units) for each in evidence.arrivals] == [("control", 1)]
    ledger.ship(exposure("ada", -9, "treatment"), outcome("delay", 5.0, 3, of="ada"))
    assert ledger.evidence().cells[0].moments.n == 1
    assert ledger.evidence().multiple == 1


def test_a_cell_that_nobody_is_in_is_gone(ledger):
    ledger.declare(DELAY, MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5))
    ledger.ship(exposure("ada", latency_seconds=0.5))
    assert len(ledger.evidence().cells) == 2
    ledger.ship(exposure("ada", variant="treatment"))
    assert ledger.evidence().cells == ()
    assert [(each.units, each.moved) for each in ledger.evidence().arrivals] == [(0, 1)]


# --- time


def test_outcomes_before_the_first_exposure_do_not_count(ledger):
    ledger.declare(DELAY)
    ledger.ship(exposure("ada", 10))
    ledger.ship(outcome("delay", 1.0, 9.999999, of="ada"), outcome("delay", 2.0, 10, of="ada"))
    assert ledger.mean("delay") == [2.0]
    assert (ledger.evidence().early, ledger.evidence().outcomes) == (1, 1)
    ledger.ship(exposure("ada", 5))
    assert ledger.mean("delay") == [3.0]
    assert (ledger.evidence().early, ledger.evidence().outcomes) == (0, 2)


def test_the_window_includes_its_last_moment_and_moves_with_the_first_exposure(ledger):
    ledger.declare(
        MetricSpec("delay", window_seconds=10.0), MetricSpec("requests", outcome="exposures", window_seconds=10)
    )
    ledger.ship(exposure("ada", 100), exposure("ada", 110), exposure("ada", 110.000001))
    ledger.ship(outcome("delay", 1.0, 110, of="ada"), outcome("delay", 7.0, 110.000001, of="ada"))
    assert (ledger.mean("delay"), ledger.mean("requests")) == ([1.0], [2.0])
    ledger.ship(exposure("ada", 99))
    assert (ledger.mean("delay"), ledger.mean("requests")) == ([0.0], [2.0])


def test_what_was_before_is_a_covariate(ledger):
    ledger.declare(MetricSpec("delay", covariate="delay", covariate_seconds=50.0))
    before = [outcome("delay", value, at, of="ada") for value, at in ((1.0, 49), (2.0, 50), (4.0, 99.9), (8.0, 100))]
    ledger.ship(*before)
    assert ledger.evidence().orphans == 4
    ledger.ship(exposure("ada", 100), exposure("bob", 100))
    assert ledger.cell("delay").moments.mean.tolist() == [4.0, 3.0]
    assert (ledger.evidence().early, ledger.evidence().orphans) == (1, 0)  # one was longer ago


def test_a_name_that_is_only_a_covariate_counts_nowhere_else(ledger):
    ledger.declare(MetricSpec("delay", covariate="visits"))
    ledger.ship(exposure("ada", 100), outcome("visits", 3.0, 1, of="ada"), outcome("visits", 9.0, 101, of="ada"))
    assert ledger.cell("delay").moments.mean.tolist() == [0.0, 3.0]
    assert (ledger.evidence().outcomes, ledger.evidence().early) == (0, 0)


def test_two_first_exposures_at_one_moment_are_told_apart_by_their_ids(ledger):
    ledger.declare(DELAY)
    ledger.ship(exposure("ada", id="b", revision=2))
    ledger.ship(exposure("ada", id="a", revision=1), exposure("ada", id="c", revision=3))
    assert [cell.revision for cell in ledger.evidence().cells] == [1]


# --- the join


def test_outcomes_wait_for_their_decision(ledger):
    ledger.declare(DELAY)
    event = exposure("ada")
    ledger.ship(outcome("delay", 3.0, 7, of=event), outcome("delay", 3.0, 8, of="bob"))
    assert ledger.evidence().orphans == 2
    ledger.ship(event)
    assert (ledger.mean("delay"), ledger.evidence().orphans) == ([3.0], 1)
    ledger.ship(exposure("bob", 8))
    assert (ledger.mean("delay"), ledger.evidence().orphans) == ([3.0], 0)


def test_outcomes_of_decisions_need_no_experiment(ledger):
    ledger.declare(DELAY)
    event = exposure("ada")
    ledger.ship(event)
    ledger.ship(outcome("delay", 3.0, 7, of=event, experiment="another", unit="somebody"))
    assert ledger.mean("delay") == [3.0]


def test_outcomes_that_wait_too_long_are_let_go_of_and_counted(ledger):
    ledger.declare(DELAY)
    ledger.ship(outcome("delay", 1.0, 0, of="ada"), outcome("delay", 1.0, 9, of="ada"))
    ledger.ship(outcome("delay", 1.0, 0, of=exposure("bob")))
    with ledger.database.write() as connection:
        assert let_go(connection, START + 1) == 2
        assert let_go(connection, START + 1) == 0
    assert ledger.evidence().refused == (("expired", 1),)
    assert counts(ledger)["", "refused/expired"] == 1
    ledger.ship(exposure("ada"))
    assert ledger.mean("delay") == [1.0]


def test_a_decision_that_nobody_knows_may_be_one_of_those_that_use_such_outcomes(ledger):
    ledger.declare(DELAY)
    ledger.ship(exposure("ada", 10))
    ledger.ship(
        *(outcome(name, 1.0, at, of=exposure("x")) for name, at in (("delay", 11), ("delay", 9), ("taste", 11)))
    )
    assert (ledger.evidence().orphans, ledger.evidence().unplaced) == (1, 1)
    ledger.ship(outcome("delay", 1.0, 11, of="bob"))
    assert (ledger.evidence().orphans, ledger.evidence().unplaced) == (2, 1)


def test_what_a_bandit_learns_from_is_no_event_that_cannot_be_used(ledger):
    ledger.declare(DELAY, reward="clicked")
    decision = exposure("ada")
    ledger.ship(decision, outcome("clicked", 1.0, 1, of=decision), outcome("clicked", 1.0, 1, of="ada"))
    assert ledger.evidence().refused == (("unmeasured", 1),)  # that names no decision, so nobody learns from it
    ledger.ship(outcome("clicked", math.inf, 1, of=decision))
    assert dict(ledger.evidence().refused) == {"unmeasured": 1, "value": 1}
    assert ledger.evidence().outcomes == 0


def test_events_of_experiments_and_metrics_that_nobody_declared_are_counted(ledger):
    ledger.declare(DELAY)
    other = exposure("ada", experiment="elsewhere")
    ledger.ship(other, exposure("ada"))
    ledger.ship(
        outcome("delay", of=other),
        outcome("delay", of="ada", experiment="nowhere"),
        outcome("delay", of="ada", experiment=""),
        outcome("taste", of="ada"),
    )
    assert counts(ledger)["", "refused/unknown_experiment"] == 4
    assert ledger.evidence().refused == (("unmeasured", 1),)
    assert ledger.evidence().exposures == 1


# --- values


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"value": math.nan}, "value"),
        ({"value": math.inf}, "value"),
        ({"value": 2 * LARGEST}, "value"),
        ({"at_us": -1}, "time"),
        ({"at_us": 2**63 - 1}, "time"),
        ({"name": "latency_seconds"}, "name"),
        ({"name": "shadow_score"}, "name"),
        ({"name": "No Slug"}, "name"),
        ({"unit": ""}, "unit"),
        ({"unit": "\0"}, "unit"),
        ({"unit": "x" * 2_000}, "unit"),
    ],
)
def test_outcomes_that_cannot_be_used_are_counted(sqlite, fields, reason):
    ledger = Ledger(sqlite)
    ledger.declare(DELAY)
    given = {"id": "o", "at_us": START, "name": "delay", "value": 1.0, "experiment": "flights", "unit": "ada"}
    with sqlite.write() as connection:
        fold(connection, [], [Outcome(**{**given, **fields})])
    assert ledger.evidence().refused == ((reason, 1),)
    assert ledger.evidence().orphans == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"propensity": 0.0}, "propensity"),
        ({"propensity": 1.5}, "propensity"),
        ({"propensity": math.nan}, "propensity"),
        ({"at_us": -1}, "time"),
        ({"at_us": 10**30}, "time"),
        ({"revision": -1}, "revision"),
        ({"revision": 2**80}, "revision"),
        ({"variant": "No Slug"}, "variant"),
        ({"variant": "x" * 1_000_000}, "variant"),
        ({"unit": ""}, "unit"),
        ({"unit": "\ud800"}, "unit"),
        ({"id": "\0"}, "id"),
    ],
)
def test_exposures_that_cannot_be_used_are_counted(sqlite, fields, reason):
    ledger = Ledger(sqlite)
    ledger.declare(DELAY)
    given = {"id": "d", "at_us": START, "experiment": "flights", "revision": 1, "variant": "control", "unit": "ada"}
    with sqlite.write() as connection:
        fold(connection, [Exposure(**{**given, **fields})], [])
    assert ledger.evidence().refused == ((reason, 1),)
    assert (ledger.evidence().exposures, ledger.evidence().cells) == (0, ())


def test_values_of_exposures_that_are_no_numbers_count_for_nothing_else(ledger):
    ledger.declare(
        MetricSpec("latency_seconds", missing="skip"), MetricSpec("score", missing="skip"), MetricSpec("exposures")
    )
    for number, value in enumerate((math.inf, -1.0, 2.0)):
        with ledger.database.write() as connection:
            event = exposure(f"unit-{number}", latency_seconds=value, score=math.inf if number else None)
            fold_only(connection, event)
    assert dict(ledger.evidence().refused) == {"latency_seconds": 2, "score": 2}
    assert (ledger.mean("latency_seconds"), ledger.mean("score"), ledger.mean("exposures")) == ([2.0], [], [1.0])


def fold_only(connection, *events):
    fold(connection, list(events), [])


def test_what_a_unit_has_in_all_is_capped(ledger):
    ledger.declare(
        MetricSpec("delay", upper=5.0, lower=1.0), MetricSpec("share", kind="ratio", outcome="delay", upper=5.0)
    )
    ledger.ship(exposure("ada"), exposure("bob"), *(outcome("delay", 3.0, at, of="ada") for at in range(3)))
    assert ledger.mean("delay") == [3.0]
    assert ledger.mean("share") == [2.5, 1.5]


def test_units_without_values_are_zero_or_left_out(ledger):
    ledger.declare(DELAY, MetricSpec("known", outcome="delay", missing="skip"))
    ledger.ship(exposure("ada"), exposure("bob"), outcome("delay", 3.0, of="ada"))
    assert (ledger.mean("delay"), ledger.mean("known")) == ([1.5], [3.0])


def test_kinds(ledger):
    ledger.declare(
        MetricSpec("sum", outcome="delay"),
        MetricSpec("how_many", kind="count", outcome="delay"),
        MetricSpec("any", kind="proportion", outcome="delay"),
        MetricSpec("each", kind="ratio", outcome="delay"),
        MetricSpec("per_request", kind="ratio", outcome="delay", denominator="exposures"),
        MetricSpec("fallback", kind="proportion"),
    )
    ledger.ship(exposure("ada", fallback=True), exposure("ada", 1))
    ledger.ship(*(outcome("delay", value, 2, of="ada") for value in (-1.0, 0.0, 4.0)))
    means = {cell.metric: cell.moments.mean.tolist() for cell in ledger.evidence().cells}
    assert means == {
        "sum": [3.0],
        "how_many": [3.0],
        "any": [1.0],
        "each": [3.0, 3.0],
        "per_request": [3.0, 2.0],
        "fallback": [1.0],
    }


# --- dimensions


def test_a_dimension_has_a_hundred_values_and_others(ledger):
    ledger.declare(DELAY, dimensions=("carrier", "origin"))
    ledger.ship(*(exposure(f"unit-{n}", dimensions={"carrier": f"c{n}", "more": "x"}) for n in range(130)))
    ledger.ship(*(exposure(f"again-{n}", dimensions={"carrier": f"c{n}", "origin": "y" * 65}) for n in range(130)))
    cells = {(cell.dimension, cell.value): int(cell.moments.n) for cell in ledger.evidence().cells}
    assert cells["carrier", "(other)"] == 60
    assert (cells["carrier", "c0"], cells["carrier", "c99"]) == (2, 2)
    assert (cells["origin", "(unknown)"], cells["origin", "(other)"], cells["", ""]) == (130, 130, 260)
    assert len(cells) == 104


def test_hostile_dimension_values_are_others(ledger):
    ledger.declare(DELAY, dimensions=("carrier",))
    with ledger.database.write() as connection:
        fold_only(
            connection, *(exposure(f"u{n}", dimensions={"carrier": bad}) for n, bad in enumerate(("\0", "\ud800")))
        )
    assert {cell.value for cell in ledger.evidence().cells} == {"", "(other)"}


# --- answers of others


def test_losses_look_up_the_score_of_their_decision(ledger):
    ledger.declare(
        MetricSpec("log", kind="ratio", outcome="late", loss="log"), MetricSpec("brier", outcome="late", loss="squared")
    )
    sure, unsure, silent = exposure("ada", score=0.9), exposure("ada", 1, score=0.5), exposure("bob", score=None)
    ledger.ship(sure, unsure, silent)
    ledger.ship(
        outcome("late", 1.0, 2, of=sure), outcome("late", 0.0, 2, of=unsure), outcome("late", 1.0, 2, of=silent)
    )
    ledger.ship(outcome("late", 1.0, 3, of="ada"), outcome("late", 0.5, 3, of=sure))
    log = ledger.cell("log").moments
    assert log.mean * log.n == pytest.approx([-math.log(0.9) - math.log(0.5), 2.0])
    assert ledger.cell("brier").moments.mean * 2 == pytest.approx([0.01 + 0.25 + 0.16])
    assert dict(ledger.evidence().refused) == {"loss": 3}


def shadow(variant, score=0.5, latency=0.1, error=False):
    return ShadowAnswer(variant, "2.0.0", score, latency, error)


def test_shadows_are_further_columns_of_the_same_requests(ledger):
    ledger.declare(
        MetricSpec("latency_seconds"),
        MetricSpec("loss", kind="ratio", outcome="late", loss="absolute"),
        MetricSpec("late", kind="proportion"),
        shadows=("challenger", "rookie"),
    )
    whole = exposure(
        "ada", latency_seconds=1.0, score=0.5, shadows=(shadow("rookie", 0.7, 3.0), shadow("challenger", 0.9, 2.0))
    )
    half = exposure("ada", 1, latency_seconds=9.0, score=0.5, shadows=(shadow("rookie", 0.7, 3.0),))
    ledger.ship(whole, half, *(outcome("late", 1.0, 2, of=each) for each in (whole, half)))
    assert ledger.mean("latency_seconds") == [1.0, 2.0, 3.0]
    assert ledger.mean("loss") == pytest.approx([0.5, 1.0, 0.1, 1.0, 0.3, 1.0])
    assert ledger.mean("late") == [1.0]
    assert dict(ledger.evidence().refused) == {"unpaired": 1, "loss": 1}
    assert ledger.evidence().multiple == 0


def test_what_the_control_would_have_answered_is_a_covariate(ledger):
    ledger.declare(MetricSpec("delay", covariate="shadow_score"), shadows=("control",))
    ledger.ship(
        exposure("ada", score=0.3),
        exposure("bob", variant="treatment", score=0.9, shadows=(shadow("control", 0.4),)),
        exposure("cyd", variant="treatment", score=0.9),
        exposure("bob", 1, variant="treatment", shadows=(shadow("control", 0.8),)),
    )
    assert ledger.mean("delay") == [0.0, 0.3]
    assert ledger.mean("delay", "treatment") == [0.0, 0.4]  # nothing is known of cyd
    ledger.ship(exposure("bob", -1, variant="treatment", shadows=(shadow("control", 0.1),)))
    assert ledger.mean("delay", "treatment") == [0.0, 0.1]


# --- quantiles


def test_quantiles_keep_single_values_and_a_cut_that_stays(ledger):
    ledger.declare(MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.9))
    values = np.random.default_rng(7).exponential(0.1, 1_200).round(6).tolist()
    events = [
        exposure(f"unit-{n % 150}", n, "treatment" if n % 2 else "control", latency_seconds=v)
        for n, v in enumerate(values)
    ]
    ledger.ship(*events[:300])
    assert [cell.cut for cell in ledger.evidence().cells] == [None, None]
    assert ledger.mean("slow")[0] == 0
    ledger.ship(*events[300:450])
    cut = ledger.cell("slow").cut
    assert cut == pytest.approx(np.quantile(values[:450], 0.9), rel=0.05)
    ledger.ship(*events[450:])
    for variant, start in (("control", 0), ("treatment", 1)):
        cell, mine = ledger.cell("slow", variant), values[start::2]
        assert (cell.cut, cell.sketch.n) == (cut, 600)
        assert cell.sketch.quantile(0.9) == pytest.approx(np.quantile(mine, 0.9), rel=0.02)
        assert cell.moments.mean * cell.moments.n == pytest.approx([sum(value <= cut for value in mine), 600])


def test_a_sketch_gives_back_what_leaves(ledger):
    ledger.declare(MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.9, upper=5.0))
    ledger.ship(
        exposure("ada", latency_seconds=9.0),
        exposure("ada", 1, latency_seconds=1.0),
        exposure("bob", latency_seconds=1.0),
    )
    assert ledger.cell("slow").sketch.quantile(1.0) == pytest.approx(5.0, rel=0.01)
    ledger.ship(exposure("ada", variant="treatment"))
    assert ledger.cell("slow").sketch.n == 1


# --- digits


def test_a_whale_that_leaves_takes_no_digits_with_it(ledger):
    ledger.declare(DELAY)
    ledger.ship(*(exposure(f"u{n}") for n in range(5)), *(outcome("delay", n / 10, 1, of=f"u{n}") for n in range(5)))
    ledger.ship(exposure("whale"), outcome("delay", 1e12, 1, of="whale"))
    ledger.ship(exposure("whale", variant="treatment"))
    moments = ledger.cell("delay").moments
    assert moments.mean.tolist() == pytest.approx([0.2], rel=1e-12)
    assert moments.m2.tolist() == [pytest.approx([0.1], rel=1e-12)]


def test_whales_that_leave_one_after_the_other_take_none_either(ledger):
    ledger.declare(DELAY)
    ledger.ship(*(exposure(f"u{n}") for n in range(5)), *(outcome("delay", n / 10, 1, of=f"u{n}") for n in range(5)))
    for power in (12, 10, 8, 6, 4, 2):
        ledger.ship(exposure(f"whale-{power}"), outcome("delay", 10.0**power, 1, of=f"whale-{power}"))
    for power in (12, 10, 8, 6, 4, 2):
        ledger.ship(exposure(f"whale-{power}", variant="treatment"))
    assert ledger.cell("delay").moments.m2.tolist() == [pytest.approx([0.1], rel=1e-9)]


def test_what_never_varies_is_not_counted_again_and_again(sqlite, monkeypatch):
    ledger = Ledger(sqlite)
    ledger.declare(DELAY)
    monkeypatch.setattr(recounting, "_recount", None)  # would fail if it were called
    for batch in range(5):
        units = [f"u{batch}-{n}" for n in range(20)]
        ledger.ship(*(exposure(unit) for unit in units), *(outcome("delay", 0.1, 1, of=unit) for unit in units))
        ledger.ship(*(outcome("delay", 0.0, 1, of=unit) for unit in units))
    assert ledger.mean("delay") == [pytest.approx(0.1)]


def test_numbers_come_back_from_the_table_bit_by_bit(ledger):
    ledger.declare(DELAY)
    ledger.ship(exposure("ada"), exposure("bob"), outcome("delay", 0.1 + 0.2, of="ada"))
    with ledger.database.read() as connection:
        row = connection.execute(select(rollups)).one()
    assert np.frombuffer(row.mean)[0] == (0.1 + 0.2) / 2


# --- what is kept


def test_an_earlier_first_exposure_needs_no_raw_events(ledger):
    ledger.declare(
        MetricSpec("delay", window_seconds=10.0, covariate="delay"),
        MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5, window_seconds=10.0),
    )
    ledger.ship(exposure("ada", 10, latency_seconds=1.0), exposure("ada", 20, latency_seconds=3.0))
    ledger.ship(*(outcome("delay", value, at, of="ada") for value, at in ((1.0, 4), (2.0, 5), (4.0, 15), (8.0, 16))))
    with ledger.database.write() as connection:
        connection.execute(exposures.delete())
        connection.execute(outcomes.delete())
    ledger.ship(exposure("ada", 5, latency_seconds=2.0))
    assert ledger.mean("delay") == [6.0, 1.0]
    assert ledger.cell("slow").sketch.quantile(1.0) == pytest.approx(2.0, rel=0.01)
    assert (ledger.evidence().early, ledger.evidence().outcomes) == (0, 3)  # one is in the covariate
    ledger.ship(exposure("ada", 4), outcome("delay", 16.0, 14, of="ada"))
    assert ledger.mean("delay") == [19.0, 0.0]


def test_a_unit_with_very_many_early_outcomes_stays_small(ledger, monkeypatch):
    monkeypatch.setattr(keeping, "MAX_BYTES", 100)
    ledger.declare(DELAY)
    ledger.ship(exposure("ada", 100))
    for at in range(9):
        ledger.ship(outcome("delay", 1.0, at, of="ada"))
    with ledger.database.read() as connection:
        assert len(connection.execute(select(units.c.kept_outcomes)).scalar_one()) < 200
    assert ledger.evidence().early == 9


def test_nothing_is_half_written(ledger):
    ledger.declare(DELAY)

    def change_and_fail():
        with ledger.database.write() as connection:
            fold_only(connection, exposure("ada"))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        change_and_fail()
    assert ledger.evidence().exposures == 0
    with ledger.database.read() as connection:
        assert connection.execute(select(waiting_outcomes)).all() == []
        assert connection.execute(select(measures.c.first_us)).scalar_one() is None


def test_no_events_are_no_work(ledger):
    ledger.declare(DELAY)
    ledger.ship()
    assert ledger.evidence().exposures == 0


def test_an_experiment_without_metrics_counts_arrivals(ledger):
    ledger.declare()
    ledger.ship(exposure("ada"), exposure("bob", 86_400, "treatment"))
    assert [(each.variant, each.day, each.units) for each in ledger.evidence().arrivals] == [
        ("control", "2025-11-27", 1),
        ("treatment", "2025-11-28", 1),
    ]
    assert (ledger.evidence().first_us, ledger.evidence().last_us) == (START, START + DAY)
