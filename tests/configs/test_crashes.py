"""Processes that are killed between any two steps leave configs that are whole: a change happened, or it did not."""

import random
import subprocess
import sys

import pytest
from sqlalchemy import select

from crossfade.configs.database import DatabaseBoard
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import config_versions
from crossfade.storage.tables import configs as configs_table
from tests.configs.support import make_active, open_configs
from tests.traffic.support import open_registry

LIVES = """
import sys
from pathlib import Path
from tests.configs.support import make_active, open_configs
from tests.traffic.support import open_registry

home, url, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
configs = open_configs(open_registry(home, url))
print("ready", flush=True)
for number in range(first, first + 1000):
    make_active(configs, document={"max": number})
    print(number, flush=True)
    if number % 3 == 0:
        configs.rollback("limits")
"""


def live_and_die(home, url, first, changes):
    """Run a process that changes configs without end; kill it a moment after so many changes. Return the last one."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVES, str(home), url, str(first)], stdout=subprocess.PIPE, text=True, cwd="."
    ) as process:
        assert process.stdout.readline() == "ready\n"
        done = [int(process.stdout.readline()) for _ in range(changes)]
        # it works on the next ones while this goes on
        for _ in range(random.randrange(20_000)):
            pass
        process.kill()
        done += [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    return done[-1]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_kills_between_steps(kind, tmp_path, request):
    url = request.getfixturevalue(f"{kind}_url")
    registry = open_registry(tmp_path, url)
    configs, database = open_configs(registry), registry.backend.database
    make_active(configs, document={"max": 0})
    last = 0
    for changes in (1, 4, 2):
        last = live_and_die(tmp_path, url, last + 1, changes)
        with database.read() as connection:
            verify_audit(connection)
            rows = connection.execute(select(config_versions).order_by(config_versions.c.number)).all()
            config = connection.execute(select(configs_table)).one()
        active = [row.number for row in rows if row.status == "active"]
        assert active == [config.active], "everybody reads one version, and it is the one that says so"
        assert [row.number for row in rows] == list(range(1, len(rows) + 1)), "no number is missing or there twice"
        assert "deploying" not in {row.status for row in rows}, "nothing stays halfway"
        published = DatabaseBoard(database, 1.0).find("limits")
        assert published.versions[0].document == rows[config.active - 1].document
    make_active(configs, document={"max": -1 + 10**6})
    registry.backend.database.close()
