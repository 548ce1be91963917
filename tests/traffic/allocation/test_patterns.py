"""A pattern is accepted when its worst case is bearable; whatever is accepted is really fast."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.traffic.allocation.patterns import LONGEST_PATTERN, LONGEST_TEXT, problem_of_pattern


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
    assert problem_of_pattern(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a+)+$", "more steps"),
        ("^(a+)+$", "more steps"),
        ("(a|a)*b", "more steps"),
        ("^(a|ab|b)*c", "more steps"),
        ("a?" * 25 + "a" * 25, "more steps"),
        ("(a*)*", "more steps"),
        ("(.*,){11}P", "more steps"),
        ("(?m)^.*a.*b", "more steps"),
        ("(a{1,200}){1,200}", "more steps"),
        (r"([a-zA-Z]+)*\d", "more steps"),
        (".*.*.*=.*", "more steps"),
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
        ("(?:" * 40 + "a" + ")*" * 40, "more steps"),
    ],
)
def test_bombs_are_refused_with_what_to_do(pattern, problem):
    assert problem in problem_of_pattern(pattern)


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
    if problem_of_pattern(pattern):
        return
    for text in TEXTS:  # a bomb would outlast the timeout of the test by ages
        re.search(pattern, text)
