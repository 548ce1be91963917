"""`crossfade experiments evaluate-policy`: every form of log and policy, what is refused, and how it is shown."""

import csv
import json
import sys
from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.policy import start
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.off_policy.evaluation import evaluate as evaluated
from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.target import Target
from tests.cli.test_main import modules_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEIGHTS = {"control": 0.2, "treatment": 0.8}


@pytest.fixture(scope="module")
def columns():
    random = np.random.default_rng(0)
    age = random.normal(size=1_000).round(3)
    treated = random.random(1_000) < 0.3
    rate = np.where(treated, 0.3 + 0.2 * np.tanh(age), 0.3 - 0.2 * np.tanh(age))
    return {
        "action": np.where(treated, "treatment", "control").tolist(),
        "reward": (random.random(1_000) < rate).astype(int).tolist(),
        "propensity": np.where(treated, 0.3, 0.7).tolist(),
        "age": age.tolist(),
        "country": np.where(age > 0, "DE", "AT").tolist(),
        "theirs": np.where(treated, 0.8, 0.2).tolist(),
    }


def rows_of(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.fixture
def written(tmp_path, columns):
    """Write a log in a format; columns may be changed before."""

    def write(name="log.csv", **changed):
        path, rows = tmp_path / name, rows_of(columns | changed)
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        elif path.suffix == ".parquet":
            parquet.write_table(pa.table(columns | changed), path)
        elif path.suffix == ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        else:
            path.write_text(json.dumps(rows))
        return path

    return write


@pytest.fixture
def evaluate(cli):
    def run(log, *options, **rest):
        return cli("experiments", "evaluate-policy", log, *options, **rest)

    return run


@pytest.fixture
def report(evaluate):
    def run(log, *options):
        result = evaluate(log, *options, "--format", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def expected(columns, weights=WEIGHTS, **described):
    log = Log.of(columns["action"], columns["reward"], columns["propensity"], **described)
    return json.loads(msgspec.json.encode(evaluated(log, Target.fixed(log, weights))))


# --- logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.csv", "log.json", "log.jsonl", "log.parquet"])
def test_every_format_says_the_same(report, written, columns, name):
    assert report(written(name), "--weights", "control=0.2,treatment=0.8") == expected(columns)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_log_may_come_over_stdin(evaluate, written, columns, name):
    text = written(name).read_text()
    result = evaluate("-", "--weights", "control=0.2,treatment=0.8", "--format", "json", input=text)
    assert json.loads(result.stdout) == expected(columns)


def test_columns_may_have_other_names(report, tmp_path, columns):
    path = tmp_path / "log.jsonl"
    names = {"action": "shown", "reward": "paid", "propensity": "p"}
    rows = [{names.get(name, name): value for name, value in row.items()} for row in rows_of(columns)]
    path.write_text("\n".join(map(json.dumps, rows)))
    options = ("--action", "shown", "--reward", "paid", "--propensity", "p")
    assert report(path, "--weights", "control=0.2,treatment=0.8", *options) == expected(columns)


def test_actions_that_are_numbers_and_rewards_that_are_booleans(report, written, columns):
    log = written(
        "log.jsonl",
        action=[int(each == "treatment") for each in columns["action"]],
        reward=[bool(each) for each in columns["reward"]],
    )
    found = report(log, "--weights", "0=0.2,1=0.8")
    assert found["values"]["snips"] == expected(columns)["values"]["snips"]


# --- policies ------------------------------------------------------------------------------------------------------


def test_cells_and_features_for_the_reward_model(report, written, columns):
    weights = ("--weights", "control=0.2,treatment=0.8")
    assert report(written(), *weights, "--cells", "country") == expected(columns, cells=columns["country"])
    features = np.array(columns["age"])[:, None]
    assert report(written(), *weights, "--features", "age") == expected(columns, features=features)
    both = report(written(), *weights, "--cells", "country,action")
    assert both["values"]["ips"] == expected(columns)["values"]["ips"]


def test_a_column_with_the_probability_of_what_was_done(report, written, columns):
    found = report(written(), "--probability", "theirs")
    assert found["values"]["ips"] == expected(columns)["values"]["ips"]
    assert found["values"]["dr"]["type"] == "not_estimable"


def test_a_stored_policy(report, written, tmp_path, columns):
    policy = start(BetaThompson(floor=0.1), ["control", "treatment"], NOW).warm(
        {"control": Tally.estimated(100, 0.1), "treatment": Tally.estimated(100, 0.4)}
    )
    (tmp_path / "policy.json").write_bytes(policy.encode())
    assert report(written(), "--policy", tmp_path / "policy.json") == expected(columns, policy.weights())


def test_a_specification_learns_from_the_first_half(evaluate, written, tmp_path):
    (tmp_path / "spec.json").write_text('{"kind": "lin_ucb", "features": [{"name": "age"}], "alpha": 0.1}')
    result = evaluate(written(), "--policy", tmp_path / "spec.json", "--format", "json")
    found = json.loads(result.stdout)
    assert found["rows"] == 500
    assert found["values"]["snips"]["gain_lower"] > 0.05  # who gets what by age is worth it
    assert "first half" in result.stderr


def test_a_policy_with_context_explains_rewards_by_its_features(report, written, tmp_path):
    policy = start(LinUCB(features=(Feature("age", default=0.0),)), ["control", "treatment"], NOW)
    (tmp_path / "policy.json").write_bytes(policy.encode())
    log = written()
    own = report(log, "--policy", tmp_path / "policy.json")
    assert own == report(log, "--policy", tmp_path / "policy.json", "--features", "age")
    other = report(log, "--policy", tmp_path / "policy.json", "--cells", "country")
    assert other["values"]["snips"] == own["values"]["snips"]
    assert other["values"]["dr"] != own["values"]["dr"]


# --- what is shown -------------------------------------------------------------------------------------------------


def test_a_table_for_people(evaluate, written):
    result = evaluate(written(), "--weights", "control=0.2,treatment=0.8")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["method", "as it was", "inverse propensity (IPS)"]
    assert "1,000 rows of 2 actions" in result.stderr
    assert "hint: intervals get narrower" in result.stderr
    more = evaluate(written(), "--weights", "control=0.2,treatment=0.8", "--features", "age")
    assert "hint: the numbers for a program" in more.stderr


def test_one_number_for_scripts(evaluate, written, columns):
    weights = ("--weights", "control=0.2,treatment=0.8", "--format", "quiet")
    found = evaluate(written(), *weights).stdout.strip()
    assert float(found) == pytest.approx(expected(columns)["values"]["dr"]["value"], rel=1e-5)
    found = evaluate(written(), "--probability", "theirs", "--format", "quiet").stdout.strip()
    assert float(found) == pytest.approx(expected(columns)["values"]["snips"]["value"], rel=1e-5)


def test_what_cannot_be_estimated_is_said_and_exits_with_1(evaluate, written):
    for options, words in (
        (("--weights", "control=0.5,other=0.5"), "`other` (50.0%), which the log never did"),
        (("--weights", "treatment=1", "--least", "900"), "900 are needed"),
    ):
        result = evaluate(written(), *options)
        assert result.exit_code == 1
        assert words in result.stdout
        quiet = evaluate(written(), *options, "--format", "quiet")
        assert (quiet.exit_code, quiet.stdout.strip()) == (1, "not_estimable")
        as_json = evaluate(written(), *options, "--format", "json")
        assert words in json.loads(as_json.stdout)["refusal"]["reason"]


def test_doubts_are_told(evaluate, written):
    result = evaluate(written(propensity=[0.5] * 1_000), "--weights", "control=1")
    assert "careful: importance is 1." in result.stderr


# --- what is refused -----------------------------------------------------------------------------------------------


def spoiled(columns, name, value):
    return {name: [value, *columns[name][1:]]}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("reward", "nan", "row 1 has no reward"),
        ("reward", "", "row 1 has no reward"),
        ("reward", "inf", "row 1 has no reward"),
        ("reward", "much", "row 1: `much` in column `reward` is no number"),
        ("propensity", "0", "row 1 has a propensity"),
        ("propensity", "-0.1", "row 1 has a propensity"),
        ("propensity", "1.5", "row 1 has a propensity"),
        ("propensity", "nan", "row 1 has a propensity"),
        ("propensity", "", "row 1 has a propensity"),
        ("action", "", "row 1 has nothing in column `action`"),
        ("age", "old", "row 1: `old` in column `age` is no number"),
        ("age", "", "row 1 has a feature"),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_their_row(evaluate, written, columns, name, value, words):
    for path in (
        written("log.csv", **spoiled(columns, name, value)),
        written("l.json", **spoiled(columns, name, value)),
    ):
        result = evaluate(path, "--weights", "control=0.2,treatment=0.8", "--features", "age")
        assert result.exit_code == 2
        assert words in result.stderr
        assert "evaluate-policy --help" in result.stderr


@pytest.mark.parametrize("name", ["log.json", "log.parquet"])
def test_nothing_is_no_number(evaluate, written, columns, name):
    for column in ("reward", "propensity", "action"):
        result = evaluate(written(name, **spoiled(columns, column, None)), "--weights", "control=1")
        assert result.exit_code == 2
        assert "row 1 has" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("log.csv", b"", "it has no column `action`; it has none"),
        ("log.csv", b"action,reward,propensity\n", "no rows"),
        ("log.csv", b"action,reward\na,1\n", "it has no column `propensity`; it has `action`, `reward`"),
        ("log.csv", b"action,reward,propensity,reward\na,1,0.5,1\n", "2 columns `reward`"),
        ("log.csv", b"action,reward,propensity\na,1\n", "row 1 has 2 cells, and the heading 3"),
        ("log.csv", b'action,reward,propensity\n"a,1,0.5\n', "cannot be read"),
        ("log.csv", b"action,reward,propensity\n\xff,1,0.5\n", "not UTF-8"),
        ("log.json", b"", "no rows"),
        ("log.json", b"[]", "no rows"),
        ("log.json", b"[1, 2]", "no JSON objects"),
        ("log.json", b"{", "not JSON"),
        ("log.jsonl", b'{"action": "a", "reward": 1}\n{"action": "a", "reward": 1}', "no column `propensity`"),
        ("log.parquet", b"PAR1 is not enough", "Parquet file cannot be read"),
        ("log.parquet", b"", "Parquet file cannot be read"),
    ],
)
def test_files_that_are_no_log_are_refused(evaluate, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    result = evaluate(path, "--weights", "a=1")
    assert result.exit_code == 2
    assert words in result.stderr


def test_an_empty_parquet_file_and_one_without_a_column(evaluate, tmp_path):
    path = tmp_path / "log.parquet"
    parquet.write_table(pa.table({"action": [], "reward": [], "propensity": []}), path)
    assert "no rows" in evaluate(path, "--weights", "a=1").stderr
    parquet.write_table(pa.table({"action": ["a"]}), path)
    assert "no column `reward`" in evaluate(path, "--weights", "a=1").stderr


def test_parquet_without_pyarrow_says_what_to_install(evaluate, written, monkeypatch):
    path = written("log.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = evaluate(path, "--weights", "control=1")
    assert result.exit_code == 7
    assert "crossfade[arrow]" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--weights", "control=1", "--probability", "theirs"),
        ("--weights", "control"),
        ("--weights", "=1"),
        ("--weights", "control=x"),
        ("--weights", "control=-1"),
        ("--weights", "control=nan"),
        ("--weights", "control=0.5,control=0.5"),
        ("--weights", "control=0.5"),
        ("--weights", "control=1", "--cells", "country", "--features", "age"),
        ("--weights", "control=1", "--alpha", "2"),
        ("--weights", "control=1", "--clip", "0"),
        ("--weights", "control=1", "--least", "0"),
        ("--probability", "age"),
        ("--probability", "missing"),
        ("--policy", "missing.json"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(evaluate, written, options):
    assert evaluate(written(), *options).exit_code == 2


@pytest.mark.parametrize("content", ["", "{}", '{"kind": "magic"}', '{"kind": "ucb1", "floor": 2}'])
def test_files_that_are_no_policy_are_refused(evaluate, written, tmp_path, content):
    path = tmp_path / "policy.json"
    path.write_text(content)
    result = evaluate(written(), "--policy", path)
    assert result.exit_code == 2
    assert "this policy cannot be" in result.stderr


def test_a_feature_of_the_policy_that_the_log_lacks(evaluate, written, tmp_path, columns):
    path = tmp_path / "policy.json"
    path.write_text('{"kind": "lin_ucb", "features": [{"name": "age"}]}')
    result = evaluate(written(**spoiled(columns, "age", "")), "--policy", path)
    assert result.exit_code == 2
    assert "`age`: it is missing and has no default" in result.stderr


def test_help_imports_nothing_heavy():
    assert {"numpy", "scipy", "pyarrow", "msgspec"} & modules_after("experiments", "evaluate-policy", "--help") == set()
