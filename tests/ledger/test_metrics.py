"""What may be declared to be measured, and what is refused with which words."""

import math

import msgspec
import pytest

from crossfade.errors import InvalidMeasuresError, InvalidMetricError
from crossfade.ledger.metrics import MAX_METRICS, Measures, MetricSpec
from tests.ledger.support import measures


def test_a_metric_is_of_the_outcome_of_its_own_name():
    assert MetricSpec("late").checked().source == "late"
    assert MetricSpec("late", outcome="delay").checked().source == "delay"


@pytest.mark.parametrize(
    "spec",
    [
        MetricSpec("latency_seconds", kind="quantile", level=0.99, role="guardrail", margin=0.1, direction="down"),
        MetricSpec("revenue", kind="ratio", denominator="exposures", lower=0.0, upper=100.0, covariate="revenue"),
        MetricSpec("revenue", kind="ratio"),
        MetricSpec("loss", outcome="late", loss="log", covariate="shadow_score", window_seconds=60),
        MetricSpec("wrong", kind="proportion", outcome="late", loss="zero_one", missing="skip"),
        MetricSpec("calibration", kind="ratio", outcome="late", denominator="late", loss="squared"),
    ],
    ids=lambda spec: f"{spec.name}-{spec.kind}",
)
def test_what_makes_sense_is_kept_as_it_is(spec):
    assert spec.checked() == spec
    assert msgspec.json.decode(msgspec.json.encode(spec), type=MetricSpec) == spec


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "Late"}, "not a valid metric name"),
        ({"name": ""}, "not a valid metric name"),
        ({"name": "shadow_score"}, "covariate"),
        ({"name": 3}, "no specification"),
        ({"kind": "median"}, "no specification"),
        ({"loss": "hinge"}, "no specification"),
        ({"role": "boss"}, "no specification"),
        ({"direction": "left"}, "no specification"),
        ({"missing": "one"}, "no specification"),
        ({"level": "half"}, "no specification"),
        ({"outcome": "No Slug"}, "not a valid outcome name"),
        ({"outcome": "shadow_score"}, "no `outcome`"),
        ({"denominator": "visits"}, "a mean has no denominator"),
        ({"kind": "ratio", "denominator": "No Slug"}, "not a valid denominator name"),
        ({"kind": "ratio", "denominator": "shadow_score"}, "no `denominator`"),
        ({"kind": "ratio", "denominator": "late"}, "always 1"),
        ({"kind": "quantile"}, "a quantile has a level"),
        ({"level": 0.5}, "a mean has no level"),
        ({"kind": "quantile", "level": 0.0}, "not between 0 and 1"),
        ({"kind": "quantile", "level": 1.0}, "not between 0 and 1"),
        ({"kind": "quantile", "level": math.nan}, "not between 0 and 1"),
        ({"kind": "quantile", "level": 0.5, "covariate": "visits"}, "no covariate"),
        ({"margin": 0.1}, "is of a guardrail"),
        ({"margin": -0.1, "role": "guardrail"}, "not zero or more"),
        ({"margin": math.nan, "role": "guardrail"}, "not zero or more"),
        ({"margin": math.inf, "role": "guardrail"}, "not zero or more"),
        ({"margin_absolute": 0.1}, "is of a guardrail"),
        ({"margin_absolute": -0.1, "role": "guardrail"}, "not zero or more"),
        ({"margin": 0.1, "margin_absolute": 0.1, "role": "guardrail"}, "chosen after looking"),
        ({"lower": math.nan}, "no cap"),
        ({"upper": math.inf}, "no cap"),
        ({"lower": -1e31}, "no cap"),
        ({"lower": 2.0, "upper": 1.0}, "above `upper`"),
        ({"kind": "proportion", "upper": 1.0}, "no caps"),
        ({"covariate": "latency_seconds"}, "before the first exposure"),
        ({"covariate": "No Slug"}, "not a valid covariate name"),
        ({"covariate_seconds": 0.0}, "not above zero"),
        ({"covariate_seconds": math.inf}, "not above zero"),
        ({"window_seconds": -1.0}, "not above zero"),
        ({"window_seconds": math.nan}, "not above zero"),
        ({"outcome": "latency_seconds", "loss": "squared"}, "measured with the answer"),
        ({"kind": "count", "loss": "squared"}, "says nothing"),
        ({"kind": "proportion", "loss": "log"}, "says nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, problem):
    with pytest.raises(InvalidMetricError, match=problem) as raised:
        MetricSpec(**{"name": "late", **fields}).checked()
    assert raised.value.facts["name"] == str(fields.get("name", "late"))
    assert raised.value.exit_code == 2


def test_measures_are_copied_and_checked():
    dimensions = ["carrier"]
    given = Measures("flights", "control", [MetricSpec("late")], dimensions, ["b"])  # as careless callers write it
    checked = given.checked()
    dimensions.append("origin")
    assert checked == Measures("flights", "control", (MetricSpec("late"),), ("carrier",), ("b",))
    assert (checked.paired, measures(shadows=("control",)).paired) == (("b",), ())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"experiment": "No Slug"}, "not a valid experiment name"),
        ({"control": ""}, "not a valid variant name"),
        ({"shadows": ("No Slug",)}, "not a valid variant name"),
        ({"metrics": "late"}, "no specification"),
        ({"metrics": (3,)}, "no specification"),
        ({"metrics": (MetricSpec("late", kind="median"),)}, "no specification"),
        ({"metrics": (MetricSpec("late"), MetricSpec("late", kind="count"))}, "the metric `late` is there 2 times"),
        ({"metrics": tuple(MetricSpec(f"m{n}") for n in range(MAX_METRICS + 1))}, "101 metrics"),
        ({"dimensions": ("carrier", "carrier")}, "the dimension `carrier` is there 2 times"),
        ({"dimensions": tuple(f"d{n}" for n in range(11))}, "11 dimensions"),
        ({"dimensions": ("",)}, "characters"),
        ({"dimensions": ("x" * 257,)}, "characters"),
        ({"dimensions": ("\0",)}, "characters"),
        ({"dimensions": ("\ud800",)}, "specification|characters"),
        ({"shadows": ("b", "b")}, "the shadow `b` is there 2 times"),
        ({"shadows": tuple(f"s{n}" for n in range(17))}, "17 shadows"),
        ({"shadows": ("control", "b")}, "either alone"),
        ({"metrics": (MetricSpec("late", covariate="shadow_score"),)}, "nothing is mirrored"),
    ],
)
def test_measures_that_make_no_sense_are_refused(fields, problem):
    with pytest.raises(InvalidMeasuresError, match=problem):
        measures(**{"metrics": (MetricSpec("late"),), **fields}).checked()


def test_a_metric_of_measures_that_makes_no_sense_is_named():
    with pytest.raises(InvalidMetricError, match="`late`: a mean has no level"):
        measures(MetricSpec("late", level=0.5)).checked()
