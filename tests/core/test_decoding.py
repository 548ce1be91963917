"""What is none of a few is refused with those that are."""

from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest

from crossfade.core.decoding import problem_of
from crossfade.experiments.spec import ExperimentSpec
from crossfade.jobs.records import JobRequest
from crossfade.releases.plan import RolloutPlan


class Pace(StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Gear(IntEnum):
    FIRST = 1
    SECOND = 2


class Car(msgspec.Struct, tag_field="kind", tag="car", forbid_unknown_fields=True):
    fuel: Literal["petrol", "none"] = "none"


class Bike(msgspec.Struct, tag_field="kind", tag="bike"):
    fuel: Literal["bread", "none"] = "none"


class Trip(msgspec.Struct, rename="camel"):
    the_pace: Annotated[Pace | None, msgspec.Meta(description="how fast")] = None
    gears: tuple[Gear, ...] = ()
    by: list[Car | Bike] = []
    only: Car | None = None
    stops: dict[str, list[Pace]] = {}
    keys: dict[Pace, int] = {}
    pair: tuple[int, Pace] = (1, Pace.FAST)
    mode: Literal["", "block"] = ""


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"thePace": "medium"}, "Invalid enum value 'medium' - at `$.thePace`; accepted are 'fast', 'slow'"),
        ({"gears": [1, 7]}, "Invalid enum value 7 - at `$.gears[1]`; accepted are 1, 2"),
        ({"by": [{"kind": "train"}]}, "Invalid value 'train' - at `$.by[0].kind`; accepted are 'car', 'bike'"),
        ({"only": {"kind": "bike"}}, "Invalid value 'bike' - at `$.only.kind`; accepted are 'car'"),
        ({"stops": {"a": ["fast", "x"]}}, "Invalid enum value 'x' - at `$.stops[...][1]`; accepted are 'fast', 'slow'"),
        ({"keys": {"x": 1}}, "Invalid enum value 'x' - at `key` in `$.keys`; accepted are 'fast', 'slow'"),
        ({"pair": [1, "x"]}, "Invalid enum value 'x' - at `$.pair[1]`; accepted are 'fast', 'slow'"),
        ({"mode": "stop"}, "Invalid enum value 'stop' - at `$.mode`; accepted are '', 'block'"),
        (
            {"mode": "a - at `$.thePace`"},
            "Invalid enum value 'a - at `$.thePace`' - at `$.mode`; accepted are '', 'block'",
        ),
        ({"mode": 5}, "Expected `str`, got `int` - at `$.mode`"),
        ({"by": [{}]}, "Object missing required field `kind` - at `$.by[0]`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_what_could_stand_there_is_named(document, words):
    assert problem(document, Trip) == words


def test_of_several_kinds_of_objects_those_count_that_refused_the_value():
    said = "accepted are 'none', 'petrol'"
    assert problem({"by": [{"kind": "car", "fuel": "bread"}]}, Trip).endswith(said)


def test_what_is_no_object_at_all():
    assert problem("medium", Pace) == "Invalid enum value 'medium'; accepted are 'fast', 'slow'"
    assert problem_of(TypeError("odd"), Pace) == "odd"


def test_a_long_value_is_not_repeated_as_a_whole():
    said = problem({"mode": "x" * 100_000}, Trip)
    assert said.endswith("... - at `$.mode`; accepted are '', 'block'")
    assert len(said) < 300
    assert len(problem({"only": {"kind": "car", "y" * 100_000: 1}}, Trip)) < 300


@pytest.mark.parametrize(
    ("kind", "document", "accepted"),
    [
        (ExperimentSpec, {"metrics": [{"name": "m", "kind": "sum"}]}, "'proportion'"),
        (ExperimentSpec, {"analysis": {"method": "bayes"}}, "'always_valid', 'fixed', 'group_sequential'"),
        (RolloutPlan, {"steps": [], "checks": [{"check": "luck", "name": "l"}]}, "'error_rate'"),
        (JobRequest, {"format": "xls"}, "'parquet'"),
    ],
)
def test_specifications_of_people(kind, document, accepted):
    assert accepted in problem(document, kind).partition("; accepted are ")[2]


def problem(document: Any, kind: Any) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(document, kind)
    return problem_of(caught.value, kind)
