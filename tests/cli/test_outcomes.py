"""`crossfade outcomes`: events from files."""

import json

import pytest

from crossfade.experiments.spec import ExperimentSpec, Variant
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
