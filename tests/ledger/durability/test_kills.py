"""A shorter `make stress ARGS=ledger`: twenty kills, on each database."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.ledger.events import Exposure, Outcome
from tests.stress import kills


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "count"), [("sqlite", 20), ("postgres", 6)])
def test_what_was_acknowledged_survives_every_kill(request, kind, count, tmp_path):
    url = request.getfixturevalue(f"{kind}_url")
    command = [sys.executable, "-m", "tests.stress.kills", url, str(tmp_path), "--kills", str(count)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=280, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == count
    assert found["events_acknowledged"] > 50 * count
    assert found["exposures_stored"] > 0


def verified(sqlite, sqlite_url, folder, acknowledged, made=None):
    from sqlalchemy import text

    with sqlite.write() as connection:
        connection.execute(text("CREATE TABLE folded (exposures BIGINT, outcomes BIGINT)"))
        connection.execute(text("INSERT INTO folded VALUES (0, 0)"))
    folder.mkdir()
    ledger = kills.open_ledger(sqlite, folder)
    ledger.record([Outcome(f"0.0.{number}", kills.now_us(), "late", 1.0, "d") for number in (0, 1, 2)])
    ledger.expose(Exposure("a", kills.now_us(), "e0", 1, "control", "u"))
    ledger.close()
    found = kills.Outcomes()
    kills._verify(sqlite_url, folder, acknowledged, made or {0: (1, 1)}, found)
    return found.violations


def test_the_judge_passes_what_is_right(sqlite, sqlite_url, folder):
    assert verified(sqlite, sqlite_url, folder, {(0, 0): 3}) == []


def test_the_judge_notices_a_lost_outcome(sqlite, sqlite_url, folder):
    assert "lost" in verified(sqlite, sqlite_url, folder, {(0, 0): 4})[0]


@pytest.mark.parametrize("made", [{0: (2, 2)}, {0: (0, 0)}])
def test_the_judge_notices_exposures_that_nobody_accounts_for(sqlite, sqlite_url, folder, made):
    assert "stored or known lost" in verified(sqlite, sqlite_url, folder, {(0, 0): 3}, made)[0]
