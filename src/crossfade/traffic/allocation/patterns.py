r"""Regular expressions that are safe to ask of every request.

Python's engine backtracks: `(a+)+$` takes longer than anybody will wait for thirty letters, and the letters come from
a caller. So the steps of the worst case are counted, from the structure of the pattern, for texts of 256 characters;
longer texts never match. `^[a-z]+-\d+$` takes 65,536, `(a+)+$` more than anybody counts.

Source: the count follows the backtracking analysis of R. Cox, "Regular Expression Matching Can Be Simple And Fast",
https://swtch.com/~rsc/regexp/regexp1.html.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

# What the engine runs comes from this parser, so nothing else can tell the truth about a pattern; it has no stubs.
parser: Any = import_module("re._parser")
codes: Any = import_module("re._constants")

LONGEST_TEXT = 256
LONGEST_PATTERN = 256
MAX_STEPS = 2**17
"""What one condition may take: about a millisecond."""

_ONE_WAY = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN, codes.AT, codes.CATEGORY, codes.RANGE}
_AT_START = {codes.AT_BEGINNING, codes.AT_BEGINNING_STRING}


def steps_of(pattern: str) -> int:
    """Return how many steps a search takes at most; never more than `MAX_STEPS + 1`.

    Raises:
        ValueError: It is no pattern, or one whose steps cannot be counted.

    Example:
        >>> steps_of("^(Mobile|Tablet)"), steps_of("(Mobile|Tablet)"), steps_of("(a+)+$") > MAX_STEPS
        (2, 512, True)
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"it has {len(pattern)} characters, and {LONGEST_PATTERN} are possible")
    try:
        parsed = parser.parse(pattern)
        re.compile(pattern)
        ways = _ways_of_sequence(parsed)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no regular expression ({error})") from error
    return min(ways * (1 if _anchored(parsed) else LONGEST_TEXT), MAX_STEPS + 1)


def _anchored(parsed: Any) -> bool:
    starts = bool(parsed.data) and parsed.data[0][0] is codes.AT and parsed.data[0][1] in _AT_START
    return starts and not parsed.state.flags & re.MULTILINE


def _ways_of_sequence(items: Any) -> int:
    """Return in how many ways a sequence can match at one place, at most; never more than `MAX_STEPS + 1`."""
    ways = 1
    for code, argument in items:
        ways = min(ways * _ways(code, argument), MAX_STEPS + 1)
    return ways


def _ways(code: Any, argument: Any) -> int:
    if code in _ONE_WAY:
        return 1
    if code is codes.SUBPATTERN:
        return _ways_of_sequence(argument[-1])
    if code is codes.BRANCH:
        return sum(map(_ways_of_sequence, argument[1]))
    if code in {codes.MAX_REPEAT, codes.MIN_REPEAT}:
        least, most, body = argument
        least, most = min(int(least), LONGEST_TEXT), min(int(most), LONGEST_TEXT)
        return int(min((most - least + 1) * _ways_of_sequence(body) ** most, MAX_STEPS + 1))
    raise ValueError(f"it uses `{str(code).lower()}`, which segments do not have")
