"""`crossfade experiments assign`: who would get what, from a file alone."""

import json

import pytest

SPEC = {
    "layers": [{"name": "checkout", "holdout": 0.1}],
    "experiments": [
        {
            "name": "late",
            "layer": "checkout",
            "share": 0.5,
            "segment": {"condition": {"country": {"$in": ["DE", "AT"]}}},
            "start_at": "2026-01-01T00:00:00Z",
            "overrides": {"me": "treatment"},
            "variants": [{"name": "control", "weight": 0.5}, {"name": "treatment", "weight": 0.5}],
        },
        {"name": "plain", "variants": [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}]},
    ],
}
TOML = """
name = "plain"
coverage = 0.5
start_at = 2026-01-01T00:00:00Z
variants = [{name = "a", weight = 0.5}, {name = "b", weight = 0.5}]
"""
YAML = """
name: plain
start_at: 2026-01-01T00:00:00Z
variants:
  - {name: a, weight: 0.5}
  - {name: b, weight: 0.5}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC))
    return file


def decided(result):
    assert result.exit_code == 0, result.output
    return {(row["unit"], row["experiment"]): (row["variant"], row["reason"]) for row in json.loads(result.stdout)}


def test_units_are_assigned_with_reasons(cli, path):
    context = '{"country": "DE"}'
    result = cli("experiments", "assign", path, "--unit", "me", "--unit", "user-1", "--context", context)
    assert result.exit_code == 0, result.output
    assert "override" in result.stdout
    assert "the unit is among the 50.0000% that get" in result.stdout
    again = cli(
        "experiments", "assign", path, "--unit", "me", "--unit", "user-1", "--context", context, "--format", "json"
    )
    assert decided(again)["me", "late"] == ("treatment", "override")
    assert decided(again)["user-1", "plain"][1] == "split"


def test_what_experiments_create_takes_is_taken(cli, tmp_path):
    """Models, metrics and how they are judged are no matter of who gets what."""
    variants = [{"name": "old", "weight": 0.5, "version": "1.0.0"}, {"name": "new", "weight": 0.5, "version": "1.1.0"}]
    spec = {
        "name": "late",
        "model": "delay",
        "variants": variants,
        "metrics": [{"name": "late"}],
        "overrides": {"me": "new"},
    }
    (tmp_path / "x.json").write_text(json.dumps(spec | {"analysis": {"method": "fixed", "planned_units": 1000}}))
    result = cli("experiments", "assign", tmp_path / "x.json", "--unit", "me", "--unit", "u", "--format", "json")
    assert decided(result)["me", "late"] == ("new", "override")
    assert decided(result)["u", "late"][1] == "split"
    layered = {"experiments": [spec | {"layer": "boarding", "share": 0.5}]}
    (tmp_path / "x.json").write_text(json.dumps(layered | {"layers": [{"name": "boarding"}]}))
    assert decided(cli("experiments", "assign", tmp_path / "x.json", "--unit", "me", "--format", "json"))
    (tmp_path / "x.json").write_text(json.dumps(layered))
    result = cli("experiments", "assign", tmp_path / "x.json", "--unit", "me")
    assert result.exit_code == 2
    assert "layer `boarding`: it is not in `x.json`" in result.stderr


def test_the_moment_can_be_chosen(cli, path):
    command = ("experiments", "assign", path, "--unit", "u", "--format", "json", "--experiment", "late", "--at")
    assert decided(cli(*command, "2025-12-31"))["u", "late"][1] == "schedule"
    assert decided(cli(*command, "2026-01-01T01:00:00+0100"))["u", "late"][1] != "schedule"


def test_without_a_unit_the_fallback_is_shown_and_a_hint(cli, path):
    result = cli("experiments", "assign", path)
    assert "missing_unit" in result.stdout
    assert "--unit SOMEBODY" in result.stderr


@pytest.mark.parametrize(("name", "text"), [("spec.toml", TOML), ("spec.yaml", YAML), ("spec.yml", YAML)])
def test_other_formats(cli, tmp_path, name, text):
    if name != "spec.toml":
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    found = decided(cli("experiments", "assign", tmp_path / name, "--unit", "u", "--format", "json"))
    assert list(found) == [("u", "plain")]


def test_yaml_without_its_package(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    (tmp_path / "spec.yaml").write_text(YAML)
    result = cli("experiments", "assign", tmp_path / "spec.yaml")
    assert result.exit_code == 2
    assert "pyyaml" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.json", b"{", "cannot be read"),
        ("x.json", b"\xff", "cannot be read"),
        ("x.json", b"[" * 100_000, "error:"),
        ("x.json", b"[]", "no specification"),
        ("x.json", b'{"name": "a", "variants": [], "extra": 1}', "unknown field `extra`"),
        ("x.json", b'{"experiments": 5}', "no specification"),
        ("x.json", b'{"name": "a", "variants": [{"name": "x", "weight": 0.7}]}', "sum to 0.7"),
        ("x.json", b'{"name": "a", "variants": []}', "it has no variants"),
        ("x.json", b'{"experiments": [], "layer": []}', "unknown field `layer`"),
        ("x.json", b'{"name": "a", "hash": "xxh3-v1", "variants": [], "metrics": []}', "unknown field `metrics`"),
        ("x.toml", b"name = ", "cannot be read"),
        ("x.yaml", b"a: [", "cannot be read"),
        ("x.yaml", b"[" * 100_000, "cannot be read"),
        ("x.yaml", b"- " * 100_000, "cannot be read"),
        ("x.yaml", b"a: !!python/object/apply:os.getcwd []", "cannot be read"),
        ("x.yaml", b"a: 2026-02-31", "cannot be read"),
    ],
)
def test_what_is_no_specification_is_refused(cli, tmp_path, name, content, problem):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    (tmp_path / name).write_bytes(content)
    result = cli("experiments", "assign", tmp_path / name)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert "SPEC.json" not in result.stderr, "that is what was just tried"


def test_a_wrong_segment_says_where(cli, tmp_path):
    wrong = dict(SPEC["experiments"][1], segment={"condition": {"a": {"$inn": [1]}}})
    (tmp_path / "x.json").write_text(json.dumps(wrong))
    result = cli("experiments", "assign", tmp_path / "x.json")
    assert result.exit_code == 2
    assert "segment, at `a.$inn`: there is no operator `$inn`; did you mean `$in`?" in result.stderr


@pytest.mark.parametrize("context", ["[]", "{", "5", '"x"'])
def test_a_context_is_an_object(cli, path, context):
    result = cli("experiments", "assign", path, "--unit", "u", "--context", context)
    assert result.exit_code == 2
    assert "`--context` is no JSON object" in result.stderr


def test_an_unknown_experiment_is_not_found(cli, path):
    result = cli("experiments", "assign", path, "--experiment", "plan")
    assert result.exit_code == 3
    assert "did you mean `plain`?" in result.stderr
