"""The whole demo as people run it: a process of its own, a real server, real flights."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple
from unittest.mock import MagicMock

import httpx
import pytest
from click.testing import CliRunner

from crossfade.cli.demo.command import demo

pytestmark = pytest.mark.slow

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


class Told(NamedTuple):
    """What became of a demo that was watched to its end, and ended with Ctrl-C.

    Args:
        stdout, stderr: What it wrote.
        home: Its folder.
        exit_code: Its own.
        ready: What its server said of itself when the story was over.
        answers: What the commands answered that it suggests at the end.
        servers: How many there were then.
    """

    stdout: str
    stderr: str
    home: Path
    exit_code: int
    ready: int
    answers: tuple[str, ...]
    servers: int


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The story, told once at reduced size."""
    home, errors = tmp_path_factory.mktemp("demo") / "home", tmp_path_factory.mktemp("errors") / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command(home, *QUICK, *STORM), stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            line, shown = await_output(process, "The server keeps running", seconds=400)
        except AssertionError as never:
            raise AssertionError(f"{never}\n{errors.read_text()}\n{last_lines(home / 'server.log')}") from None
        else:
            url = re.search(r"http://\S+", line)[0]
            suggestions = [process.stdout.readline() for _ in range(5)]
            answers = tuple(answer_to(suggestion.strip()) for suggestion in suggestions)
            ready, servers = httpx.get(f"{url}/readyz").status_code, len(children_in(home))
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            exit_code = process.wait(60)
    return Told("".join((shown, *suggestions, rest)), errors.read_text(), home, exit_code, ready, answers, servers)


def last_lines(log, characters=4_000):
    return log.read_text()[-characters:] if log.exists() else "the server wrote no log"


def answer_to(suggestion):
    """Return what a command that the demo suggests answers."""
    quiet = suggestion.replace("curl", "curl -sf", 1)
    return subprocess.run(quiet, shell=True, capture_output=True, text=True, check=True).stdout


@pytest.mark.timeout(480)
def test_every_promise_was_kept(told):
    assert "Every request got an answer, and the broken version gave none." in told.stdout
    assert "The experiment made 1.1.0 the champion, and the bandit kept to its floor." in told.stdout
    assert "The rollout took 1.3.0 back before it was champion, and made 1.3.1 the champion." in told.stdout
    assert "The config was approved by somebody else than its author, and everybody runs it." in told.stdout
    assert told.stderr == ""
    asked, unanswered = re.search(r"([\d,]+) requests, \d+ a second, ([\d,]+) without an answer", told.stdout).groups()
    assert int(asked.replace(",", "")) > 50
    assert unanswered == "0"


def test_the_broken_version_was_refused_for_its_golden_requests(told):
    assert re.search(r"error: .*flight_delay:1\.1\.1.*golden", told.stdout, re.DOTALL)
    assert re.search(r"answers: 1\.0\.0 [\d,]+, 1\.1\.0 [\d,]+, 1\.1\.1 0, 1\.2\.0 \d+, ", told.stdout, re.MULTILINE)


def test_the_experiment_was_decided_by_the_server_and_shipped(told):
    assert re.search(r"After [\d,]+ flights and \d+ s it was decided: ship weather", told.stdout)
    assert "`weather` is significantly better on `log_loss`" in told.stdout
    assert "champion moved from 1.0.0 to 1.1.0, by rollout flight_delay-1" in told.stdout
    assert "late_flights" in (told.home / "late_flights.html").read_text()


def test_the_bandit_shows_its_weights_and_what_it_came_to(told):
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        assert re.search(rf"{re.escape(version)}  weight 0\.\d+  best with a chance of", told.stdout)
    assert re.search(r"learned from [\d,]+ flights; [\d,]+ landed and gained", told.stdout)


def test_the_version_with_the_subtle_error_was_rolled_back_by_a_check(told):
    assert re.search(r"After [\d,]+ flights and \d+ s 1\.3\.0 was rolled back, by controller", told.stdout)
    assert re.search(r"check `unsafe` failed: \d+ of \d+ requests of 1\.3\.0 were answered unsafely", told.stdout)
    assert re.search(r"After [\d,]+ flights and \d+ s 1\.3\.1 was completed, by controller", told.stdout)
    assert '"weight": 0.1' in (told.home / "canary.json").read_text()


def test_the_config_was_approved_rolled_out_and_followed(told):
    assert "written by demo, approved by reviewer" in told.stdout
    assert "desk-ewr runs version 1, and should run 3" in told.stdout
    assert "2 clients run what they should, nobody differs" in told.stdout


def test_it_teaches_the_commands(told):
    for line in (
        "$ crossfade models alias flight_delay champion 1.1.0",
        "$ crossfade models rollback flight_delay",
        "$ crossfade experiments start late_flights",
        "$ crossfade experiments start best_teller",
        "$ crossfade rollouts create flight_delay 1.3.0 --plan ",
        "$ crossfade configs drift delay_alerts",
        ">>> client.register('flight_delay', model",
    ):
        assert line in told.stdout


def test_it_is_honest_about_the_data(told):
    for fact in (
        "336,776",
        "January to October (13,668 flights)",
        "8,255 were cancelled",
        "1,175 diverted",
        "always the same rate",
    ):
        assert fact in told.stdout


def test_no_line_has_control_characters_or_is_wide(told):
    assert "\x1b" not in told.stdout
    lines = told.stdout.replace(str(told.home), "HOME").splitlines()
    to_copy = "  curl "  # in one piece, however wide
    assert [line for line in lines if len(line) > 120 and not line.startswith(to_copy)] == []


def test_nothing_is_left_running(told):
    assert children_in(told.home) == []


def test_it_stays_until_ctrl_c_and_what_it_suggests_works(told):
    assert (told.ready, told.servers > 0) == (200, True)
    assert all(told.answers)
    assert told.exit_code == 0


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


@pytest.mark.parametrize("once", [True, False])
def test_it_stays_only_when_it_shall(tmp_path, monkeypatch, once):
    from crossfade.cli.demo import story

    stayed = []
    for name in ("_prepare", "_register", "_live", "_conclude"):
        monkeypatch.setattr(story.Story, name, lambda *_: MagicMock())
    monkeypatch.setattr(story.Story, "_server", lambda *_: nullcontext("http://127.0.0.1:1"))
    monkeypatch.setattr(story.Story, "_leave_running", lambda *_: stayed.append(True))
    CliRunner().invoke(demo, ["--home", str(tmp_path / "home"), *(["--once"] if once else [])], catch_exceptions=False)
    assert stayed == ([] if once else [True])


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
