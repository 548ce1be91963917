"""Experiments answer as feature flags, in the words of OpenFeature."""

import msgspec
import pytest

from crossfade.traffic.allocation.evaluation import evaluate, evaluate_all
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec, VariantSpec
from tests.traffic.allocation.support import NOW, UNITS, assigner, spec

ME = {"targetingKey": "me", "country": "DE"}


def test_an_evaluated_flag_is_what_the_protocol_says():
    both = (VariantSpec("off", 0.0, value=False), VariantSpec("on", 1.0, value=True))
    flag = msgspec.to_builtins(evaluate(assigner(AllocationSpec("late", both)), "late", ME))
    assert flag == {
        "key": "late",
        "reason": "STATIC",
        "variant": "on",
        "value": True,
        "metadata": {
            "enrolled": True,
            "propensity": 1.0,
            "revision": 1,
            "code": "static",
            "words": "everybody gets `on`",
        },
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "SPLIT"),
        ({"overrides": {"me": "treatment"}}, "TARGETING_MATCH"),
        ({"segment": Segment({"country": "DE"}), "weights": {"only": 1.0}}, "TARGETING_MATCH"),
        ({"segment": Segment({"country": "FR"})}, "DEFAULT"),
        ({"coverage": 0.0}, "DEFAULT"),
        ({"end_at": NOW}, "DISABLED"),
    ],
)
def test_reasons(fields, reason):
    flag = evaluate(assigner(spec(**fields)), "late", ME)
    assert flag.reason == reason
    assert flag.value == flag.variant


def test_failures_are_what_the_protocol_says():
    decider = assigner(spec(segment=Segment({"x": {"$eq": [1]}})))
    unknown = evaluate(decider, "lat", ME)
    assert msgspec.to_builtins(unknown) == {
        "key": "lat",
        "errorCode": "FLAG_NOT_FOUND",
        "errorDetails": "there is no experiment `lat`",
    }
    for context in ({}, {"targetingKey": ""}, {"targetingKey": None}):
        assert evaluate(decider, "late", context).error_code == "TARGETING_KEY_MISSING"
    assert evaluate(decider, "late", {"targetingKey": 5}).error_code == "INVALID_CONTEXT"


def test_a_context_is_the_whole_context():
    decider = assigner(spec(layer="web"), layers=[LayerSpec("web", unit="session")])
    assert evaluate(decider, "late", {"session": "s-1"}) == evaluate(decider, "late", {"session": "s-1"} | ME)
    by_key = assigner(spec(segment=Segment({"targetingKey": {"$regex": "^m"}})))
    assert evaluate(by_key, "late", ME).reason == "SPLIT"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({}, "TARGETING_KEY_MISSING", "the context has no `targetingKey`"),
        ({"layer": "web"}, "TARGETING_KEY_MISSING", "the request does not say which `session` asks"),
        ({"sticky": False}, "TARGETING_KEY_MISSING", "the request has no id to draw by"),
    ],
)
def test_what_is_missing_is_named_as_the_protocol_calls_it(options, code, words):
    failure = evaluate(assigner(spec(**options), layers=[LayerSpec("web", unit="session")]), "late", {})
    assert (failure.error_code, failure.error_details) == (code, words)


def test_requests_are_drawn_by_their_id():
    decider = assigner(spec(sticky=False))
    assert len({evaluate(decider, "late", ME, f"r{n}").variant for n in range(50)}) == 2


def test_all_flags_at_once_are_the_same_as_one_by_one():
    decider = assigner(
        spec("one", layer="l", share=0.5), spec("two", layer="l", share=0.5), spec("three"), layers=[LayerSpec("l")]
    )
    for unit in UNITS[:100]:
        context = {"targetingKey": unit}
        flags = {flag.key: flag for flag in evaluate_all(decider, context)}
        assert flags == {name: evaluate(decider, name, context) for name in ("one", "two", "three")}
    assert {flag.error_code for flag in evaluate_all(decider, {})} == {"TARGETING_KEY_MISSING"}
