"""`crossfade replay`: from what a real server captured to differences, here and on a server."""

import json
import shutil

import httpx
import pytest
from click.testing import CliRunner

from crossfade.cli.main import main
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control
from tests.traffic.support import eventually

CAPTURE = {"CROSSFADE_CAPTURE__MODELS": '{"tiny": {"ratio": 1}}', "CROSSFADE_CAPTURE__FILE_SECONDS": "0.1"}


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A home with two versions of `tiny`, the second of which answers twice as much, and a server that captured."""
    folder = tmp_path_factory.mktemp("replay")
    home = control.registered_home(folder, "1.0.0", "2.0.0")
    with open_platform(Settings(home=home)) as platform, control.local_client(platform) as client:
        client.move_alias("tiny", "challenger", "2.0.0")
    with control.running_server(home, **CAPTURE) as server:
        for number in range(3):
            tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [number, 1, 0, 0]}
            body = {"id": f"r{number}", "inputs": [tensor]}
            assert httpx.post(f"{server.url}/v2/models/tiny/infer", json=body).status_code == 200
        eventually(lambda: 'captured_rows_total{result="written"} 6.0' in httpx.get(f"{server.url}/metrics").text)
        shutil.copytree(home / "captures", folder / "capture")
        yield home, server, folder / "capture"


@pytest.fixture(params=["here", "server"])
def replay(captured, request):
    home, server, folder = captured

    def run(*args):
        environment = {"CROSSFADE_HOME": str(home), "CROSSFADE_CONFIG": "/dev/null", "CROSSFADE_SERVER": None}
        where = ["--server", server.url] if request.param == "server" else []
        return CliRunner().invoke(main, ["replay", *map(str, args), *where], env=environment)

    run.folder = folder
    return run


def test_the_same_version_answers_the_same(replay):
    result = replay(replay.folder, "--to", "tiny:1.0.0", "--format", "json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["ref"], report["rows"], report["different"]) == ("tiny:1.0.0", 6, 0)
    assert report["captured"] == {"tiny:1.0.0": 6}


def test_what_is_replayed_is_not_captured_again(captured, replay):
    home, server, _ = captured
    before = _files(home)
    assert replay(replay.folder, "--to", "tiny:1.0.0").exit_code == 0
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 1]}
    assert httpx.post(f"{server.url}/v2/models/tiny/versions/2.0.0/infer", json={"inputs": [tensor]}).status_code == 200
    eventually(lambda: _files(home) > before)
    (new,) = _files(home) - before
    assert new.name.startswith("2.0.0-"), "what nobody had asked before"


def test_another_version_differs(replay):
    result = replay(replay.folder, "--to", "tiny@challenger", "--format", "json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    (output,) = report["outputs"].values()
    assert (report["ref"], report["different"], output["equal"], output["max_absolute"]) == ("tiny:2.0.0", 3, 3, 3.0)
    assert output["quantiles"]["0.5"] == pytest.approx(0.5)
    assert "answers 3 of 6 rows differently" in result.stderr


@pytest.mark.parametrize(
    ("options", "code"), [(["--max-different", "0.5"], 0), (["--max-different", "0.4"], 1), (["--tolerance", "1"], 0)]
)
def test_as_much_as_is_allowed_may_differ(replay, options, code):
    assert replay(replay.folder, "--to", "tiny:2.0.0", *options).exit_code == code


def test_people_see_a_table(replay):
    result = replay(replay.folder, "--to", "tiny:1.0.0")
    assert "100.00%" in result.stdout
    assert "answers 0 of 6 rows differently (6 rows of tiny:1.0.0)" in result.stderr


def test_what_cannot_be_replayed_ends_with_the_code_of_its_error(replay, tmp_path):
    nothing = replay(tmp_path, "--to", "tiny:1.0.0")
    assert nothing.exit_code == 2
    assert "`crossfade replay --help`" in nothing.stderr
    assert replay(replay.folder, "--to", "nobody").exit_code == 3
    assert replay(tmp_path / "absent", "--to", "tiny").exit_code == 2


def _files(home):
    return set((home / "captures").rglob("*.parquet"))
