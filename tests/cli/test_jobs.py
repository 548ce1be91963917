"""`crossfade jobs`: each verb in its formats, with its hint and its exit code, without a server and with one."""

import json

import pytest

from crossfade.jobs.claims import Claims
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text("id,a,b\nx,1,2\ny,nothing,4\n")
    return path


@pytest.fixture
def submit(cli, rows):
    """Submits a job to the local platform, where nobody works on it."""
    cli.register(1.0)

    def submit(*options, ref="tiny:1.0.0"):
        result = cli("jobs", "submit", ref, rows, "--format", "json", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return submit


def succeeded(result):
    assert result.exit_code == 0, result.output
    assert "hint: " in result.stderr
    return result.stdout


def test_submitting_says_what_was_pinned_and_how_to_watch(cli, submit, rows):
    assert submit("--id", "the-first-job")["id"] == "the-first-job"
    cli("models", "alias", "tiny", "champion", "1.0.0")
    result = cli("jobs", "submit", "tiny", rows, "--keep", "id", "--output", "csv")
    text = succeeded(result)
    assert "tiny:1.0.0" in text
    assert "queued" in text
    assert "hint: watch it with `crossfade jobs watch " in result.stderr


def test_submitting_again_with_the_same_id_changes_nothing(submit):
    assert submit("--id", "once-and-for-all") == submit("--id", "once-and-for-all")


def test_an_id_that_is_taken(cli, submit, rows):
    submit("--id", "once-and-for-all")
    result = cli("jobs", "submit", "tiny:1.0.0", rows, "--id", "once-and-for-all", "--output", "csv")
    assert result.exit_code == 4
    assert "error: job `once-and-for-all` was asked for something else" in result.stderr
    assert "crossfade jobs show once-and-for-all" in result.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["submit", "nobody:1.0.0", "ROWS"], 3),
        (["submit", "tiny:1.0.0", "ROWS", "--id", "short"], 2),
        (["submit", "tiny:1.0.0", "ROWS", "--keep", "row"], 2),
        (["submit", "tiny:1.0.0", "ROWS", "--input", "xml"], 2),
        (["submit", "tiny:1.0.0", "no-such-file.csv"], 2),
        (["show", "no-such-job"], 3),
        (["watch", "no-such-job"], 3),
        (["cancel", "no-such-job"], 3),
        (["download", "no-such-job"], 3),
        (["list", "--state", "lost"], 2),
        (["list", "--limit", "0"], 2),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(cli, rows, words, code):
    cli.register(1.0)
    result = cli("jobs", *(rows if word == "ROWS" else word for word in words))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output


def test_the_format_is_told_by_the_name_or_by_hand(cli, submit, tmp_path):
    submit()
    odd = tmp_path / "rows.txt"
    odd.write_text("[1, 2]\n")
    refused = cli("jobs", "submit", "tiny:1.0.0", odd)
    assert refused.exit_code == 2
    assert "`crossfade jobs submit --help`" in refused.stderr
    result = cli("jobs", "submit", "tiny:1.0.0", odd, "--input", "jsonl", "--format", "json")
    assert json.loads(succeeded(result))["format"] == "jsonl"


def test_a_rehearsal_submits_nothing(cli, submit, rows):
    submit()
    result = cli("jobs", "submit", "tiny:1.0.0", rows, "--dry-run")
    assert "would predict a csv file with tiny:1.0.0" in succeeded(result)
    assert cli("jobs", "submit", "tiny:9.9.9", rows, "--dry-run").exit_code == 3
    assert len(json.loads(cli("jobs", "list", "--format", "json").stdout)["items"]) == 1


def test_lists_in_every_format_and_in_pages(cli, submit):
    assert "no jobs yet" in cli("jobs", "list").stderr
    made = [submit()["id"] for _ in range(3)]
    table = succeeded(cli("jobs", "list"))
    assert table.splitlines()[0].split() == ["job", "version", "state", "rows", "failed", "done", "submitted"]
    assert succeeded(cli("jobs", "list", "--format", "json"))
    assert cli("jobs", "list", "--format", "quiet").stdout.split() == made[::-1]
    page = cli("jobs", "list", "--limit", "2", "--format", "quiet")
    assert page.stdout.split() == made[:0:-1]
    cursor = json.loads(cli("jobs", "list", "--limit", "2", "--format", "json").stdout)["next_cursor"]
    assert f"--cursor {cursor}" in cli("jobs", "list", "--limit", "2").stderr
    assert cli("jobs", "list", "--cursor", cursor, "--format", "quiet").stdout.split() == made[:1]
    assert cli("jobs", "list", "--state", "failed", "--format", "quiet").stdout == ""
    assert cli("jobs", "list", "--model", "tiny", "--format", "quiet").stdout.split() == made[::-1]


def test_showing_and_cancelling(cli, submit):
    job = submit()["id"]
    result = cli("jobs", "show", job)
    assert "a running `crossfade serve` works on it" in result.stderr
    assert "would cancel job" in succeeded(cli("jobs", "cancel", job, "--dry-run"))
    assert "cancelled" in succeeded(cli("jobs", "cancel", job, "--reason", "the wrong file"))
    shown = succeeded(cli("jobs", "show", job))
    assert "the wrong file" in shown
    result = cli("jobs", "watch", job)
    assert result.exit_code == 1, "whoever waits for an answer gets none"
    result = cli("jobs", "download", job)
    assert result.exit_code == 4
    assert "has no result: it is cancelled" in result.stderr


def test_a_failed_job_says_where_to_see_what_its_file_has_to_hold(cli, submit):
    job = submit()["id"]
    with open_platform(Settings(home=cli.home)) as platform:
        claims = Claims(platform.database, platform.settings.jobs)
        claims.fail(claims.take(), "the file cannot be read: it has no column `x`")
    result = cli("jobs", "show", job)
    assert "it has no column `x`" in succeeded(result)
    assert "see what its file has to hold with `crossfade models show tiny:1.0.0`" in result.stderr


def test_from_the_file_to_the_answers_on_a_server(cli, rows, tmp_path):
    cli.register(1.0)
    with open_platform(Settings(home=cli.home)) as platform:
        platform.registry.move_alias("tiny", "champion", "1.0.0")
    options = ["--keep", "id", "--output", "csv", "--id", "from-end-to-end"]
    with control.running_server(cli.home) as server:
        there = ["--server", server.url]
        succeeded(cli("jobs", "submit", "tiny", rows, *options, *there))
        watched = cli("jobs", "watch", "from-end-to-end", *there)
        assert "succeeded" in succeeded(watched)
        assert "2, 1 of them failed" in watched.stdout
        assert f"crossfade jobs download from-end-to-end --server {server.url}" in watched.stderr
        target = tmp_path / "answers.csv"
        downloaded = cli("jobs", "download", "from-end-to-end", "--to", target, *there)
        assert succeeded(downloaded).split()[-1] == str(target)
    lines = target.read_text().splitlines()
    assert lines[:2] == ["row,id,prediction,error", "0,x,[3.0],"]
    assert lines[2].startswith("1,y,,")
    assert "'nothing'" in lines[2]
