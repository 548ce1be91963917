"""What one version has done in this process: plain numbers, because a request must not pay for locks.

Prometheus' own counters take a lock per increment; these are read by `measurements` when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from itertools import accumulate

from crossfade.traffic.health import LATENCY_BOUNDS, SECONDS

STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0)
"""The same for the parts of a request: half as many, because every bucket of every version is a series."""
MAX_BATCH_SIZES = 1024
MAX_MEMBER_KINDS = 64
"""Sixteen members, and four things that may become of a row."""
"""Sizes of batches that are counted apart; a version that has seen more counts the others only in its totals."""
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)
"""Upper bounds of the buckets of rows per batch."""


class CacheResult(StrEnum):
    """How a question to the response cache ended."""

    MEMORY = "memory"
    """The answer was in this process."""
    SHARED = "shared"
    """The answer was in the cache that processes share."""
    JOINED = "joined"
    """It was being computed for another request at that moment."""
    COMPUTED = "computed"
    """It was nowhere."""


@cache
def _labels(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(str, bounds), "+Inf")


@cache
def _places(bounds: tuple[float, ...], shown: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(bounds.index(bound) for bound in shown)


class Distribution:
    """Counts values by bucket, as a Prometheus histogram wants them.

    Example:
        >>> seen = Distribution((1.0, 10.0))
        >>> for value in (0.5, 1.0, 99.0): seen.add(value)
        >>> seen.buckets()
        [('1.0', 2.0), ('10.0', 2.0), ('+Inf', 3.0)]
    """

    __slots__ = ("_bounds", "_counts", "_shown", "total")

    def __init__(self, bounds: tuple[float, ...], shown: tuple[float, ...] = ()) -> None:
        """Begin with nothing; `shown` are the bounds that `buckets` has, by default all."""
        self._bounds = bounds
        self._shown = shown or bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def add(self, value: float, times: int = 1) -> None:
        """Count one value, or one that was seen several times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    def counts(self) -> list[int]:
        """Return how many values there are in each bucket, those beyond the last bound at the end."""
        return self._counts.copy()

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, how many values are not above it), ending with `+Inf`."""
        reached = list(accumulate(self._counts))
        ends = [*_places(self._bounds, self._shown), -1]
        return [(label, float(reached[end])) for label, end in zip(_labels(self._shown), ends, strict=True)]


class Timing:
    """How often something happened, and how long it took in all."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class Counters:
    """The counts of one version. Requests are counted on the event loop, batches wherever they run."""

    __slots__ = (
        "answered_at",
        "batch_rows",
        "batch_seconds",
        "batch_sizes",
        "cached",
        "errors",
        "failed_seconds",
        "fallbacks",
        "member_rows",
        "model_seconds",
        "predict_seconds",
        "preprocess_seconds",
        "queue_seconds",
        "rows",
        "seconds",
        "shed",
        "unsafe",
    )

    def __init__(self) -> None:
        self.seconds = Distribution(LATENCY_BOUNDS, SECONDS)
        """Of answered requests: checking, waiting, predicting."""
        self.rows = 0
        self.answered_at = 0.0
        """The last answer, by `time.monotonic`; 0 when there was none."""
        self.errors: dict[str, int] = {}
        """Failed requests by the family of their HTTP status: `4xx`, `5xx`."""
        self.failed_seconds = 0.0
        self.fallbacks = 0
        """Answers given in the stead of a version that was not ready."""
        self.member_rows: dict[tuple[str, str], int] = {}
        """Rows by (member of an ensemble, what became of them)."""
        self.batch_rows = Distribution(ROWS)
        self.batch_sizes: dict[int, Timing] = {}
        """Batches by their exact number of rows."""
        self.batch_seconds = 0.0
        self.model_seconds = 0.0
        """As the requests saw it: a batch of eight requests counts eight times."""
        self.queue_seconds = Distribution(STAGE_SECONDS)
        """Of requests that were given to the model: until their batch began."""
        self.preprocess_seconds = Distribution(STAGE_SECONDS)
        """As the requests saw it: from tensors to what the model takes."""
        self.predict_seconds = Distribution(STAGE_SECONDS)
        """As the requests saw it: the model itself, and its outputs."""
        self.cached = dict.fromkeys(CacheResult, 0)
        """Questions to the response cache."""
        self.shed: dict[tuple[str, str], int] = {}
        """Refused, by (reason, priority): `overload`, late while `waiting` or `running`, or over the `quota`."""
        self.unsafe = 0
        """Requests whose answer its safety policy found UNSAFE or CRITICAL, whatever was given instead; none in
        which it stood in for another version."""

    @property
    def requests(self) -> int:
        """How many requests there were, answered or failed."""
        return self.seconds.count + sum(self.errors.values())

    def count_answer(self, rows: int, seconds: float, at: float) -> None:
        """Count a request that was answered at `at`, by `time.monotonic`."""
        self.seconds.add(seconds)
        self.rows += rows
        self.answered_at = at

    def count_cached(self, result: CacheResult) -> None:
        """Count a question to the response cache."""
        self.cached[result] += 1

    def count_error(self, http_status: int, seconds: float = 0.0) -> None:
        """Count a failed request."""
        family = f"{http_status // 100}xx"
        self.errors[family] = self.errors.get(family, 0) + 1
        self.failed_seconds += seconds

    def count_shed(self, reason: str, priority: str) -> None:
        """Count a request that was refused because there was no time for it, or because it was one too many."""
        self.shed[reason, priority] = self.shed.get((reason, priority), 0) + 1

    def count_members(self, rows: Mapping[tuple[str, str], int]) -> None:
        """Count what became of the rows of one call with each member; no more kinds than an ensemble can have."""
        for kind, count in rows.items():
            if kind in self.member_rows or len(self.member_rows) < MAX_MEMBER_KINDS:
                self.member_rows[kind] = self.member_rows.get(kind, 0) + count

    def count_batch(self, rows: int, seconds: float, requests: int = 1, preprocess_seconds: float = 0.0) -> None:
        """Count one call of the model.

        Args:
            rows: Of all its requests.
            seconds: The whole call.
            requests: How many shared it.
            preprocess_seconds: How much of it went by before the model itself.
        """
        self.batch_rows.add(rows)
        self.preprocess_seconds.add(preprocess_seconds, requests)
        self.predict_seconds.add(seconds - preprocess_seconds, requests)
        self.batch_seconds += seconds
        self.model_seconds += seconds * requests
        timing = self.batch_sizes.get(rows)
        if timing is None:
            if len(self.batch_sizes) >= MAX_BATCH_SIZES:
                return
            timing = self.batch_sizes[rows] = Timing()
        timing.count += 1
        timing.seconds += seconds
