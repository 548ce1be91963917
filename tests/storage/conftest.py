"""Fixtures of the storage tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def crowd():
    """Run a task of `tests.storage.crowd` in many processes at once and return what each returned."""

    def run(task: str, url: str, count: int) -> list:
        command = [sys.executable, "-m", "tests.storage.crowd", task, url, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=110)
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        errors = [answer for answer in answers if isinstance(answer, str)]
        assert not errors, errors[0]
        return answers

    return run
