"""Short ways to say what the tests of allocation are about."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.assignment import Assigner
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec

CASES = Path(__file__).parents[4] / "shared" / "cases"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNITS = [f"unit-{number}" for number in range(20_000)]


def cases(path):
    """Return what a file of reference cases holds; skips where the folder is not there."""
    file = CASES / path
    if not file.exists():
        pytest.skip(f"../shared/cases/{path} is not there: nothing was compared")
    return json.loads(file.read_text())


def variants(**weights):
    return tuple(VariantSpec(name, weight) for name, weight in weights.items())


def spec(name="late", *, weights=None, **fields):
    return AllocationSpec(name, variants(**(weights or {"control": 0.5, "treatment": 0.5})), **fields)


def assigner(*specs, layers=(), at=NOW, tally=None):
    allocations = Allocations()
    for layer in layers:
        allocations = allocations.add_layer(layer)
    for each in specs:
        allocations = allocations.place(each)
    return Assigner(allocations, at, tally)
