"""`crossfade outcomes`: events from files."""

import json

import pytest

from crossfade.errors import LedgerUnavailableError
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.ledger import Ledger
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests.ledger.durability.streams import stored_outcomes

CSV = "id,name,value,happened_at,decision,experiment,unit\n1,late,1,,abc,,\n2,paid,12.5,,,exp,007\n3,late,,,abc,,\n"


def recorded(cli):
    with open_platform(Settings(home=cli.home)) as platform:
        return stored_outcomes(platform.database)


def test_a_csv_file_is_recorded_and_may_be_so_again(cli, tmp_path):
    file = tmp_path / "o.csv"
    file.write_text(CSV)
    with open_platform(Settings(home=cli.home)) as platform:
        platform.experiments.create(ExperimentSpec("exp", (Variant("old", 0.5), Variant("new", 0.5))))
    for _ in range(2):
        result = cli("outcomes", "record", file)
        assert result.exit_code == 0, result.output
        assert "3" in result.stdout
    assert recorded(cli) == ["1", "2", "3"]
    assert json.loads(cli("outcomes", "record", file, "--format", "json").stdout) == {"recorded": 3}


def test_json_lines_from_stdin(cli):
    lines = "".join(json.dumps({"id": f"{number:05}", "name": "n", "decision": "d"}) + "\n" for number in range(6_000))
    result = cli("outcomes", "record", "-", "--format", "quiet", input=lines)
    assert (result.exit_code, result.stdout.strip()) == (0, "6000")
    assert len(recorded(cli)) == 6_000


def of_a_file(tmp_path, changes, count=10_010):
    """A file of outcomes of which some rows, counted from 1, are others."""
    lines = [f"o-{number},late,{number}.5,,abc" for number in range(1, count + 1)]
    for row, line in changes.items():
        lines[row - 1] = line
    file = tmp_path / "o.csv"
    file.write_text("\n".join(["id,name,value,happened_at,decision", *lines, ""]))
    return file


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("o-1,late,NaN,,abc", "its value is `NaN`"),
        ("o-1,late,1e999,,abc", "its value is `1e999`"),
        ("o-1,late,twelve,,abc", "its value is `twelve`"),
        ("o-1,late,1,yesterday,abc", "Invalid RFC3339 encoded datetime - at `$.happened_at`"),
        ("o-1,late,2,,abc", "it has the id of row 1 and says something else"),
    ],
)
def test_what_can_be_seen_of_a_file_is_said_of_its_row_before_anything_is_recorded(cli, tmp_path, line, said):
    file = of_a_file(tmp_path, {10_007: line})
    result = cli("outcomes", "record", file)
    assert result.exit_code == 2
    assert f"row 10007 of `{file}` cannot be recorded: {said}" in result.stderr
    assert "nothing of the file was recorded" in result.stderr
    assert recorded(cli) == []


def test_what_the_server_refuses_is_the_row_of_the_file_and_the_file_may_be_sent_again(cli, tmp_path):
    old = "o-10007,late,1,2001-01-01T00:00:00Z,abc"
    result = cli("outcomes", "record", of_a_file(tmp_path, {10_007: old}))
    assert result.exit_code == 2
    assert "row 10007 of" in result.stderr
    assert "400 days ago, by the clock of this server; the first 10,000 rows were recorded" in result.stderr
    assert "record the whole file again: an id counts once" in result.stderr
    assert len(recorded(cli)) == 10_000
    assert cli("outcomes", "record", of_a_file(tmp_path, {})).exit_code == 0
    assert len(recorded(cli)) == 10_010


def test_a_failure_underway_says_what_was_recorded(cli, tmp_path, monkeypatch):
    real, calls = Ledger.record_async, []

    async def full(ledger, outcomes):
        calls.append(len(outcomes))
        if len(calls) > 1:
            raise LedgerUnavailableError(problem="the disk is full")
        return await real(ledger, outcomes)

    monkeypatch.setattr(Ledger, "record_async", full)
    result = cli("outcomes", "record", of_a_file(tmp_path, {}))
    assert result.exit_code == 7
    assert "the disk is full; the first 5,000 rows were recorded, and may be sent again with the rest" in result.stderr
    assert len(recorded(cli)) == 5_000


def test_who_has_no_table_is_told_what_one_is(cli):
    for lines in ("[1, 2]", "[1"):
        assert "`crossfade outcomes record --help`" in cli("outcomes", "record", "-", input=lines).stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("o.csv", "id,name,decision\n,late,abc\n", "required field `id`"),
        ("o.jsonl", '{"id": "1", "name": "late", "value": 1e999, "decision": "a"}\n', "is not JSON"),
        ("o.jsonl", '{"id": "1", "name": "late", "decision": "a", "typo": 1}\n', "typo"),
        ("o.json", "[1, 2]", "is not a table"),
        ("o.jsonl", '{"id": "1", "name": "late"}\n', "it needs either `decision`"),
    ],
)
def test_what_cannot_be_recorded_says_why(cli, tmp_path, name, content, said):
    file = tmp_path / name
    file.write_text(content)
    result = cli("outcomes", "record", file)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "MODEL" not in result.stderr
    assert recorded(cli) == []
