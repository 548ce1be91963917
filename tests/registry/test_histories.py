from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.registry import histories
from crossfade.registry.histories import previous_version, way_back
from crossfade.registry.versions import AliasMove
from crossfade.testing.drafts import move, publish

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def history(*targets):
    """Return the moves that visit these targets one after the other."""
    source, moves = None, []
    for seq, target in enumerate(targets):
        if target != source:
            moves.append(AliasMove(seq, "churn", "champion", source, target, NOW, "ann", ""))
        source = target
    return moves


@pytest.mark.parametrize(
    ("visited", "back"),
    [
        ("", ""),
        ("a", ""),
        ("ab", "a"),
        ("abc", "ab"),
        ("aba", ""),  # going back by hand is going back
        ("abab", "a"),  # and forward again
        ("abcb", "a"),
        ("abca", ""),  # two steps at once
        ("abcac", "a"),
        ("abcbd", "ab"),
        (("a", "b", None), ""),
        (("a", "b", None, "c", "d"), "c"),
    ],
)
def test_the_way_back_is_an_undo_stack(visited, back):
    assert way_back(history(*visited)) == list(back)


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=30))
def test_the_way_back_never_holds_where_the_alias_is_nor_a_version_twice(visited):
    stack = way_back(history(*visited))
    assert len(set(stack)) == len(stack)
    assert not stack or visited[-1] not in stack


@given(st.lists(st.sampled_from("abcdef"), max_size=30))
def test_rolling_back_until_the_end_takes_each_step_once(visited):
    moves = history(*visited)
    expected = way_back(moves)
    gone = []
    while stack := way_back(moves):
        moves = [*moves, *history(moves[-1].target, stack[-1])[1:]]
        gone.append(stack[-1])
    assert gone == expected[::-1]


def test_a_long_history_is_read_in_pages(backend, monkeypatch):
    monkeypatch.setattr(histories, "MAX_LIMIT", 2)
    for number in range(5):
        publish(backend, "churn", f"1.0.{number}", b"%d" % number)
        move(backend, f"1.0.{number}")
    assert previous_version(backend, "churn", "champion").version == "1.0.3"
    for number in (3, 2, 1):
        move(backend, f"1.0.{number}")
    assert previous_version(backend, "churn", "champion").version == "1.0.0"
