"""`crossfade safety`: policies from files, overrides, violations, and emergencies that need no database."""

import json

import pytest

from crossfade.platform import open_platform
from crossfade.safety.inspection import Finding, Findings
from crossfade.safety.latch import Latch
from crossfade.safety.levels import Level
from crossfade.safety.violations import ViolationLog
from crossfade.settings import Settings

POLICY = {
    "model": "tiny",
    "checks": [
        {"kind": "range", "name": "high", "output": "y", "maximum": 10, "level": "critical"},
        {"kind": "expression", "name": "whole", "expression": "y % 1 == 0", "level": "warning"},
        {"kind": "classes", "name": "known", "output": "y", "allowed": [1, 2]},
    ],
    "fallback": [{"kind": "last_safe"}, {"kind": "version", "version": "1.0.0"}],
    "latch": "block",
}


@pytest.fixture
def tiny(cli):
    assert cli.register(1.0, "--version", "1.0.0").exit_code == 0
    assert cli("models", "alias", "tiny", "champion", "1.0.0").exit_code == 0
    return cli


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(POLICY))
    return path


def run(cli, *args):
    result = cli("safety", *args)
    assert result.exit_code == 0, result.output
    return result


def test_a_policy_is_set_shown_listed_and_removed(tiny, policy):
    made = run(tiny, "policy", "set", policy, "--reason", "first")
    assert "last_safe, else version 1.0.0, else refuse" in made.stdout
    assert "crossfade safety violations --model tiny" in made.stderr
    shown = run(tiny, "policy", "show", "tiny").stdout
    for text in (
        "critical: range output y, maximum 10",
        "warning: expression y % 1 == 0",
        "stop the model (block)",
        "first",
    ):
        assert text in shown
    assert run(tiny, "policy", "list", "--format", "quiet").stdout == "tiny\n"
    refused = tiny("safety", "policy", "remove", "tiny", "--reason", "over")
    assert refused.exit_code == 2
    assert "Add `--yes` to agree" in refused.stderr
    run(tiny, "policy", "remove", "tiny", "--reason", "over", "--yes")
    assert "no safety policies yet" in run(tiny, "policy", "list").stderr


def test_a_policy_may_be_yaml(tiny, tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "policy.yaml"
    path.write_text("model: tiny\nchecks:\n  - {kind: finite, name: finite}\n")
    run(tiny, "policy", "set", path)
    assert json.loads(run(tiny, "policy", "show", "tiny", "--format", "json").stdout)["spec"]["model"] == "tiny"


@pytest.mark.parametrize(
    ("content", "code", "problem"),
    [
        ("{", 2, "cannot be read"),
        ('{"model": "tiny", "checks": [{"kind": "eval", "name": "x"}]}', 2, "Invalid value 'eval'"),
        (
            '{"model": "tiny", "checks": [{"kind": "expression", "name": "x", "expression": "y.real > 0"}]}',
            2,
            "it may not have `Attribute`",
        ),
        ('{"model": "nobody", "checks": [{"kind": "finite", "name": "x"}]}', 3, "nobody"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(tiny, tmp_path, content, code, problem):
    path = tmp_path / "policy.json"
    path.write_text(content)
    result = tiny("safety", "policy", "set", path)
    assert result.exit_code == code, result.output
    assert problem in result.stderr


def test_a_policy_is_tried_on_answers_in_a_file(tiny, policy, tmp_path):
    answers = tmp_path / "answers.json"
    answers.write_text('{"outputs": {"y": [[1.0], [11.0], [1.5]]}, "inputs": {"x": [[1, 0], [11, 0], [1, 0.5]]}}')
    result = run(tiny, "check", answers, "--policy", policy)
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["0", "safe"],
        ["1", "critical"],
        ["2", "unsafe"],
    ]
    run(tiny, "policy", "set", policy)
    assert run(tiny, "check", answers, "--model", "tiny", "--format", "quiet").stdout == "critical\n"
    answers.write_text('{"outputs": 7}')
    assert tiny("safety", "check", answers).exit_code == 2


def test_a_check_is_turned_off_and_on_again(tiny, policy):
    run(tiny, "policy", "set", policy)
    made = run(tiny, "override", "tiny", "--check", "high", "--minutes", "5", "--reason", "the feed is wrong")
    assert "high of tiny" in made.stdout
    assert "crossfade safety end-override" in made.stderr
    (name,) = run(tiny, "overrides", "--holding", "--format", "quiet").stdout.split()
    assert "check off" in run(tiny, "status").stdout
    run(tiny, "end-override", name, "--reason", "mended")
    assert run(tiny, "overrides", "--holding", "--format", "quiet").stdout == ""
    assert "the feed is wrong" in run(tiny, "overrides").stdout
    assert tiny("safety", "override", "tiny", "--minutes", "0", "--reason", "why").exit_code == 2
    assert tiny("safety", "override", "tiny", "--minutes", "5").exit_code == 2


def test_violations_are_listed(tiny):
    assert "nothing was violated" in run(tiny, "violations").stderr
    with open_platform(Settings(home=tiny.home)) as platform:
        log = ViolationLog(platform.database, platform.settings.safety)
        for level in (Level.UNSAFE, Level.WARNING):
            log.add("tiny", "1.0.0", Findings(level, (Finding(level.value, level, 1, "y=11.0"),)), "constant")
        log.flush()
    text = run(tiny, "violations", "--model", "tiny", "--level", "unsafe").stdout
    assert "tiny:1.0.0" in text
    assert "y=11.0" in text
    assert "warning" not in text
    assert "more with `crossfade safety violations --cursor" in run(tiny, "violations", "--limit", "1").stderr
    status = run(tiny, "status").stdout
    assert "violated, unsafe" in status


def test_an_emergency_begins_and_ends(tiny):
    assert tiny("safety", "emergency", "on").exit_code == 2, "it takes a reason"
    begun = run(tiny, "emergency", "on", "--reason", "it burns")
    assert "everything" in begun.stdout
    status = run(tiny, "status")
    assert "EMERGENCY" in status.stdout
    assert "it burns" in status.stdout
    assert "crossfade safety emergency off" in status.stderr
    assert run(tiny, "status", "--format", "quiet").stdout == "everything\n"
    more = run(tiny, "emergency", "on", "--model", "tiny", "--mode", "fall_back", "--reason", "too")
    assert "crossfade safety emergency off --model tiny --reason REASON" in more.stderr
    ended = run(tiny, "emergency", "off", "--reason", "it is out").stdout
    for said in ("ended", "it is out", "block, since", "it burns"):
        assert said in ended
    assert run(tiny, "status", "--format", "quiet").stdout == "tiny\n"
    again = tiny("safety", "emergency", "off", "--reason", "why")
    assert again.exit_code == 3
    assert "there is no emergency: everything" in again.stderr


def test_rehearsals(tiny, policy):
    for args in (
        ("policy", "set", policy),
        ("emergency", "on", "--reason", "why"),
        ("emergency", "on", "--reason", "why", "--local"),
        ("emergency", "off", "--reason", "why", "--local"),
    ):
        assert run(tiny, *args, "--dry-run").stdout.startswith("would ")
    assert run(tiny, "status", "--format", "quiet").stdout == ""
    assert Latch(tiny.home).read() == ()


# --- without a database ---


def test_this_machine_is_stopped_without_any_database(cli):
    settings = {"CROSSFADE_STORAGE__DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing"}
    begun = cli("safety", "emergency", "on", "--local", "--reason", "the database is gone", **settings)
    assert begun.exit_code == 0, begun.output
    assert "everything, on this machine" in begun.stdout
    assert "end it with `crossfade safety emergency off --local --reason REASON`" in begun.stderr
    (found,) = Latch(cli.home).read()
    assert (found.mode, found.reason) == ("block", "the database is gone")
    other = cli("safety", "emergency", "on", "--local", "--model", "tiny", "--mode", "fall_back", "--reason", "x")
    assert other.exit_code == 0
    assert len(Latch(cli.home).read()) == 2
    ended = cli("safety", "emergency", "off", "--local", "--reason", "it is back", **settings)
    assert ended.exit_code == 0
    assert "it is back" in ended.stdout
    assert [item.model for item in Latch(cli.home).read()] == ["tiny"]
    again = cli("safety", "emergency", "off", "--local", "--reason", "why", **settings)
    assert again.exit_code == 3
    assert "everything on this machine" in again.stderr


def test_status_tells_of_this_machine_without_a_database_and_that_the_rest_is_not_known(cli):
    settings = {"CROSSFADE_STORAGE__DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing"}
    calm = cli("safety", "status", **settings)
    assert calm.exit_code == 7
    assert "no emergency" in calm.stdout
    cli("safety", "emergency", "on", "--local", "--model", "tiny", "--reason", "the database is gone")
    told = cli("safety", "status", **settings)
    assert told.exit_code == 7
    assert "tiny on this machine: block" in told.stdout
    assert "not known: the database does not answer" in told.stdout
    assert "`crossfade safety emergency off --model tiny --local --reason REASON`" in told.stderr
    assert "check it with `crossfade doctor`" in told.stderr
    found = json.loads(cli("safety", "status", "--format", "json", **settings).stdout)
    assert found.keys() == {"local", "problem"}, "whoever looks for other emergencies must not find an empty list"
    assert found["local"][0]["model"] == "tiny"
    assert cli("safety", "status", "--format", "quiet", **settings).stdout == "tiny\n"


def test_status_of_a_server_that_is_away_is_not_that_of_this_machine(cli):
    cli("safety", "emergency", "on", "--local", "--reason", "the database is gone")
    asked = cli("safety", "status", "--server", "http://127.0.0.1:1")
    assert (asked.exit_code, asked.stdout) == (7, "")
    assert "`curl -s http://127.0.0.1:1/health`" in asked.stderr
    usual = cli("safety", "status", CROSSFADE_SERVER="http://127.0.0.1:1")
    assert usual.exit_code == 7
    assert "everything on this machine: block" in usual.stdout


def test_it_is_shown_by_status(tiny):
    run(tiny, "emergency", "on", "--local", "--reason", "why")
    status = run(tiny, "status")
    assert "everything on this machine: block" in status.stdout
    assert "off --local" in status.stderr


def test_local_is_about_this_machine(cli):
    result = cli("safety", "emergency", "on", "--local", "--reason", "why", "--server", "http://localhost:1")
    assert result.exit_code == 2
    assert "`--local` is about this machine" in result.stderr
    usual = {"CROSSFADE_SERVER": "http://localhost:1"}  # exported for everyday commands
    begun = cli("safety", "emergency", "on", "--local", "--reason", "why", **usual)
    assert begun.exit_code == 0, begun.output
    assert "http://localhost:1" not in begun.stderr
    assert [item.reason for item in Latch(cli.home).read()] == ["why"]
    odd = cli("safety", "emergency", "on", "--local", "--model", "../x", "--reason", "why")
    assert odd.exit_code == 2
    assert "not a valid model name" in odd.stderr


@pytest.mark.parametrize("verb", ["on", "off"])
def test_who_reaches_nobody_is_told_what_works_then(cli, verb):
    result = cli("safety", "emergency", verb, "--model", "tiny", "--reason", "why", "--server", "http://127.0.0.1:1")
    assert result.exit_code == 7
    assert f"`crossfade safety emergency {verb} --model tiny --local --reason REASON`" in result.stderr
