"""Windows of health against plain adding up, for whatever processes report and lose."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from crossfade.traffic.health import LATENCY_BOUNDS, TIERS, Counts, Health, HealthLog
from tests.traffic.support import Clock

NUMBERS = itertools.count()
"""A model of its own for every example: they share a database."""
PROCESSES = ("a", "b", "c")
reports = st.lists(
    st.tuples(
        st.sampled_from(PROCESSES),
        st.integers(1, 90),  # seconds since the report before
        st.integers(0, 50),  # requests
        st.integers(0, 5),  # of which failed
        st.integers(0, len(LATENCY_BOUNDS)),
        st.booleans(),  # whether the coarser report is written, too
    ),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def database():
    with TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'health.db'}")
        migrate(database)
        yield database
        database.close()


@given(reports, st.sampled_from([30.0, 600.0, 3600.0, 25_200.0]))
@settings(max_examples=40)
def test_a_window_is_the_sum_of_what_was_reported_in_it(database, written, seconds):
    clock = Clock()
    log, waiting, truth, model = HealthLog(database, clock), {}, [], f"m{next(NUMBERS)}"
    for process, later, requests, failed, place, coarse in written:
        clock.advance(later)
        errors = min(failed, requests)
        answered = {place: requests - errors} if requests > errors else {}
        counts = Counts(requests=requests, errors=errors, latency=answered)
        now = int(clock().timestamp() * 1e6)
        waiting.setdefault(process, Counts()).add(counts)
        tiers = {1: {model: {"1.0.0": counts}}}
        if coarse:
            tiers[60] = {model: {"1.0.0": waiting.pop(process)}}
        log.write(process, now, tiers)
        truth.append((now, counts))
    start = int(clock().timestamp() * 1e6) - int(seconds * 1e6)
    found = log.window(seconds, model=model, version="1.0.0")
    exact = sum(counts.requests for at, counts in truth if at > start)
    everything = sum(counts.requests for _, counts in truth)
    assert exact <= found.requests <= everything, "nothing twice, nothing lost; a coarse report may begin earlier"
    if seconds <= TIERS[0].kept_seconds:
        assert found.requests == exact
        assert found.errors == sum(counts.errors for at, counts in truth if at > start)


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 5))
def test_whoever_reads_with_cursors_gets_every_report_once(database, amounts, every):
    clock, model = Clock(), f"c{next(NUMBERS)}"
    log, cursors, total = HealthLog(database, clock), {}, 0
    first = int(clock().timestamp() * 1e6)
    for number, amount in enumerate(amounts, 1):
        clock.advance(1)
        process = PROCESSES[number % len(PROCESSES)]
        log.write(process, int(clock().timestamp() * 1e6), {1: {model: {"1.0.0": Counts(requests=amount)}}})
        if number % every == 0 or number == len(amounts):
            for report in log.since(cursors, first, model=model):
                assert report.at_us > cursors.get(report.process, 0)
                cursors[report.process] = report.at_us
                total += report.versions["1.0.0"].requests
    assert total == sum(amounts)


@given(st.dictionaries(st.integers(0, len(LATENCY_BOUNDS)), st.integers(1, 1000), min_size=1), st.floats(0.01, 1.0))
def test_quantiles_agree_with_sorted_values(latency, fraction):
    health = Health(latency=latency)
    values = sorted(
        (LATENCY_BOUNDS[place] if place < len(LATENCY_BOUNDS) else float("inf"))
        for place, count in latency.items()
        for _ in range(count)
    )
    found = health.quantile(fraction)
    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values)
    assert sum(value < found for value in values) <= fraction * len(values)


@given(st.dictionaries(st.integers(0, len(LATENCY_BOUNDS)), st.integers(1, 100)), st.floats(1e-5, 20.0))
def test_what_is_slower_is_told_as_exactly_as_the_bounds_are(latency, seconds):
    slower = Counts(latency=latency).slower_than(seconds)
    surely = sum(
        count
        for place, count in latency.items()
        if place >= len(LATENCY_BOUNDS) or (place > 0 and LATENCY_BOUNDS[place - 1] >= seconds)
    )
    possibly = sum(
        count for place, count in latency.items() if place >= len(LATENCY_BOUNDS) or LATENCY_BOUNDS[place] > seconds
    )
    assert surely <= slower <= possibly or slower == surely
