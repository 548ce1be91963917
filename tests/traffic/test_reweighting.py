"""From the store over the snapshot to the router: changing weights moves no unit that it need not move."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.traffic.routing import Router
from crossfade.traffic.snapshot import SnapshotSource
from tests.experiments.life import open_store, plan

UNITS = [f"unit-{number}" for number in range(150)]
EVENLY = {"old": 0.25, "new": 0.25, "third": 0.25, "fourth": 0.25}
numbers = itertools.count()

parts = st.lists(st.integers(0, 10), min_size=4, max_size=4).filter(any)
change = st.tuples(st.none() | parts, st.none() | st.integers(0, 20)).filter(lambda change: change != (None, None))
changes = st.lists(change, min_size=1, max_size=4)


@pytest.fixture
def sqlite_url(tmp_path):
    """In memory where the system has a folder there: thousands of transactions need not reach a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield f"sqlite:///{folder}/crossfade.db"


@pytest.fixture
def experiments(registry):
    return open_store(registry)


@pytest.fixture
def source(registry):
    return SnapshotSource(registry.backend, registry.backend.database, keep_previous=1)


def holders(snapshot, name):
    """Return unit -> the variant that it takes part with, None for those that do not."""
    decide = Router(snapshot.traffic).assigner.experiments[name]
    decisions = {unit: decide(unit, None, None) for unit in UNITS}
    return {unit: decision.variant if decision.enrolled else None for unit, decision in decisions.items()}


@given(first=parts, sequence=changes, coverage=st.integers(1, 20))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_unit_leaves_a_variant_that_does_not_shrink(experiments, source, first, sequence, coverage):
    name = f"e-{next(numbers)}"
    experiments.create(plan(name, weighted(first), coverage=coverage / 20, model=""))
    before = experiments.start(name)
    known = source.read(source.revision())
    held = holders(known, name)
    for weights, covered in sequence:
        wanted = None if weights is None else weighted(weights)
        after = experiments.reweight(name, wanted, coverage=None if covered is None else covered / 20)
        assert after.revision == before.revision + 1
        known = source.follow(known, source.revision())
        now = holders(known, name)
        for unit, variant in held.items():
            if variant is not None and now[unit] != variant:
                assert part(after, variant) < part(before, variant), "it lost a unit and did not shrink"
        for variant in EVENLY:
            if not part(after, variant):
                assert variant not in now.values()
        before, held = after, now
    experiments.stop(name, reason="enough")


def weighted(parts):
    return {variant: part / sum(parts) for variant, part in zip(EVENLY, parts, strict=True)}


def part(experiment, variant):
    """Return which fraction of all units has a variant."""
    return experiment.weights[variant] * experiment.coverage
