"""The bucket of tokens: how many pass, and how exact what the others are told is."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.identity import ModelRef
from crossfade.errors import CrossfadeError, QuotaExceededError, SignatureMismatchError
from crossfade.serving.holding import Terms
from crossfade.serving.quota import Quota
from crossfade.serving.waiting import Priority
from crossfade.settings import ModelRules
from tests.serving.fakes import ask
from tests.serving.test_measurements import scrape
from tests.traffic.support import move, publish_all

RATES = st.floats(0.01, 1000.0)


def test_a_second_s_worth_may_come_at_once():
    quota = Quota(10.0)
    assert [quota.take(5.0) for _ in range(12)] == [0] * 10 + [1, 1]
    assert [quota.take(5.3) for _ in range(4)] == [0] * 3 + [1]
    assert [quota.take(1000.0) for _ in range(11)] == [0] * 10 + [1], "a long pause earns no more than a second's worth"


def test_less_than_one_a_second():
    quota = Quota(0.1)
    assert [quota.take(0.0), quota.take(0.0), quota.take(4.5), quota.take(9.0)] == [0, 10, 6, 1]
    assert quota.take(10.0) == 0


def test_refusals_cost_nothing():
    quota = Quota(1.0)
    assert [quota.take(moment / 100) for moment in range(100)] == [0] + [1] * 99
    assert quota.take(1.0) == 0


def test_a_clock_that_goes_back_gives_nothing():
    quota = Quota(1.0)
    assert [quota.take(moment) for moment in (10.0, 5.0, 10.5, 11.0)] == [0, 1, 1, 0]


@pytest.mark.parametrize("rate", [5e-324, 1e-9, 1e9, 1e308])
def test_odd_rates(rate):
    quota = Quota(rate)
    assert quota.take(1.0) == 0
    assert 0 <= quota.take(1.0) <= 86_400


@given(RATES, st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_never_more_than_the_rate_allows(rate, pauses):
    quota, now, passed = Quota(rate), 0.0, []
    for pause in pauses:
        now += pause
        if quota.take(now) == 0:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            allowed = max(Fraction(1), Fraction(rate)) + Fraction(rate) * Fraction(passed[last] - passed[first])
            assert last - first + 1 <= allowed + Fraction(1, 10**6)


@given(RATES, st.lists(st.floats(0, 3), max_size=30))
def test_who_comes_back_when_told_is_answered_and_not_a_second_earlier(rate, pauses):
    quota, now = Quota(rate), 0.0
    for pause in pauses:
        now += pause
        quota.take(now)
    while (wait := quota.take(now)) == 0:
        pass
    if wait > 1:
        assert quota.take(now + wait - 1 - 1e-6) > 0
    assert quota.take(now + wait) == 0


# --- in the service ---


@pytest.fixture
def limited(registry, start):
    for name in ("m", "other"):
        publish_all(registry, name, "1.0.0", "1.0.1")
        move(registry, name, "1.0.0")
    runtime = start(models={"m": ModelRules(max_requests_per_second=0.02)})
    runtime.await_ready(10)
    return runtime


async def test_one_too_many_is_refused_and_counted(limited):
    await ask(limited, "m")
    with pytest.raises(QuotaExceededError) as caught:
        await ask(limited, "m")
    assert caught.value.http_status == 429
    assert caught.value.facts["retry_after_seconds"] in {49, 50}
    assert "at most 0.02 requests a second" in caught.value.message
    with pytest.raises(QuotaExceededError):
        await limited.predictions.hold(ModelRef.parse("m"), Terms(None, Priority.SHADOW))
    slot = limited.slots.find("m", "1.0.0")
    assert slot.counters.shed == {("quota", "online"): 1, ("quota", "shadow"): 1}
    assert slot.counters.errors == {"4xx": 2}
    assert slot.leases == 0
    seen = scrape(limited)
    assert seen[("crossfade_shed_total", *sorted(("1.0.0", "m", "quota", "online")))] == 1


async def test_versions_and_aliases_share_the_quota_of_their_model_and_others_have_their_own(limited):
    await ask(limited, "m:1.0.0")
    with pytest.raises(QuotaExceededError):
        await ask(limited, "m@champion")
    for _ in range(50):
        await ask(limited, "other")


async def test_what_is_not_there_has_no_quota(limited):
    for _ in range(5):
        with pytest.raises(CrossfadeError) as caught:
            await ask(limited, "nobody")
        assert caught.value.http_status == 404
    assert set(limited.predictions._quotas) <= {"m", "other"}


async def test_a_request_that_is_refused_otherwise_counts_too(limited):
    with pytest.raises(SignatureMismatchError):
        await ask(limited, "m", {})
    with pytest.raises(QuotaExceededError):
        await ask(limited, "m")


def test_a_quota_is_no_negative_or_endless_number():
    for odd in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError):
            ModelRules(max_requests_per_second=odd)
