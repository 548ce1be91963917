"""`Document`: one JSON object as its bytes say it, with nothing that two readers could understand differently."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import orjson

from crossfade.core.hashing import canonical_json, sha256
from crossfade.errors import InvalidConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 64
MAX_VALUES = 200_000
_LARGEST_INTEGER = 2**63


class Document(NamedTuple):
    """A document.

    Attributes:
        value: What it says.
        text: The same as canonical JSON: equal documents have equal texts.
        digest: Of the text; the identity of the document.
    """

    value: dict[str, Any]
    text: str
    digest: str


def read_document(content: bytes | str, name: str) -> Document:
    """Read a document.

    Args:
        content: JSON, as somebody wrote it.
        name: Of the config, for errors.

    Raises:
        InvalidConfigError: It is no JSON object, says something twice, holds a number that JSON or 64 bits cannot,
            or is too large or too deep.

    Example:
        >>> read_document('{"b": 1, "a": [true]}', "limits").text
        '{"a":[true],"b":1}'
    """
    try:
        value = json.loads(content, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError:
        raise _refusal(name, f"it is deeper than {MAX_DEPTH} levels") from None
    except _UnusableError as error:
        raise _refusal(name, str(error)) from None
    except ValueError as error:  # also of bytes that are no text, and of numbers with thousands of digits
        raise _refusal(name, f"it is no JSON ({str(error)[:200]})") from None
    return document_of(value, name)


def document_of(value: Any, name: str) -> Document:
    """Return the document of a value, after the same checks.

    Raises:
        InvalidConfigError: It cannot be one.

    Example:
        >>> document_of({"limit": float("nan")}, "limits")
        Traceback (most recent call last):
        crossfade.errors.invalid.InvalidConfigError: config `limits` cannot be: at `/limit`: NaN is no JSON number
    """
    if not isinstance(value, dict):
        raise _refusal(name, "a document is a JSON object")
    try:
        _check(value)
        content = canonical_json(value)
    except _UnusableError as error:
        raise _refusal(name, str(error)) from None
    except (TypeError, RecursionError, orjson.JSONEncodeError) as error:
        raise _refusal(name, f"it is no JSON ({str(error)[:200]})") from None
    if len(content) > MAX_BYTES:
        raise _refusal(name, f"it has {len(content)} bytes, and {MAX_BYTES} are possible")
    return Document(orjson.loads(content), content.decode(), sha256(content))


def pointer(path: str, key: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a part of what `path` points to.

    Example:
        >>> pointer("/limits", "a/b")
        '/limits/a~1b'
    """
    return f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"


def look_up(value: Any, path: str) -> Any:
    """Return what a JSON pointer points to.

    Raises:
        LookupError: There is nothing.
    """
    for part in path.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10:
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value[key]
        else:
            raise LookupError(path)
    return value


class _UnusableError(Exception):
    """Says in words what is wrong with a document."""


def _refusal(name: str, problem: str) -> InvalidConfigError:
    return InvalidConfigError(name=name[:80], problem=problem)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _UnusableError(f"it has the key `{twice[:80]}` twice in one object")
    return found


def _no_constant(constant: str) -> float:
    raise _UnusableError(f"{constant} is no JSON number")


def _check(document: Any) -> None:
    """Refuse what canonical JSON cannot hold, with its place."""
    count = 0
    waiting: list[tuple[Any, str, int]] = [(document, "", 1)]
    while waiting:
        value, path, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise _UnusableError(f"it has more than {MAX_VALUES} values")
        if isinstance(value, dict | list | tuple):
            if depth > MAX_DEPTH:
                raise _UnusableError(f"it is deeper than {MAX_DEPTH} levels")
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                if isinstance(value, dict):
                    _check_text(key, path)
                waiting.append((item, pointer(path, key), depth + 1))
        else:
            _check_plain(value, path)


def _check_plain(value: Any, path: str) -> None:
    where = f"at `{path[:200]}`"
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float):
        if math.isnan(value):
            raise _UnusableError(f"{where}: NaN is no JSON number")
        if math.isinf(value):
            raise _UnusableError(f"{where}: the number is beyond what 64 bits hold")
    elif isinstance(value, int):
        if not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
            raise _UnusableError(f"{where}: the number is beyond what 64 bits hold")
    elif value is not None:
        raise _UnusableError(f"{where}: {type(value).__name__} is nothing that JSON has")


def _check_text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise _UnusableError(f"at `{path[:200]}`: a key is a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _UnusableError(f"at `{path[:200]}`: half of a surrogate pair is no text") from None
