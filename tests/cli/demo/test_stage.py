from __future__ import annotations

import json
from types import SimpleNamespace

from crossfade.cli.demo.stage import Reign, Stage, strays
from crossfade.cli.demo.traffic import Decided
from crossfade.cli.demo.trial import specification
from crossfade.cli.demo.watch import Watch
from crossfade.cli.documents import read_spec
from crossfade.experiments.spec import ExperimentSpec
from crossfade.releases.plan import PRESETS, RolloutPlan
from tests.cli.demo.support import an_answer

DRAWN = {"late_flights": {"old": "1.0.0", "new": "1.1.0"}}


def a_stage(home):
    return Stage(home, "http://127.0.0.1:1", None, SimpleNamespace(), None, None, None, None, 1.0)


def test_only_requests_that_lie_within_a_reign_count():
    reign = Reign("1.0.0", 10.0, 20.0)
    assert reign.covers(an_answer(due=10.0, seconds=0.1))
    assert not reign.covers(an_answer(due=9.9, seconds=0.1))
    assert not reign.covers(an_answer(due=19.95, seconds=0.1))


def test_an_answer_of_another_version_in_a_reign_is_a_stray():
    reigns = [Reign("1.1.0", 10.0, 20.0)]
    within, after = an_answer(due=15.0, version="1.0.0"), an_answer(due=25.0, version="1.0.0")
    assert strays([after, an_answer(due=12.0, version="1.1.0")], reigns, {}) == ()
    assert strays([within], reigns, {}) == ("1.0.0",)


def test_an_answer_of_a_version_that_was_not_drawn_is_a_stray():
    new = Decided("late_flights", "new", "d1")
    assert strays([an_answer(version="1.1.0", decided=new)], [], DRAWN) == ()
    assert strays([an_answer(version="1.0.0", decided=new)], [], DRAWN) == ("1.0.0",)


def test_a_specification_is_kept_as_the_command_line_takes_it(tmp_path):
    document = a_stage(tmp_path).write(specification())
    assert json.loads(document.read_text())["model"] == "flight_delay"
    assert read_spec(document, ExperimentSpec, "") == specification().checked()


def test_whatever_the_command_line_takes_is_kept(tmp_path):
    document = a_stage(tmp_path).keep("plan.json", PRESETS["fast"])
    assert document == tmp_path / "plan.json"
    assert read_spec(document, RolloutPlan, "") == PRESETS["fast"]


def test_a_stage_keeps_tables_moving(tmp_path):
    assert isinstance(a_stage(tmp_path).watch(lambda: "table"), Watch)
