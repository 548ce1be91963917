"""`Ownership`: which slot belongs to whom, as state that is revised by as few transfers as possible.

Thresholds on a hash move units that nobody asked to move: from (.8, .1, .1) to (.6, .2, .2), cumulative ranges shift a
tenth of all units between owners that should not exchange any. Here an owner that shrinks gives up its last slots, one
that grows takes slots that never had an owner, and, when those run out, some that had; nobody else moves. The order of
the slots needs no shuffling: which units a slot holds is already random, by the seed of the salt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle

import msgspec

from crossfade.traffic.allocation.hashing import SLOTS

FRESH = -1
"""Nobody has ever owned the slot."""
FREED = -2
"""Somebody has owned the slot: its units remember what they were given (carry-over)."""
NOBODY = 255
"""What a table says of both."""
MAX_OWNERS = NOBODY
TOLERANCE = 1e-9
"""Far below a slot; sums of decimal fractions are off by less."""


class Run(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Neighbouring slots with one owner: in JSON `[how many, owner]`, the owner being a position, `-1` or `-2`."""

    length: int
    owner: int


class Ownership(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who owns which of the 16,384 slots.

    Args:
        names: The owners.
        shares: What each of them is meant to own, as a fraction of all slots.
        runs: All slots, from the first to the last.

    Example:
        >>> half = Ownership().transfer({"control": 0.25, "treatment": 0.25})
        >>> half.transfer({"control": 0.25, "treatment": 0.5}).counts()
        {'control': 4096, 'treatment': 8192}
    """

    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    runs: tuple[Run, ...] = (Run(SLOTS, FRESH),)

    def __post_init__(self) -> None:
        """Refuse what `transfer` cannot have made.

        Raises:
            ValueError: The first thing that is wrong; msgspec makes a ValidationError of it.
        """
        for problem in _problems(self):
            raise ValueError(problem)

    def share(self, name: str) -> float:
        """Return what an owner is meant to own; 0 for a stranger."""
        return self.shares[self.names.index(name)] if name in self.names else 0.0

    def counts(self) -> dict[str, int]:
        """Return how many slots each owner has."""
        counts = _counts(self.runs, len(self.names))
        return dict(zip(self.names, counts, strict=True))

    def table(self) -> bytes:
        """Return the owner of every slot as a byte: its position, or 255 for nobody."""
        return b"".join(bytes((run.owner if run.owner >= 0 else NOBODY,)) * run.length for run in self.runs)

    def transfer(self, shares: Mapping[str, float]) -> Ownership:
        """Return who owns what when the owners are meant to have these shares; whoever is not named leaves.

        No slot leaves an owner whose share does not shrink, and no more slots move than have to.

        Args:
            shares: Owner -> fraction of all slots, together at most 1.

        Raises:
            ValueError: A share is no fraction, they are more than everything, or there are too many owners.
        """
        for problem in _problems_of_shares(tuple(shares), tuple(shares.values())):
            raise ValueError(problem)
        names = (*self.names, *(name for name in shares if name not in self.names))
        wanted = tuple(float(shares.get(name, 0.0)) for name in names)
        had = _counts(self.runs, len(names))
        changes = [share - self.share(name) for name, share in zip(names, wanted, strict=True)]
        kept = [count if change >= -TOLERANCE else 0 for count, change in zip(had, changes, strict=True)]
        quotas = _quotas(wanted, kept, [abs(change) <= TOLERANCE for change in changes])
        less = {i: had[i] - quotas[i] for i in range(len(names)) if quotas[i] < had[i]}
        more = {i: quotas[i] - had[i] for i in range(len(names)) if quotas[i] > had[i]}
        runs = _merged(_given(_merged(_freed(self.runs, less)), more))
        staying = [i for i, name in enumerate(names) if name in shares]
        position = {i: new for new, i in enumerate(staying)}
        return Ownership(
            tuple(names[i] for i in staying),
            tuple(wanted[i] for i in staying),
            tuple(Run(run.length, position.get(run.owner, run.owner)) for run in runs),
        )


def _counts(runs: Iterable[Run], owners: int) -> list[int]:
    counts = [0] * owners
    for run in runs:
        if run.owner >= 0:
            counts[run.owner] += run.length
    return counts


def _quotas(shares: Sequence[float], kept: Sequence[int], steady: Sequence[bool]) -> list[int]:
    """Return whole numbers of slots by largest remainder (Hamilton's method).

    Args:
        shares: What each owner is meant to have.
        kept: What it has at least: rounding takes nothing from somebody who does not shrink while others change.
        steady: Who stays as it is, and is rounded anew only when nobody else can be.
    """
    exact = [share * SLOTS for share in shares]
    quotas = [
        least if stays else max(math.floor(value + TOLERANCE), least)
        for value, least, stays in zip(exact, kept, steady, strict=True)
    ]
    # the largest remainder first; ties go by position, so that the same shares always give the same slots
    order = sorted(range(len(exact)), key=lambda i: (steady[i], quotas[i] - exact[i], i))
    total = min(round(sum(exact)), SLOTS)
    for i in cycle(i for i in order if exact[i] > 0):
        if sum(quotas) >= total:
            break
        quotas[i] += 1
    while sum(quotas) > SLOTS:  # what others keep by rounding is missing here: whoever may shrink gives a slot
        i = max((i for i in order if quotas[i] > kept[i]), key=lambda i: (quotas[i] - exact[i], i))
        quotas[i] -= 1
    return quotas


def _freed(runs: Sequence[Run], less: dict[int, int]) -> Iterator[Run]:
    """Take slots from owners, their last ones first; yields the runs from the first to the last."""
    result: list[Run] = []
    for run in reversed(runs):
        taken = min(less.get(run.owner, 0), run.length)
        if taken:
            less[run.owner] -= taken
            result.append(Run(taken, FREED))
        if run.length > taken:
            result.append(Run(run.length - taken, run.owner))
    return reversed(result)


def _given(runs: Iterable[Run], more: dict[int, int]) -> list[Run]:
    """Give free slots to owners, the first ones first: those without a past as long as there are any."""
    given = list(runs)
    for kind in (FRESH, FREED):
        left = given
        given = []
        for run in left:
            rest = run.length
            while run.owner == kind and rest and more:
                owner = next(iter(more))
                taken = min(more[owner], rest)
                given.append(Run(taken, owner))
                rest -= taken
                more[owner] -= taken
                if not more[owner]:
                    del more[owner]
            if rest:
                given.append(Run(rest, run.owner))
    return given


def _merged(runs: Iterable[Run]) -> list[Run]:
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].owner == run.owner:
            merged[-1] = Run(merged[-1].length + run.length, run.owner)
        else:
            merged.append(run)
    return merged


def _problems(ownership: Ownership) -> Iterator[str]:
    yield from _problems_of_shares(ownership.names, ownership.shares)
    if any(run.length < 1 or not FREED <= run.owner < len(ownership.names) for run in ownership.runs):
        yield "a run is empty, or has an owner that does not exist"
    if (length := sum(run.length for run in ownership.runs)) != SLOTS:
        yield f"the runs are {length} slots long, and there are {SLOTS}"


def _problems_of_shares(names: tuple[str, ...], shares: tuple[float, ...]) -> Iterator[str]:
    if len(names) > MAX_OWNERS:
        yield f"there are {len(names)} owners, and {MAX_OWNERS} are possible"
    if len(set(names)) != len(names) or len(names) != len(shares):
        yield "an owner is there twice, or without a share"
    for name, share in zip(names, shares, strict=False):
        if not 0 <= share <= 1:  # which NaN is not either
            yield f"`{name}` has the share {share}, and 0 to 1 is possible"
    if sum(shares) > 1 + TOLERANCE:
        yield f"the shares sum to {sum(shares):.6g}, and there is 1"
