"""`crossfade rollouts`: each verb in its formats, with its hint and its exit code."""

import json

import msgspec
import pytest

from crossfade.client import Client
from crossfade.errors import RolloutNotFoundError, ServerUnreachableError
from crossfade.platform import open_platform
from crossfade.releases.rollout import Rollout, RolloutStatus
from crossfade.settings import Settings
from tests.releases.life import turn_until

PLAN = {"steps": [{"weight": 0.2, "approval": True}, {"weight": 1}], "checks": [{"check": "error_rate", "name": "e"}]}


@pytest.fixture
def rollouts(cli):
    """Runs `crossfade rollouts`, on a registry with two versions of `tiny`."""
    cli.register(1.0)
    cli.register(2.0)
    cli("models", "alias", "tiny", "champion", "1.0.0")
    return lambda *words, **options: cli("rollouts", *words, **options)


@pytest.fixture
def turn(cli):
    """Lets the controller turn, which is in the server otherwise."""

    def turn(until):
        with open_platform(Settings(home=cli.home)) as platform:
            turn_until(platform, "tiny", until)

    return turn


def succeeded(result):
    assert result.exit_code == 0, result.output
    assert "hint: " in result.stderr
    return result.stdout


@pytest.fixture
def begun(rollouts, tmp_path, turn):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN | {"checks": []}))
    succeeded(rollouts("create", "tiny", "1.0.1", "--plan", plan, "--reason", "better"))
    turn("paused")
    return rollouts


def test_a_plan_can_be_tried_before_anything_happens(rollouts):
    shown = succeeded(rollouts("create", "tiny", "1.0.1", "--plan", "fast", "--dry-run"))
    assert "roll tiny out from 1.0.0 to 1.0.1" in shown
    assert "twice the failures are seen after about" in shown
    found = json.loads(rollouts("create", "tiny", "1.0.1", "--dry-run", "--format", "json").stdout)
    assert len(found["plan"]["steps"]) == 5
    assert "no rollouts yet" in rollouts("list").stderr


def test_plans_are_listed(rollouts):
    shown = succeeded(rollouts("plans"))
    assert "careful" in shown
    assert "0.01, 0.05, 0.25, 0.5, 1" in shown


def test_a_rollout_is_begun_and_shown(rollouts):
    shown = succeeded(rollouts("create", "tiny", "1.0.1", "--plan", "fast"))
    assert "preparing" in shown
    assert "1.0.0 -> 1.0.1" in shown
    assert "check errors" in shown
    assert "tiny-1" in succeeded(rollouts("list"))
    assert json.loads(rollouts("show", "tiny", "--format", "json").stdout)["name"] == "tiny-1"


def test_a_rollout_by_hand_from_beginning_to_end_and_back(begun, turn, cli):
    waiting = begun("show", "tiny")
    assert "paused, waits for approval" in waiting.stdout
    assert "rollouts promote tiny-1" in waiting.stderr
    assert "would promote rollout tiny-1" in succeeded(begun("promote", "tiny", "--dry-run"))
    succeeded(begun("promote", "tiny", "--reason", "looks fine"))
    paused = begun("pause", "tiny")
    succeeded(paused)
    assert "let it go on with `crossfade rollouts resume tiny-1" in paused.stderr, "no step is left without its checks"
    succeeded(begun("resume", "tiny"))
    succeeded(begun("promote", "tiny", "--to-end"))
    turn("completed")
    watched = begun("watch", "tiny")
    assert watched.exit_code == 0
    assert "completed, step 2 of 2" in watched.stderr
    assert "rolled_back" in succeeded(begun("rollback", "tiny", "--reason", "complaints"))
    refused = begun("retry", "tiny")
    assert refused.exit_code == 4
    assert "was rolled back by `tiny-1`" in refused.stderr
    assert "tiny-2" in succeeded(begun("retry", "tiny", "--override-latch", "--reason", "sensor"))
    assert "aborted" in succeeded(begun("abort", "tiny"))
    told = succeeded(begun("history", "tiny-1"))
    assert [line.split()[2] for line in told.splitlines()[1:]][-1] == "rollback"
    assert "1.0.0" in cli("models", "show", "tiny").stdout


def test_watching_ends_with_a_failure_unless_it_is_complete(begun):
    watched = begun("watch", "tiny")
    assert watched.exit_code == 1
    assert "step 1 needs an approval" in watched.stderr


def test_watching_says_a_wait_once_and_not_every_second(begun, monkeypatch):
    paused = msgspec.json.decode(begun("show", "tiny", "--format", "json").stdout, type=Rollout)
    waits = ("holds for another 2 s", "holds for another 1 s", "3 of 9 requests have come", "7 of 9 requests have come")
    under_way = [
        msgspec.structs.replace(
            paused, status=RolloutStatus.PROGRESSING, state=msgspec.structs.replace(paused.state, words=words)
        )
        for words in waits
    ]
    looks = iter([*under_way, paused])
    monkeypatch.setattr(Client, "rollout", lambda _client, _name: next(looks))
    monkeypatch.setattr("crossfade.cli.rollouts._LOOK_SECONDS", 0)
    said = [line.split("  ", 1)[1] for line in begun("watch", "tiny").stderr.splitlines() if "step 1 of 2" in line]
    assert said == [
        "progressing, step 1 of 2, 0.2 of the traffic: holds for another 2 s",
        "progressing, step 1 of 2, 0.2 of the traffic: 3 of 9 requests have come",
        "paused, step 1 of 2, 0.2 of the traffic: step 1 needs an approval",
    ]


AWAY = ServerUnreachableError(url="http://localhost:8000", problem="connection refused")


@pytest.fixture
def looks(begun, monkeypatch):
    """Lets watching find something else at each look; the last one it finds again and again."""
    paused = msgspec.json.decode(begun("show", "tiny", "--format", "json").stdout, type=Rollout)
    monkeypatch.setattr("crossfade.cli.rollouts._LOOK_SECONDS", 0.01)

    def play(*found):
        rest = list(found)

        def look(_client, _name):
            now = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(now, Exception):
                raise now
            return msgspec.structs.replace(paused, status=RolloutStatus(now))

        monkeypatch.setattr(Client, "rollout", look)
        return begun("watch", "tiny")

    return play


def test_watching_goes_on_when_a_server_is_back_after_a_restart(looks):
    watched = looks("progressing", AWAY, AWAY, "progressing", AWAY, "completed")
    assert watched.exit_code == 0
    assert watched.stderr.count("connection refused; it is asked again for 60 s") == 2, "once each time it is away"


def test_watching_ends_when_a_server_stays_away(looks, monkeypatch):
    monkeypatch.setattr("crossfade.cli.rollouts._AWAY_SECONDS", 0.1)
    assert looks("progressing", AWAY).exit_code == 7


def test_watching_ends_at_once_where_nobody_answers_or_the_rollout_is_gone(looks):
    assert looks(AWAY).exit_code == 7
    assert looks("progressing", RolloutNotFoundError(name="tiny")).exit_code == 3


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("show", "nothing"), 3, "there is no rollout `nothing`"),
        (("create", "tiny", "9.9.9"), 4, "no usable version"),
        (("create", "tiny", "9.9.9"), 4, "hint: go on with `crossfade models versions tiny`"),
        (("create", "tiny", "1.0.0"), 4, "hint: go on with `crossfade models versions tiny`"),
        (("create", "tiny", "1.0.1", "--plan", "reckless"), 2, "no plan `reckless`"),
        (("create", "tiny", "1.0.1", "--kind", "planet"), 2, "planet"),
    ],
)
def test_refusals(rollouts, words, code, sentence):
    refused = rollouts(*words)
    assert refused.exit_code == code
    assert sentence in refused.stderr


def test_a_broken_plan_is_refused(rollouts, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("steps: [{weight: heavy}]")
    refused = rollouts("create", "tiny", "1.0.1", "--plan", plan)
    assert refused.exit_code == 2
    assert "plan.yaml" in refused.stderr
