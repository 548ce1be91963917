"""`crossfade models`: each verb in its formats, with its hint and its exit code."""

import hashlib
import json
import re

import pytest
from sklearn.linear_model import LinearRegression

from crossfade.cli.models import models
from crossfade.platform import open_platform
from crossfade.registry.versions import FileEntry
from crossfade.settings import Settings
from tests import control


@pytest.fixture
def two(cli):
    """A model with two versions; the champion is the first."""
    assert cli.register(1.0, "--evaluation", "auc=0.9", "--tag", "team=risk").exit_code == 0
    assert cli.register(2.0, "--evaluation", "auc=0.95", "--parameter", "depth=3").exit_code == 0
    assert cli("models", "alias", "tiny", "champion", "1.0.0").exit_code == 0
    return cli


def succeeded(result):
    assert result.exit_code == 0, result.output
    assert re.search(r"^hint: .*`crossfade ", result.stderr, re.MULTILINE) or "--dry-run" in result.stderr
    return result.stdout


def test_registering_shows_the_version_and_how_to_serve_it(cli):
    result = cli.register(1.0, "--evaluation", "auc=0.9", "--parameter", "solver=lbfgs", "--description", "why")
    assert "tiny:1.0.0" in succeeded(result)
    assert "hint: serve it with `crossfade models alias tiny champion 1.0.0`" in result.stderr
    shown = json.loads(cli("models", "show", "tiny:1.0.0", "--format", "json").stdout)
    assert shown["card"]["parameters"] == {"solver": "lbfgs"}
    assert shown["card"]["description"] == "why"
    assert shown["version"]["evaluation"] == {"auc": 0.9}


def test_a_version_declares_where_it_wants_to_run(cli):
    succeeded(cli.register(1.0, "--device", "gpu", "--threads", "2"))
    shown = json.loads(cli("models", "show", "tiny:1.0.0", "--format", "json").stdout)
    assert shown["manifest"]["placement"] == {"device": "gpu", "threads": 2}
    assert "gpu, 2 threads" in cli("models", "show", "tiny:1.0.0").stdout
    succeeded(cli.register(2.0))
    shown = json.loads(cli("models", "show", "tiny:1.0.1", "--format", "json").stdout)
    assert shown["manifest"].get("placement") is None
    assert cli.register(3.0, "--device", "tpu").exit_code == 2


def test_registering_twice_changes_nothing(cli):
    first = cli.register(1.0, "--version", "1.0.0", "--format", "json")
    second = cli.register(1.0, "--version", "1.0.0", "--format", "json")
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_other_content_is_a_conflict(cli):
    cli.register(1.0, "--version", "1.0.0")
    result = cli.register(2.0, "--version", "1.0.0")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: `tiny:1.0.0` is already registered with other content\n\nhint: ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--evaluation", "auc=high", "not a number"), ("--tag", "team", "NAME=VALUE"), ("--tag", "=x", "NAME=VALUE")],
)
def test_options_that_make_no_sense_are_usage_errors(cli, option, value, message):
    result = cli.register(1.0, option, value)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_file_is_a_usage_error(cli):
    result = cli("models", "register", "tiny", "/nowhere/model.onnx")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_a_pickle_is_denied_by_policy(cli, tmp_path):
    import pickle

    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"x": 1}))
    result = cli("models", "register", "tiny", path)
    assert result.exit_code == 5, result.output
    assert "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS" in result.stderr


def test_models_and_versions_are_listed(two):
    assert "tiny" in succeeded(two("models", "list"))
    assert two("models", "list", "--format", "quiet").stdout == "tiny\n"
    assert two("models", "versions", "tiny", "--format", "quiet").stdout == "tiny:1.0.1\ntiny:1.0.0\n"
    assert "auc 0.95" in succeeded(two("models", "versions", "tiny"))
    assert json.loads(two("models", "versions", "tiny", "--stage", "staging", "--format", "json").stdout)["items"] == []


def test_pages_are_followed_by_the_hint(two):
    first = two("models", "versions", "tiny", "--limit", "1")
    command = re.search(r"`crossfade (.*)`", first.stderr)[1].split()
    assert "tiny:1.0.0" in succeeded(two(*command))
    two.register(1.0, name="other")
    page = two("models", "list", "--limit", "1")
    assert "tiny" in two(*re.search(r"`crossfade (.*)`", page.stderr)[1].split()).stdout


def test_empty_lists_say_so(cli):
    result = cli("models", "list")
    assert (result.stdout, result.exit_code) == ("", 0)
    assert "no models yet\nhint: register one with" in result.stderr


def test_an_empty_line_of_versions_says_so(two):
    result = two("models", "versions", "tiny", "--prefix", "9.")
    assert "nothing matches what was asked for\nhint: see all with `crossfade models versions tiny`" in result.stderr


@pytest.mark.parametrize("format_", ["auto", "human", "json", "quiet"])
def test_a_version_is_shown_in_every_format(two, format_):
    result = two("models", "show", "tiny@champion", "--format", format_)
    assert result.exit_code == 0
    assert "tiny" in result.stdout
    assert ("hint" in result.stderr) is (format_ != "quiet")


def test_a_bare_name_shows_the_model(two):
    shown = succeeded(two("models", "show", "tiny"))
    assert "champion -> 1.0.0" in shown
    assert "1.0.1" in shown


def test_versions_are_compared(two):
    shown = succeeded(two("models", "compare", "tiny:1.0.0", "tiny:1.0.1"))
    assert "+0.05" in shown
    assert "+5.556 %" in shown
    assert "depth" in shown


def test_an_alias_moves_back_and_forth(two):
    moved = two("models", "alias", "tiny", "champion", "1.0.1", "--reason", "better")
    assert "1.0.1" in succeeded(moved)
    assert "`crossfade models rollback tiny --alias champion`" in moved.stderr
    back = two("models", "rollback", "tiny", "--reason", "worse")
    assert "`crossfade models alias tiny champion 1.0.1`" in back.stderr
    history = succeeded(two("models", "history", "tiny"))
    assert [word for word in ("better", "worse") if word in history] == ["better", "worse"]
    moves = two("models", "history", "tiny", "--alias", "champion", "--format", "quiet")
    assert moves.stdout == "1.0.0\n1.0.1\n1.0.0\n"


def test_a_history_has_aliases_and_stages_page_by_page(two):
    two("models", "transition", "tiny:1.0.1", "staging", "--reason", "reviewed")
    first = two("models", "history", "tiny", "--limit", "2")
    assert [line.split()[2] for line in first.stdout.splitlines()[1:]] == ["tiny:1.0.1", "tiny@champion"]
    following = re.search(r"`crossfade (.*)`", first.stderr)[1].split()
    assert succeeded(two(*following)).count("registered") == 2
    moves = two("models", "history", "tiny", "--alias", "champion", "--limit", "1")
    assert "see where things stand" in moves.stderr


@pytest.mark.parametrize(
    ("new", "says", "required"),
    [("tiny:1.0.1", "notice nothing with tiny:1.0.1", "patch"), ("other", "would break with other:1.0.0", "major")],
)
def test_compatibility_is_seen_from_the_callers(two, new, says, required):
    with open_platform(Settings(home=two.home)) as platform:
        narrow = [[1.0], [2.0], [3.0]]
        platform.registry.register("other", LinearRegression().fit(narrow, [1.0, 2.0, 3.0]), example=narrow)
        platform.registry.move_alias("other", "champion", "1.0.0")
    shown = two("models", "compatibility", "tiny:1.0.0", new)
    assert says in succeeded(shown)
    assert "`crossfade models compare tiny:1.0.0 " in shown.stderr
    assert two("models", "compatibility", "tiny:1.0.0", new, "--format", "quiet").stdout == f"{required}\n"
    assert json.loads(two("models", "compatibility", "tiny", new, "--format", "json").stdout)["required"] == required


def test_a_version_is_downloaded_whole(two, tmp_path):
    shown = succeeded(two("models", "download", "tiny", "--to", tmp_path / "here"))
    assert "model.onnx" in shown
    manifest = json.loads((tmp_path / "here" / "manifest.json").read_bytes())
    for file in manifest["files"]:
        content = (tmp_path / "here" / file["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["digest"]
    again = two("models", "download", "tiny:1.0.0", "--to", tmp_path / "here", "--format", "json")
    assert len(json.loads(again.stdout)) == len(manifest["files"]) + 1


def test_a_download_goes_to_a_folder_named_like_the_version(two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert two("models", "download", "tiny:1.0.1", "--format", "quiet").stdout.startswith("tiny-1.0.1/")
    assert (tmp_path / "tiny-1.0.1" / "manifest.json").exists()


def test_a_server_does_not_choose_where_files_go(two, tmp_path, monkeypatch):
    evil = FileEntry("../evil", "0" * 64, 1, "text/plain", "model")
    monkeypatch.setattr("crossfade.client.downloading.files_of", lambda details: (evil,))
    result = two("models", "download", "tiny", "--to", tmp_path / "here")
    assert result.exit_code == 2
    assert "../evil" in result.stderr


def test_an_alias_is_removed(two):
    assert "removed" in succeeded(two("models", "alias", "tiny", "champion", "--remove"))
    assert two("models", "show", "tiny@champion").exit_code == 3


@pytest.mark.parametrize("arguments", [[], ["1.0.0", "--remove"]])
def test_an_alias_is_either_moved_or_removed(two, arguments):
    result = two("models", "alias", "tiny", "champion", *arguments)
    assert result.exit_code == 2
    assert "either" in result.stderr


def test_a_stage_changes_with_a_history(two):
    assert "staging" in succeeded(two("models", "transition", "tiny:1.0.1", "staging", "--reason", "good"))
    assert "good" in succeeded(two("models", "history", "tiny:1.0.1"))
    refused = two("models", "transition", "tiny:1.0.1", "nonsense")
    assert refused.exit_code == 4
    assert "legal from `staging`" in refused.stderr


def test_a_version_is_deprecated(two):
    assert "too old" in succeeded(two("models", "deprecate", "tiny:1.0.1", "--reason", "too old"))
    assert "(deprecated)" in two("models", "versions", "tiny").stdout


def test_deleting_asks_first(two):
    refused = two("models", "delete", "tiny:1.0.1")
    assert refused.exit_code == 2
    assert "`--yes`" in refused.stderr
    assert two("models", "delete", "tiny:1.0.0", "--yes").exit_code == 4
    assert "tiny:1.0.1" in succeeded(two("models", "delete", "tiny:1.0.1", "--yes"))
    assert two("models", "show", "tiny:1.0.1").exit_code == 3


def test_a_version_is_verified(two):
    shown = succeeded(two("models", "verify", "tiny"))
    assert "every byte as registered" in shown
    assert "2 rows" in shown


def test_garbage_is_collected(two):
    assert "0 blobs" in succeeded(two("models", "gc"))


DRY = {
    "alias": (["alias", "tiny", "champion", "1.0.1"], "would move tiny@champion from 1.0.0 to 1.0.1"),
    "remove": (["alias", "tiny", "champion", "--remove"], "would remove tiny@champion, which points to 1.0.0"),
    "transition": (["transition", "tiny:1.0.1", "staging"], "would move tiny:1.0.1 from stage registered to staging"),
    "deprecate": (["deprecate", "tiny:1.0.1"], "would deprecate tiny:1.0.1"),
    "delete": (["delete", "tiny:1.0.1"], "would delete tiny:1.0.1"),
    "gc": (["gc"], "would delete 0 blobs, 0 bytes"),
}


@pytest.mark.parametrize("verb", DRY)
def test_a_dry_run_changes_nothing(two, verb):
    arguments, would = DRY[verb]
    before = two("models", "versions", "tiny", "--format", "json").stdout
    result = two("models", *arguments, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"{would}\n")
    assert "without `--dry-run`" in result.stderr
    assert two("models", "versions", "tiny", "--format", "json").stdout == before
    assert json.loads(two("models", *arguments, "--dry-run", "--format", "json").stdout)["dry_run"] is True


def test_registering_can_be_rehearsed(cli):
    result = cli.register(1.0, "--dry-run")
    assert result.stdout == "would register tiny:1.0.0\n"
    assert cli("models", "list", "--format", "quiet").stdout == ""


def test_every_verb_that_changes_has_a_dry_run():
    pure = {"list", "show", "versions", "compare", "compatibility", "verify", "history", "download"}
    for name, command in models.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--dry-run" in options) is (name not in pure), name
        assert {"--format", "--server"} <= options


# --- the same on a server ------------------------------------------------------------------------------------------


def test_local_and_remote_give_the_same_answers(cli, two):
    rows = cli.folder / "rows.json"
    commands = [
        ["models", "list"],
        ["models", "show", "tiny"],
        ["models", "show", "tiny@champion"],
        ["models", "versions", "tiny"],
        ["models", "compare", "tiny:1.0.0", "tiny:1.0.1"],
        ["models", "compatibility", "tiny:1.0.0", "tiny:1.0.1"],
        ["models", "download", "tiny:1.0.1", "--to", cli.folder / "files"],
        ["models", "history", "tiny"],
        ["models", "verify", "tiny:1.0.1"],
        ["models", "alias", "tiny", "champion", "1.0.1", "--dry-run"],
        ["models", "show", "nothing"],
        ["models", "transition", "tiny:1.0.1", "nonsense"],
        ["predict", "tiny", rows],
    ]
    with control.running_server(cli.home) as server:
        for command in commands:
            for format_ in ("json", "auto"):
                local = cli(*command, "--format", format_)
                remote = cli(*command, "--format", format_, "--server", server.url)
                assert (local.exit_code, without_id(local.stdout)) == (remote.exit_code, without_id(remote.stdout))
                assert without_server(remote.stderr, server.url) == local.stderr
        by_environment = cli("models", "list", CROSSFADE_SERVER=server.url)
        assert "tiny" in by_environment.stdout
        examined = cli("doctor", "--server", server.url, "--format", "json")
        assert [check["outcome"] for check in json.loads(examined.stdout)] == ["ok"] * 5
        registered = cli.register(3.0, "--server", server.url)
        assert f"--server {server.url}`" in registered.stderr
        moved = cli("models", "alias", "tiny", "champion", "1.0.2", "--server", server.url)
        assert "1 answer with it" in moved.stdout


def without_id(text):
    return re.sub(r'"request_id":"[^"]*"', "", text)


def without_server(text, url):
    return text.replace(f" --server {url}", "")


def test_no_server_is_an_error_with_a_hint(cli):
    result = cli("models", "list", "--server", "http://127.0.0.1:1")
    assert result.exit_code == 7
    assert "no Crossfade server answers at http://127.0.0.1:1" in result.stderr
    assert "crossfade serve" in result.stderr
