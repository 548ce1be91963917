"""What cannot be fulfilled is refused before anything is made of it, with what is wrong in words."""

import math
from datetime import datetime, timedelta

import msgspec
import pytest

from crossfade.errors import InvalidAllocationError, InvalidSegmentError, UnknownHashError
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec, RampStep, VariantSpec
from tests.traffic.allocation.support import NOW, spec, variants

LATER = NOW + timedelta(days=1)


def step(days, coverage):
    return RampStep(NOW + timedelta(days=days), coverage)


def test_ordinary_specifications_are_accepted():
    spec().checked()
    spec(weights={"only": 1.0}).checked()
    spec(weights={"a": 0.1, "b": 0.2, "c": 0.7}).checked()
    spec(weights=dict.fromkeys((f"v{n}" for n in range(7)), 1 / 7)).checked()
    spec(weights={"a": 1.0, "b": 0.0}, coverage=0.0).checked()
    spec(layer="checkout", share=0.5, start_at=NOW, end_at=LATER, ramp=(step(1, 0.1), step(2, 1.0))).checked()
    spec(overrides={"日本": "control"}, fallback="treatment", sticky=False, salt="again").checked()
    spec(segment=Segment({"country": "DE"})).checked()
    LayerSpec("checkout", unit="session", holdout=0.1, root="all").checked()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (spec(weights={"a": 0.5, "b": 0.6}), "sum to 1.1, not to 1"),
        (spec(weights={"a": 0.5, "b": 0.4}), "sum to 0.9"),
        (spec(weights={"a": 1.0 + 1e-6}), "0 to 1 is possible"),
        (spec(weights={"a": math.nan, "b": 1.0}), "the weight of `a` is nan"),
        (spec(weights={"a": math.inf}), "the weight of `a` is inf"),
        (spec(weights={"a": -0.5, "b": 1.5}), "the weight of `a` is -0.5"),
        (spec(coverage=math.nan), "`coverage` is nan"),
        (spec(coverage=1.5), "`coverage` is 1.5"),
        (spec(layer="x", share=-1.0), "`share` is -1.0"),
        (spec(share=0.5), "names none"),
        (AllocationSpec("late", ()), "0 variants"),
        (AllocationSpec("late", variants(**{f"v{n}": 1 / 65 for n in range(65)})), "65 variants"),
        (AllocationSpec("late", (*variants(a=0.5), *variants(a=0.5))), "`a` is there 2 times"),
        (AllocationSpec("late", variants(A=1.0)), "not a valid variant name"),
        (spec("Late"), "not a valid experiment name"),
        (spec("x" * 65), "not a valid experiment name"),
        (spec("../../etc"), "not a valid experiment name"),
        (spec(fallback="other"), "the fallback `other`"),
        (spec(overrides={"me": "other"}), "the override of `me` leads to `other`"),
        (spec(overrides={"": "control"}), "names a unit"),
        (spec(overrides={"x" * 2000: "control"}), "names a unit"),
        (spec(overrides={str(n): "control" for n in range(10_001)}), "10001 overrides"),
        (spec(start_at=LATER, end_at=NOW), "ends before it starts"),
        (spec(start_at=NOW, end_at=NOW), "ends before it starts"),
        (spec(start_at=datetime(2026, 1, 1)), "timezone"),  # noqa: DTZ001 - that is the point
        (spec(ramp=(step(2, 0.1), step(1, 0.2))), "is not after"),
        (spec(ramp=(step(1, 0.1), step(1, 0.2))), "is not after"),
        (spec(ramp=(step(1, math.nan),)), "has the coverage nan"),
        (spec(ramp=tuple(step(n, 0.5) for n in range(101))), "101 steps"),
        (spec(salt="x" * 2000), "a salt"),
        (spec(salt="\ud800"), "a salt"),
        (AllocationSpec("late", (VariantSpec("a", 1.0, value="x" * 70_000),)), "65536 bytes"),
        (AllocationSpec("late", (VariantSpec("a", 1.0, value=object()),)), "no specification"),
        (AllocationSpec("late", (VariantSpec("a", 1.0, value=math.nan),)), "is no JSON"),
        (AllocationSpec("late", ("a",)), "no specification"),
        (AllocationSpec("late", (VariantSpec("a", "1"),)), "no specification"),
        (AllocationSpec(5, variants(a=1.0)), "no specification"),
        (spec(sticky="yes"), "no specification"),
        (LayerSpec("A"), "not a valid layer name"),
        (LayerSpec("a", holdout=1.0), "`holdout` is 1.0"),
        (LayerSpec("a", holdout=math.nan), "`holdout` is nan"),
        (LayerSpec("a", unit=""), "name of an attribute"),
        (LayerSpec("a", root="a"), "its own root"),
        (LayerSpec("a", salt=5), "no specification"),
    ],
)
def test_what_is_refused(wrong, problem):
    with pytest.raises(InvalidAllocationError) as refused:
        wrong.checked()
    assert problem in refused.value.message
    assert len(refused.value.message) < 400
    command = "layer" if isinstance(wrong, LayerSpec) else "create"
    assert f"crossfade experiments {command} --help" in refused.value.hint


def test_a_value_without_an_end_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidAllocationError, match="specification"):
        AllocationSpec("late", (VariantSpec("a", 1.0, value=value),)).checked()


def test_a_wrong_segment_and_an_unknown_hash_say_so_themselves():
    with pytest.raises(InvalidSegmentError):
        spec(segment=Segment({"a": {"$inn": []}})).checked()
    for wrong in (spec(hash="md5"), LayerSpec("a", hash="xxh3-v2")):
        with pytest.raises(UnknownHashError):
            wrong.checked()


@pytest.mark.parametrize(
    "document",
    [
        b'{"name": "late", "variants": [{"name": "a", "weight": 1, "wieght": 2}]}',
        b'{"name": "late", "variants": [{"name": "a"}]}',
        b'{"name": "late", "variants": [{"name": "a", "weight": 1}], "coverge": 0.5}',
        b'{"name": "late", "variants": [{"name": "a", "weight": "1"}]}',
        b'{"name": "late", "variants": [{"name": "a", "weight": 1}], "start_at": "2026-01-01T00:00:00"}',
    ],
)
def test_unknown_fields_and_wrong_types_are_no_specification(document):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=AllocationSpec)


def test_a_specification_survives_json():
    whole = spec(
        layer="checkout",
        share=0.5,
        coverage=0.1,
        segment=Segment({"a": {"$inGroup": "g"}}, {"g": (1, "x")}),
        start_at=NOW,
        ramp=(step(1, 0.5),),
        overrides={"me": "treatment"},
    )
    assert msgspec.json.decode(msgspec.json.encode(whole), type=AllocationSpec) == whole


def test_a_specification_shares_nothing_with_who_wrote_it():
    condition, overrides, value = {"a": {"$in": ["x"]}}, {"me": "a"}, {"ref": ["late:1.0.0"]}
    written = AllocationSpec("late", (VariantSpec("a", 1, value),), segment=Segment(condition), overrides=overrides)
    kept = written.checked()
    assert kept == written
    condition["a"]["$in"].append("y")
    overrides["you"] = "b"
    value["ref"].clear()
    assert kept.segment.condition == {"a": {"$in": ["x"]}}
    assert (kept.overrides, kept.variants[0].value) == ({"me": "a"}, {"ref": ["late:1.0.0"]})


def test_steps_of_a_ramp_that_are_due_are_folded_in():
    planned = spec(coverage=0.01, ramp=(step(1, 0.1), step(2, 0.5), step(3, 1.0)))
    assert planned.at(NOW) is planned
    later = planned.at(NOW + timedelta(days=2))
    assert (later.coverage, later.ramp) == (0.5, (step(3, 1.0),))


def test_the_first_variant_is_the_fallback_and_the_name_is_the_salt():
    assert (spec().falls_back_to, spec().drawn_by) == ("control", "late")
    assert (spec(fallback="treatment").falls_back_to, spec(salt="s").drawn_by) == ("treatment", "s")
    assert LayerSpec("late").drawn_by != spec("late").drawn_by
