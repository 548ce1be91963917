"""`crossfade predict`: rows from files and stdin, answers in every format."""

import json
import sys
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

from crossfade.cli.main import main
from crossfade.cli.rows import read_rows
from crossfade.client import Client
from crossfade.errors import MalformedRequestError, MissingExtraError
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.platform import open_platform
from crossfade.registry.pipeline import Pipeline
from crossfade.settings import Settings
from crossfade.traffic.allocation.segments import Segment
from tests import control

SEE = "crossfade models show ages"
X = pd.DataFrame({"age": [20.0, 70.0, 30.0, 80.0] * 5, "code": ["007", "42", "007", "9"] * 5})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry with a classifier over two numbers."""
    folder = tmp_path_factory.mktemp("predict") / "home"
    inputs = pd.DataFrame({"age": X["age"], "visits": np.arange(20) % 3})
    model = LogisticRegression().fit(inputs, np.where(X["age"] > 50, "old", "young"))
    with open_platform(Settings(home=folder)) as platform:
        platform.registry.register("ages", model, example=inputs)
        platform.switch.move("ages", "champion", "1.0.0")
    return folder


@pytest.fixture
def predict(home, monkeypatch):
    monkeypatch.delenv("CROSSFADE_SERVER", raising=False)

    def run(*args, input=None):  # noqa: A002 - click's name
        environment = {"CROSSFADE_HOME": str(home), "CROSSFADE_CONFIG": "/dev/null"}
        return CliRunner().invoke(main, ["predict", *map(str, args)], input=input, env=environment)

    return run


ROWS = [{"age": 20.0, "visits": 1}, {"age": 80.0, "visits": 2}]
FILES = {
    "rows.json": json.dumps(ROWS),
    "wrapped.json": json.dumps({"rows": ROWS}),
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)),
    "rows.csv": "age,visits\n20,1\n80.0,2\n",
    "windows.csv": "\ufeffage,visits\r\n20,1\r\n80,2\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_are_predicted(predict, tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], newline="")
    result = predict("ages", path, "--format", "quiet")
    assert (result.exit_code, result.stdout) == (0, "young\nold\n"), result.output


def test_parquet_is_predicted(predict, tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    assert predict("ages", tmp_path / "rows.parquet", "--format", "quiet").stdout == "young\nold\n"


@pytest.mark.parametrize("name", ["rows.json", "lines.jsonl", "rows.csv"])
def test_stdin_is_predicted(predict, name):
    assert predict("ages", "-", "--format", "quiet", input=FILES[name]).stdout == "young\nold\n"
    assert predict("ages", "--format", "quiet", input=FILES[name]).stdout == "young\nold\n"


def test_a_single_object_is_one_row(predict):
    assert predict("ages", "--format", "quiet", input=json.dumps(ROWS[0])).stdout == "young\n"


def test_probabilities_have_a_column_per_class(predict):
    result = predict("ages", "--probabilities", input=FILES["rows.json"])
    assert result.stdout.splitlines()[0].split() == ["prediction", "p(old)", "p(young)"]
    body = json.loads(predict("ages", "--probabilities", "--format", "json", input=FILES["rows.json"]).stdout)
    assert (body["model"], body["version"], body["classes"]) == ("ages", "1.0.0", ["old", "young"])
    np.testing.assert_allclose(np.sum(body["probabilities"], axis=1), 1.0)


def test_labels_and_probabilities_come_from_one_run(predict, monkeypatch):
    runs, run = [], Pipeline.predict
    monkeypatch.setattr(Pipeline, "predict", lambda *args: (runs.append(args[2]), run(*args))[1])
    assert predict("ages", "--probabilities", "--batch-size", "1", input=FILES["rows.json"]).exit_code == 0
    assert runs[-2:] == [{"predict", "predict_proba"}] * 2
    assert len(runs) == len(ROWS)


def test_pieces_give_the_same_answers(predict):
    rows = json.dumps(ROWS * 10)
    whole = predict("ages", "--format", "quiet", input=rows).stdout
    assert predict("ages", "--batch-size", "3", "--format", "quiet", input=rows).stdout == whole


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('[{"age": "old", "visits": 1}]', 2, "input `age`"),
        ('[{"age": 1.0}]', 2, "input `visits`"),
        ("[{", 2, "not JSON"),
        ("age,visits\n1\n", 2, "CSV row 1"),
        ("age,visits\n1,2,3\n", 2, "CSV row 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(predict, text, code, message):
    result = predict("ages", input=text)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_an_unknown_model_is_not_found(predict):
    assert predict("nothing", input="[]").exit_code == 3


def test_rows_that_cannot_be_read_name_the_version_that_they_are_for(predict):
    refused = predict("ages", input="[1")
    assert refused.exit_code == 2
    assert "`crossfade models show ages:1.0.0`" in refused.stderr


# --- reading rows --------------------------------------------------------------------------------------------------


def test_csv_columns_are_numbers_only_when_every_cell_is_one(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("code,number,mixed,empty\n007,1,2,\n42,2.5,x,\n,,3,\n")
    assert read_rows(path, SEE) == [
        {"code": 7, "number": 1, "mixed": "2", "empty": None},
        {"code": 42, "number": 2.5, "mixed": "x", "empty": None},
        {"code": None, "number": None, "mixed": "3", "empty": None},
    ]
    assert read_rows(path, SEE, frozenset({"code"}))[0]["code"] == "007"


def test_rows_must_be_text(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        read_rows(path, SEE)


def test_parquet_needs_a_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="Parquet"):
        read_rows(tmp_path / "rows.parquet", SEE)


def test_parquet_takes_pandas_when_polars_is_missing(tmp_path, monkeypatch):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setitem(sys.modules, "polars", None)
    assert read_rows(tmp_path / "rows.parquet", SEE).to_dict("records") == ROWS


# --- in somebody's name --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(home):
    """A server on which an experiment gives everybody the version `new` of `trial`, and nobody asks about `ages`."""
    inputs = pd.DataFrame({"age": X["age"], "visits": np.arange(20) % 3})
    model = LogisticRegression().fit(inputs, np.where(X["age"] > 50, "old", "young"))
    with control.running_server(home) as running, Client(running.url) as client:
        for version in ("1.0.0", "1.1.0"):
            client.register("trial", model, example=inputs, version=version)
        client.move_alias("trial", "champion", "1.0.0")
        variants = (Variant("old", 0.0, "1.0.0"), Variant("new", 1.0, "1.1.0"))
        client.create_experiment(ExperimentSpec("all_new", variants, model="trial", segment=Segment({"country": "DE"})))
        client.start_experiment("all_new")
        deadline = time.monotonic() + 20
        while client.ask("trial", ROWS, unit_id="u", context={"country": "DE"}).version != "1.1.0":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running.url


def test_an_experiment_decides_and_who_answered_is_said(predict, server):
    who = ("--unit-id", "u-1", "--context", '{"country": "DE"}', "--server", server)
    result = predict("trial", *who, input=FILES["rows.csv"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["prediction", "young", "old"]
    assert "trial:1.1.0 answered, by `all_new` with `new` (targeting_match): " in result.stderr
    assert "; decision " in result.stderr
    assert f"hint: say what becomes of it with `crossfade outcomes record OUTCOMES_FILE --server {server}`" in (
        result.stderr
    )
    body = json.loads(predict("trial", *who, "--probabilities", "--format", "json", input=FILES["rows.csv"]).stdout)
    assert (body["model"], body["version"], body["predictions"]) == ("trial", "1.1.0", ["young", "old"])
    assert set(body["experiment"]) == {"name", "variant", "reason", "why", "decision_id"}
    assert body["classes"] == ["old", "young"]
    np.testing.assert_allclose(np.sum(body["probabilities"], axis=1), 1.0)
    result = predict("trial", *who, "--probabilities", input=FILES["rows.csv"])
    assert result.stdout.splitlines()[0].split() == ["prediction", "p(old)", "p(young)"]
    assert predict("trial", *who, "--format", "quiet", input=FILES["rows.csv"]).stdout == "young\nold\n"


def test_who_does_not_take_part_is_told_why(predict, server):
    there = ("--server", server)
    result = predict("trial", "--unit-id", "u", *there, input=FILES["rows.csv"])
    assert "trial:1.0.0 answered, by `all_new` with `old` (missing_context): " in result.stderr
    assert f"hint: see what answered with `crossfade models show trial:1.0.0 --server {server}`" in result.stderr
    result = predict("ages", "--experiment", "nobody", *there, input=FILES["rows.csv"])
    assert "ages:1.0.0 answered, by `nobody` (not_running): " in result.stderr
    result = predict("ages", "--unit-id", "u", *there, input=FILES["rows.csv"])
    assert "ages:1.0.0 answered; no experiment is about it" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context", "{"], "no JSON object"),
        (["--context", "[]"], "no JSON object"),
        (["--experiment", "A B"], "name"),
    ],
)
def test_a_question_that_makes_no_sense(predict, server, options, message):
    result = predict("trial", *options, "--server", server, input=FILES["rows.csv"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_experiments_need_a_server(predict):
    result = predict("ages", "--unit-id", "u", input=FILES["rows.csv"])
    assert result.exit_code == 2
    assert "--server" in result.stderr
