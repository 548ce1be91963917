"""Events of a unit that are kept beside its sums, because an earlier first exposure would make them count otherwise.

Sums forget the times of their values, and most never matter again. Two kinds may: outcomes before the first exposure
that is known, and values that count for a while after it. They stand in the unit's own row, so that no index over all
raw events is needed to find them when another process ships an exposure that turns out to be the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossfade.ledger.buckets import Integers
from crossfade.ledger.metrics import ERROR, EXPOSURES, FALLBACK, LATENCY, SCORE
from crossfade.ledger.plan import Plan
from crossfade.ledger.sums import ExposureColumns, OutcomeColumns
from crossfade.methods.stats.distributions import Array

MAX_BYTES = 2**18
"""Of the kept events of a unit; what comes after is only summed."""


def kept_exposures(plan: Plan, first: Integers, exposures: ExposureColumns) -> NDArray[np.bool_]:
    """Tell which exposures would not count if their unit had been exposed earlier."""
    longest = max((plan.windows.get(name, -1) for name in exposures.values), default=-1)
    since = exposures.at - first[exposures.units]
    return np.asarray((since >= 0) & (since <= longest))


def kept_outcomes(plan: Plan, first: Integers, outcomes: OutcomeColumns) -> NDArray[np.bool_]:
    """Tell which outcomes would count, or would not, if their unit had been exposed earlier."""
    longest = np.array([plan.windows.get(name, -1) for name in plan.names] or [-1], dtype=np.int64)
    return np.asarray(outcomes.at - first[outcomes.units] <= longest[outcomes.names])


def encode_exposures(exposures: ExposureColumns) -> NDArray[np.int64]:
    """Return one row of 64-bit words for each exposure."""
    values = [exposures.values[name] for name in (LATENCY, ERROR, SCORE, FALLBACK)]
    return _words(exposures.at, np.concatenate(values).T)


def encode_outcomes(outcomes: OutcomeColumns) -> NDArray[np.int64]:
    """Return one row of 64-bit words for each outcome."""
    return _words(outcomes.at, np.stack([outcomes.names.astype(np.float64), outcomes.values, *outcomes.scores], axis=1))


def decode_exposures(plan: Plan, blobs: Sequence[bytes]) -> ExposureColumns:
    """Read kept exposures, one blob for each unit."""
    answers = plan.answerers
    units, at, values = _read(blobs, 3 * answers + 1)
    parts = (values[:, start * answers : (start + 1) * answers].T for start in range(3))
    named = dict(zip((LATENCY, ERROR, SCORE), parts, strict=True))
    return ExposureColumns(units, at, {**named, FALLBACK: values[:, -1:].T, EXPOSURES: np.ones((1, len(at)))})


def decode_outcomes(plan: Plan, blobs: Sequence[bytes]) -> OutcomeColumns:
    """Read kept outcomes, one blob for each unit."""
    units, at, values = _read(blobs, 2 + plan.answerers)
    return OutcomeColumns(units, at, values[:, 0].astype(np.int64), values[:, 1], values[:, 2:].T)


def append(kept: list[bytes], units: Integers, words: NDArray[np.int64]) -> None:
    """Add rows to what is kept of their units."""
    order = np.argsort(units, kind="stable")
    numbers, counts = np.unique(units, return_counts=True)
    data, width = words[order].astype("<i8").tobytes(), words.shape[1] * 8
    ends = np.cumsum(counts)
    for number, start, end in zip(numbers.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
        if len(kept[number]) < MAX_BYTES:
            kept[number] += data[start * width : end * width]


def _words(at: Integers, values: Array) -> NDArray[np.int64]:
    return np.concatenate([at[:, None], np.ascontiguousarray(values).view(np.int64)], axis=1)


def _read(blobs: Sequence[bytes], width: int) -> tuple[Integers, Integers, Array]:
    words = np.frombuffer(b"".join(blobs), dtype="<i8").astype(np.int64).reshape(-1, 1 + width)
    units = np.repeat(np.arange(len(blobs)), [len(blob) // (8 + 8 * width) for blob in blobs])
    return units, words[:, 0], np.ascontiguousarray(words[:, 1:]).view(np.float64)
