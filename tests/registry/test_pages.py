from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidPageError
from crossfade.registry.pages import MAX_LIMIT, check_limit, number_cursor, page_of, text_cursor


def pages(items, limit):
    """Walk a list that is kept newest first, as a backend would."""
    cursor = ""
    while True:
        before = number_cursor("numbers", cursor)
        found = sorted((item for item in items if item < before), reverse=True)
        page = page_of("numbers", found[: limit + 1], limit, int)
        yield page.items
        if not page.next_cursor:
            return
        cursor = page.next_cursor


@given(st.sets(st.integers(0, 10**17)), st.integers(1, 9))
def test_pages_hold_every_item_once_in_order_and_are_full(items, limit):
    found = list(pages(items, limit))
    assert [item for page in found for item in page] == sorted(items, reverse=True)
    assert all(len(page) == limit for page in found[:-1])
    assert len(found[-1]) > 0 or not items


@given(st.sets(st.integers(0, 100), min_size=3), st.integers(1, 5), st.integers(101, 200))
def test_what_arrives_meanwhile_does_not_shift_the_pages(items, limit, newcomer):
    present = set(items)
    seen = []
    for page in pages(present, limit):
        seen += page
        present.add(newcomer)
    assert seen == sorted(items, reverse=True)


@given(st.text())
def test_a_made_up_cursor_is_empty_refused_or_a_number(cursor):
    try:
        assert 0 <= number_cursor("numbers", cursor) < 2**63
    except InvalidPageError as error:
        assert error.http_status == 422  # noqa: PT017


@pytest.mark.parametrize("key", ["-1", "1.5", "\u0661", "9" * 19, "1e3", ""])
def test_a_number_cursor_holds_a_number(key):
    cursor = base64.urlsafe_b64encode(f"numbers:{key}".encode()).decode()
    with pytest.raises(InvalidPageError):
        number_cursor("numbers", cursor)


@pytest.mark.parametrize("key", ["a\0b", "x" * 65])
def test_a_text_cursor_holds_a_name(key):
    cursor = base64.urlsafe_b64encode(f"names:{key}".encode()).decode()
    with pytest.raises(InvalidPageError):
        text_cursor("names", cursor)


def test_a_cursor_belongs_to_one_kind_of_list():
    cursor = page_of("names", ["a", "b"], 1, str).next_cursor
    assert text_cursor("names", cursor) == "a"
    with pytest.raises(InvalidPageError, match="a list of others"):
        text_cursor("others", cursor)


@pytest.mark.parametrize("limit", [1, MAX_LIMIT])
def test_limits_within_bounds_are_kept(limit):
    assert check_limit(limit) == limit
