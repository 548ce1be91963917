"""Burn rates: how fast an error budget goes.

Source: Beyer et al., The Site Reliability Workbook, 2018, chapter 5.
"""

from __future__ import annotations


def burn_rate(bad: int, of: int, objective: float) -> float | None:
    """Return how many times faster than allowed the budget goes; None when nothing happened.

    Args:
        bad: What failed.
        of: All that happened.
        objective: Share that shall be good, between 0 and 1.

    Example:
        >>> burn_rate(2, 100, 0.99)
        2.0
    """
    return None if of <= 0 else bad / of / round(1 - objective, 12)
