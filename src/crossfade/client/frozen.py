"""Documents that cannot be changed: dictionaries and lists as `json` reads them, all the way down, for reading only.

They are dictionaries and lists, so that reading costs what it always does, and everything that takes those takes them.
"""

from __future__ import annotations

from typing import Any, NoReturn


def frozen(value: Any) -> Any:
    """Return a value of JSON that cannot be changed.

    Example:
        >>> frozen({"limits": [1, 2]})["limits"] == [1, 2]
        True
        >>> frozen({"limits": [1, 2]})["limits"].append(3)
        Traceback (most recent call last):
        TypeError: what is shared by all who read it cannot be changed; change a `copy.deepcopy` of it
    """
    if isinstance(value, dict):
        return FrozenDict({key: frozen(each) for key, each in value.items()})
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    return value


def thawed(value: Any) -> Any:
    """Return a copy that can be changed."""
    if isinstance(value, dict):
        return {key: thawed(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(thawed, value))
    return value


def _refuse(*_: object, **__: object) -> NoReturn:
    """Refuse a change."""
    raise TypeError("what is shared by all who read it cannot be changed; change a `copy.deepcopy` of it")


class FrozenDict(dict[str, Any]):
    """An object of JSON for reading. A deep copy of it, or what becomes of it in another process, can be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        """Return a copy that can be changed."""
        return thawed(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled as what it is a view of."""
        return thawed, (dict(self),)


class FrozenList(list[Any]):
    """An array of JSON for reading; see `FrozenDict`."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: object) -> list[Any]:
        """Return a copy that can be changed."""
        return thawed(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled as what it is a view of."""
        return thawed, (list(self),)
