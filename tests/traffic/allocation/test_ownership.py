"""Slots change owners only as far as they have to, and never away from somebody who does not shrink."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.traffic.allocation.hashing import SLOTS, seed_of, slot_of
from crossfade.traffic.allocation.ownership import FREED, FRESH, NOBODY, Ownership, Run

NAMES = ("a", "b", "c", "d", "e", "f")
SEED = seed_of("property")
SAMPLE = [slot_of(f"unit-{number}", SEED) for number in range(500)]


@st.composite
def shares(draw):
    """Shares of some owners that sum to at most one; often small, often equal, often nothing."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    part = st.one_of(st.sampled_from([0.0, 1.0, 1 / 3, 0.5]), st.floats(0, 1), st.floats(0, 1e-3))
    parts = [draw(part) for _ in names]
    coverage = draw(st.one_of(st.just(1.0), st.floats(0, 1)))
    scale = coverage / max(sum(parts), 1e-9)
    return {name: min(value * scale, 1.0) for name, value in zip(names, parts, strict=True)}


def owner_names(ownership):
    names = [*ownership.names, *[None] * (256 - len(ownership.names))]
    return [names[owner] for owner in ownership.table()]


def owners(ownership):
    """Slot -> position among `NAMES`, or -1."""
    positions = np.full(NOBODY + 1, -1)
    positions[: len(ownership.names)] = [NAMES.index(name) for name in ownership.names]
    return positions[np.frombuffer(ownership.table(), np.uint8)]


def check_transfer(before, after):
    """The promise, over every slot and over sampled units, and that no slot moved for nothing."""
    old, new = owners(before), owners(after)
    lost = sum(max(count - after.counts().get(name, 0), 0) for name, count in before.counts().items())
    assert np.count_nonzero((old >= 0) & (old != new)) == lost
    for name in before.names:
        if after.share(name) >= before.share(name):
            position = NAMES.index(name)
            assert np.all(new[old == position] == position)
            assert all(new[slot] == position for slot in SAMPLE if old[slot] == position)


@settings(max_examples=300, deadline=None)
@given(st.lists(shares(), min_size=2, max_size=6))
def test_no_unit_leaves_an_owner_that_does_not_shrink(sequence):
    ownership = Ownership()
    for wanted in sequence:
        after = ownership.transfer(wanted)
        check_transfer(ownership, after)
        assert after.transfer(wanted) == after
        assert set(after.names) == set(wanted)
        for name, count in after.counts().items():
            # whoever does not shrink keeps what rounding gave it before, so a slot or two more may be off
            assert abs(count - wanted[name] * SLOTS) <= len(NAMES)
        again = msgspec.json.decode(msgspec.json.encode(after), type=Ownership)
        assert again == after
        assert again.table() == after.table()
        ownership = after


@settings(max_examples=100, deadline=None)
@given(shares())
def test_the_first_allocation_is_the_largest_remainder(wanted):
    counts = Ownership().transfer(wanted).counts()
    exact = {name: share * SLOTS for name, share in wanted.items()}
    assert sum(counts.values()) == min(round(sum(exact.values())), SLOTS)
    assert all(math.floor(exact[name] + 1e-9) <= count <= math.ceil(exact[name]) for name, count in counts.items())


def test_a_million_units_over_fifty_ramps():
    units = np.fromiter((slot_of(f"unit-{number}", SEED) for number in range(1_000_000)), np.int64, 1_000_000)
    random = np.random.default_rng(11)
    ownership = Ownership()
    before = np.full(len(units), NOBODY)
    for step in range(50):
        coverage = 0.02 * (step + 1) if step < 40 else random.random()
        weights = random.dirichlet(np.full(4, 0.7)) if step % 3 else np.full(4, 0.25)
        after_ownership = ownership.transfer(
            {name: float(coverage * w) for name, w in zip("abcd", weights, strict=True)}
        )
        after = np.frombuffer(after_ownership.table(), np.uint8)[units].astype(np.int64)
        steady = [
            position
            for position, name in enumerate(ownership.names)
            if after_ownership.share(name) >= ownership.share(name)
        ]
        assert not np.any(np.isin(before, steady) & (before != after))
        found = np.bincount(after, minlength=256)[:4] / len(units)
        assert np.allclose(found, after_ownership.shares, atol=0.003)
        ownership, before = after_ownership, after


def test_thresholds_would_have_moved_a_tenth_of_all_units():
    before = Ownership().transfer({"a": 0.8, "b": 0.1, "c": 0.1})
    after = before.transfer({"a": 0.6, "b": 0.2, "c": 0.2})
    moved = [pair for pair in zip(owner_names(before), owner_names(after), strict=True) if pair[0] != pair[1]]
    assert {was for was, _ in moved} == {"a"}
    assert len(moved) == before.counts()["a"] - after.counts()["a"]


def test_who_shrinks_gives_up_its_last_slots_and_who_grows_takes_fresh_ones_first():
    first = Ownership().transfer({"a": 0.25, "b": 0.25})
    assert first.runs == (Run(4096, 0), Run(4096, 1), Run(8192, FRESH))
    second = first.transfer({"a": 0.125, "b": 0.375})
    assert second.runs == (Run(2048, 0), Run(2048, FREED), Run(6144, 1), Run(6144, FRESH))
    third = second.transfer({"a": 0.125, "b": 0.875})
    assert third.runs == (Run(2048, 0), Run(14336, 1))


def test_rounding_takes_nothing_from_who_keeps_its_share():
    thirds = Ownership().transfer({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert thirds.counts() == {"a": 5462, "b": 5461, "c": 5461}
    after = thirds.transfer({"a": 1 / 3, "b": 1 / 2, "c": 1 / 6})
    assert after.counts() == {"a": 5462, "b": 8192, "c": 2730}


def test_who_stays_as_it_is_is_not_rounded_anew():
    before = Ownership().transfer({"a": 0.1, "b": 0.3})
    after = before.transfer({"a": 0.1, "b": 0.3, "c": 0.5})
    assert (before.counts(), after.counts()) == ({"a": 1639, "b": 4915}, {"a": 1639, "b": 4915, "c": 8192})


def test_who_keeps_by_rounding_is_paid_for_by_who_may_shrink():
    part = 0.6 / SLOTS
    ownership, shares = Ownership(), {}
    for name in "abcdef":
        shares[name] = part
        ownership = ownership.transfer(shares)
    lucky = [name for name, count in ownership.counts().items() if count]
    assert len(lucky) == 4
    ownership = ownership.transfer(dict.fromkeys(lucky, part))
    full = ownership.transfer(dict.fromkeys(lucky, part) | {"rest": 1 - 4 * part})
    assert full.counts() == dict.fromkeys(lucky, 1) | {"rest": SLOTS - 4}


def test_who_leaves_is_forgotten_and_its_slots_are_the_last_to_be_taken():
    full = Ownership().transfer({"a": 0.5, "b": 0.25})
    without = full.transfer({"b": 0.25})
    assert without.names == ("b",)
    assert without.transfer({"b": 0.25, "c": 0.25}).runs == (Run(8192, FREED), Run(4096, 0), Run(4096, 1))


def test_owners_can_come_and_go_for_years():
    ownership = Ownership()
    for number in range(1000):
        ownership = ownership.transfer({f"e{number}": 0.3, f"e{number + 1}": 0.3})
    assert ownership.names == ("e999", "e1000")
    assert len(ownership.runs) < 50


def test_many_small_revisions_do_not_shred_the_slots():
    random = np.random.default_rng(3)
    ownership = Ownership()
    for _ in range(500):
        ownership = ownership.transfer(dict(zip("abcd", random.dirichlet(np.ones(4)).tolist(), strict=True)))
    assert len(json.dumps(msgspec.to_builtins(ownership))) < 100_000


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"a": math.nan}, "share nan"),
        ({"a": math.inf}, "share inf"),
        ({"a": -0.1}, "share -0.1"),
        ({"a": 0.6, "b": 0.6}, "sum to 1.2"),
        ({"a": 1.0000001}, "share 1.0000001"),
        (dict.fromkeys(map(str, range(256)), 0.001), "256 owners"),
    ],
)
def test_impossible_shares_are_refused(wanted, problem):
    with pytest.raises(ValueError, match=problem):
        Ownership().transfer(wanted)


def test_as_many_owners_as_a_byte_can_name():
    full = Ownership().transfer(dict.fromkeys(map(str, range(255)), 1 / 255))
    assert set(full.table()) == set(range(255))


@pytest.mark.parametrize(
    "state",
    [
        {"names": ["a"], "shares": [0.5], "runs": [[16383, 0]]},
        {"names": ["a"], "shares": [0.5], "runs": [[16384, 1]]},
        {"names": ["a"], "shares": [0.5], "runs": [[16384, -3]]},
        {"names": ["a"], "shares": [0.5], "runs": [[0, 0], [16384, -1]]},
        {"names": ["a"], "shares": [0.5], "runs": [[-5, 0], [16389, -1]]},
        {"names": ["a", "a"], "shares": [0.5, 0.5], "runs": [[16384, 0]]},
        {"names": ["a"], "shares": [], "runs": [[16384, 0]]},
        {"names": ["a"], "shares": [2], "runs": [[16384, 0]]},
        {"names": ["a"], "shares": [0.5], "runs": [[16384, 0, 0]]},
        {"names": ["a"], "shares": [0.5], "runs": [[10**30, 0]]},
        {"names": ["a"], "shares": [0.5], "runs": "x", "more": 1},
    ],
)
def test_damaged_state_is_refused(state):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(state), type=Ownership)


def test_nothing_can_be_changed_in_place():
    ownership = Ownership().transfer({"a": 0.5})
    for name in ("names", "shares", "runs"):
        with pytest.raises(AttributeError):
            setattr(ownership, name, ())
    before = ownership.table()
    ownership.transfer({"b": 1.0})
    assert ownership.table() == before
