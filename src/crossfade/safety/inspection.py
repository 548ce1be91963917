"""`Inspector`: all checks of a policy that hold for one version, asked of each of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from crossfade.core.tensors import Array, Tensors
from crossfade.safety.checks import CompiledCheck
from crossfade.safety.levels import Level

MAX_EXAMPLE = 200


class Finding(msgspec.Struct, frozen=True):
    """A check that was violated.

    Args:
        check: Its name.
        level: Its level.
        rows: How many rows violate it.
        example: What the first of them holds, in the outputs that the check looks at; or why it could not be asked.
    """

    check: str
    level: Level
    rows: int
    example: str = ""


class Findings(msgspec.Struct, frozen=True):
    """What was found in an answer that is not safe.

    Args:
        level: The worst.
        found: Each violation.
        withheld: Which rows are not given, an array of bool; None: all are.
    """

    level: Level
    found: tuple[Finding, ...]
    withheld: Any = None

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the violated checks."""
        return tuple(finding.check for finding in self.found)


class Inspector:
    """Looks at answers of one version.

    Args:
        checks: That are asked.
        overridden: Names of those that a person turned off.

    Attributes:
        outputs: What has to be in an answer to be looked at.
        overridden: The same.
        problems: Why checks cannot be asked, by name.

    Example:
        >>> Inspector(()).inspect({}, {}, 1) is None
        True
    """

    __slots__ = ("_checks", "_each", "outputs", "overridden", "problems")

    def __init__(self, checks: Sequence[CompiledCheck], overridden: tuple[str, ...] = ()) -> None:
        self._checks = tuple(checks)
        self._each = tuple((check.judge.one, check) for check in checks)
        self.outputs = frozenset().union(*(check.judge.outputs for check in checks))
        self.overridden = overridden
        self.problems = {check.name: check.problem for check in checks if check.problem}

    def without_memory(self) -> Inspector:
        """Return the same without checks whose memory is that of answers which were really given."""
        return Inspector([check for check in self._checks if not check.judge.remembers], self.overridden)

    def inspect(self, inputs: Tensors, outputs: Tensors, rows: int, unit: str = "") -> Findings | None:
        """Return what is wrong with an answer; None when it is safe, or has no rows.

        Args:
            inputs: As they passed the signature.
            outputs: At least `self.outputs`.
            rows: How many.
            unit: Whom the request is about; empty when it does not say.
        """
        if rows == 1:
            try:
                found = [check for violated, check in self._each if violated(inputs, outputs, unit)]
            except Exception:  # noqa: BLE001 - an answer that cannot be looked at is not safe, whatever is wrong with it
                return self._in_rows(inputs, outputs, 1, unit)
            return self._judged([(check, True) for check in found], outputs, 1) if found else None
        return self._in_rows(inputs, outputs, rows, unit) if rows else None

    def _in_rows(self, inputs: Tensors, outputs: Tensors, rows: int, unit: str) -> Findings | None:
        found = []
        for check in self._checks:
            try:
                mask = check.judge.many(inputs, outputs, unit)
                if mask is not True:
                    mask = _mask(mask, rows)
                violated = bool(np.any(mask))
            except Exception:  # noqa: BLE001 - as above
                mask, violated = True, True
            if violated:
                found.append((check, mask))
        return self._judged(found, outputs, rows) if found else None

    def _judged(self, found: list[tuple[CompiledCheck, Any]], outputs: Tensors, rows: int) -> Findings:
        withheld: Array | None = None
        findings = []
        for check, mask in found:
            whole = np.ones(rows, dtype=bool) if mask is True else mask
            if check.level.withheld:
                withheld = whole if withheld is None else withheld | whole
            example = check.problem or _example(outputs, check.judge.outputs, int(np.argmax(whole)))
            findings.append(Finding(check.name, check.level, int(np.count_nonzero(whole)), example))
        worst = max((finding.level for finding in findings), key=lambda level: level.rank)
        return Findings(worst, tuple(findings), withheld)


def _mask(violated: Any, rows: int) -> Array:
    """Return what a check said of each row; numpy would let one row, or none, stand for all of them."""
    mask = np.asarray(violated, dtype=bool)
    if mask.ndim and mask.shape != (rows,):
        raise ValueError(f"{rows} rows were asked about, and {mask.shape} were judged")
    return np.broadcast_to(mask, (rows,))


def _example(outputs: Tensors, names: frozenset[str], row: int) -> str:
    said = []
    for name in sorted(names):
        array = outputs.get(name)
        if array is None or len(array) <= row:
            said.append(f"{name} is missing")
            continue
        values = np.ravel(array[row])[:10].tolist()
        said.append(f"{name}={values[0] if len(values) == 1 else values}")
    return ", ".join(said)[:MAX_EXAMPLE]
