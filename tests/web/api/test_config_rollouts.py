"""Configs deployed by plan, over REST: who reads which version meanwhile, and what the ledger hears of it."""

import httpx
import pytest

from crossfade.client import Client, verbs
from crossfade.errors import ConfigConflictError, InvalidPlanError, RolloutConflictError
from crossfade.ledger.metrics import MetricSpec
from crossfade.releases.checks.spec import MetricCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests.releases.life import turn_until

HALF = RolloutPlan((Step(0.5, approval=True), Step(1.0)))
UNITS = [f"shop-{number}" for number in range(40)]


@pytest.fixture
def other(platform):
    """Somebody else, who may approve."""
    with Client("http://localhost", transport=InProcessTransport(create_app(platform)), principal="bob") as opened:
        yield opened


@pytest.fixture
def configs(client, other):
    """A config `limits` whose first version is active and whose second one is approved."""
    for number, most in ((1, 5), (2, 7)):
        client.draft_config("limits", {"max": most})
        client.validate_config("limits", number)
        other.approve_config("limits", number)
    client.activate_config("limits", 1)
    return client


@pytest.fixture
def half(configs, platform):
    """Half of the units read the second version."""
    configs.create_rollout(RolloutRequest("limits", "2", HALF, "config"))
    turn_until(platform, "limits", "paused")
    return configs


def read(http, unit="", **headers):
    return http.get("/api/v1/configs/limits/active", params={"unit": unit}, headers=headers)


def test_deploying_begins_a_rollout(configs):
    made = configs.deploy_config("limits", 2, plan="fast", reason="more room")
    assert (made.name, made.kind, made.stable, made.candidate) == ("limits-1", "config", "1", "2")
    assert made.reason == "more room"
    assert configs.config_version("limits", 2).status == "deploying"
    assert configs.rollouts(subject="limits").items == (made,)


def test_deploying_can_be_rehearsed(configs):
    would = configs.send(verbs.dry_run(configs_call(2))).would
    assert would == "roll version 2 of config limits out in 5 steps"
    assert configs.rollouts().items == ()


def configs_call(number):
    from crossfade.client import config_verbs

    return config_verbs.deploy_config("limits", number)


@pytest.mark.parametrize(("number", "plan", "error"), [(9, "fast", RolloutConflictError), (2, "no", InvalidPlanError)])
def test_what_cannot_be_deployed(configs, number, plan, error):
    with pytest.raises(error):
        configs.deploy_config("limits", number, plan=plan)


def test_what_nobody_approved_is_not_deployed(configs):
    configs.draft_config("limits", {"max": 9})
    with pytest.raises(RolloutConflictError):
        configs.deploy_config("limits", 3, plan="fast")


def test_meanwhile_units_read_different_versions_and_keep_them(half, http):
    first = {unit: read(http, unit).json()["document"]["max"] for unit in UNITS}
    assert set(first.values()) == {5, 7}
    assert {unit: read(http, unit).json()["document"]["max"] for unit in UNITS} == first
    assert read(http).json()["document"] == {"max": 5}, "nobody in particular reads the active one"


def test_a_unit_that_reads_is_exposed_once_per_answer(half, http, platform, monkeypatch):
    exposures = []
    monkeypatch.setattr(platform.ledger, "expose", exposures.append)
    answer = read(http, "shop-1")
    assert [(each.experiment, each.unit) for each in exposures] == [("limits-1", "shop-1")]
    assert exposures[0].propensity == pytest.approx(0.5, abs=0.01)
    same = read(http, "shop-1", **{"if-none-match": answer.headers["etag"]})
    assert same.status_code == 304
    read(http)
    assert len(exposures) == 1, "neither what is known already nor what is for nobody counts"


def test_who_had_the_old_version_before_and_keeps_it_is_exposed_too(configs, http, platform, monkeypatch):
    """Else the new version would be compared only with units that had nothing."""
    exposures = []
    monkeypatch.setattr(platform.ledger, "expose", exposures.append)
    before = {unit: read(http, unit).headers["etag"] for unit in UNITS}
    assert exposures == []
    configs.create_rollout(RolloutRequest("limits", "2", HALF, "config"))
    turn_until(platform, "limits", "paused")
    news = {unit: read(http, unit, **{"if-none-match": before[unit]}) for unit in UNITS}
    assert {answer.status_code for answer in news.values()} == {200}
    same = {unit: read(http, unit, **{"if-none-match": news[unit].headers["etag"]}) for unit in UNITS}
    assert {answer.status_code for answer in same.values()} == {304}
    assert sorted(each.unit for each in exposures) == sorted(UNITS), "each of them once"
    assert {each.variant for each in exposures} == {"stable", "candidate"}


def test_without_a_rollout_nobody_is_exposed(configs, http, platform, monkeypatch):
    exposures = []
    monkeypatch.setattr(platform.ledger, "expose", exposures.append)
    assert read(http, "shop-1").json()["number"] == 1
    assert exposures == []


def test_at_its_end_everybody_reads_it(half, http, platform):
    half.promote_rollout("limits", to_end=True)
    turn_until(platform, "limits", "completed")
    assert {read(http, unit).json()["number"] for unit in UNITS} == {2}
    assert half.config_status("limits").active == 2
    assert half.config_version("limits", 1).status == "deprecated"


def test_taken_back_it_has_to_be_approved_anew(half, http):
    half.roll_back_rollout("limits", reason="complaints")
    assert {read(http, unit).json()["number"] for unit in UNITS} == {1}
    assert half.config_version("limits", 2).status == "rolled_back"
    with pytest.raises(RolloutConflictError):
        half.deploy_config("limits", 2)


def test_while_it_is_rolled_out_nobody_activates_by_hand(half):
    with pytest.raises(ConfigConflictError, match="being rolled out"):
        half.activate_config("limits", 2)
    with pytest.raises(ConfigConflictError, match=r"rolled out by `limits-.*`crossfade rollouts abort limits-"):
        half.roll_back_config("limits")


def test_the_command_line_deploys_too(configs, platform, tmp_path):
    from click.testing import CliRunner

    from crossfade.cli.main import main

    environment = {"CROSSFADE_HOME": str(platform.settings.home), "CROSSFADE_CONFIG": "/dev/null"}
    (tmp_path / "plan.json").write_text('{"steps": [{"weight": 0.2, "hold_seconds": 7}, {"weight": 1}]}')
    deploy = ["configs", "deploy", "limits", "2", "--plan", str(tmp_path / "plan.json")]
    rehearsed = CliRunner().invoke(main, [*deploy, "--dry-run"], env=environment)
    assert (rehearsed.exit_code, configs.rollouts().items) == (0, ()), rehearsed.output
    done = CliRunner().invoke(main, deploy, env=environment)
    assert done.exit_code == 0, done.output
    assert "rollouts watch limits-1" in done.stderr
    assert [step.hold_seconds for step in configs.rollout("limits-1").plan.steps] == [7, 0]


SALES = MetricCheck("sales", MetricSpec("sales", outcome="sale", direction="up"), interval_seconds=0.1)


@pytest.mark.parametrize(("share", "status"), [(1.0, "completed"), (0.0, "rolled_back")])
def test_a_metric_judges_by_outcomes_that_name_the_rollout_and_the_unit(configs, http, platform, share, status):
    """Who reads a config gets no decision, so the unit is all that whoever sells something later can name."""
    plan = RolloutPlan((Step(0.5, hold_seconds=0.5), Step(1.0)), checks=(SALES,))
    configs.create_rollout(RolloutRequest("limits", "2", plan, "config"))
    turn_until(platform, "limits", "progressing")
    sold = {1: 1.0, 2: share}
    numbers = {f"till-{number}": read(http, f"till-{number}").json()["number"] for number in range(400)}
    sales = [
        {"id": unit, "name": "sale", "value": place % 2 * sold[number], "experiment": "limits-1", "unit": unit}
        for place, (unit, number) in enumerate(numbers.items())
    ]
    assert configs.record_outcomes(sales).recorded == 400
    platform.ledger.flush(20.0)
    found = turn_until(platform, "limits", status, "paused")
    assert found.status == status, found.reason
    assert "`sales`" in found.state.checks["sales"].last.reason


def test_outcomes_of_a_rollout_that_is_over_are_recorded(half, http, platform):
    read(http, "till-1")
    half.roll_back_rollout("limits")
    late = {"id": "late", "name": "sale", "experiment": "limits-1", "unit": "till-1"}
    assert half.record_outcomes([late]).recorded == 1


async def test_both_clients_deploy(configs, platform):
    from crossfade.client import AsyncClient

    transport = httpx.ASGITransport(create_app(platform))
    async with AsyncClient("http://localhost", transport=transport) as client:
        assert (await client.deploy_config("limits", 2, plan="fast")).name == "limits-1"


def test_whoever_reads_what_is_not_there_leaves_nothing_behind(configs, http, platform):
    from sqlalchemy import func, select

    from crossfade.storage.tables import config_clients

    answer = http.get("/api/v1/configs/nothing/active", headers={"x-client-id": "somebody"})
    assert answer.status_code == 404
    with platform.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(config_clients)) == 0
