"""Several processes that fold at once: `python -m tests.ledger.crowd URL PROCESSES`.

A program of its own, with one thread, because only such a program may fork safely. Each process ships its share of the
exposures and of the outcomes of the same units, in small batches. Prints what processes died of.
"""

import json
import multiprocessing
import sys
import traceback

from crossfade.storage.database import open_database
from tests.ledger.support import Ledger, exposure, outcome

UNITS, ROUNDS = 12, 6


def events():
    """Exposures and outcomes by round, always the same."""
    shown = [
        exposure(f"unit-{unit}", 10 * number + unit % 3, id=f"d-{number}-{unit}", latency_seconds=unit / 10)
        for number in range(ROUNDS)
        for unit in range(UNITS)
    ]
    found = [outcome("delay", float(n), n % 50, of=event, id=f"o-{event.id}") for n, event in enumerate(shown)]
    return shown, found


def main(url: str, count: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=work, args=(url, number, count, barrier, results)) for number in range(count)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    print(json.dumps([answer for answer in answers if answer]))


def work(url: str, number: int, count: int, barrier, results) -> None:
    try:
        database = open_database(url, pool_size=2)
        shown, found = events()
        mixed = sorted(
            [*shown[number::count], *found[(number + 1) % count :: count]], key=lambda event: hash(event.id) % 97
        )
        barrier.wait()
        for start in range(0, len(mixed), 5):
            Ledger(database).ship(*mixed[start : start + 5])
        database.close()
        results.put("")
    except BaseException:
        results.put(traceback.format_exc())
        raise


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
