"""Many processes at once on one database: `python -m tests.storage.crowd TASK URL PROCESSES`.

A program of its own, with one thread, because only such a program may fork safely. Prints one JSON list with what each
process returned, or the error it died of.
"""

import json
import multiprocessing
import sys
import traceback
from datetime import UTC, datetime

from crossfade.storage.changes import commit_change
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate


def main(task: str, url: str, count: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=work, args=(task, url, barrier, results)) for _ in range(count)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    print(json.dumps(answers))


def work(task: str, url: str, barrier, results) -> None:
    try:
        barrier.wait()
        results.put({"migrate": start, "write": write}[task](url))
    except BaseException:
        results.put(traceback.format_exc())
        raise


def start(url: str) -> bool:
    """Do what every process does when it starts."""
    database = open_database(url, pool_size=2)
    migrated = migrate(database)
    assert database.revision() == 0
    database.close()
    return migrated


def write(url: str) -> list[int]:
    """Commit five changes."""
    database = open_database(url, pool_size=2)
    revisions = []
    for _ in range(5):
        with database.write() as connection:
            number = commit_change(
                connection,
                kind="test",
                model="churn",
                subject="churn",
                principal="ada",
                action="test",
                details={},
                now=datetime.now(UTC),
            )
        revisions.append(number)
        assert database.revision() >= number
    database.close()
    return revisions


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
