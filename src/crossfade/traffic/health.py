"""`HealthLog`: how every version does, reported by the processes that serve it, without any outside server.

Each process writes down every second what each of its versions has done since it last did so. Whoever wants to know
adds up: the whole fleet over a window, or what is new since they last looked. Seconds are kept for minutes, minutes
for hours, hours for days; a process writes a coarser report together with the last finer one that it is the sum of, so
that a window reads few rows and counts nothing twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec
from sqlalchemy import delete, insert, select

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import InvalidWindowError
from crossfade.storage.database import Database
from crossfade.storage.tables import health

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of latency that monitoring is shown; the fast end is finer than is usual, because models are fast."""
_PARTS = 16
"""Between two of them, growing alike: 4 to 6 % apart, which is how exact quantiles are."""
LATENCY_BOUNDS = (
    *(SECONDS[0] / 16 * 16 ** (part / (2 * _PARTS)) for part in range(2 * _PARTS)),
    *(low * (high / low) ** (part / _PARTS) for low, high in pairwise(SECONDS) for part in range(_PARTS)),
    SECONDS[-1],
)
"""Upper bounds of latency, in seconds, that are counted apart."""
PINNED = "/pinned"
"""After the semver of a version: requests that named it, or another alias than the champion."""
SHADOW = "/shadow"
"""After the semver of a version: what it did with copies of requests."""


LATE_SECONDS = 120
"""What is reported so much later than what others did meanwhile is no evidence any more: nothing is left that it could
be compared with. A database that is busy delays reports by a minute at most."""


_LEAST_SECONDS = 10.0
"""What came within less says little about how many come."""


class Tier(NamedTuple):
    """How long a report is, and how long it is kept."""

    seconds: int
    kept_seconds: int


TIERS = (Tier(1, 600), Tier(60, 25_200), Tier(3600, 4 * 86_400))


class Counts(msgspec.Struct, array_like=True):
    """What one version did in one process for a while.

    Args:
        requests: All that were meant for it.
        errors: That failed because of it or of the server (5xx).
        refused: That it refused (4xx).
        fallbacks: That another version had to answer in its stead.
        unsafe: Answers that were unsafe.
        batches, batch_rows, busy_seconds: Calls of the model.
        latency: Place among `LATENCY_BOUNDS` -> answered requests that took so long.
        queue_depth: Requests that wait for it, at the end.
        memory_bytes: Charged to it, at the end.
        cpu_seconds: Processor time of its replicas, when it has some.
    """

    requests: int = 0
    errors: int = 0
    refused: int = 0
    fallbacks: int = 0
    unsafe: int = 0
    batches: int = 0
    batch_rows: int = 0
    busy_seconds: float = 0.0
    latency: dict[int, int] = {}
    queue_depth: int = 0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0

    def add(self, later: Counts) -> None:
        """Count what happened later in the same process, too."""
        self.add_up(later)
        self.queue_depth, self.memory_bytes = later.queue_depth, later.memory_bytes

    def add_up(self, other: Counts) -> None:
        """Count what happened elsewhere, too; what was at the end stays."""
        self.requests += other.requests
        self.errors += other.errors
        self.refused += other.refused
        self.fallbacks += other.fallbacks
        self.unsafe += other.unsafe
        self.batches += other.batches
        self.batch_rows += other.batch_rows
        self.busy_seconds += other.busy_seconds
        self.cpu_seconds += other.cpu_seconds
        for place, count in other.latency.items():
            self.latency[place] = self.latency.get(place, 0) + count

    def slower_than(self, seconds: float) -> int:
        """Return how many answers took longer, as exactly as the bounds are."""
        first = bisect_right(LATENCY_BOUNDS, seconds)
        return sum(count for place, count in self.latency.items() if place >= first)

    def __bool__(self) -> bool:
        """Tell whether anything happened."""
        return bool(self.requests or self.batches)


class Health(Counts):
    """What one version did in the whole fleet during a window.

    Args:
        seconds: How long the window is.
        processes: How many processes reported something.

    Example:
        >>> Health(requests=200, errors=1, latency={0: 199}, seconds=60).error_rate
        0.005
    """

    seconds: float = 0.0
    processes: int = 0

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return sum(self.latency.values())

    @property
    def requests_per_second(self) -> float:
        """How many requests a second there were."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def error_rate(self) -> float | None:
        """The fraction of requests that failed because of it or the server; None without requests."""
        return self._of_requests(self.errors)

    @property
    def refused_rate(self) -> float | None:
        """The fraction that it refused."""
        return self._of_requests(self.refused)

    @property
    def fallback_rate(self) -> float | None:
        """The fraction that another version answered."""
        return self._of_requests(self.fallbacks)

    @property
    def unsafe_rate(self) -> float | None:
        """The fraction that was answered unsafely."""
        return self._of_requests(self.unsafe)

    @property
    def utilisation(self) -> float | None:
        """How many calls of the model were under way at a time, on average."""
        return self.busy_seconds / self.seconds if self.seconds else None

    @property
    def batch_size(self) -> float | None:
        """Rows per call of the model."""
        return self.batch_rows / self.batches if self.batches else None

    @property
    def p50_seconds(self) -> float | None:
        """Half of the answers were as fast; None without answers."""
        return self.quantile(0.5)

    @property
    def p95_seconds(self) -> float | None:
        """95 % were as fast."""
        return self.quantile(0.95)

    @property
    def p99_seconds(self) -> float | None:
        """99 % were as fast."""
        return self.quantile(0.99)

    def quantile(self, fraction: float) -> float | None:
        """Return the upper bound of the time that this fraction of the answers took; infinite beyond the last bound."""
        wanted, reached = fraction * self.answered, 0
        for place, count in sorted(self.latency.items()):
            reached += count
            if reached and reached >= wanted:
                return LATENCY_BOUNDS[place] if place < len(LATENCY_BOUNDS) else float("inf")
        return None

    def _of_requests(self, count: int) -> float | None:
        return count / self.requests if self.requests else None


Versions = dict[str, Counts]
"""Semver (with `SHADOW` or `PINNED`) -> counts."""
_decode = msgspec.msgpack.Decoder(Versions).decode


class HealthReport(msgspec.Struct, frozen=True):
    """One model in one process for a while, until `at_us`."""

    process: str
    at_us: int
    versions: Versions


class HealthLog:
    """Reports of all processes, in the database.

    Args:
        database: Where they are.
        clock: What time it is.

    Example:
        >>> log.window(60, model="churn", version="1.1.0").error_rate  # doctest: +SKIP
        0.002
    """

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def write(self, process: str, at_us: int, reports: Mapping[int, Mapping[str, Versions]]) -> None:
        """Write down the reports of a process, together.

        Args:
            process: Which.
            at_us: Until when they count; later than all before of this process.
            reports: Seconds of the tier -> model -> versions.
        """
        rows = [
            {"tier": tier, "model": model, "at_us": at_us, "process": process, "body": msgspec.msgpack.encode(versions)}
            for tier, models in reports.items()
            for model, versions in models.items()
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(insert(health), rows)

    def prune(self) -> None:
        """Forget what is old."""
        now = _microseconds(self._clock())
        with self._database.write() as connection:
            for tier in TIERS:
                old = (health.c.tier == tier.seconds) & (health.c.at_us < now - tier.kept_seconds * 1_000_000)
                connection.execute(delete(health).where(old))

    def window(self, seconds: float, *, model: str, version: str = "", coarse: bool = False) -> Health:
        """Return how a version, or all versions of a model, did during the last seconds.

        Args:
            seconds: How long the window is.
            model: Which.
            version: Empty for all of them.
            coarse: The window may begin up to a minute earlier, which takes a tenth of the time where it is short.

        Raises:
            InvalidWindowError: It is longer than reports are kept.
        """
        found = self.windows(seconds, model=model, coarse=coarse)
        if version:
            return found.get(version, Health(seconds=seconds))
        total = Health(seconds=seconds)
        for name, part in found.items():
            if not name.endswith(SHADOW):
                _join(total, part)
        return total

    def pace(self, seconds: float, *, model: str) -> float:
        """Return how many requests a second come to a model: during the last seconds, or since the first of them.

        Raises:
            InvalidWindowError: It is longer than reports are kept.
        """
        tier = _finest(seconds)
        reports = self._cover(seconds, model, tier)
        if not reports:
            return 0.0
        counted = (counts for each in reports for name, counts in each.versions.items() if not name.endswith(SHADOW))
        there = (_microseconds(self._clock()) - reports[0].at_us) / 1e6 + tier.seconds
        return sum(counts.requests for counts in counted) / min(max(there, _LEAST_SECONDS), seconds)

    def windows(self, seconds: float, *, model: str, coarse: bool = False) -> dict[str, Health]:
        """Return how each version of a model did during the last seconds.

        Raises:
            InvalidWindowError: It is longer than reports are kept.
        """
        found: dict[str, Health] = {}
        newest: dict[tuple[str, str], Counts] = {}
        finest = _finest(seconds)
        for report in self._cover(seconds, model, max(finest, TIERS[1]) if coarse else finest):
            for name, counts in report.versions.items():
                version = name.removesuffix(PINNED)
                found.setdefault(version, Health(seconds=seconds)).add_up(counts)
                newest[version, report.process] = counts
        for (version, _), counts in newest.items():
            found[version].processes += 1
            found[version].queue_depth += counts.queue_depth
            found[version].memory_bytes += counts.memory_bytes
        return found

    def since(self, cursors: Mapping[str, int], first_us: int, *, model: str) -> list[HealthReport]:
        """Return the reports that are new, oldest first; what comes later than `LATE_SECONDS` is not among them.

        Args:
            cursors: Process -> `at_us` of its report that was read last.
            first_us: Where to begin with a process that has none.
            model: Which.
        """
        newest = min(_microseconds(self._clock()), max(cursors.values(), default=first_us))  # a clock may be ahead
        oldest = max(first_us, newest - LATE_SECONDS * 1_000_000)
        return self._read(model, TIERS[0], oldest, cursors)

    def models(self, seconds: float) -> list[tuple[str, str]]:
        """List (model, version) of whatever was asked during the last seconds.

        Raises:
            InvalidWindowError: It is longer than reports are kept.
        """
        tier, start = _finest(seconds), self._start(seconds)
        names = select(health.c.model).where(health.c.tier.in_(_up_to(tier)), health.c.at_us > start).distinct()
        with self._database.read() as connection:
            found = connection.scalars(names).all()
        return sorted((name, version) for name in found for version in self.windows(seconds, model=name))

    def _cover(self, seconds: float, model: str, finest: Tier) -> list[HealthReport]:
        """Return reports that together say everything about the last seconds, once, oldest first."""
        tiers, start = _up_to(finest), self._start(seconds)
        covered = defaultdict[str, int](int)
        found: list[HealthReport] = []
        for span in reversed(tiers):
            tier = next(tier for tier in TIERS if tier.seconds == span)
            reports = self._read(model, tier, start, dict(covered))
            for report in reports:
                covered[report.process] = max(covered[report.process], report.at_us)
            found += reports
        return sorted(found, key=lambda report: report.at_us)

    def _read(
        self, model: str, tier: Tier, after_us: int, cursors: Mapping[str, int] | None = None
    ) -> list[HealthReport]:
        query = select(health.c.process, health.c.at_us, health.c.body).order_by(health.c.at_us)
        query = query.where(health.c.tier == tier.seconds, health.c.model == model, health.c.at_us > after_us)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        known = cursors or {}
        return [
            HealthReport(process, at_us, _decode(body))
            for process, at_us, body in rows
            if at_us > known.get(process, 0)
        ]

    def _start(self, seconds: float) -> int:
        return _microseconds(self._clock()) - int(seconds * 1e6)


def _finest(seconds: float) -> Tier:
    for tier in TIERS:
        if 0 < seconds <= tier.kept_seconds:
            return tier
    raise InvalidWindowError(seconds=seconds, longest=TIERS[-1].kept_seconds)


def _up_to(tier: Tier) -> list[int]:
    return [each.seconds for each in TIERS if each.seconds <= tier.seconds]


def _join(total: Health, part: Health) -> None:
    total.add_up(part)
    total.queue_depth += part.queue_depth
    total.memory_bytes += part.memory_bytes
    total.processes = max(total.processes, part.processes)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)


def merge_into(total: dict[str, Versions], later: Mapping[str, Versions]) -> None:
    """Add later reports of one process, model -> versions, to earlier ones."""
    for model, versions in later.items():
        known = total.setdefault(model, {})
        for version, counts in versions.items():
            known.setdefault(version, Counts()).add(counts)


def added(reports: Iterable[HealthReport], version: str) -> Counts:
    """Return what one version did in all of these reports."""
    total = Counts()
    for report in reports:
        counts = report.versions.get(version)
        if counts is not None:
            total.add_up(counts)
    return total
