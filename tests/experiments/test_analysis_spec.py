"""What people may ask for, and what is refused."""

import math

import msgspec
import pytest

from crossfade.errors import InvalidAnalysisError
from crossfade.experiments.analysis_spec import RULES, AnalysisSpec, Condition, DecisionSpec, Rule
from crossfade.ledger.metrics import MetricSpec
from tests.experiments.support import START, after, question


@pytest.mark.parametrize(
    "spec",
    [
        AnalysisSpec(),
        AnalysisSpec(method="group_sequential", planned_units=1000, looks=3, spending="pocock"),
        AnalysisSpec(method="fixed", planned_seconds=86_400.0, correction="bh"),
        AnalysisSpec(scales={"revenue": "log"}, smallest_effect=0.02, planned_units=10_000),
    ],
)
def test_specifications_survive_storage(spec):
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AnalysisSpec) == spec.checked()


@pytest.mark.parametrize(
    ("method", "correction"), [("always_valid", "e_bh"), ("group_sequential", "holm"), ("fixed", "holm")]
)
def test_every_method_has_a_correction(method, correction):
    assert AnalysisSpec(method=method, planned_units=100).checked().corrects_by == correction


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"alpha": 0.9, "power": 0.8}, "not above alpha"),
        ({"power": 1.0}, "power"),
        ({"method": "fixed"}, "planned end"),
        ({"method": "group_sequential"}, "planned_units"),
        ({"method": "fixed", "planned_units": 100, "correction": "e_bh"}, "always_valid"),
        ({"looks": 0}, "looks"),
        ({"looks": 10_000}, "looks"),
        ({"planned_units": 1}, "planned units"),
        ({"planned_units": 2**60}, "planned units"),
        ({"planned_seconds": -1.0}, "planned_seconds"),
        ({"planned_seconds": math.inf}, "planned_seconds"),
        ({"smallest_effect": 0.0}, "smallest_effect"),
        ({"smallest_units": 1}, "smallest_units"),
        ({"alpha": 1e-320}, "the least"),
        ({"prior_deviation": 0.0}, "prior"),
        ({"prior_deviation": 1e-300}, "prior_deviation"),
        ({"prior_mean": 1e300}, "prior_mean"),
        ({"prior_mean": math.nan}, "prior"),
        ({"method": "whenever"}, "no specification"),
        ({"scales": {"m": "linear"}}, "no specification"),
        ({"alpha": "0.05"}, "no specification"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(fields, said):
    with pytest.raises(InvalidAnalysisError, match=said):
        AnalysisSpec(**fields).checked()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"minimum_runtime_seconds": -1.0}, "minimum_runtime_seconds"),
        ({"minimum_runtime_seconds": math.nan}, "minimum_runtime_seconds"),
        ({"minimum_units": 0}, "minimum_units"),
        ({"harm_alpha": 0.0}, "harm_alpha"),
        ({"harm_alpha": 1e-323}, "harm_alpha"),
        ({"multiple_share": 2.0}, "multiple_share"),
        ({"rules": (Rule("keep"),) * 51}, "rules"),
        ({"rules": (Rule("ship"),)}, "nothing is better"),
        ({"rules": (Rule("ship", (Condition("guardrail", "all", "acceptable"),)),)}, "nothing is better"),
        ({"rules": (Rule("explode"),)}, "no specification"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(fields, said):
    with pytest.raises(InvalidAnalysisError, match=said):
        DecisionSpec(**fields).checked()


def test_rules_are_data():
    condition = b'{"metrics": "primary", "match": "all", "finding": "better"}'
    text = b'{"rules": [{"action": "ship", "conditions": [%s]}], "auto": true}' % condition
    spec = msgspec.json.decode(text, type=DecisionSpec).checked()
    assert spec.auto
    assert spec.rules == (Rule("ship", (Condition("primary", "all", "better"),)),)
    assert DecisionSpec().checked().rules == RULES


@pytest.mark.parametrize("text", [b'{"alfa": 0.1}', b'{"rules": [{"action": "keep", "when": 1}]}'])
@pytest.mark.parametrize("kind", [AnalysisSpec, DecisionSpec])
def test_unknown_fields_are_refused(text, kind):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=kind)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: question("m", variants=()), "no variants"),
        (lambda: question("m", control="nobody"), "none of the variants"),
        (lambda: question("m", variants=("a", "a")), "there 2 times"),
        (lambda: question("m", "m"), "metric `m` is there 2 times"),
        (lambda: question("m", shadows=("x", "x")), "shadow `x`"),
        (lambda: question("m", shadows=("control",)), "its own shadow"),
        (lambda: question("m", dimensions=("d", "d")), "dimension"),
        (lambda: question("m", analysis=AnalysisSpec(scales={"other": "log"})), "no metric"),
        (lambda: question(MetricSpec("q", kind="quantile")), "level"),
        (lambda: question(MetricSpec("q", kind="quantile", level=1.0)), "level"),
        (lambda: question(MetricSpec("g", role="guardrail", margin=-0.1)), "margin"),
        (lambda: question(MetricSpec("g", role="guardrail", margin=math.nan)), "margin"),
        (lambda: question(MetricSpec("g", role="guardrail", margin_absolute=-0.1)), "margin"),
        (lambda: question("m", analysis=AnalysisSpec(alpha=2.0)), "alpha"),
    ],
)
def test_questions_that_contradict_themselves_are_refused(made, said):
    with pytest.raises(InvalidAnalysisError, match=said):
        made().checked()


def test_the_control_is_the_first_variant_or_the_one_named():
    assert question("m", variants=("a", "b", "c")).against == "a"
    named = question("m", variants=("a", "b", "c"), control="b", shadows=("d", "c"))
    assert (named.against, named.treatments) == ("b", ("a", "c", "d"))


def test_a_planned_end_further_away_than_there_are_dates_is_none():
    asked = question("m", analysis=AnalysisSpec(method="fixed", planned_seconds=1e18))
    assert asked.checked().horizon is None
    assert question("m", analysis=AnalysisSpec(method="fixed", planned_seconds=86_400.0)).horizon == after(1)
    assert not question("m").ended(START)
    assert question("m", ends_at=START).ended(START)
