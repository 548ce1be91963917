"""Kill the process of a ledger again and again, at random moments, and compare what is stored with what was promised.

A producer tells of every acknowledgement over a pipe, to a process that outlives it. Each run is a fork of this one,
which has imported everything and has no threads. Between runs some journals get a torn end. Run by
`make stress ARGS=ledger`, and in small by a test.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select, text

from crossfade.core.identity import new_id
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.ledger import Ledger, now_us
from crossfade.settings import LedgerSettings
from crossfade.storage.database import Database, open_database
from crossfade.storage.filesystem import LocalFileSystem
from crossfade.storage.frames import marker_of, pack_frame
from crossfade.storage.migrate import migrate
from crossfade.storage.segments import list_segments, segment_name
from crossfade.storage.tables import exposures, ledger_gaps, ledger_journals, outcomes

PRODUCERS = 4
LONGEST_RUN_SECONDS = 0.15
TORN_SHARE = 0.3
_COUNTS = struct.Struct("QQ")


@dataclass
class Outcomes:
    """What a campaign found."""

    kills: int = 0
    events_acknowledged: int = 0
    events_stored: int = 0
    exposures_made: int = 0
    exposures_stored: int = 0
    exposures_known_lost: int = 0
    torn_bytes: int = 0
    truncated_bytes: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


def open_ledger(database: Database, folder: Path) -> Ledger:
    return Ledger(database, LedgerSettings(poll_seconds=0.02), folder, fold=count_events)


def count_events(connection: Connection, new_exposures: list[Exposure], new_outcomes: list[Outcome]) -> dict[str, int]:
    """Count in the transaction what is said to be new: an event that counts twice would show."""
    update = text("UPDATE folded SET exposures = exposures + :exposures, outcomes = outcomes + :outcomes")
    connection.execute(update, {"exposures": len(new_exposures), "outcomes": len(new_outcomes)})
    return {}


# --- the process that is killed --------------------------------------------------------------------------------------


def produce(url: str, folder: Path, run: int, told: int, counter: Path) -> None:
    """Record and expose until somebody kills this process."""
    ledger = open_ledger(open_database(url), folder)
    ledger.start()
    threads = [threading.Thread(target=_record, args=(ledger, run, number, told)) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    _expose(ledger, run, counter)


def _record(ledger: Ledger, run: int, producer: int, told: int) -> None:
    chance = random.Random(f"{run}.{producer}")
    done = 0
    while True:
        count = chance.choice((1, 10, 200))
        batch = [
            Outcome(f"{run}.{producer}.{number}", now_us(), "late", 1.0, experiment=f"e{run}", unit="u")
            for number in range(done, done + count)
        ]
        ledger.record(batch)
        done += count
        os.write(told, f"{producer} {done}\n".encode())


def _expose(ledger: Ledger, run: int, counter: Path) -> None:
    """Expose, and count before and after in a file of our own that outlives us."""
    with counter.open("r+b") as file, mmap.mmap(file.fileno(), _COUNTS.size) as memory:
        counts = memoryview(memory).cast("Q")  # `pack_into` clears first, and may be killed just then
        made = 0
        while True:
            counts[0] = made + 1
            ledger.expose(Exposure(new_id(), now_us(), f"e{run}", 1, "control", f"unit-{made}"))
            made += 1
            counts[1] = made
            if made % 50 == 0:
                time.sleep(0.001)


# --- the process that kills ------------------------------------------------------------------------------------------


def campaign(url: str, home: Path, kills: int, seed: int) -> Outcomes:
    """Kill `kills` times; returns what was found, with the violations."""
    chance, found, started = random.Random(seed), Outcomes(kills=kills), time.monotonic()
    folder = home / "ledger"
    database = open_database(url)
    migrate(database)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE folded (exposures BIGINT, outcomes BIGINT)"))
        connection.execute(text("INSERT INTO folded VALUES (0, 0)"))
    database.close()
    acknowledged: dict[tuple[int, int], int] = {}
    made: dict[int, tuple[int, int]] = {}
    for run in range(kills):
        counter = home / "counter"
        counter.write_bytes(bytes(_COUNTS.size))
        _kill_one(url, folder, run, counter, chance, acknowledged)
        most, least = _COUNTS.unpack(counter.read_bytes())
        made[run] = (least, most)
        if chance.random() < TORN_SHARE:
            found.torn_bytes += _tear(folder, chance)
    found.truncated_bytes = _ship_the_rest(url, folder)
    _verify(url, folder, acknowledged, made, found)
    found.seconds = round(time.monotonic() - started, 1)
    return found


def _kill_one(
    url: str,
    folder: Path,
    run: int,
    counter: Path,
    chance: random.Random,
    acknowledged: dict[tuple[int, int], int],
) -> None:
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        try:
            produce(url, folder, run, told, counter)
        finally:
            os._exit(1)
    os.close(told)
    said = os.read(hears, 65_536)  # kill it at any time after its first acknowledgement
    until = time.monotonic() + chance.uniform(0, LONGEST_RUN_SECONDS)
    os.set_blocking(hears, False)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))
        said += _read(hears)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.set_blocking(hears, True)
    while piece := os.read(hears, 65_536):
        said += piece
    os.close(hears)
    for line in said.decode().splitlines():
        producer, done = line.split()
        acknowledged[run, int(producer)] = int(done)


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65_536)
    except BlockingIOError:
        return b""


def _tear(folder: Path, chance: random.Random) -> int:
    """Give the journal that was written last an end as a crash in the middle of a write leaves it; return its bytes."""
    found = list_segments(LocalFileSystem(), folder)
    if not found:
        return 0
    journal = max(found)
    path = folder / segment_name(journal, max(found[journal]))
    frame = pack_frame(marker_of(path.name), 10**9, chance.randbytes(chance.randrange(1, 5_000)))
    torn = chance.choice((frame[: chance.randrange(1, len(frame))], bytes(100), chance.randbytes(300)))
    with path.open("ab") as file:
        file.write(torn)
    return len(torn)


def _ship_the_rest(url: str, folder: Path) -> int:
    database = open_database(url)
    ledger = open_ledger(database, folder)
    ledger.start()
    deadline = time.monotonic() + 120
    while list(folder.glob("*.log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    ledger.close()
    database.close()
    return ledger.counts.truncated_bytes


def _verify(
    url: str,
    folder: Path,
    acknowledged: dict[tuple[int, int], int],
    made: dict[int, tuple[int, int]],
    found: Outcomes,
) -> None:
    database = open_database(url)
    with database.read() as connection:
        _verify_outcomes(connection, acknowledged, found)
        _verify_exposures(connection, made, found)
        folded = tuple(connection.execute(text("SELECT exposures, outcomes FROM folded")).one())
        left = connection.scalars(select(ledger_journals.c.journal).where(~ledger_journals.c.finished)).all()
    database.close()
    if folded != (found.exposures_stored, found.events_stored):
        found.violations.append(f"{folded} were folded, {found.exposures_stored, found.events_stored} are stored")
    if left or list(folder.iterdir()):  # a finished journal is forgotten at once, or after a day
        found.violations.append(f"left behind: {left} {sorted(path.name for path in folder.iterdir())}")


def _verify_outcomes(connection: Connection, acknowledged: dict[tuple[int, int], int], found: Outcomes) -> None:
    stored: dict[tuple[int, int], list[int]] = defaultdict(list)
    for name in connection.scalars(select(outcomes.c.id)):
        run, producer, number = map(int, name.split("."))
        stored[run, producer].append(number)
    for key, done in acknowledged.items():
        found.events_acknowledged += done
        if not set(range(done)) <= set(stored[key]):
            found.violations.append(f"acknowledged outcomes of {key} are lost")
    for key, numbers in stored.items():
        found.events_stored += len(numbers)
        if sorted(numbers) != list(range(len(numbers))):
            found.violations.append(f"outcomes of {key} have a hole, or come twice")


def _verify_exposures(connection: Connection, made: dict[int, tuple[int, int]], found: Outcomes) -> None:
    stored = Counter(int(name[1:]) for name in connection.scalars(select(exposures.c.experiment)))
    lost: Counter[str] = Counter()
    for gap in connection.execute(select(ledger_gaps)).mappings():
        if gap["reason"] not in {"crash", "dropped"} or gap["count"] is None:
            found.violations.append(f"a gap that nothing explains: {dict(gap)}")
        lost[gap["experiment"]] += gap["count"] or 0
    for run, (least, most) in made.items():
        known = stored[run] + lost[f"e{run}"]
        found.exposures_made += most
        found.exposures_stored += stored[run]
        found.exposures_known_lost += lost[f"e{run}"]
        if not least <= known <= most:
            found.violations.append(f"run {run} made {least} to {most} exposures; {known} are stored or known lost")


def main() -> int:
    """Run a campaign on the database and in the folder that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("home", type=Path)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = campaign(options.url, options.home, options.kills, options.seed)
    print(json.dumps(asdict(found)))
    return bool(found.violations)


if __name__ == "__main__":
    sys.exit(main())
