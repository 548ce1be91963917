"""`Signals`: what rules can read inside of this process, each source asked once for all rules of a turn."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from crossfade.traffic.health import Health

MODELS_SECONDS = 600
"""Models that were asked within so long are looked at."""
_LATE_SECONDS = 10.0
"""How late what a process reports may be."""
_MUCH = 1_000
"""Requests above which a window hardly changes within moments, and takes a while to read."""
_KEPT_SECONDS = 300.0
_LONGEST = 1_000.0
"""Seconds of counters that are remembered: the longest window of a counter, and a bit."""

Key = tuple[tuple[str, str], ...]
"""Labels of a series, in order."""
Series = dict[str, dict[Key, float]]
"""Name of a sample -> labels -> value."""


class Known(NamedTuple):
    """Something that holds.

    Attributes:
        labels: What it is about.
        reason: In words.
        value: A number for it.
    """

    labels: dict[str, str]
    reason: str
    value: float = 1.0


KNOWN_LABELS = frozenset({"alert", "config", "experiment", "model", "subject"})
"""What `Known.labels` names."""
Source = Callable[[], Iterable[Known]]
"""Lists what holds; whatever it does not list does not hold."""


class HealthWindows(Protocol):
    """How versions do; `traffic.health.HealthLog` is one."""

    def window(self, seconds: float, *, model: str, coarse: bool) -> Health:
        """Return how all versions of a model did during the last seconds."""

    def models(self, seconds: float) -> list[tuple[str, str]]:
        """List (model, version) of whatever was asked during the last seconds."""


class Signals:
    """The sources of one process.

    Args:
        health: How versions do, in the whole fleet.
        metrics: Renders the metrics of this server; None where nothing is served.
        sources: Name -> what holds of it.
        monotonic: The clock of windows.
    """

    def __init__(
        self,
        health: HealthWindows,
        metrics: Callable[[], bytes] | None,
        sources: Mapping[str, Source],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._sources = dict(sources)
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        self._listed_at: float | None = None
        self._windows: dict[tuple[str, float], tuple[float, Health]] = {}
        self._history: deque[tuple[float, Series]] = deque()
        self._series: Series | None = None

    def look(self, counters: Iterable[str]) -> None:
        """Begin a turn: read the metrics of this server, and remember these counters."""
        self._series = None if self._metrics is None else parsed(self._metrics().decode())
        if self._series is None:
            return
        now = self._monotonic()
        self._history.append((now, {name: self._series.get(name, {}) for name in counters}))
        while self._history[0][0] < now - _LONGEST:
            self._history.popleft()

    def models(self) -> list[str]:
        """List the models that were asked lately.

        Raises:
            UnavailableError: The database does not answer.
        """
        now = self._monotonic()
        ago = MODELS_SECONDS if self._listed_at is None else min(MODELS_SECONDS, now - self._listed_at + _LATE_SECONDS)
        self._seen |= dict.fromkeys((model for model, _ in self._health.models(max(ago, _LATE_SECONDS))), now)
        self._seen = {model: at for model, at in self._seen.items() if now - at < MODELS_SECONDS}
        self._listed_at = now
        return sorted(self._seen)

    def window(self, model: str, seconds: float) -> Health:
        """Return how a model did; a long window with much in it is not read anew in every turn.

        Raises:
            UnavailableError: The database does not answer.
        """
        now = self._monotonic()
        known = self._windows.get((model, seconds))
        fresh = 0.0 if known is None or known[1].requests < _MUCH else min(seconds / 60, _KEPT_SECONDS)
        if known is None or now - known[0] >= fresh:
            known = self._windows[model, seconds] = (now, self._health.window(seconds, model=model, coarse=True))
            time.sleep(0)  # requests go first: otherwise they wait until the interpreter forces a switch
        return known[1]

    def level(self, metric: str) -> dict[Key, float] | None:
        """Return a metric of this server as it is; None when there is nothing to read."""
        return None if self._series is None else self._series.get(metric, {})

    def increase(self, metric: str, seconds: float) -> dict[Key, float] | None:
        """Return by how much a counter has grown in a window, or since it is looked at; None before a second look."""
        if self._series is None or len(self._history) < 2:
            return None
        begin = self._monotonic() - seconds
        _, before = next(each for each in self._history if each[0] >= begin)
        old, new = before[metric], self._series.get(metric, {})
        # one that is new, or smaller than before, has begun anew
        return {key: value - old[key] if old.get(key, math.inf) <= value else value for key, value in new.items()}

    def known(self, source: str) -> list[Known] | None:
        """Return what holds of a source; None when this process has no such source.

        Raises:
            CrossfadeError: It cannot be read now.
        """
        found = self._sources.get(source)
        return None if found is None else list(found())


def parsed(text: str) -> Series:
    """Return the samples of the Prometheus text format by name."""
    from prometheus_client.parser import text_string_to_metric_families

    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found
