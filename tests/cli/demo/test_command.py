"""The whole demo as people run it: a process of its own, a real server, real flights."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from crossfade.cli.demo.command import demo

QUICK = ["--train-every", "20"]
STORM = ["--first-day", "8", "--watch", "0.5"]
"""Days on which a few hundred flights tell which version is better."""


def command(home, *arguments):
    return [sys.executable, "-m", "crossfade", "demo", "--home", str(home), *arguments]


def children_in(home):
    """Return the pids of servers that run on this home."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"CROSSFADE_HOME={home}".encode() in environment.split(b"\0"):
                found.append(int(folder.name))
    return found


@pytest.fixture(autouse=True)
def handlers():
    """The command sets signal handlers of its process, which here is the tests' own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def await_output(process, pattern, seconds=90):
    lines = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        line = process.stdout.readline()
        lines.append(line)
        if re.search(pattern, line):
            return line, "".join(lines)
        if not line and process.poll() is not None:
            break
    raise AssertionError(f"{pattern} was never written:\n{''.join(lines)}")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The story, told once at reduced size."""
    home = tmp_path_factory.mktemp("demo") / "home"
    done = subprocess.run(
        command(home, *QUICK, *STORM, "--once"), capture_output=True, text=True, timeout=400, check=False
    )
    log = home / "server.log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text()[-3000:] if log.exists() else ''}"
    return done, home


@pytest.mark.timeout(420)
def test_every_promise_was_kept(told):
    done, _ = told
    assert "Every request got an answer, and the broken version gave none." in done.stdout
    assert "The experiment made 1.1.0 the champion, and the bandit kept to its floor." in done.stdout
    assert "The rollout took 1.3.0 back before it was champion, and made 1.3.1 the champion." in done.stdout
    assert "The config was approved by somebody else than its author, and everybody runs it." in done.stdout
    assert done.stderr == ""
    asked, unanswered = re.search(r"([\d,]+) requests, \d+ a second, ([\d,]+) without an answer", done.stdout).groups()
    assert int(asked.replace(",", "")) > 50
    assert unanswered == "0"


def test_the_broken_version_was_refused_for_its_golden_requests(told):
    done, _ = told
    assert re.search(r"error: .*flight_delay:1\.1\.1.*golden", done.stdout, re.DOTALL)
    assert re.search(r"answers: 1\.0\.0 [\d,]+, 1\.1\.0 [\d,]+, 1\.1\.1 0, 1\.2\.0 \d+, ", done.stdout, re.MULTILINE)


def test_the_experiment_was_decided_by_the_server_and_shipped(told):
    done, home = told
    assert re.search(r"After [\d,]+ flights and \d+ s it was decided: ship weather", done.stdout)
    assert "`weather` is significantly better on `log_loss`" in done.stdout
    assert "champion moved from 1.0.0 to 1.1.0, by auto" in done.stdout
    assert "late_flights" in (home / "late_flights.html").read_text()


def test_the_bandit_shows_its_weights_and_what_it_came_to(told):
    done, _ = told
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        assert re.search(rf"{re.escape(version)}  weight 0\.\d+  best with a chance of", done.stdout)
    assert re.search(r"learned from [\d,]+ flights; [\d,]+ landed and gained", done.stdout)


def test_the_version_with_the_subtle_error_was_rolled_back_by_a_check(told):
    done, home = told
    assert re.search(r"After [\d,]+ flights and \d+ s 1\.3\.0 was rolled back, by controller", done.stdout)
    assert re.search(r"check `unsafe` failed: \d+ of \d+ requests of 1\.3\.0 were answered unsafely", done.stdout)
    assert re.search(r"After [\d,]+ flights and \d+ s 1\.3\.1 was completed, by controller", done.stdout)
    assert '"weight": 0.1' in (home / "canary.json").read_text()


def test_the_config_was_approved_rolled_out_and_followed(told):
    done, _ = told
    assert "written by demo, approved by reviewer" in done.stdout
    assert "desk-ewr runs version 1, and should run 3" in done.stdout
    assert "2 clients run what they should, nobody differs" in done.stdout


def test_it_teaches_the_commands(told):
    done, _ = told
    for line in (
        "$ crossfade models alias flight_delay champion 1.1.0",
        "$ crossfade models rollback flight_delay",
        "$ crossfade experiments start late_flights",
        "$ crossfade experiments start best_teller",
        "$ crossfade rollouts create flight_delay 1.3.0 --plan ",
        "$ crossfade configs drift delay_alerts",
        ">>> client.register('flight_delay', model",
    ):
        assert line in done.stdout


def test_it_is_honest_about_the_data(told):
    done, _ = told
    for fact in (
        "336,776",
        "January to October (13,668 flights)",
        "8,255 were cancelled",
        "1,175 diverted",
        "always the same rate",
    ):
        assert fact in done.stdout


def test_no_line_has_control_characters_or_is_wide(told):
    done, home = told
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.replace(str(home), "HOME").splitlines() if len(line) > 120] == []


def test_nothing_is_left_running(told):
    _, home = told
    assert children_in(home) == []


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_it_stays_until_ctrl_c_and_what_it_suggests_works(tmp_path):
    arguments = command(tmp_path / "home", *QUICK, *STORM)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            line, _ = await_output(process, "The server keeps running", seconds=400)
            url = re.search(r"http://\S+", line)[0]
            suggestions = [process.stdout.readline().strip() for _ in range(5)]
            for suggestion in suggestions:
                answer = subprocess.run(
                    suggestion.replace("curl", "curl -sf", 1), shell=True, capture_output=True, text=True, check=True
                )
                assert answer.stdout
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert children_in(tmp_path / "home")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert children_in(tmp_path / "home") == []


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_sigterm_in_the_middle_stops_the_server_too(tmp_path):
    arguments = command(tmp_path / "home", *QUICK, "--once", "--watch", "60")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            await_output(process, "Replay every")
            assert children_in(tmp_path / "home")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
    assert children_in(tmp_path / "home") == []


# --- without a server ---


def test_a_broken_promise_is_exit_code_one(tmp_path, monkeypatch):
    from crossfade.cli.demo import story

    monkeypatch.setattr(story.Story, "tell", lambda self: ["1 of 100 requests got no answer"])
    assert CliRunner().invoke(demo, ["--once", "--home", str(tmp_path)]).exit_code == 1


def test_a_folder_of_somebody_else_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    result = CliRunner().invoke(demo, ["--once", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a demo's folder" in result.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_ctrl_c_before_the_server_starts(tmp_path, monkeypatch):
    from crossfade.cli.demo import story

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(story.Story, "_prepare", interrupted)
    assert CliRunner().invoke(demo, ["--home", str(tmp_path / "home")]).exit_code == 130


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from click.testing import CliRunner; from crossfade.cli.demo import demo;"
        "assert CliRunner().invoke(demo, ['--help']).exit_code == 0;"
        "print([m for m in ('pandas', 'sklearn', 'xgboost', 'rich', 'httpx', 'numpy') if m in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"
