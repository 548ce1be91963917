"""Cells put together are what one cell of all units would have been."""

import numpy as np
import pytest

from crossfade.ledger.evidence import Cell
from crossfade.ledger.merging import merged
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch


def cell(values, **parts):
    fields = {"revision": 1, "variant": "control", "day": "2026-11-27", "dimension": "", "value": "", "metric": "delay"}
    return Cell(**{**fields, **parts}, moments=Moments.of(values), sketch=Sketch.of(values), cut=2.0)


def test_days_and_revisions_are_summed():
    values = np.random.default_rng(2).normal(1e6, 1, (3, 50))
    days = [cell(part, day=f"2026-11-{day}", revision=day) for day, part in enumerate(values, 27)]
    found = merged([*days, cell([9.0], variant="treatment")], "variant", "metric")
    assert list(found) == [("control", "delay"), ("treatment", "delay")]
    control, everything = found["control", "delay"], Moments.of(values.ravel())
    assert control.moments.n == 150
    assert control.moments.mean == pytest.approx(everything.mean, rel=1e-14)
    assert control.moments.m2 == pytest.approx(everything.m2, rel=1e-9)
    assert control.sketch.counts.tolist() == Sketch.of(values.ravel()).counts.tolist()
    assert (control.cut, control.day) == (2.0, "2026-11-27")


def test_segments_stay_apart():
    found = merged([cell([1.0], value="UA"), cell([2.0], value="AA"), cell([3.0], value="UA")], "value")
    assert {key: int(each.moments.n) for key, each in found.items()} == {("UA",): 2, ("AA",): 1}


def test_nothing_is_nothing():
    assert merged([], "variant") == {}


def test_cells_without_sketch_have_none_together():
    plain = Cell(1, "control", "2026-11-27", "", "", "delay", Moments.of([1.0]))
    assert merged([plain, plain])[()].sketch is None
