"""`crossfade experiments`: each verb in its formats, with its hint and its exit code, without a server and with one."""

import json

import pytest

from crossfade.core.clock import utc_now
from crossfade.core.identity import new_id
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.rollups import fold
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control
from tests.ledger.support import store as store_events

SPEC = {
    "name": "late",
    "model": "tiny",
    "variants": [
        {"name": "old", "weight": 0.5, "version": "1.0.0"},
        {"name": "new", "weight": 0.5, "version": "1.0.1"},
    ],
    "metrics": [{"name": "late", "kind": "proportion", "direction": "down"}],
    "analysis": {"smallest_units": 50},
    "decision": {"minimum_runtime_seconds": 0},
}


@pytest.fixture
def experiments(cli):
    """Runs `crossfade experiments`, on a registry with two versions of `tiny`."""
    cli.register(1.0)
    cli.register(2.0)
    cli("models", "alias", "tiny", "champion", "1.0.0")
    return lambda *words, **options: cli("experiments", *words, **options)


@pytest.fixture
def write(tmp_path):
    def write(name="spec.json", text=None, **changes):
        path = tmp_path / name
        path.write_text(json.dumps(SPEC | changes) if text is None else text)
        return path

    return write


@pytest.fixture
def begun(experiments, write):
    """The same, with the experiment `late` under way."""
    succeeded(experiments("create", write()))
    succeeded(experiments("start", "late"))
    return experiments


def succeeded(result):
    assert result.exit_code == 0, result.output
    assert "hint: " in result.stderr
    return result.stdout


def as_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def observe(home, units=400, late=(("old", 0.6), ("new", 0.3))):
    exposures, outcomes, at = [], [], int(utc_now().timestamp() * 1e6)
    for variant, rate in late:
        for number in range(units):
            seen = Exposure(new_id(), at, "late", 1, variant, f"{variant}-{number}", 0.5)
            exposures.append(seen)
            outcomes.append(Outcome(new_id(), at, "late", float(number < rate * units), decision=seen.id))
    with open_platform(Settings(home=home)) as platform, platform.database.write() as connection:
        store_events(connection, exposures, outcomes)
        fold(connection, exposures, outcomes)


# --- its life ---


def test_creating_shows_what_it_is_and_how_to_go_on(experiments, write):
    result = experiments("create", write())
    text = succeeded(result)
    for word in ("late", "draft", "tiny", "1.0.0", "1.0.1", "late (primary)"):
        assert word in text
    assert "hint: let it run with `crossfade experiments start late`" in result.stderr
    assert as_json(experiments("create", write(), "--format", "json"))["status"] == "draft"
    assert experiments("show", "late", "--format", "quiet").stdout == "late\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "spec.toml",
            (
                'name = "late"\nmodel = "tiny"\n'
                '[[variants]]\nname = "old"\nweight = 0.5\nversion = "1.0.0"\n'
                '[[variants]]\nname = "new"\nweight = 0.5\nversion = "1.0.1"\n'
            ),
        ),
        (
            "spec.yaml",
            (
                "name: late\nmodel: tiny\nvariants:\n"
                "  - {name: old, weight: 0.5, version: 1.0.0}\n  - {name: new, weight: 0.5, version: 1.0.1}\n"
            ),
        ),
    ],
)
def test_a_specification_may_be_toml_or_yaml(experiments, write, name, text):
    assert as_json(experiments("create", write(name, text), "--format", "json"))["weights"] == {"old": 0.5, "new": 0.5}


def test_a_whole_life(experiments, write, cli):
    succeeded(experiments("create", write()))
    result = experiments("start", "late", "--reason", "go")
    assert "running: go" in succeeded(result)
    assert "hint: look at the evidence with `crossfade experiments analyze late`" in result.stderr
    result = experiments("pause", "late", "--reason", "lunch")
    assert "paused: lunch" in succeeded(result)
    assert "hint: go on with `crossfade experiments start late`" in result.stderr
    succeeded(experiments("start", "late"))
    found = as_json(experiments("reweight", "late", "old=0.2", "new=0.8", "--coverage", "0.5", "--format", "json"))
    assert (found["weights"], found["coverage"], found["revision"]) == ({"old": 0.2, "new": 0.8}, 0.5, 2)
    assert "stopped: enough" in succeeded(experiments("stop", "late", "--reason", "enough"))
    result = experiments("list")
    table = succeeded(result)
    assert "old 0.2, new 0.8" in table
    assert "stopped" in table
    assert experiments("list", "--format", "quiet").stdout == "late\n"
    assert as_json(experiments("list", "--status", "draft", "--format", "json"))["items"] == []


def test_who_starts_a_second_one_is_told_whose_units_it_does_not_get(begun, write):
    succeeded(begun("create", write(text=json.dumps(SPEC | {"name": "other"}))))
    result = begun("start", "other")
    assert "late, whose units it does not get" in succeeded(result)
    assert "`late` gets its units first" in result.stderr


def test_a_specification_with_a_word_that_does_not_exist_is_answered_with_those_that_do(experiments, write):
    refused = experiments("create", write(analysis={"method": "bayes"}))
    assert refused.exit_code == 2
    assert "'bayes' - at `$.analysis.method`; accepted are 'always_valid', 'fixed', 'group_seq" in refused.stderr


def test_who_compares_what_was_rolled_back_is_told(experiments, write, cli):
    succeeded(cli("rollouts", "create", "tiny", "1.0.1", "--plan", "fast"))
    succeeded(cli("rollouts", "rollback", "tiny", "--reason", "complaints"))
    told = "`new` was rolled back by `tiny-1`, so it is not shipped without a person's word"
    assert told in succeeded(experiments("create", write(), "--dry-run"))
    for words in (("create", write()), ("start", "late"), ("show", "late")):
        result = experiments(*words)
        assert told in succeeded(result)
        assert f"{told}: see `crossfade rollouts show tiny-1`; " in result.stderr
    assert as_json(experiments("show", "late", "--format", "json"))["latched"] == {"new": "tiny-1"}


def test_an_empty_list_says_how_to_begin(experiments):
    result = experiments("list")
    assert succeeded(result) == ""
    assert "no experiments yet" in result.stderr
    assert "crossfade experiments create SPEC_FILE" in result.stderr
    assert experiments("list", "--format", "quiet").stdout == ""


def test_long_lists_say_how_to_go_on(experiments, write):
    for name in ("one", "other"):
        succeeded(experiments("create", write(name=f"{name}.json", text=json.dumps(SPEC | {"name": name}))))
    result = experiments("list", "--limit", "1")
    assert "other" in result.stdout
    cursor = result.stderr.partition("--cursor ")[2].partition("`")[0]
    assert "one" in succeeded(experiments("list", "--cursor", cursor))


def test_what_was_done(begun):
    succeeded(begun("reweight", "late", "old=0.2", "new=0.8", "--coverage", "0.5", "--reason", "slowly"))
    result = begun("history", "late")
    assert "hint: see where it is with `crossfade experiments show late`" in result.stderr
    newest, running, created = succeeded(result).splitlines()[1:]
    for word in ("reweight", "new 0.8, old 0.2, coverage 0.5", "slowly"):
        assert word in newest
    assert "was draft" in running
    assert "create" in created
    assert begun("history", "late", "--format", "quiet").stdout == "reweight\nrunning\ncreate\n"
    items = as_json(begun("history", "late", "--format", "json"))["items"]
    assert items[-1]["details"]["spec"]["name"] == "late"
    result = begun("history", "late", "--limit", "1", "--learned")
    assert "hint: more with `crossfade experiments history late --learned --cursor " in result.stderr


def test_what_the_evidence_says_and_what_follows(begun, cli):
    result = begun("analyze", "late")
    assert "Go on measuring" in succeeded(result)
    assert "hint: see the experiment with `crossfade experiments show late`" in result.stderr
    result = begun("decide", "late")
    assert result.exit_code == 4
    assert "is not decided" in result.stderr
    observe(cli.home)
    result = begun("analyze", "late")
    assert "new" in succeeded(result)
    assert "hint: do it with `crossfade experiments decide late`" in result.stderr
    assert begun("analyze", "late", "--format", "quiet").stdout == "ship\n"
    assert as_json(begun("analyze", "late", "--format", "json"))["decision"]["variant"] == "new"
    result = begun("decide", "late", "--dry-run")
    assert "would ship new" in succeeded(result)
    assert "decision" in succeeded(begun("decide", "late"))
    assert "1.0.1" in cli("models", "show", "tiny").stdout
    found = as_json(begun("show", "late", "--format", "json"))
    assert (found["status"], found["verdict"]["action"], found["verdict"]["variant"]) == ("decided", "ship", "new")
    result = begun("analyze", "late")
    assert "hint: see the experiment with `crossfade experiments show late`" in result.stderr, "nothing is left to do"


@pytest.mark.parametrize(("option", "champion"), [(("--ship", "new"), "1.0.1"), (("--keep",), "1.0.0")])
def test_a_person_decides(begun, cli, option, champion):
    assert "I know why" in succeeded(begun("decide", "late", *option, "--reason", "I know why"))
    model = json.loads(cli("models", "list", "--format", "json").stdout)["items"][0]
    assert model["aliases"]["champion"] == champion


def test_who_ships_by_a_plan_is_told_of_the_rollout(experiments, write, cli):
    decision = {"minimum_runtime_seconds": 0, "plan": "fast"}
    metrics = [*SPEC["metrics"], {"name": "slow", "role": "guardrail", "direction": "down", "margin": 0.25}]
    made = succeeded(experiments("create", write(decision=decision, metrics=metrics)))
    assert "a rollout with the plan `fast`" in made
    assert "slow (guardrail, 0.25 of the control)" in made
    succeeded(experiments("start", "late"))
    words = ("decide", "late", "--ship", "new", "--reason", "I know why")
    assert "would ship new by a rollout with the plan `fast`: I know why" in succeeded(experiments(*words, "--dry-run"))
    result = experiments(*words)
    succeeded(result)
    assert "`crossfade rollouts watch tiny`" in result.stderr
    assert "tiny" in cli("rollouts", "show", "tiny").stdout


def test_layers(experiments, write):
    result = experiments("layers")
    assert succeeded(result) == ""
    assert "no layers yet" in result.stderr
    result = experiments("layer", "all", "--unit", "session", "--holdout", "0.1")
    assert "session" in succeeded(result)
    assert "hint: see all with `crossfade experiments layers`" in result.stderr
    succeeded(experiments("create", write(layer="all", share=0.5)))
    succeeded(experiments("start", "late"))
    assert "late 0.5" in succeeded(experiments("layers"))
    assert experiments("layers", "--format", "quiet").stdout == "all\n"
    assert as_json(experiments("layers", "--format", "json"))[0] == {
        "name": "all",
        "unit": "session",
        "holdout": 0.1,
        "root": "",
        "experiments": {"late": 0.5},
        "free": 0.4,
    }


# --- rehearsals ---


def test_rehearsals_change_nothing(begun, write):
    for words, would in (
        (
            ("create", write(name="other.json", text=json.dumps(SPEC | {"name": "other"}))),
            "write down experiment other",
        ),
        (("pause", "late"), "pause experiment late"),
        (("stop", "late", "--reason", "x"), "stop experiment late"),
        (("reweight", "late", "--coverage", "0.5"), "reweight experiment late"),
        (("layer", "all"), "make layer all"),
        (("decide", "late", "--ship", "new"), "ship new"),
    ):
        result = begun(*words, "--dry-run")
        assert f"would {would}" in succeeded(result), words
    found = as_json(begun("show", "late", "--format", "json"))
    assert (found["status"], found["coverage"]) == ("running", 1.0)
    assert as_json(begun("list", "--format", "json"))["items"][0]["name"] == "late"


# --- refusals ---


SENSELESS = [
    (["show", "nobody"], 3),
    (["history", "nobody"], 3),
    (["start", "nobody"], 3),
    (["analyze", "nobody"], 3),
    (["export", "late", "--to", "late.csv"], 2),
    (["decide", "nobody"], 3),
    (["start"], 2),
    (["stop", "late"], 2),
    (["stop", "late", "--reason", ""], 2),
    (["list", "--status", "lost"], 2),
    (["list", "--limit", "0"], 2),
    (["reweight", "late"], 2),
    (["reweight", "late", "old"], 2),
    (["reweight", "late", "old=x"], 2),
    (["reweight", "late", "old=nan", "new=1"], 2),
    (["reweight", "late", "=1"], 2),
    (["reweight", "late", "old=0.5", "old=0.5"], 2),
    (["reweight", "late", "old=1"], 2),
    (["reweight", "late", "--coverage", "2"], 2),
    (["decide", "late", "--ship", "new", "--keep"], 2),
    (["decide", "late", "--ship", "nobody"], 4),
    (["create", "no-such-file.json"], 2),
    (["layer", "All"], 2),
    (["layer", "all", "--holdout", "2"], 2),
    (["layer", "all", "--root", "nobody"], 2),
]


def test_what_makes_no_sense_is_refused(begun):
    for words, code in SENSELESS:
        result = begun(*words)
        assert result.exit_code == code, (words, result.output)
        assert result.stderr
        assert "Traceback" not in result.output
    assert as_json(begun("show", "late", "--format", "json"))["revision"] == 1


def test_specifications_that_cannot_be(experiments, write, tmp_path):
    for number, text in enumerate(
        (
            "{",
            "[]",
            "",
            json.dumps(SPEC | {"surprise": 1}),
            json.dumps(SPEC | {"variants": []}),
            json.dumps(SPEC | {"coverage": 2}),
            json.dumps(SPEC | {"metrics": [{"name": "late", "kind": "median"}]}),
            "\0",
        )
    ):
        result = experiments("create", write(name=f"bad-{number}.json", text=text))
        assert result.exit_code == 2, (text, result.output)
        assert "Traceback" not in result.output
        assert "models show" not in result.stderr
    result = experiments("create", write(name="gone.json", text=json.dumps(SPEC | {"model": "nobody"})))
    assert result.exit_code == 3
    assert as_json(experiments("list", "--format", "json"))["items"] == []


def test_help_has_an_example_that_works(experiments, write):
    text = experiments("create", "--help").output
    example = text[text.index("{") : text.rindex("}") + 1]
    document = json.loads(example) | {"model": "tiny"}
    document["variants"][1]["version"] = "1.0.1"
    succeeded(experiments("create", write(text=json.dumps(document))))


# --- with a server ---


def test_the_same_with_a_server(begun, cli, tmp_path):
    with control.running_server(cli.home) as server:
        result = begun("show", "late", "--server", server.url)
        assert "running" in succeeded(result)
        assert f"crossfade experiments analyze late --server {server.url}" in result.stderr
        assert "paused" in succeeded(begun("pause", "late", "--server", server.url))
        assert as_json(begun("list", "--server", server.url, "--format", "json"))["items"][0]["status"] == "paused"
        result = begun("start", "nobody", "--server", server.url)
        assert result.exit_code == 3
        assert f"`crossfade experiments list --server {server.url}`" in result.stderr
    assert as_json(begun("show", "late", "--format", "json"))["status"] == "paused"
