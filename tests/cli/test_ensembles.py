"""`crossfade models ensemble`: options become a specification, and the rest is that of every version."""

import json

import pytest

from crossfade.cli.registering import _member
from crossfade.registry.ensembles.document import Member


@pytest.fixture
def two(cli):
    """Two versions, factors 1 and 2; the champion is the first."""
    assert cli.register(1.0).exit_code == 0
    assert cli.register(2.0).exit_code == 0
    assert cli("models", "alias", "tiny", "champion", "1.0.0").exit_code == 0
    return cli


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny", Member("tiny")),
        ("tiny@champion,weight=2", Member("tiny@champion", weight=2.0)),
        ("tiny:1.0.0,budget=0.05,on_failure=drop", Member("tiny:1.0.0", budget_seconds=0.05, on_failure="drop")),
        ("a,substitute=b:1.0.0", Member("a", on_failure="substitute", substitute="b:1.0.0")),
        ("a,weight=3,constant=[0.1,0.9]", Member("a", weight=3.0, on_failure="substitute", constant=[0.1, 0.9])),
        ("a,constant=no", Member("a", on_failure="substitute", constant="no")),
        ('a,constant={"x": 1, "y": 2}', Member("a", on_failure="substitute", constant={"x": 1, "y": 2})),
    ],
)
def test_a_member_is_a_reference_and_options(text, expected):
    assert _member(text) == expected


def test_an_ensemble_is_registered_shown_and_asked(two):
    members = ("--member", "tiny@champion,weight=3", "--member", "tiny:1.0.1,budget=5,on_failure=drop")
    result = two("models", "ensemble", "mix", "--method", "average", *members, "--evaluation", "rmse=0.5")
    assert result.exit_code == 0, result.output
    assert "mix:1.0.0" in result.stdout
    assert "hint: serve it with `crossfade models alias mix champion 1.0.0`" in result.stderr
    shown = json.loads(two("models", "show", "mix:1.0.0", "--format", "json").stdout)
    assert shown["card"]["parents"] == ["tiny:1.0.0", "tiny:1.0.1"]
    assert shown["card"]["evaluation"] == {"rmse": 0.5}
    rows = two.folder / "ask.json"
    rows.write_text("[[1.0, 2.0]]")
    answer = two("predict", "mix:1.0.0", rows, "--format", "json")
    assert "3.75" in answer.stdout
    again = two(
        "models", "ensemble", "mix", "--method", "average", *members, "--evaluation", "rmse=0.5", "--format", "json"
    )
    assert json.loads(again.stdout)["version"] == "1.0.0"


def test_it_can_be_rehearsed(two):
    result = two("models", "ensemble", "mix", "--method", "first", "--member", "tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "would register mix:1.0.0" in result.stdout
    assert two("models", "show", "mix").exit_code == 3


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--method", "average"), 2, "Missing option"),
        (("--method", "median", "--member", "tiny"), 2, "median"),
        (("--method", "average", "--member", "tiny,weight=heavy"), 2, "not a number"),
        (("--method", "average", "--member", "tiny,colour=red"), 2, "`colour=red` is none of"),
        (("--method", "average", "--member", "tiny,weight"), 2, "is none of"),
        (("--method", "average", "--member", "tiny,on_failure=cry"), 2, "cry"),
        (("--method", "average", "--member", "tiny,weight=-1"), 2, "weight"),
        (("--method", "average", "--member", "nobody:1.0.0"), 3, "not registered"),
        (("--method", "stack", "--member", "tiny"), 2, "needs a stacker"),
    ],
)
def test_what_cannot_be_ends_with_a_code_and_a_sentence(two, options, code, message):
    result = two("models", "ensemble", "mix", *options)
    assert result.exit_code == code, result.output
    assert message in result.stderr
