"""A sample of `make crash`, and the proof that its oracle notices what it should."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.crash.campaign import Outcome, Point, open_campaign, problems_of
from tests.crash.scenarios import SCENARIOS

pytestmark = pytest.mark.slow

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not installed"
)

SAMPLES = {"empty": 10, "existing": 10, "release": 5, "clean": 5}


@pytest.fixture(scope="module")
def campaign():
    with open_campaign() as campaign:
        yield campaign


def spread(points, count):
    """Return so many points, evenly spread, the last one included."""
    return [points[(len(points) - 1) * number // (count - 1)] for number in range(count)]


@needs_strace
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_killed_operation_leaves_the_registry_as_before_or_after_and_converges(campaign, scenario):
    points = campaign.points(scenario)
    outcomes = list(campaign.strike_all(spread(points, SAMPLES[scenario])))
    assert [outcome for outcome in outcomes if outcome.damage] == []
    assert all(outcome.killed for outcome in outcomes)


@needs_strace
@pytest.mark.parametrize(
    ("sabotage", "calls", "damage"),
    [("database_first", {"rename"}, "is missing"), ("in_place", {"write"}, "is damaged")],
)
def test_the_oracle_notices_a_wrong_order_of_writes(campaign, sabotage, calls, damage):
    points = [point for point in campaign.points("existing", sabotage) if point.call in calls]
    outcomes = list(campaign.strike_all(points))
    assert any(damage in outcome.damage for outcome in outcomes)


@needs_strace
def test_a_campaign_covers_every_kind_of_write(campaign):
    points = campaign.points("existing")
    assert len(points) > 100
    assert {"write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "openat", "close"} <= {
        p.call for p in points
    }
    assert points == campaign.points("existing")


@needs_strace
def test_a_point_beyond_the_end_kills_nothing(campaign):
    outcome = campaign.strike(Point("existing", "rename", 10_000))
    assert (outcome.killed, outcome.damage) == (False, "")


KILLED, MISSED, DAMAGED = (
    Outcome(Point("existing", "rename", number), killed, damage)
    for number, killed, damage in ((1, True, ""), (2, False, ""), (3, True, "torn"))
)


@pytest.mark.parametrize(
    ("outcomes", "least", "said"),
    [
        ([KILLED, KILLED], 2, []),
        ([KILLED, DAMAGED], 2, ["existing: rename number 3\ntorn"]),
        ([KILLED, MISSED], 2, ["existing: rename number 2: nothing was killed there"]),
        ([KILLED], 2, ["only 1 points were struck, at least 2 are expected"]),
        ([], 1, ["only 0 points were struck, at least 1 are expected"]),
    ],
)
def test_a_campaign_that_proves_nothing_fails(outcomes, least, said):
    assert problems_of(outcomes, least=least) == said
