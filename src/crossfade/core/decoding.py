"""What msgspec finds wrong with data, and what it would take where a value is none of a few."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.inspect import (
    DictType,
    EnumType,
    ListType,
    LiteralType,
    Metadata,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

_NONE_OF_A_FEW = re.compile(r"Invalid (?:enum )?value (.*?)(?: - at (`key` in )?`\$([^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]+)\]")
_LONGEST = 200
"""Characters of what is repeated: a value may be as long as its sender likes."""


def problem_of(error: Exception, kind: Any) -> str:
    """Return what is wrong in words; where a value is none of a few, with those that are.

    Args:
        error: What reading the data has raised.
        kind: What it should have become.

    Example:
        >>> from typing import Literal
        >>> try:
        ...     msgspec.convert("medium", Literal["fast", "slow"])
        ... except msgspec.ValidationError as error:
        ...     problem_of(error, Literal["fast", "slow"])
        "Invalid enum value 'medium'; accepted are 'fast', 'slow'"
    """
    text = str(error)
    found = _NONE_OF_A_FEW.fullmatch(text) if isinstance(error, msgspec.ValidationError) else None
    if found is None:
        return _cut(text)
    accepted = _accepted(kind, *found.groups())
    said = text[: found.start(1)] + _cut(found[1]) + text[found.end(1) :]
    return f"{said}; accepted are {', '.join(accepted)}" if accepted else said


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _accepted(kind: Any, value: str, key: str | None, path: str | None) -> list[str]:
    """Return what could stand at a path, as msgspec writes both."""
    here = list(_options(_described(kind)))
    for name, place in _STEP.findall(path or ""):
        here = [option for each in here for inner in _inside(each, name, place) for option in _options(inner)]
    if key:
        here = [option for each in here if isinstance(each, DictType) for option in _options(each.key_type)]
    few = [[repr(one) for one in _few(each)] for each in here]
    # what has the value has not refused it: it belongs to another kind of object with a field of this name
    return list(dict.fromkeys(one for values in few if value not in values for one in values))


@functools.cache
def _described(kind: Any) -> Type:
    """Describe a type, which takes milliseconds for a large one; there are only as many as are read."""
    return type_info(kind)


def _options(found: Type) -> Iterator[Type]:
    """Yield what a type may be, without what only annotates it."""
    if isinstance(found, Metadata):
        yield from _options(found.type)
    elif isinstance(found, UnionType):
        for each in found.types:
            yield from _options(each)
    else:
        yield found


def _inside(found: Type, name: str, place: str) -> Iterator[Type]:
    """Yield what is in a field of this name, which may be a tag, or at this place of a collection."""
    if isinstance(found, StructType) and name:
        if name == found.tag_field:
            yield LiteralType((found.tag,))
        yield from (field.type for field in found.fields if field.encode_name == name)
    elif isinstance(found, DictType) and place == "...":
        yield found.value_type
    elif isinstance(found, ListType | VarTupleType) and place:
        yield found.item_type
    elif isinstance(found, TupleType) and place.isdigit():
        yield from found.item_types[int(place) : int(place) + 1]


def _few(found: Type) -> tuple[Any, ...]:
    if isinstance(found, EnumType):
        return tuple(member.value for member in found.cls)
    return found.values if isinstance(found, LiteralType) else ()
