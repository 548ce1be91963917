"""Expressions compiled to closures: one function that judges one row, and one that judges many at once.

The first works on Python's numbers, because numpy takes a microsecond to say what Python says in a tenth of it; the
second on arrays. They mean the same: numbers are float64 and obey IEEE 754, a comparison with NaN is false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossfade.core.tensors import Array, Signature, Tensors, TensorSpec
from crossfade.safety import arithmetic
from crossfade.safety.language import OUTPUTS, Kind, Names, constant_of, kind_of, parse, refuse

One = Callable[[Tensors, Tensors], Any]
"""(inputs, outputs) of one row -> float, str, bool, or a list of float."""
Many = Callable[[Tensors, Tensors], Any]
"""(inputs, outputs) of many rows -> one array; a constant stays a scalar."""


class Compiled(NamedTuple):
    """A part of an expression.

    Args:
        kind: What it gives.
        one: Calculates it for one row.
        many: Calculates it for many.
        inputs, outputs: Names that it looks at.
    """

    kind: Kind
    one: One
    many: Many
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()


def compile_expression(expression: str, signature: Signature) -> Compiled:
    """Return the condition that an expression states, for answers of this signature.

    Raises:
        InvalidSafetyPolicyError: It cannot be read, names what the version has not, or states no condition.

    Example:
        >>> from crossfade.core.tensors import TensorSpec
        >>> number = TensorSpec("x", "FP64", (-1,)), TensorSpec("predict", "FP64", (-1,))
        >>> found = compile_expression("predict <= 2 * x", Signature(number[:1], number[1:]))
        >>> found.one({"x": np.array([1.0])}, {"predict": np.array([3.0])})
        False
    """
    compiled = _Compiler(signature, expression).compile(parse(expression))
    if compiled.kind != "truth":
        raise refuse("it states no condition", expression)
    return compiled


def reader(side: str, spec: TensorSpec, column: int | None) -> Compiled:
    """Return what reads an input or output, or one column of it.

    Raises:
        ValueError: It is nothing that can be calculated with.
    """
    kind = kind_of(spec, column)
    if kind is None:
        raise ValueError(f"`{spec.name}` ({spec.describe()}) is no number and no text")
    name, at = spec.name, column or 0
    place = 1 if side == OUTPUTS else 0
    one, many = _READERS[kind](name, at)
    if place:
        made = Compiled(kind, lambda _, outputs: one(outputs), lambda _, outputs: many(outputs))
        return made._replace(outputs=frozenset({name}))
    made = Compiled(kind, lambda inputs, _: one(inputs), lambda inputs, _: many(inputs))
    return made._replace(inputs=frozenset({name}))


def _numbers_of(name: str, at: int) -> tuple[Callable[[Tensors], Any], Callable[[Tensors], Any]]:
    return (
        lambda tensors: float(tensors[name].item(at)),
        lambda tensors: _column(tensors[name], at).astype(np.float64),
    )


def _rows_of(name: str, _at: int) -> tuple[Callable[[Tensors], Any], Callable[[Tensors], Any]]:
    return (
        lambda tensors: tensors[name].astype(np.float64).ravel().tolist(),
        lambda tensors: _matrix(tensors[name]).astype(np.float64),
    )


def _objects_of(name: str, at: int) -> tuple[Callable[[Tensors], Any], Callable[[Tensors], Any]]:
    return lambda tensors: tensors[name].item(at), lambda tensors: _column(tensors[name], at)


_READERS: Mapping[Kind, Callable[[str, int], tuple[Callable[[Tensors], Any], Callable[[Tensors], Any]]]] = {
    "number": _numbers_of,
    "numbers": _rows_of,
    "text": _objects_of,
    "truth": _objects_of,
}


def _column(array: Array, at: int) -> Array:
    return array if array.ndim == 1 else _matrix(array)[:, at]


def _matrix(array: Array) -> Array:
    return array.reshape(len(array), -1) if len(array) else array.reshape(0, max(int(np.prod(array.shape[1:])), 1))


_ARITHMETIC: Mapping[type[ast.operator], tuple[Callable[[Any, Any], float], Callable[[Any, Any], Any]]] = {
    ast.Add: (operator.add, np.add),
    ast.Sub: (operator.sub, np.subtract),
    ast.Mult: (operator.mul, np.multiply),
    ast.Div: (arithmetic.divide, np.true_divide),
    ast.Mod: (arithmetic.modulo, np.remainder),
    ast.Pow: (arithmetic.power, np.float_power),  # `power` takes short cuts that answer otherwise
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OF_ONE: Mapping[str, tuple[Callable[[float], Any], Callable[[Any], Any]]] = {
    "abs": (abs, np.abs),
    "sqrt": (arithmetic.square_root, np.sqrt),
    "log": (arithmetic.logarithm, np.log),
    "exp": (arithmetic.exponential, np.exp),
    "is_finite": (lambda number: number - number == 0, np.isfinite),
    "is_missing": (lambda number: number != number, np.isnan),  # noqa: PLR0124 - NaN
}
_OF_SEVERAL: Mapping[str, tuple[Callable[[Sequence[float]], float], Callable[[Any], Any]]] = {
    "min": (arithmetic.smallest, lambda matrix: _reduced(np.minimum, matrix)),
    "max": (arithmetic.largest, lambda matrix: _reduced(np.maximum, matrix)),
    # column after column, as one row is added: numpy would add in another order
    "sum": (arithmetic.total, lambda matrix: _reduced(np.add, matrix)),
    "mean": (arithmetic.average, lambda matrix: _reduced(np.add, matrix) / max(matrix.shape[1], 1)),
}


def _reduced(operation: np.ufunc, matrix: Array) -> Any:
    result = np.zeros(len(matrix)) if operation is np.add else matrix[:, 0]
    for column in range(0 if operation is np.add else 1, matrix.shape[1]):
        result = operation(result, matrix[:, column])
    return result


class _Compiler:
    """Turns the tree of one expression into closures, for one signature."""

    def __init__(self, signature: Signature, expression: str) -> None:
        self._names = Names(signature, expression)
        self._expression = expression

    def compile(self, node: ast.expr) -> Compiled:
        constant = constant_of(node)
        if constant is not None:
            kind: Kind = "truth" if isinstance(constant, bool) else "text" if isinstance(constant, str) else "number"
            return Compiled(kind, lambda _inputs, _outputs: constant, lambda _inputs, _outputs: constant)
        named = self._names.find(node)
        if named is not None:
            try:
                return reader(*named)
            except ValueError as error:
                raise refuse(str(error), self._expression) from None
        return self._compound(node)

    def _compound(self, node: ast.expr) -> Compiled:
        if isinstance(node, ast.BinOp):
            one, many = _ARITHMETIC[type(node.op)]
            return self._joined(
                "number", one, many, self._typed(node.left, "number"), self._typed(node.right, "number")
            )
        if isinstance(node, ast.BoolOp):
            return self._all_or_any(node)
        if isinstance(node, ast.UnaryOp):
            return self._signed(node)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Call):
            return self._called(node)
        raise refuse("a list stands only after `in`", self._expression)

    def _typed(self, node: ast.expr, kind: Kind) -> Compiled:
        part = self.compile(node)
        if part.kind != kind:
            raise refuse(f"there is {_WORDS[part.kind]} where {_WORDS[kind]} belongs", self._expression)
        return part

    def _all_or_any(self, node: ast.BoolOp) -> Compiled:
        parts = [self._typed(value, "truth") for value in node.values]
        first, *others = parts
        for second in others:
            first = self._both(first, second) if isinstance(node.op, ast.And) else self._either(first, second)
        return first

    def _both(self, a: Compiled, b: Compiled) -> Compiled:
        made = self._joined("truth", operator.and_, np.logical_and, a, b)
        first, second = a.one, b.one
        return made._replace(one=lambda inputs, outputs: first(inputs, outputs) and second(inputs, outputs))

    def _either(self, a: Compiled, b: Compiled) -> Compiled:
        made = self._joined("truth", operator.or_, np.logical_or, a, b)
        first, second = a.one, b.one
        return made._replace(one=lambda inputs, outputs: first(inputs, outputs) or second(inputs, outputs))

    def _signed(self, node: ast.UnaryOp) -> Compiled:
        if isinstance(node.op, ast.Not):
            part = self._typed(node.operand, "truth")
            return self._mapped("truth", operator.not_, np.logical_not, part)
        part = self._typed(node.operand, "number")
        return part if isinstance(node.op, ast.UAdd) else self._mapped("number", operator.neg, np.negative, part)

    def _compared(self, node: ast.Compare) -> Compiled:
        result: Compiled | None = None
        left = self.compile(node.left)
        for sign, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(sign, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise refuse("`in` stands alone", self._expression)
                return self._among(left, right_node, absent=isinstance(sign, ast.NotIn))
            right = self.compile(right_node)
            step = self._ordered(left, right, sign)
            result = step if result is None else self._both(result, step)
            left = right
        assert result is not None  # noqa: S101 - a comparison has at least one sign
        return result

    def _ordered(self, left: Compiled, right: Compiled, sign: ast.cmpop) -> Compiled:
        compare = _COMPARISONS[type(sign)]
        if left.kind != right.kind or left.kind == "numbers":
            problem = f"{_WORDS[left.kind]} is compared with {_WORDS[right.kind]}"
            raise refuse(problem, self._expression)
        if left.kind != "number" and not isinstance(sign, ast.Eq | ast.NotEq):
            raise refuse("only numbers are less or more than others", self._expression)
        return self._joined("truth", compare, compare, left, right)

    def _among(self, left: Compiled, node: ast.expr, *, absent: bool) -> Compiled:
        if not isinstance(node, ast.Tuple | ast.List):
            raise refuse("a list in brackets belongs after `in`", self._expression)
        values = [constant_of(item) for item in node.elts]
        kinds = {bool: "truth", str: "text", float: "number"}
        if left.kind == "numbers" or any(value is None or kinds[type(value)] != left.kind for value in values):
            raise refuse(f"the list after `in` holds something else than {_WORDS[left.kind]}", self._expression)
        allowed = frozenset(values)
        one, many = among(allowed)
        made = self._mapped("truth", one, many, left)
        return self._mapped("truth", operator.not_, np.logical_not, made) if absent else made

    def _called(self, node: ast.Call) -> Compiled:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _OF_ONE:
            one, many = _OF_ONE[name]
            kind: Kind = "truth" if name.startswith("is_") else "number"
            return self._mapped(kind, one, many, self._typed(node.args[0], "number"))
        of_row, of_rows = _OF_SEVERAL[name]
        if len(node.args) == 1:
            return self._mapped("number", of_row, of_rows, self._typed(node.args[0], "numbers"))
        parts = [self._typed(argument, "number") for argument in node.args]
        return self._gathered(parts, of_row, of_rows)

    def _gathered(
        self, parts: list[Compiled], one: Callable[[Sequence[float]], float], many: Callable[[Any], Any]
    ) -> Compiled:
        def of_row(inputs: Tensors, outputs: Tensors) -> float:
            return one([part.one(inputs, outputs) for part in parts])

        def of_rows(inputs: Tensors, outputs: Tensors) -> Any:
            columns = [np.atleast_1d(part.many(inputs, outputs)) for part in parts]
            return many(np.stack(np.broadcast_arrays(*columns), axis=1))

        return Compiled(
            "number",
            of_row,
            of_rows,
            frozenset().union(*(part.inputs for part in parts)),
            frozenset().union(*(part.outputs for part in parts)),
        )

    def _mapped(self, kind: Kind, one: Callable[[Any], Any], many: Callable[[Any], Any], part: Compiled) -> Compiled:
        of_row, of_rows = part.one, part.many
        return Compiled(
            kind,
            lambda inputs, outputs: one(of_row(inputs, outputs)),
            lambda inputs, outputs: many(of_rows(inputs, outputs)),
            part.inputs,
            part.outputs,
        )

    def _joined(
        self, kind: Kind, one: Callable[[Any, Any], Any], many: Callable[[Any, Any], Any], a: Compiled, b: Compiled
    ) -> Compiled:
        left, right, lefts, rights = a.one, b.one, a.many, b.many
        return Compiled(
            kind,
            lambda inputs, outputs: one(left(inputs, outputs), right(inputs, outputs)),
            lambda inputs, outputs: many(lefts(inputs, outputs), rights(inputs, outputs)),
            a.inputs | b.inputs,
            a.outputs | b.outputs,
        )


def among(allowed: frozenset[Any]) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    """Return what tells of one value, and of an array, whether it is one of those allowed."""

    def of_rows(values: Any) -> Any:
        values = np.asarray(values)
        return np.fromiter((value in allowed for value in values.ravel().tolist()), bool, values.size).reshape(
            values.shape
        )

    return lambda value: value in allowed, of_rows


_WORDS: Mapping[Kind, str] = {
    "number": "a number",
    "text": "a text",
    "truth": "a condition",
    "numbers": "a row of numbers",
}
