"""From probabilities to one variant, by a number that belongs to the decision: replayed, it ends the same."""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

_DIGITS = 11
"""What is too much for a float of the 64 bits; with them, rounding could give 1."""
_SCALE = 2.0**-53


def number_of(decision: str, seed: int = 0) -> int:
    """Return the number that a decision is drawn by: 64 bits of hash, the same everywhere and always.

    Args:
        decision: What identifies it, such as the id of the request; for a unit that shall stay where it is, the unit.
        seed: Of the experiment; another one draws everything anew, independently.

    Source:
        xxHash, https://github.com/Cyan4973/xxHash (XXH3, 64 bits).
    """
    return xxh3_64_intdigest(decision.encode("utf-8", "surrogatepass"), seed)


def draw(probabilities: Sequence[float], number: int) -> int:
    """Return the position that a number falls on, when it is uniform over 64 bits: each with its probability.

    Example:
        >>> [draw([0.25, 0.75], number) for number in (0, 2**62 - 1, 2**62, 2**64 - 1)]
        [0, 0, 1, 1]
    """
    left = (number >> _DIGITS) * _SCALE
    for position, probability in enumerate(probabilities):
        left -= probability
        if left < 0:
            return position
    # probabilities sum to 1 up to rounding; what falls beyond belongs to the last that can happen at all
    return max(position for position, probability in enumerate(probabilities) if probability > 0)
