from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.storage.times import from_text, to_text

offsets = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone)
moments = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=offsets,
)


@given(moments)
def test_a_time_comes_back(moment):
    text = to_text(moment)
    assert len(text) == 27
    assert text.isascii()
    assert from_text(text) == moment
    assert from_text(text).tzinfo is UTC
    assert to_text(from_text(text)) == text


@given(moments, moments)
def test_text_sorts_as_time_does(one, other):
    assert (to_text(one) < to_text(other)) == (one < other)
    assert (to_text(one) == to_text(other)) == (one == other)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        to_text(datetime(2026, 1, 31))  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31T09:30:00Z",
        "2026-01-31T09:30:00.000Z",
        "2026-01-31 09:30:00.000000Z",
        "2026-01-31T09:30:00.000000z",
        "2026-01-31T09:30:00.000000+",
        "2026-13-31T09:30:00.000000Z",
        "2026-01-31T09:30:00.000000Z ",
        "20260131T093000.0000000000Z",
        "2026-01-31T09:30+00:00:00Z0",
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(ValueError):
        from_text(text)
