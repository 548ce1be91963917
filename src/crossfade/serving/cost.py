"""`CostModel`: how long a model takes for a batch, learned from the batches that it has answered."""

from __future__ import annotations

_MEMORY = 0.98
"""Weight of a batch after one more: about the last fifty count."""
_SPREAD = 1e-9
"""Below this relative variance of rows, a line through the batches says nothing about its slope."""


class CostModel:
    """Fits `seconds = slope * rows + intercept` by least squares over recent batches, older ones fading.

    It caps batches and refuses what cannot be answered in time; nothing ever waits because of it. One thread at a time
    observes; any may ask.

    Args:
        seconds: What one row is known to take; 0 when nothing is known.

    Example:
        >>> cost = CostModel()
        >>> for rows in (10, 20, 30): cost.observe(rows, 0.001 * rows + 0.005)
        >>> round(cost.seconds(100), 3)
        0.105

    Source: exponentially weighted recursive least squares with one regressor (Ljung, System Identification, 11.2).
    """

    __slots__ = ("_line", "_sums")

    def __init__(self, seconds: float = 0.0) -> None:
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._line = (0.0, seconds)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one batch."""
        weight, n, t, nn, nt = (_MEMORY * value for value in self._sums)
        weight, n, t, nn, nt = weight + 1.0, n + rows, t + seconds, nn + rows * rows, nt + rows * seconds
        self._sums = (weight, n, t, nn, nt)
        spread = weight * nn - n * n
        slope = (weight * nt - n * t) / spread if spread > _SPREAD * nn * weight else t / max(n, 1.0)
        slope = min(max(slope, 0.0), t / max(n, 1.0))  # neither slope nor intercept is negative in the world
        self._line = (slope, (t - slope * n) / weight)

    def seconds(self, rows: int, batches: int = 1) -> float:
        """Estimate how long `rows` take that are split over a number of batches."""
        slope, intercept = self._line
        return slope * rows + intercept * batches
