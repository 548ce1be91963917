"""The population stability index (PSI) of values that keep coming, against a reference that does not change.

The reference is cut into bins that hold about as much of it each. The last `window` values are counted by bin, and the
index compares shares: the sum over bins of (p - q) · ln(p / q), the symmetrised Kullback-Leibler divergence.

With n values of the reference and m in the window, PSI / (1/n + 1/m) is distributed about as chi-square with one
degree of freedom less than there are bins, when nothing has changed. So a fixed threshold such as 0.25 means something
only for windows that are large enough; `noise` says how large the index is by chance alone.

Source: B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
Validation 14(4), 2020; N. Siddiqi, "Credit Risk Scorecards", Wiley, 2006, for the index and its customary threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import msgspec

_LEAST_SHARE = 1e-4
"""An empty bin counts as if it held so much: the logarithm of nothing is of no use."""


class ReferenceSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What values looked like.

    Args:
        edges: Where one bin ends and the next begins, ascending; a value on an edge belongs to the upper bin.
        shares: Of each bin, one more than there are edges; they add up to 1.
        size: How many values it was made of.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    size: int = 0

    @classmethod
    def of(cls, values: Sequence[float], bins: int = 10) -> ReferenceSample:
        """Return the reference that some values make, in bins of about the same share.

        Raises:
            ValueError: There are fewer than ten per bin, or one is not finite.

        Example:
            >>> ReferenceSample.of(range(100), bins=4).edges
            (25.0, 50.0, 75.0)
        """
        numbers = sorted(map(float, values))
        if len(numbers) < 10 * bins or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a reference needs at least {10 * bins} finite values")
        edges = tuple(sorted({numbers[len(numbers) * number // bins] for number in range(1, bins)}))
        counts = [0] * (len(edges) + 1)
        for number in numbers:
            counts[bisect_right(edges, number)] += 1
        return cls(edges, tuple(count / len(numbers) for count in counts), len(numbers))

    def problem(self) -> str:
        """Say what is wrong with it; empty when nothing is."""
        numbers = (*self.edges, *self.shares)
        if not self.edges or len(self.shares) != len(self.edges) + 1 or not all(map(math.isfinite, numbers)):
            return "a reference has at least one finite edge, and one share more than edges"
        if any(a >= b for a, b in pairwise(self.edges)):
            return "edges ascend"
        if any(share < 0 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            return "shares are not negative and add up to 1"
        return "" if self.size >= 0 else "a size is not negative"

    def noise(self, window: int) -> float:
        """Return how large the index of a full window is by chance alone, on average."""
        return len(self.edges) * (1 / window + (1 / self.size if self.size else 0.0))


def stability_index(reference: ReferenceSample, counts: Sequence[int]) -> float:
    """Return the index of values counted by bin; 0 for none.

    Example:
        >>> even = ReferenceSample((0.0,), (0.5, 0.5))
        >>> stability_index(even, [50, 50]), round(stability_index(even, [90, 10]), 3)
        (0.0, 0.879)
    """
    size = sum(counts)
    if not size:
        return 0.0
    index = 0.0
    for share, count in zip(reference.shares, counts, strict=True):
        p, q = max(count / size, _LEAST_SHARE), max(share, _LEAST_SHARE)
        index += (p - q) * math.log(p / q)
    return index


class Window:
    """The last values, counted by bin, and whether they have drifted.

    Args:
        reference: What they are compared with.
        size: How many.
        threshold: The index above which they have drifted.

    Attributes:
        index: The newest; None until the window is full.

    The index is calculated once for every twentieth of the window, and holds until the next time.

    Example:
        >>> window = Window(ReferenceSample((0.0,), (0.5, 0.5)), size=20, threshold=0.2)
        >>> [window.add(1.0) for _ in range(20)][-1]
        True
    """

    __slots__ = (
        "_bins",
        "_counts",
        "_edges",
        "_every",
        "_left",
        "_reference",
        "_size",
        "_threshold",
        "drifted",
        "index",
    )

    def __init__(self, reference: ReferenceSample, size: int, threshold: float) -> None:
        self._reference = reference
        self._edges = reference.edges
        self._size = size
        self._threshold = threshold
        self._every = max(size // 20, 1)
        self._left = size
        self._bins: deque[int] = deque()
        self._counts = [0] * len(reference.shares)
        self.index: float | None = None
        self.drifted = False

    def add(self, value: float) -> bool:
        """Take in a value, and tell whether the window has drifted. NaN is in no bin, and changes nothing."""
        if value != value:  # noqa: PLR0124 - NaN
            return self.drifted
        place = bisect_right(self._edges, value)
        self._bins.append(place)
        self._counts[place] += 1
        if len(self._bins) > self._size:
            self._counts[self._bins.popleft()] -= 1
        self._left -= 1
        if self._left <= 0:
            self._left = self._every
            self.index = stability_index(self._reference, self._counts)
            self.drifted = self.index > self._threshold
        return self.drifted
