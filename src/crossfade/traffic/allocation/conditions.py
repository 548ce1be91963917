"""Conditions on a request's context, written like queries of MongoDB, compiled to closures once.

`{"country": {"$in": ["DE", "AT"]}, "age": {"$gte": 18}}` holds when all of its clauses do. A dotted key looks into
nested objects; what is not there is null. Equality is that of JSON: `1` is not `true` and not `"1"`. Order compares two
texts as texts, and anything else as numbers, null being 0; what is no number compares with nothing. Versions are
ordered by their parts (`$vgt`). A test of a value that makes no sense does not hold, and no JSON context raises.

Source: the language is that of GrowthBook's SDKs (specification 0.8), https://docs.growthbook.io/lib/build-your-own
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossfade.traffic.allocation.patterns import LONGEST_TEXT

Test = Callable[[Any], bool]
Groups = Mapping[str, Sequence[Any]]

LONGEST_ARRAY = 256
"""`$all` and `$elemMatch` never hold for longer ones, whose items would be compared one by one."""

_LEADING_V_AND_BUILD = re.compile(r"^v|\+.*$", re.DOTALL)
_PARTS = re.compile(r"[-.]")
_SIMPLE = (str, int, float, bool, type(None))


def compile_condition(condition: Mapping[str, Any], groups: Groups) -> Test:
    """Return a function that tells whether a condition holds for a context.

    Args:
        condition: The document; `check_condition` refuses those that should not be used.
        groups: Name -> values, for `$inGroup` and `$notInGroup`.

    Example:
        >>> compile_condition({"plan.name": "pro"}, {})({"plan": {"name": "pro"}})
        True
    """
    return _all([_clause(key, value, groups) for key, value in condition.items()])


def is_operators(condition: Any) -> bool:
    """Tell whether a value asks something (`{"$gt": 5}`) instead of being one."""
    return isinstance(condition, dict) and bool(condition) and all(key.startswith("$") for key in condition)


def _clause(key: str, value: Any, groups: Groups) -> Test:
    if key == "$not":
        return _not(compile_condition(value, groups))
    if key in {"$and", "$or", "$nor"}:
        parts = [compile_condition(part, groups) for part in value]
        if key == "$and":
            return _all(parts)
        either = _any(parts)
        return _not(either) if key == "$nor" else either
    test = _value(value, groups)
    first, *rest = key.split(".")
    if not rest:
        return lambda document: test(document.get(first) if isinstance(document, dict) else None)

    def look(document: Any) -> bool:
        found = document.get(first) if isinstance(document, dict) else None
        for part in rest:
            found = found.get(part) if isinstance(found, dict) else None
        return test(found)

    return look


def _value(expected: Any, groups: Groups, *, fold: bool = False) -> Test:
    if is_operators(expected):
        return _all([OPERATORS.get(name, _never)(value, groups) for name, value in expected.items()])
    if fold and isinstance(expected, str):
        lower = expected.lower()
        return lambda actual: isinstance(actual, str) and actual.lower() == lower
    return _equal(expected, groups)


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) and second(value)
    return lambda value: all(test(value) for test in tests)


def _any(tests: list[Test]) -> Test:
    return lambda value: not tests or any(test(value) for test in tests)


def _not(test: Test) -> Test:
    return lambda value: not test(value)


def _never(_expected: Any, _groups: Groups) -> Test:
    return lambda _actual: False


# ------------------------------------------------------------------------------------------------------------ equality


def _equal(expected: Any, _groups: Groups) -> Test:
    if isinstance(expected, str):
        return lambda actual: actual.__class__ is str and actual == expected
    return lambda actual: _same(actual, expected)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _members(expected: Any, *, fold: bool) -> Test:
    """Return a test for being among values: for an array, whether one of its items is."""
    if not isinstance(expected, (list, tuple)):
        return lambda _actual: False
    # True == 1 in Python, and both hash alike
    values = frozenset(_key(value, fold=fold) for value in expected if isinstance(value, _SIMPLE))

    def among(actual: Any) -> bool:
        if actual.__class__ is str:
            return (actual.lower() if fold else actual) in values
        if isinstance(actual, (list, tuple)):
            return any(isinstance(item, _SIMPLE) and _key(item, fold=fold) in values for item in actual)
        return isinstance(actual, _SIMPLE) and _key(actual, fold=fold) in values

    return among


def _key(value: Any, *, fold: bool) -> Any:
    if isinstance(value, bool):
        return (value,)
    return value.lower() if fold and isinstance(value, str) else value


def _every(expected: Any, groups: Groups, *, fold: bool) -> Test:
    if not isinstance(expected, (list, tuple)):
        return lambda _actual: False
    tests = [_value(value, groups, fold=fold) for value in expected]
    return lambda actual: _is_searched(actual) and all(any(map(test, actual)) for test in tests)


# --------------------------------------------------------------------------------------------------------------- order


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Groups], Test]:
    def compile_(expected: Any, _groups: Groups) -> Test:
        limit = _number(expected)

        def test(actual: Any) -> bool:
            if isinstance(actual, str) and isinstance(expected, str):
                return holds(actual, expected)
            number = _number(actual)
            return number is not None and limit is not None and holds(number, limit)

        return test

    return compile_


def _number(value: Any) -> float | None:
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str):
        return None
    try:
        return float(value or 0)
    except ValueError:
        return None


def _versions(holds: Callable[[str, str], bool]) -> Callable[[Any, Groups], Test]:
    def compile_(expected: Any, _groups: Groups) -> Test:
        limit = _padded(expected)
        return lambda actual: holds(_padded(actual), limit)

    return compile_


def _padded(version: Any) -> str:
    """Return a text that orders like the version: its numbers aligned, a release after its prereleases (`~`)."""
    text = str(version) if isinstance(version, (int, float)) and not isinstance(version, bool) else version
    if not text or not isinstance(text, str):
        text = "0"
    parts = _PARTS.split(_LEADING_V_AND_BUILD.sub("", text[:LONGEST_TEXT]))
    if len(parts) == 3:
        parts.append("~")
    return "-".join(part.rjust(5) if part.isascii() and part.isdigit() else part for part in parts)


# ---------------------------------------------------------------------------------------------------- texts and arrays


def _pattern(expected: Any, flags: re.RegexFlag) -> Test:
    try:
        search = re.compile(expected, flags).search
    except (re.error, TypeError, OverflowError, RecursionError):
        return lambda _actual: False
    return lambda actual: isinstance(actual, str) and len(actual) <= LONGEST_TEXT and search(actual) is not None


def _size(expected: Any, groups: Groups) -> Test:
    test = _value(expected, groups)
    return lambda actual: isinstance(actual, list) and test(len(actual))


def _element(expected: Any, groups: Groups) -> Test:
    if is_operators(expected):
        test = _value(expected, groups)
    elif isinstance(expected, dict):
        test = compile_condition(expected, groups)
    else:
        return lambda _actual: False
    return lambda actual: _is_searched(actual) and any(map(test, actual))


def _is_searched(value: Any) -> bool:
    """Tell whether the items of a value are looked at one by one."""
    return isinstance(value, list) and len(value) <= LONGEST_ARRAY


def type_of(value: Any) -> str:
    """Return the JSON type of a value, as `$type` names it."""
    for name, kinds in TYPES.items():
        if isinstance(value, kinds):
            return name
    return "unknown"


TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),  # before the numbers, which it is one of in Python
    "number": (int, float),
    "string": (str,),
    "array": (list, tuple),
    "object": (dict,),
}

OPERATORS: dict[str, Callable[[Any, Groups], Test]] = {
    "$eq": _equal,
    "$ne": lambda expected, groups: _not(_equal(expected, groups)),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$veq": _versions(operator.eq),
    "$vne": _versions(operator.ne),
    "$vlt": _versions(operator.lt),
    "$vlte": _versions(operator.le),
    "$vgt": _versions(operator.gt),
    "$vgte": _versions(operator.ge),
    "$exists": lambda expected, _groups: lambda actual: (actual is not None) == bool(expected),
    "$in": lambda expected, _groups: _members(expected, fold=False),
    "$nin": lambda expected, _groups: _outside(expected, fold=False),
    "$ini": lambda expected, _groups: _members(expected, fold=True),
    "$nini": lambda expected, _groups: _outside(expected, fold=True),
    "$inGroup": lambda expected, groups: _members(groups.get(expected, ()), fold=False),
    "$notInGroup": lambda expected, groups: _not(_members(groups.get(expected, ()), fold=False)),
    "$all": lambda expected, groups: _every(expected, groups, fold=False),
    "$alli": lambda expected, groups: _every(expected, groups, fold=True),
    "$size": _size,
    "$elemMatch": _element,
    "$not": lambda expected, groups: _not(_value(expected, groups)),
    "$regex": lambda expected, _groups: _pattern(expected, re.NOFLAG),
    "$regexi": lambda expected, _groups: _pattern(expected, re.IGNORECASE),
    "$type": lambda expected, _groups: lambda actual: type_of(actual) == expected,
}
"""Operator -> what makes a test of its operand."""


def _outside(expected: Any, *, fold: bool) -> Test:
    among = _members(expected, fold=fold)
    return _not(among) if isinstance(expected, (list, tuple)) else among
