"""Whatever comes in whatever order in whatever batches: the roll-ups are those of all events, counted at once.

As a test, the events are always the same. `CROSSFADE_EXPLORE=2000 pytest tests/ledger/test_rollups_property.py` tries
so many new ones of each kind.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crossfade.ledger import recounting
from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.ledger.metrics import MetricSpec
from tests.ledger.support import DAY, SECOND, START, Ledger, compare, expect, measures

EXPLORED = int(os.environ.get("CROSSFADE_EXPLORE", "0"))
UNITS = ("ada", "bob", "cyd", "dan")
SPLIT = measures(
    MetricSpec("delay"),
    MetricSpec("late", kind="proportion", outcome="delay", missing="skip"),
    MetricSpec("complaints", kind="count", outcome="complaint", upper=2.0),
    MetricSpec("per_request", kind="ratio", outcome="delay", denominator="exposures", lower=-5.0, upper=5.0),
    MetricSpec("mean_latency", kind="ratio", outcome="latency_seconds", window_seconds=40.0),
    MetricSpec("adjusted", outcome="delay", covariate="delay", covariate_seconds=30.0, window_seconds=20.0),
    MetricSpec("adjusted_ratio", kind="ratio", outcome="delay", denominator="complaint", covariate="complaint"),
    MetricSpec("by_shadow", outcome="complaint", covariate="shadow_score"),
    MetricSpec("log_loss", kind="ratio", outcome="complaint", loss="log"),
    MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.9),
    MetricSpec("wrong", kind="quantile", outcome="delay", loss="absolute", level=0.5, upper=3.0, missing="skip"),
    MetricSpec("errors", outcome="error", kind="proportion"),
    dimensions=("carrier", "origin"),
    shadows=("control",),
)
SHADOWED = measures(
    MetricSpec("latency_seconds"),
    MetricSpec("error", kind="proportion"),
    MetricSpec("score", kind="ratio", missing="skip"),
    MetricSpec("requests", outcome="exposures"),
    MetricSpec("loss", kind="ratio", outcome="delay", loss="squared"),
    MetricSpec("zero_one", outcome="complaint", loss="zero_one", covariate="shadow_score"),
    MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5),
    dimensions=("carrier",),
    shadows=("challenger", "rookie"),
)

pytestmark = pytest.mark.timeout(0 if EXPLORED else 120)

moments_in_time = st.one_of(
    st.integers(0, 6).map(lambda steps: START + 10 * steps * SECOND),
    st.integers(-3, 3).map(lambda steps: START + DAY + steps),
)
numbers = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5]), st.floats(-100, 100).map(lambda value: round(value, 3)))
seconds = st.floats(0, 2).map(lambda value: round(value, 3))
scores = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 0.25]), st.floats(0, 1).map(lambda value: round(value, 3)))


def shadow_answers(names):
    one = {
        name: st.builds(ShadowAnswer, st.just(name), st.just("1.0.0"), scores, seconds, st.booleans()) for name in names
    }
    return st.lists(st.sampled_from(names), unique=True).flatmap(lambda some: st.tuples(*(one[name] for name in some)))


@st.composite
def events(draw, variants, shadows):
    count = draw(st.integers(1, 12))
    exposures = [
        Exposure(
            id=f"d{draw(st.integers(0, 99)):02}-{number}",
            at_us=draw(moments_in_time),
            experiment="flights",
            revision=draw(st.integers(1, 2)),
            variant=variants[draw(st.sampled_from([0, 0, 0, 1])) if draw(st.booleans()) else UNITS.index(unit) % 2],
            unit=unit,
            propensity=0.5,
            score=draw(scores),
            latency_seconds=draw(seconds),
            error=draw(st.booleans()),
            fallback=draw(st.booleans()),
            dimensions=draw(st.dictionaries(st.sampled_from(["carrier", "origin"]), st.sampled_from(["UA", "AA"]))),
            shadows=draw(shadow_answers(shadows)),
        )
        for number in range(count)
        for unit in [draw(st.sampled_from(UNITS))]
    ]
    outcomes = []
    for number in range(draw(st.integers(0, 12))):
        name = draw(st.sampled_from(["delay", "complaint"]))
        decision, unit = "", ""
        if draw(st.booleans()):
            decision = draw(st.sampled_from([*(event.id for event in exposures), "unknown"]))
        else:
            unit = draw(st.sampled_from([*UNITS, "nobody"]))
        value = draw(numbers)
        outcomes.append(
            Outcome(f"o{number}", draw(moments_in_time), name, value, decision, "flights" if unit else "", unit)
        )
    order = draw(st.permutations([*exposures, *outcomes]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=5)))
    batches = [order[start:end] for start, end in itertools.pairwise([0, *cuts, len(order)])]
    return exposures, outcomes, batches


@pytest.fixture
def fresh(sqlite):
    """A ledger that is empty each time."""
    ledger = Ledger(sqlite)

    @contextlib.contextmanager
    def use() -> Iterator[Ledger]:
        ledger.clear()
        yield ledger

    return use


@pytest.mark.parametrize(
    ("spec", "variants", "shadows"),
    [(SPLIT, ("control", "treatment"), ["control"]), (SHADOWED, ("control", "control"), ["challenger", "rookie"])],
    ids=["split", "shadowed"],
)
@given(data=st.data())
@settings(
    deadline=None,
    phases=[p for p in Phase if p not in (Phase.shrink, Phase.explain)],
    derandomize=not EXPLORED,
    max_examples=EXPLORED or 20,
    print_blob=bool(EXPLORED),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_order_and_batches_do_not_matter(fresh, monkeypatch, spec, variants, shadows, data):
    exposures, outcomes, batches = data.draw(events(variants, shadows))
    monkeypatch.setattr(recounting, "FIRST_VALUES", data.draw(st.sampled_from([1, 4, 1000])))
    with fresh() as ledger:
        ledger.declare(*spec.metrics, dimensions=spec.dimensions, shadows=spec.shadows)
        for batch in batches:
            ledger.ship(*batch)
        evidence = ledger.evidence()
        compare(evidence, expect(spec, exposures, outcomes, cuts_of(evidence)))
        ledger.rebuild()
        again = ledger.evidence()
        compare(again, expect(spec, exposures, outcomes, cuts_of(again)))
        assert cuts_of(evidence).items() <= cuts_of(again).items()
        assert (again.refused, again.first_us, again.last_us) == (evidence.refused, evidence.first_us, evidence.last_us)


def cuts_of(evidence):
    return {cell.metric: cell.cut for cell in evidence.cells if cell.cut is not None}
