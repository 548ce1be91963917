"""From a unit to its slot: `xxh3-v1`, the named hash of every stored allocation.

A salt becomes a seed, `xxh3_64(salt)`; a unit becomes `xxh3_64(unit, seed)`, both over UTF-8; the top 14 bits are its
slot. The units of a slot are therefore a random sample that only the salt decides, and other salts give samples that
have nothing to do with it.

Source: xxHash, https://github.com/Cyan4973/xxHash (XXH3, 64 bits).
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from crossfade.errors import UnknownHashError

HASH = "xxh3-v1"
"""Stored with every allocation. Another algorithm gets another name: a unit never changes its slot silently."""
SLOTS = 16_384
SHIFT = 50
"""64 bits of hash, without the 14 bits of a slot."""


def check_hash(name: str) -> str:
    """Return the name of a hash when this release knows it.

    Raises:
        UnknownHashError: It does not, so that it cannot tell where units belong.
    """
    if name != HASH:
        raise UnknownHashError(hash=name[:40], known=HASH)
    return name


def seed_of(salt: str) -> int:
    """Return the seed that a salt stands for.

    Example:
        >>> seed_of("exp1")
        1329641804803722490
    """
    return xxh3_64_intdigest(salt.encode())


def slot_of(unit: str, seed: int) -> int:
    """Return the slot of a unit, 0 to 16,383.

    Raises:
        UnicodeEncodeError: The unit is no text that UTF-8 can write: it holds half of a surrogate pair.

    Example:
        >>> slot_of("user-1", seed_of("exp1"))
        143
    """
    return xxh3_64_intdigest(unit.encode(), seed) >> SHIFT
