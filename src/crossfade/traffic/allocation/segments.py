"""`Segment`: a rule that selects units by the context of their requests, checked before anybody depends on it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from crossfade.errors import InvalidSegmentError
from crossfade.traffic.allocation.conditions import (
    LONGEST_ARRAY,
    OPERATORS,
    TYPES,
    Test,
    compile_condition,
    is_operators,
)
from crossfade.traffic.allocation.patterns import MAX_STEPS, steps_of

MAX_DEPTH = 16
MAX_CLAUSES = 1_000
MAX_VALUES = 10_000
"""In one list."""
MAX_TEXT = 1_024

_LOGICAL = ("$and", "$or", "$nor")
_LISTS = frozenset({"$in", "$nin", "$ini", "$nini"})
_EVERY = frozenset({"$all", "$alli"})
_ORDERED = frozenset({"$lt", "$lte", "$gt", "$gte"})
_VERSIONS = frozenset(name for name in OPERATORS if name.startswith("$v"))
_GROUPS = frozenset({"$inGroup", "$notInGroup"})
_SCALARS = (str, int, float, bool, type(None))

Found = tuple[str, str]
"""Where something is wrong, and what."""


class Segment(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which requests an experiment is about.

    Args:
        condition: Like a query of MongoDB, see `conditions`.
        groups: Lists of values that the condition names by `$inGroup` and `$notInGroup`.

    Example:
        >>> Segment({"country": {"$in": ["DE", "AT"]}}).compile()({"country": "DE"})
        True
    """

    condition: dict[str, Any]
    groups: dict[str, tuple[Any, ...]] = {}

    def check(self) -> None:
        """Refuse what cannot mean anything, and what would cost every request too much.

        Raises:
            InvalidSegmentError: The first thing that is wrong, and where.
        """
        for path, problem in (*_problems_of_groups(self.groups), *_Checking(self).condition(self.condition, _Place())):
            raise InvalidSegmentError(path=path or "the condition", problem=problem)

    def compile(self) -> Test:
        """Return the function that tells whether a context is in the segment."""
        return compile_condition(self.condition, self.groups)


class _Place(NamedTuple):
    """Where in a condition something stands, how deep, and how often it is asked for one context."""

    path: str = ""
    depth: int = 0
    times: int = 1

    def at(self, key: str) -> _Place:
        """Return the place of a key of this object."""
        return self._replace(path=f"{self.path}.{_cut(key)}".lstrip("."), depth=self.depth + 1)

    def item(self, number: int) -> _Place:
        """Return the place of an item of this list."""
        return self._replace(path=f"{self.path}[{number}]")

    def each(self) -> _Place:
        """Return the same place, asked for every item of an array."""
        return self._replace(times=min(self.times * LONGEST_ARRAY, MAX_STEPS + 1))


class _Checking:
    """One check: counts the clauses, and the steps of the patterns, on its way."""

    def __init__(self, segment: Segment) -> None:
        self._groups = segment.groups
        self._clauses = 0
        self._steps = 0

    def condition(self, condition: Any, place: _Place) -> Iterator[Found]:
        """Yield what is wrong with a condition."""
        if not isinstance(condition, dict):
            yield place.path, f"a condition is an object, and this is {_shown(condition)}"
            return
        for key, value in condition.items():
            here = place.at(key)
            if problem := self._too_much(here):
                yield here.path, problem
                return
            yield from self._clause(key, value, here)

    def _too_much(self, place: _Place) -> str:
        """Count a clause, and say when it is one too many."""
        self._clauses += 1
        if place.depth > MAX_DEPTH:
            return f"it is nested deeper than {MAX_DEPTH} levels"
        return f"it has more than {MAX_CLAUSES} clauses" if self._clauses > MAX_CLAUSES else ""

    def _clause(self, key: str, value: Any, place: _Place) -> Iterator[Found]:
        if key == "$not":
            yield from self.condition(value, place)
        elif key in _LOGICAL:
            if not isinstance(value, list):
                yield place.path, f"`{key}` takes a list of conditions"
                return
            for number, part in enumerate(value):
                yield from self.condition(part, place.item(number))
        elif key.startswith("$") and not is_operators(value):  # a field may begin so, a misspelt operator does
            yield place.path, f"there is no `{_cut(key)}` here{_meant(key, ['$not', *_LOGICAL])}"
        elif not key or len(key) > MAX_TEXT:
            yield place.path, f"an attribute has a name of 1 to {MAX_TEXT} characters"
        else:
            yield from self._value(value, place)

    def _value(self, value: Any, place: _Place) -> Iterator[Found]:
        if not is_operators(value):
            if isinstance(value, dict) and any(key.startswith("$") for key in value):
                yield place.path, "it mixes operators and attributes"
            else:
                yield from _problems_of_literal(value, place)
            return
        for name, operand in value.items():
            here = place.at(name)
            if name not in OPERATORS:
                yield here.path, f"there is no operator `{_cut(name)}`{_meant(name, OPERATORS)}"
            elif problem := self._too_much(here):
                yield here.path, problem
                return
            else:
                yield from self._operand(name, operand, here)

    def _operand(self, name: str, operand: Any, place: _Place) -> Iterator[Found]:
        if name in {"$not", "$size"}:
            yield from self._value(operand, place)
        elif name == "$elemMatch":
            check = self._value if is_operators(operand) else self.condition
            yield from check(operand, place.each())
        elif name in _EVERY and isinstance(operand, list):
            for number, value in enumerate(operand):
                here = place.item(number)
                if problem := self._too_much(here):
                    yield here.path, problem
                    return
                yield from self._value(value, here.each())
        elif problem := self._problem(name, operand, place):
            yield place.path, problem
        else:
            yield from _problems_of_literal(operand, place)

    def _problem(self, name: str, operand: Any, place: _Place) -> str:
        number_or_text = isinstance(operand, (str, int, float)) and not isinstance(operand, bool)
        if name in _LISTS | _EVERY:
            return _problem_of_list(name, operand)
        if name in {"$regex", "$regexi"} and isinstance(operand, str):
            return self._problem_of_pattern(operand, place)
        wanted = {
            "$exists": ("true or false", isinstance(operand, bool)),
            "$type": (f"one of {', '.join(TYPES)}", operand in list(TYPES)),
            "$regex": ("a regular expression", False),
            "$regexi": ("a regular expression", False),
            **dict.fromkeys(_GROUPS, ("the name of a group", operand in list(self._groups))),
            **dict.fromkeys(_ORDERED, ("a number or a text", number_or_text)),
            **dict.fromkeys(_VERSIONS, ("a version such as `2.1.0`", isinstance(operand, str))),
        }
        kind, fits = wanted.get(name, ("", True))
        return "" if fits else f"`{name}` takes {kind}, and this is {_shown(operand)}"

    def _problem_of_pattern(self, pattern: str, place: _Place) -> str:
        try:
            self._steps += steps_of(pattern) * place.times
        except ValueError as error:
            return str(error)
        if self._steps <= MAX_STEPS:
            return ""
        return (
            "patterns may take more steps than every request has time for; begin them with `^`, have fewer `*` and "
            "`+`, none inside another, or say how many at most, such as `{1,20}`"
        )


def _problems_of_groups(groups: dict[str, tuple[Any, ...]]) -> Iterator[Found]:
    if len(groups) > MAX_CLAUSES:
        yield "groups", f"there are {len(groups)} groups, and {MAX_CLAUSES} are possible"
    for name, values in groups.items():
        if problem := _problem_of_list("a group", list(values)):
            yield f"groups.{_cut(name)}", problem


def _problem_of_list(name: str, operand: Any) -> str:
    if not isinstance(operand, list):
        return f"`{name}` takes a list"
    if len(operand) > MAX_VALUES:
        return f"a list has {len(operand)} values, and {MAX_VALUES} are possible"
    for value in operand:
        if not isinstance(value, _SCALARS) or (isinstance(value, float) and not math.isfinite(value)):
            return f"a list holds texts, numbers, true, false and null, and this is {_shown(value)}"
        if isinstance(value, str) and len(value) > MAX_TEXT:
            return f"a text of {len(value)} characters, and {MAX_TEXT} are possible"
    return ""


def _problems_of_literal(value: Any, place: _Place) -> Iterator[Found]:
    if place.depth > MAX_DEPTH:
        yield place.path, f"it is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(value, (list, dict)):
        if len(value) > MAX_VALUES:
            yield place.path, f"it has {len(value)} values, and {MAX_VALUES} are possible"
            return
        deeper = place._replace(depth=place.depth + 1)
        for item in value.values() if isinstance(value, dict) else value:
            yield from _problems_of_literal(item, deeper)
    elif isinstance(value, float) and not math.isfinite(value):
        yield place.path, "a number is finite"
    elif not isinstance(value, _SCALARS):
        yield place.path, f"it is no JSON, but {_shown(value)}"
    elif isinstance(value, str) and len(value) > MAX_TEXT:
        yield place.path, f"a text of {len(value)} characters, and {MAX_TEXT} are possible"


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name[:80], list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _cut(text: Any) -> str:
    return str(text)[:80]


def _shown(value: Any) -> str:
    return f"`{_cut(value)}`" if isinstance(value, _SCALARS) else f"a {type(value).__name__}"
