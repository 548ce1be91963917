"""What is given instead of an unsafe row, ready to be given: constants, and the last safe answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, TensorSpec
from crossfade.safety.memory import Recent
from crossfade.safety.specs import LastSafe

_WHOLE_MODEL = ""
_KINDS: Mapping[str, tuple[type, ...]] = {"BYTES": (str,), "BOOL": (bool,)}


class SafeAnswers:
    """The newest safe answer of a model, and about each unit.

    Args:
        units: How many units are remembered.
        clock: Seconds that only grow.
    """

    __slots__ = ("_clock", "_recent")

    def __init__(self, units: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._recent: Recent[Tensors] = Recent(units + 1)
        self._clock = clock

    def keep(self, unit: str, outputs: Tensors, rows: int) -> None:
        """Remember an answer: of many rows the last one."""
        if rows > 1:  # a copy: a slice would keep all the other rows in memory
            outputs = {name: array[-1:].copy() for name, array in outputs.items()}
        now = self._clock()
        self._recent.put(_WHOLE_MODEL, outputs, now)
        if unit:
            self._recent.put(unit, outputs, now)

    def find(self, wanted: LastSafe, unit: str) -> Tensors | None:
        """Return the last safe answer as one row; None when there is none that is new enough."""
        if wanted.per == "unit" and not unit:
            return None
        found = self._recent.find(unit if wanted.per == "unit" else _WHOLE_MODEL)
        if found is None or self._clock() - found[1] > wanted.max_age_seconds:
            return None
        return found[0]


def constant_row(outputs: Mapping[str, Any], signature: Signature) -> Tensors:
    """Return constants as one row of the outputs that a version has; others are left out.

    Raises:
        ValueError: One does not fit the output of its name.

    Example:
        >>> signature = Signature((), (TensorSpec("predict", "FP64", (-1,)),))
        >>> constant_row({"predict": 3}, signature)["predict"].tolist()
        [3.0]
    """
    return {spec.name: _constant(outputs[spec.name], spec) for spec in signature.outputs if spec.name in outputs}


def _constant(value: Any, spec: TensorSpec) -> Array:
    width = spec.shape[1:]
    kinds: tuple[type, ...] = (
        (str,) if spec.datatype == "BYTES" else (bool,) if spec.datatype == "BOOL" else (int, float)
    )
    flat = _flat(value)
    if any(not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds) for item in flat):
        raise ValueError(f"the constant for `{spec.name}` is no {spec.describe()}")
    try:
        array = np.array(value, dtype=DTYPES[spec.datatype])
        given = array.shape
        fits = len(given) == len(width) and all(want in {-1, have} for want, have in zip(width, given, strict=True))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the constant for `{spec.name}` is no {spec.describe()} ({error})") from None
    if not fits:
        raise ValueError(f"the constant for `{spec.name}` has the shape {list(given)}, and {list(width)} is wanted")
    if array.dtype.kind in "iu" and any(float(item) != int(item) for item in flat):
        raise ValueError(f"the constant for `{spec.name}` is no whole number")
    return array[np.newaxis]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [value]


def filled(outputs: Tensors | None, names: Iterable[str], row: Tensors, withheld: Array) -> Tensors | None:
    """Return outputs in which rows are replaced by the same row; None when that row lacks an output, or does not fit.

    Args:
        outputs: What the model said, which is left as it is; None when it was not asked.
        names: Of the outputs that are wanted.
        row: What is given instead, as arrays of one row.
        withheld: Which rows, an array of bool.
    """
    given = {}
    for name in names:
        instead = row.get(name)
        if instead is None:
            return None
        array = None if outputs is None else outputs.get(name)
        if bool(withheld.all()) or array is None or len(array) != len(withheld):
            given[name] = np.repeat(instead, len(withheld), axis=0)
            continue
        if array.shape[1:] != instead.shape[1:]:
            return None
        given[name] = array = array.copy()
        array[withheld] = instead[0]
    return given
