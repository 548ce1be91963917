"""The worst case of a pattern is counted, and whatever counts as bearable is."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.traffic.allocation.patterns import LONGEST_PATTERN, LONGEST_TEXT, MAX_STEPS, steps_of


@pytest.mark.parametrize(
    "pattern",
    [
        "-12-25$",
        "(Mobile|Tablet)",
        "^hello",
        "",
        ".*foo",
        "^.*foo.*bar",
        r"^[a-z]+-\d+$",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        "(?i)mobile",
        r"\bfoo\b",
        "(ab)*c",
        "^(?:de|at|ch)(?:-[A-Z]{2})?$",
        "^[^@]+@example[.]com$",
    ],
)
def test_ordinary_patterns_are_accepted(pattern):
    assert steps_of(pattern) <= MAX_STEPS


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "^(a+)+$",
        "(a|a)*b",
        "^(a|ab|b)*c",
        "a?" * 25 + "a" * 25,
        "(a*)*",
        "(.*,){11}P",
        "(?m)^.*a.*b",
        "(a{1,200}){1,200}",
        r"([a-zA-Z]+)*\d",
        ".*.*.*=.*",
        "(?:" * 40 + "a" + ")*" * 40,
    ],
)
def test_bombs_take_more_steps_than_are_allowed(pattern):
    assert steps_of(pattern) == MAX_STEPS + 1


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(?=a)b", "`assert`"),
        ("(?<!a)b", "`assert_not`"),
        (r"(a)\1", "`groupref`"),
        ("(a)?(?(1)b|c)", "segments do not have"),
        ("/???***[)", "no regular expression"),
        ("(", "no regular expression"),
        ("[z-a]", "no regular expression"),
        ("a{99999999999}", "no regular expression"),
        ("(?P<1>a)", "no regular expression"),
        ("a" * (LONGEST_PATTERN + 1), "characters"),
    ],
)
def test_what_cannot_be_counted_is_refused(pattern, problem):
    with pytest.raises(ValueError, match=problem):
        steps_of(pattern)


PIECES = [
    "a",
    "b",
    ".",
    "[ab]",
    "(a|b)",
    "(a|ab)",
    "a*",
    "b+",
    ".*",
    "a?",
    "(ab)*",
    "(a+)",
    "{1,3}",
    "^",
    "$",
    "|",
    "(a*b)+",
]
TEXTS = ["a" * LONGEST_TEXT, "ab" * (LONGEST_TEXT // 2), "a" * (LONGEST_TEXT - 1) + "!", "b" * 200]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_whatever_is_accepted_ends(pattern):
    try:
        if steps_of(pattern) > MAX_STEPS:
            return
    except ValueError:
        return
    for text in TEXTS:  # a bomb would outlast the timeout of the test by ages
        re.search(pattern, text)
