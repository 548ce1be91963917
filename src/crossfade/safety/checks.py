"""Checks compiled for the answers of one version: closures that tell whether an answer violates them.

A check that cannot be asked of a version, because that has no such output, counts as violated: what cannot be looked at
is not safe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crossfade.core.tensors import Array, Signature, Tensors
from crossfade.errors import InvalidSafetyPolicyError, SignatureMismatchError
from crossfade.methods.drift.stability import Window
from crossfade.safety.expressions import Compiled, among, compile_expression, reader
from crossfade.safety.language import OUTPUTS, columns_of
from crossfade.safety.levels import Level
from crossfade.safety.memory import Changes
from crossfade.safety.specs import (
    ChangeCheck,
    Check,
    ClassesCheck,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    RangeCheck,
    RelationCheck,
)

_SMALL = 32
"""Numbers in a row up to which Python is faster than numpy."""

One = Callable[[Tensors, Tensors, str], bool]
"""(inputs, outputs, unit) of one row -> whether it is violated."""
Many = Callable[[Tensors, Tensors, str], Any]
"""The same of many rows -> an array of bool, or one bool for all of them."""


class Judge(NamedTuple):
    """A check, compiled.

    Args:
        one: Judges one row.
        many: Judges many.
        outputs: Names that it looks at.
        remembers: Whether what it says depends on former answers of all versions.
    """

    one: One
    many: Many
    outputs: frozenset[str]
    remembers: bool = False


class Bench(NamedTuple):
    """What checks are compiled for.

    Args:
        signature: Of the version.
        version: What memories of its own answers are kept under.
        units: How many units are remembered.
        memories: Of all checks of the model; they outlive a compilation.
        clock: Seconds that only grow.
    """

    signature: Signature
    version: str = ""
    units: int = 10_000
    memories: dict[tuple[str, ...], Any] | None = None
    clock: Callable[[], float] = time.monotonic

    def memory(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """Return what a check remembers, from before if there is something."""
        if self.memories is None:
            return make()
        return self.memories.setdefault(key, make())


class CompiledCheck(NamedTuple):
    """A check as it is asked.

    Args:
        name: Of the check.
        level: Of a violation.
        judge: What asks it.
        problem: Why it cannot be asked of this version; empty when it can.
    """

    name: str
    level: Level
    judge: Judge
    problem: str = ""


def compile_check(check: Check, bench: Bench) -> CompiledCheck:
    """Return a check for one version; one that cannot be asked of it is violated always.

    Example:
        >>> from crossfade.core.tensors import TensorSpec
        >>> signature = Signature((), (TensorSpec("predict", "FP64", (-1,)),))
        >>> low = compile_check(RangeCheck(name="low", output="predict", minimum=0), Bench(signature))
        >>> low.judge.one({}, {"predict": np.array([-1.0])}, "")
        True
    """
    try:
        return CompiledCheck(check.name, check.level, _judge(check, bench))
    except InvalidSafetyPolicyError as error:
        return CompiledCheck(check.name, check.level, _VIOLATED, str(error.facts["problem"]))
    except SignatureMismatchError as error:
        return CompiledCheck(check.name, check.level, _VIOLATED, error.message)
    except ValueError as error:
        return CompiledCheck(check.name, check.level, _VIOLATED, str(error))


_VIOLATED = Judge(lambda _inputs, _outputs, _unit: True, lambda _inputs, _outputs, _unit: True, frozenset())


@singledispatch
def _judge(check: Any, bench: Bench) -> Judge:
    raise TypeError(f"no check: {check!r} {bench!r}")


@_judge.register
def _finite(check: FiniteCheck, bench: Bench) -> Judge:
    specs = [bench.signature.output(check.output)] if check.output else list(bench.signature.outputs)
    names = [spec.name for spec in specs if spec.datatype != "BYTES"]
    if not names:
        raise ValueError("the version has no output of numbers")

    def of_rows(_inputs: Tensors, outputs: Tensors, _unit: str) -> Any:
        return np.logical_or.reduce([~_all_of(np.isfinite(outputs[name])) for name in names])

    def of_row(_inputs: Tensors, outputs: Tensors, _unit: str) -> bool:
        return not all(_row_is_finite(outputs[name]) for name in names)

    if len(names) == 1 and columns_of(specs[0]) == 1:
        name, isfinite = names[0], math.isfinite
        return Judge(lambda _i, outputs, _u: not isfinite(outputs[name].item()), of_rows, frozenset(names))
    return Judge(of_row, of_rows, frozenset(names))


def _row_is_finite(array: Array) -> bool:
    if array.size > _SMALL:
        return bool(np.isfinite(array).all())
    return all(map(math.isfinite, array.ravel().tolist()))


def _all_of(truth: Array) -> Any:
    return truth if truth.ndim == 1 else truth.reshape(len(truth), -1).all(axis=1)


@_judge.register
def _range(check: RangeCheck, bench: Bench) -> Judge:
    spec = bench.signature.output(check.output)
    low = -math.inf if check.minimum is None else float(check.minimum)
    high = math.inf if check.maximum is None else float(check.maximum)
    name, width = spec.name, columns_of(spec)
    if spec.datatype == "BYTES":
        raise ValueError(f"`{name}` is no number")
    if check.column is not None and (width is None or check.column >= width):
        raise ValueError(f"`{name}` ({spec.describe()}) has no column {check.column}")
    if check.column is not None or width == 1:
        at = check.column or 0
        read = reader(OUTPUTS, spec, check.column) if spec.datatype != "BOOL" else _truth_as_number(name, at)
        many = read.many

        def one_of_row(_inputs: Tensors, outputs: Tensors, _unit: str) -> bool:
            return not low <= float(outputs[name].item(at)) <= high

        def one_of_rows(inputs: Tensors, outputs: Tensors, _unit: str) -> Any:
            numbers = many(inputs, outputs)
            return ~((numbers >= low) & (numbers <= high))

        return Judge(one_of_row, one_of_rows, frozenset({name}))

    def of_row(_inputs: Tensors, outputs: Tensors, _unit: str) -> bool:
        array = outputs[name]
        if array.size > _SMALL:
            numbers = array.astype(np.float64)
            return not bool(((numbers >= low) & (numbers <= high)).all())
        return not all(low <= float(number) <= high for number in array.ravel().tolist())

    def of_rows(_inputs: Tensors, outputs: Tensors, _unit: str) -> Any:
        numbers = outputs[name].astype(np.float64)
        return ~_all_of((numbers >= low) & (numbers <= high))

    return Judge(of_row, of_rows, frozenset({name}))


def _truth_as_number(name: str, at: int) -> Compiled:
    def many(_inputs: Tensors, outputs: Tensors) -> Any:
        array = outputs[name]
        return (array if array.ndim == 1 else array.reshape(len(array), -1)[:, at]).astype(np.float64)

    return Compiled("number", lambda _inputs, outputs: float(outputs[name].item(at)), many)


@_judge.register
def _relation(check: RelationCheck, bench: Bench) -> Judge:
    def named(side: str) -> str:
        where = "outputs" if any(spec.name == side for spec in bench.signature.outputs) else "inputs"
        return f"{where}[{side!r}]"

    right = named(check.right) if isinstance(check.right, str) else repr(float(check.right))
    if check.times != 1:
        right = f"{right} * {float(check.times)!r}"
    if check.plus != 0:
        right = f"{right} + {float(check.plus)!r}"
    return _stated(f"{named(check.left)} {check.operator} {right}", bench)


@_judge.register
def _expression(check: ExpressionCheck, bench: Bench) -> Judge:
    return _stated(check.expression, bench)


def _stated(expression: str, bench: Bench) -> Judge:
    condition = compile_expression(expression, bench.signature)
    one, many = condition.one, condition.many

    def of_rows(inputs: Tensors, outputs: Tensors, _unit: str) -> Any:
        with np.errstate(all="ignore"):
            return np.logical_not(many(inputs, outputs))

    return Judge(lambda inputs, outputs, _unit: not one(inputs, outputs), of_rows, condition.outputs)


@_judge.register
def _classes(check: ClassesCheck, bench: Bench) -> Judge:
    spec = bench.signature.output(check.output)
    if columns_of(spec) != 1 or not spec.text:
        raise ValueError(f"`{spec.name}` ({spec.describe()}) is no single value")
    allowed, name = frozenset(check.allowed), spec.name
    _, of_many = among(allowed)
    return Judge(
        lambda _inputs, outputs, _unit: outputs[name].item() not in allowed,
        lambda _inputs, outputs, _unit: np.logical_not(of_many(outputs[name].reshape(len(outputs[name])))),
        frozenset({name}),
    )


@_judge.register
def _change(check: ChangeCheck, bench: Bench) -> Judge:
    spec = bench.signature.output(check.output)
    if columns_of(spec) != 1 or spec.datatype == "BYTES":
        raise ValueError(f"`{spec.name}` ({spec.describe()}) is no single number")
    key = ("change", msgspec.json.encode(check).decode())
    memory: Changes = bench.memory(key, lambda: Changes(check, bench.units))
    name, by, clock = spec.name, check.by, bench.clock
    if by and by not in {item.name for item in bench.signature.inputs}:
        raise ValueError(f"the version has no input `{by}`")

    def units(inputs: Tensors, unit: str, rows: int) -> Iterator[str]:
        if not by:
            return iter([unit] * rows)
        return map(str, inputs[by].reshape(rows, -1)[:, 0].tolist() if rows else ())

    def of_rows(inputs: Tensors, outputs: Tensors, unit: str) -> Any:
        now = clock()
        numbers = outputs[name].astype(np.float64).ravel().tolist()
        pairs = zip(units(inputs, unit, len(numbers)), numbers, strict=True)
        jumped = [bool(whose) and memory.jumps(whose, number, now) for whose, number in pairs]
        return np.array(jumped, dtype=bool)

    def of_row(inputs: Tensors, outputs: Tensors, unit: str) -> bool:
        whose = str(inputs[by].item(0)) if by else unit
        return bool(whose) and memory.jumps(whose, float(outputs[name].item()), clock())

    return Judge(of_row, of_rows, frozenset({name}), remembers=True)


@_judge.register
def _distribution(check: DistributionCheck, bench: Bench) -> Judge:
    spec, at = bench.signature.output(check.output), check.column
    width, reference = columns_of(spec), check.reference
    if spec.datatype in {"BYTES", "BOOL"} or width is None or at >= width:
        raise ValueError(f"`{spec.name}` ({spec.describe()}) has no number in column {at}")
    if reference is None:
        raise ValueError("it has no reference")
    key = ("distribution", bench.version, msgspec.json.encode(check).decode())
    window: Window = bench.memory(key, lambda: Window(reference, check.window, check.threshold))
    add, name = window.add, spec.name
    many = reader(OUTPUTS, spec, at if len(spec.shape) > 1 else None).many

    def of_rows(inputs: Tensors, outputs: Tensors, _unit: str) -> bool:
        for number in many(inputs, outputs).tolist()[-check.window :]:
            add(number)
        return window.drifted

    return Judge(lambda _inputs, outputs, _unit: add(float(outputs[name].item(at))), of_rows, frozenset({name}))
