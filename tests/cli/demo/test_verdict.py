from __future__ import annotations

import pytest

from crossfade.cli.demo.verdict import CHAMPIONS, Verdict
from crossfade.errors import GoldenMismatchError, NotReadyError, VersionConflictError

REFUSAL = NotReadyError(ref="flight_delay:1.1.1", name="flight_delay", alias="champion", problem="other answers")


def verdict(**changes):
    facts = {
        "asked": 100,
        "answered": {"1.0.0": 40, "1.1.0": 60},
        "failures": (),
        "refusal": REFUSAL,
        "champions": CHAMPIONS,
    }
    return list(Verdict(**(facts | changes)).broken_promises())


def test_a_demo_that_went_well_broke_no_promise():
    assert verdict() == []
    assert verdict(refusal=GoldenMismatchError(ref="r", output="o", difference="0.5")) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"asked": 0, "answered": {}}, "no request was sent"),
        ({"asked": 101}, "1 of 101 requests got no answer"),
        ({"asked": 101, "failures": ("503 draining",)}, "the first failure: 503 draining"),
        ({"refusal": None}, "it was made champion"),
        ({"refusal": VersionConflictError(ref="a:1.1.1", proposed="1.1.2")}, "already registered"),
        ({"answered": {"1.0.0": 40, "1.1.0": 59, "1.1.1": 1}}, "1.1.1 answered 1 requests"),
        ({"champions": ("1.0.0", "1.1.0")}, "the champions were 1.0.0, 1.1.0 instead of"),
        ({"champions": (*CHAMPIONS[:2], "1.1.1", *CHAMPIONS[2:])}, "1.1.1"),
        ({"strays": ("1.0.0",)}, "1.0.0 answered"),
    ],
)
def test_each_promise(changes, complaint):
    assert any(complaint in promise for promise in verdict(**changes))
