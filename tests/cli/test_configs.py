"""`crossfade configs`: each verb in its formats, with its hint and its exit code, without a server and with one."""

import json
import shutil
import threading

import msgspec
import pytest

from crossfade.client import Client
from crossfade.configs.spec import ConfigSpec
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control
from tests.configs.support import make_active, open_configs
from tests.traffic.support import eventually

SPEC = {
    "schema": {"type": "object", "properties": {"max": {"type": "integer", "minimum": 0}}},
    "rules": [{"name": "order", "then": {"min": {"$lte": {"$field": "max"}}}, "when": {"min": {"$exists": True}}}],
    "description": "how much of everything",
}


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory):
    """The home of a platform on which nothing is, for copying: making one takes long."""
    home = tmp_path_factory.mktemp("empty") / "home"
    open_platform(Settings(home=home)).close()
    return home


@pytest.fixture
def configs(cli, empty_home):
    """Runs `crossfade configs`; `by` says who."""
    shutil.copytree(empty_home, cli.home)
    return lambda *words, by="ann", **options: cli("configs", *words, LOGNAME=by, **options)


@pytest.fixture
def write(tmp_path):
    def write(document, name="document.json"):
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


@pytest.fixture
def bring(cli, configs):
    """Makes a new version of `limits` active, quicker than commands do."""

    def bring(document, spec=None):
        with open_platform(Settings(home=cli.home)) as platform:
            make_active(
                open_configs(platform.registry), "limits", document, spec=spec and msgspec.convert(spec, ConfigSpec)
            )

    return bring


@pytest.fixture
def begun(configs, bring):
    """The commands, with version 1 of `limits` active."""
    bring({"max": 5}, SPEC)
    return configs


def succeeded(result):
    assert result.exit_code == 0, result.output
    assert "hint: " in result.stderr
    return result.stdout


def as_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    return result.stdout


def test_its_life(configs, bring, write):
    spec = write(SPEC, "spec.json")
    drafted = configs("draft", "limits", write({"max": 5}), "--spec", spec, "--reason", "the first")
    assert "draft: the first" in succeeded(drafted)
    assert "`crossfade configs validate limits 1`" in drafted.stderr
    validated = configs("validate", "limits", 1)
    assert "passed" in succeeded(validated)
    assert "`crossfade configs approve limits 1`" in validated.stderr
    refused(configs("approve", "limits", 1), 5, "`ann` wrote version 1", "CROSSFADE_CONFIGS__FOUR_EYES=false")
    approved = configs("approve", "limits", 1, by="bob")
    assert "bob" in succeeded(approved)
    assert "`crossfade configs activate limits 1`" in approved.stderr
    activated = configs("activate", "limits", 1, "--expected", 0)
    assert "how much of everything" in succeeded(activated)
    assert "`crossfade configs rollback limits`" in activated.stderr
    assert '"max": 5' in succeeded(configs("active", "limits"))
    bring({"max": 6, "min": 1})
    rolled_back = configs("rollback", "limits", "--reason", "too many")
    assert "`crossfade configs versions limits`" in rolled_back.stderr
    lines = succeeded(configs("versions", "limits")).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["2", "rolled_back"], ["1", "active"]]
    assert "too many" in lines[1]
    assert succeeded(configs("versions", "limits", "--status", "active")).splitlines()[1].startswith("1")


def test_alone_four_eyes_are_not_needed(configs, write):
    configs("draft", "limits", write({"max": 5}))
    configs("validate", "limits", 1)
    assert "approved" in succeeded(configs("approve", "limits", 1, CROSSFADE_CONFIGS__FOUR_EYES="false"))


def test_what_is_wrong_is_listed_and_ends_with_its_code(configs, write):
    configs("draft", "limits", write({"max": -1, "min": 3}), "--spec", write(SPEC, "spec.json"))
    table = refused(configs("validate", "limits", 1), 6, "does not pass its checks", "(and 1 more)")
    assert "/max" in table
    assert "order" in table
    found = json.loads(refused(configs("validate", "limits", 1, "--format", "json"), 6, '"unfit_config"'))
    assert [each["check"] for each in found["validation"]["problems"]] == ["schema", "rule"]
    rehearsed = configs("validate", "limits", 1, "--dry-run")
    assert "would make version 1 of config limits draft: at `/max`" in succeeded(rehearsed)


@pytest.mark.parametrize("verb", ["deploy", "activate", "approve"])
def test_a_draft_is_led_to_the_next_step_of_its_life(begun, write, verb):
    begun("draft", "limits", write({"max": 7, "min": 2}))
    refused(begun(verb, "limits", 2, by="bob"), 4, "draft", "`crossfade configs validate limits 2`")


def test_what_it_changes(begun, write):
    begun("draft", "limits", write({"max": 7, "min": 2}))
    assert "/max: 5 -> 7" in succeeded(begun("diff", "limits", 2))
    assert succeeded(begun("diff", "limits", 2, "--against", 2)) == ""
    impact = begun("impact", "limits", 2)
    assert "/min: 2 is new" in succeeded(impact)
    assert "compared with  version 1" in impact.stdout
    assert "`crossfade configs validate limits 2`" in impact.stderr, "nobody may approve it yet"


def test_what_models_answer(cli, configs, bring, write):
    cli.register(2.0)
    cli("models", "alias", "tiny", "champion", "1.0.0")
    spec = {"replays": [{"model": "tiny", "inputs": {"x": "/pair"}}], "affects": {"days": 3}}
    bring({"pair": [1, 2]}, spec)
    configs("draft", "limits", write({"pair": [1, 3]}))
    shown = succeeded(configs("impact", "limits", 2, "--rows", write([{}, {}], "rows.json"), "--limit", 1))
    assert "1 of 1 answers differ (rows); y by 2 on average, 2 at most" in shown
    assert "0 in 0 exposures of 3 days" in shown
    refused(configs("impact", "limits", 2, "--rows", write([1], "rows.json")), 2, "does not hold rows with names")


def test_showing(begun):
    assert "how much of everything" in succeeded(begun("show", "limits"))
    shown = begun("show", "limits", 1)
    assert '"max": 5' in succeeded(shown)
    assert as_json(begun("show", "limits", 1, "--format", "json"))["document"] == {"max": 5}
    assert "limits" in succeeded(begun("list"))
    assert begun("list", "--format", "quiet").stdout == "limits\n"
    assert "no client was heard of" in begun("drift", "limits").stderr
    assert as_json(begun("active", "limits", "--unit", "u-1", "--context", "{}", "--format", "json"))["number"] == 1
    refused(begun("active", "limits", "--context", "[]"), 2, "no JSON object")


def test_lists_that_go_on(cli, configs):
    assert "nothing here yet" not in configs("list").stderr
    assert "no configs yet" in configs("list").stderr
    with open_platform(Settings(home=cli.home)) as platform:
        for number in range(3):
            platform.configs.verbs.draft("limits", {"max": number})
            platform.configs.verbs.draft(f"more-{number}", {})
    for words in (("list",), ("versions", "limits")):
        first = configs(*words, "--limit", 2)
        assert "--cursor " in first.stderr
        cursor = first.stderr.partition("--cursor ")[2].strip("`\n")
        assert len(succeeded(configs(*words, "--cursor", cursor)).splitlines()) >= 2


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("max = 5\n", "document.toml"),
        ("max: 5\n", "document.yaml"),
        ('{"max": 5}', "document.json"),
        ('{"max":5}', "d"),
    ],
)
def test_documents_are_kept_in_many_formats(configs, write, text, name):
    assert as_json(configs("draft", "limits", write(text, name), "--format", "json"))["document"] == {"max": 5}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "a": 2}', "twice.json"),
        ("a = nan", "nan.toml"),
        ("a: 2026-01-01", "date.yaml"),
        ("- 1", "array.yaml"),
    ],
)
def test_documents_that_cannot_be(configs, write, text, name):
    refused(configs("draft", "limits", write(text, name)), 2, "error: ")


def test_rehearsals(begun, write):
    for words, would in (
        (("draft", "limits", write({"max": 9})), "would write down version 2 of config limits"),
        (("approve", "limits", 1), None),
        (("rollback", "limits"), None),
    ):
        result = begun(*words, "--dry-run", by="bob")
        if would is None:
            refused(result, 4, "error: ")
        else:
            assert would in succeeded(result)
    assert begun("list", "--format", "quiet").stdout == "limits\n"


def test_what_is_not_there(configs):
    for words in (("show", "limits"), ("active", "limits"), ("drift", "limits"), ("versions", "limits")):
        refused(configs(*words), 3, "there is no config `limits`")
    refused(configs("show", "limits", 0), 2)
    refused(configs("draft", "limits", "no-file.json"), 2)


def test_a_server_that_ends_answers_those_who_wait(cli, bring, configs):
    bring({"max": 5})
    with control.running_server(cli.home) as server:
        shown = configs("show", "limits", 1, "--server", server.url)
        assert f"`crossfade configs versions limits --server {server.url}`" in shown.stderr
        with Client(server.url) as client:
            known = client.read_config("limits").etag
            answers = []
            asking = {"known": known, "wait_seconds": 60, "client": "waiter"}
            waiting = threading.Thread(target=lambda: answers.append(client.read_config("limits", **asking)))
            waiting.start()
            eventually(lambda: [each.client for each in client.config_drift("limits").clients] == ["waiter"])
            assert server.stop() == 0
            waiting.join(10)
            assert answers == [None]
