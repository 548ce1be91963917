"""`crossfade deployments`: each verb in its formats, with its hint and its exit code, without a server and with one."""

import json

import httpx
import pytest
from click.testing import CliRunner

from crossfade.cli.deployments import _bytes
from crossfade.cli.main import main
from tests import control
from tests.traffic.support import eventually


@pytest.fixture
def deployments(cli):
    """Runs `crossfade deployments`, on a registry with two versions of `tiny`."""
    cli.register(1.0)
    cli.register(2.0)
    cli("models", "alias", "tiny", "champion", "1.0.0")
    return lambda *words, **options: cli("deployments", *words, **options)


def test_the_life_of_a_deployment(deployments):
    made = deployments(
        *("deploy", "tiny:1.0.0", "--replicas", 2, "--max-replicas", 4, "--memory", "512Mi", "--cpu", 1),
        *("--probe-interval", 5, "--target", 0.5, "--no-rollback", "--reason", "busy"),
    )
    assert made.exit_code == 0, made.output
    assert "2 to 4 in each process, 50% busy" in made.stdout
    assert "1 processors, 512 MiB" in made.stdout
    assert "hint: see whether it comes up with `crossfade deployments status tiny_production`" in made.stderr
    listed = deployments("list")
    assert "tiny_production  tiny:1.0.0  production   deploying  2 to 4    busy" in listed.stdout
    shown = deployments("status", "tiny_production")
    assert "no serving process runs it" in shown.stderr
    health = deployments("health", "tiny_production")
    assert "60 s" in health.stdout
    gone = deployments("undeploy", "tiny_production", "--reason", "quiet")
    assert gone.exit_code == 0
    assert "forgotten  quiet" in gone.stdout
    assert deployments("list").stdout == ""


def test_formats_for_programs(deployments):
    made = deployments("deploy", "tiny@champion", "--name", "web", "--environment", "staging", "--format", "json")
    spec = json.loads(made.stdout)["spec"]
    assert (spec["version"], spec["environment"], spec["name"]) == ("champion", "staging", "web")
    assert deployments("list", "--format", "quiet").stdout == "web\n"
    assert deployments("status", "web", "--format", "quiet").stdout == "web\n"
    assert json.loads(deployments("status", "web", "--format", "json").stdout)["processes"] == []
    assert len(json.loads(deployments("health", "web", "--format", "json").stdout)["windows"]) == 3


def test_a_specification_in_a_file(deployments, tmp_path):
    spec = tmp_path / "web.toml"
    spec.write_text('name = "web"\nmodel = "tiny"\nversion = "1.0.1"\n[replicas]\nmin = 3\n')
    assert "tiny:1.0.1" in deployments("deploy", "--file", spec).stdout
    both = deployments("deploy", "tiny:1.0.0", "--file", spec)
    neither = deployments("deploy")
    assert (both.exit_code, neither.exit_code) == (2, 2)
    spec.write_text("name = 3")
    assert deployments("deploy", "--file", spec).exit_code == 2


def test_rehearsing_changes_nothing(deployments):
    would = deployments("deploy", "tiny:1.0.0", "--dry-run")
    assert "would run tiny:1.0.0 with 1 to 1 replicas in each process of `production`" in would.stdout
    assert deployments("list").stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("status", "absent"), 3, "there is no deployment `absent`"),
        (("deploy", "tiny:9.9.9"), 3, "`tiny:9.9.9` is not registered"),
        (("deploy", "tiny:1.0.0", "--replicas", "3", "--max-replicas", "2"), 2, "fewer than at least 3"),
        (("deploy", "tiny:1.0.0", "--memory", "lots"), 2, "no amount of memory"),
        (("deploy", "tiny:1.0.0", "--target", "nan"), 2, "error:"),
        (("undeploy", "absent"), 3, "there is no deployment"),
    ],
)
def test_refusals_have_a_code_and_a_hint(deployments, words, code, told):
    result = deployments(*words)
    assert result.exit_code == code
    assert told in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1000), ("512Mi", 2**29), ("4G", 4 * 10**9), ("1.5gib", 3 * 2**29), ("2 KiB", 2048), ("0", 0)],
)
def test_amounts_of_memory(text, expected):
    assert _bytes(text) == expected


def test_on_a_server_it_comes_up_and_is_seen(tmp_path):
    """From nothing to two ready replicas, over the command line, the data plane and the metrics."""
    home = control.registered_home(tmp_path, "1.0.0", "1.0.1")
    with control.running_server(home, CROSSFADE_SERVING__HEARTBEAT_SECONDS="0.2") as server:

        def run(*words, code=0):
            result = CliRunner().invoke(main, ["deployments", *words, "--server", server.url])
            assert result.exit_code == code, result.output
            return result.stdout + result.stderr

        def status(name):
            found = json.loads(run("status", name, "--format", "json").partition("\nhint:")[0])
            return found["deployment"], [process["report"] for process in found["processes"]]

        run("deploy", "tiny:1.0.0", "--name", "web", "--replicas", "2", "--probe-interval", "1")
        run("deploy", "tiny:1.0.1", "--name", "small", "--memory", "1Mi")
        assert "cannot have its GPUs" in run("deploy", "tiny:1.0.1", "--name", "small", "--gpu", "64", code=4)
        eventually(lambda: [report["replicas"]["ready"] for report in status("web")[1]] == [2], 60)
        answer = httpx.post(f"{server.url}/api/v1/predict/tiny", json={"rows": [{"x": [1.0, 2.0]}]})
        assert answer.status_code == 200, answer.text
        assert "2/2" in run("status", "web")
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'crossfade_replicas{model="tiny",state="ready",version="1.0.0"} 2.0' in metrics
        eventually(lambda: status("small")[0]["status"] == "failed", 60)
        assert "small" in run("list", "--status", "failed")
        eventually(lambda: '"requests":1,' in run("health", "web", "--format", "json"), 30)
