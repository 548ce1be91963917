"""The hash is what it says it is, today and after an upgrade, and its samples are as random as they must be."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from crossfade.errors import UnknownHashError
from crossfade.traffic.allocation.hashing import HASH, SLOTS, check_hash, seed_of, slot_of
from tests.traffic.allocation.support import cases

P_TOO_SMALL = 1e-4


def slots(salt, units=40_000, prefix="user"):
    seed = seed_of(salt)
    return np.array([slot_of(f"{prefix}-{number}", seed) for number in range(units)])


def test_vectors_from_outside():
    for case in cases("hashing/xxh3_vectors.json")["cases"]:
        assert seed_of(case["salt"]) == int(case["seed"])
        assert slot_of(case["unit"], int(case["seed"])) == case["slot16384"]


def test_vectors_that_stay():
    # units live in these slots; a change of library must not move them
    assert seed_of("exp1") == 1329641804803722490
    assert [slot_of(unit, seed_of("exp1")) for unit in ("user-1", "", "日本")] == [143, 1123, 6455]


def test_an_unknown_hash_is_refused_never_replaced():
    assert check_hash(HASH) == "xxh3-v1"
    for name in ("xxh3-v2", "murmur3", "", "XXH3-V1", "x" * 1000):
        with pytest.raises(UnknownHashError) as refused:
            check_hash(name)
        assert "anew" in refused.value.hint
        assert len(refused.value.message) < 200


def test_half_a_surrogate_pair_is_no_unit():
    with pytest.raises(UnicodeEncodeError):
        slot_of("\ud800", 1)


@pytest.mark.parametrize("salt", ["late", "checkout.v3", "layer/checkout", "ü", "a"])
@pytest.mark.parametrize("prefix", ["user", "0", "7f3a-44c1"])
def test_slots_are_uniform(salt, prefix):
    found = slots(salt, prefix=prefix)
    assert found.min() >= 0
    assert found.max() < SLOTS
    coarse = np.bincount(found // 64, minlength=SLOTS // 64)
    assert stats.chisquare(coarse).pvalue > P_TOO_SMALL


def test_every_slot_is_reached():
    assert len(Counter(slots("late", units=400_000).tolist())) == SLOTS


@pytest.mark.parametrize(
    ("one", "other"), [("late", "later"), ("exp1", "exp2"), ("late", "layer/late"), ("a", "b"), ("exp1", "exp1 ")]
)
def test_salts_are_independent(one, other):
    table = np.zeros((16, 16))
    np.add.at(table, (slots(one) // 1024, slots(other) // 1024), 1)
    assert stats.chi2_contingency(table).pvalue > P_TOO_SMALL


def test_three_salts_are_jointly_independent():
    # pairwise independence is not enough: exclusive-or of two bits is independent of either
    bits = [slots(salt) // 8192 for salt in ("one", "two", "three")]
    eighths = np.bincount(bits[0] * 4 + bits[1] * 2 + bits[2], minlength=8)
    assert stats.chisquare(eighths).pvalue > P_TOO_SMALL
