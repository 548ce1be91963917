"""The language of expressions about one answer: what it may say, and what each part of it is.

It has the spelling of Python and little of its power: numbers, texts and truth values, arithmetic, comparisons, `and`,
`or`, `not`, `in`, and a few functions of numbers. It has no attributes, no loops, no names but those of inputs and
outputs, and nothing whose cost depends on more than the length of the expression. Python's parser reads it; nothing is
ever executed that was not written here.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Literal

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import InvalidSafetyPolicyError

MAX_CHARACTERS = 1_000
MAX_PARTS = 200
MAX_DEPTH = 20
MAX_EXPONENT = 8
INPUTS, OUTPUTS = "inputs", "outputs"
OF_ONE = frozenset({"abs", "sqrt", "log", "exp", "is_finite", "is_missing"})
OF_SEVERAL = frozenset({"min", "max", "sum", "mean"})

Kind = Literal["number", "text", "truth", "numbers"]
"""`numbers`: one row of an output with several columns."""

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_EQUALITY = (ast.Eq, ast.NotEq)
_MEMBERSHIP = (ast.In, ast.NotIn)
_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.BinOp, *_ARITHMETIC, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd),
    *(ast.Compare, *_ORDER, *_EQUALITY, *_MEMBERSHIP, ast.Call, ast.Constant, ast.Name, ast.Load, ast.Subscript),
    *(ast.Tuple, ast.List),
)


def refuse(problem: str, expression: str) -> InvalidSafetyPolicyError:
    """Return the error that says what is wrong with an expression."""
    return InvalidSafetyPolicyError(problem=f"the expression `{expression[:120]}`: {problem}")


def parse(expression: str) -> ast.expr:
    """Return the tree of an expression in which everything is allowed.

    Raises:
        InvalidSafetyPolicyError: It cannot be read, is too long, too deep, or has something that this language has not.

    Example:
        >>> type(parse("predict <= 2 * inputs['capacity']")).__name__
        'Compare'
    """
    if len(expression) > MAX_CHARACTERS:
        raise refuse(f"it has {len(expression)} characters, and {MAX_CHARACTERS} are possible", expression)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refuse(f"it cannot be read ({type(error).__name__})", expression) from None
    parts = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        parts += 1
        if depth > MAX_DEPTH or parts > MAX_PARTS:
            raise refuse(f"it is deeper than {MAX_DEPTH} or has more than {MAX_PARTS} parts", expression)
        _check(node, expression)
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return tree.body


def _check(node: ast.AST, expression: str) -> None:
    if not isinstance(node, _ALLOWED):
        raise refuse(f"it may not have `{type(node).__name__}`", expression)
    if isinstance(node, ast.Constant):
        _check_constant(node, expression)
    elif isinstance(node, ast.Call):
        _check_call(node, expression)
    elif isinstance(node, ast.Subscript):
        index = node.slice
        if not (isinstance(index, ast.Constant) and isinstance(index.value, str | int)) or isinstance(
            index.value, bool
        ):
            raise refuse("what stands in brackets is a name in quotes or a whole number", expression)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        exponent = constant_of(node.right)
        if not isinstance(exponent, float) or abs(exponent) > MAX_EXPONENT:
            raise refuse(f"an exponent is a number from -{MAX_EXPONENT} to {MAX_EXPONENT}", expression)


def _check_constant(node: ast.Constant, expression: str) -> None:
    if not isinstance(node.value, str | int | float):
        raise refuse(f"it may not have a constant like `{str(node.value)[:20]}`", expression)
    if isinstance(node.value, int):
        try:
            float(node.value)
        except OverflowError:
            raise refuse("a number is too large", expression) from None


def _check_call(node: ast.Call, expression: str) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in OF_ONE | OF_SEVERAL or node.keywords:
        known = ", ".join(sorted(OF_ONE | OF_SEVERAL))
        raise refuse(f"the only functions are {known}", expression)
    if not node.args or (name in OF_ONE and len(node.args) != 1):
        raise refuse(f"`{name}` got {len(node.args)} values", expression)


def constant_of(node: ast.expr) -> float | str | bool | None:
    """Return the value of a constant, perhaps with a sign; numbers as float64. None when it is none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = constant_of(node.operand)
        if not isinstance(value, float):
            return None
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.Constant):
        return None
    found: Any = node.value
    if isinstance(found, bool | str):
        return found
    return float(found) if isinstance(found, int | float) else None


class Names:
    """What the names in an expression mean for one version.

    Args:
        signature: Of the version.
        expression: For errors.
    """

    def __init__(self, signature: Signature, expression: str) -> None:
        self._expression = expression
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}

    def find(self, node: ast.expr) -> tuple[str, TensorSpec, int | None] | None:
        """Return (`inputs` or `outputs`, the tensor, the column or None) when a node names a value; else None.

        Raises:
            InvalidSafetyPolicyError: It names something that the version has not.
        """
        if isinstance(node, ast.Name):
            return self._bare(node.id)
        if not isinstance(node, ast.Subscript):
            return None
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if isinstance(index, str):
            if not isinstance(node.value, ast.Name) or node.value.id not in {INPUTS, OUTPUTS}:
                raise refuse("only `inputs` and `outputs` are asked by name", self._expression)
            side = node.value.id
            return side, self._known(self._inputs if side == INPUTS else self._outputs, index, side), None
        inner = self.find(node.value)
        if inner is None or inner[2] is not None or not isinstance(index, int):
            raise refuse("a column is asked of an input or output", self._expression)
        side, spec, _ = inner
        width = columns_of(spec)
        if width is None or not 0 <= index < width:
            raise refuse(f"`{spec.name}` ({spec.describe()}) has no column {index}", self._expression)
        return side, spec, index

    def _bare(self, name: str) -> tuple[str, TensorSpec, int | None]:
        if name in self._outputs:
            return OUTPUTS, self._outputs[name], None
        return INPUTS, self._known(self._inputs, name, "inputs or outputs"), None

    def _known(self, specs: Mapping[str, TensorSpec], name: str, what: str) -> TensorSpec:
        if name not in specs:
            raise refuse(f"`{name}` is none of the {what} of the version", self._expression)
        return specs[name]


def columns_of(spec: TensorSpec) -> int | None:
    """Return how many columns a row of a tensor has; 1 for a single value, None when it is not known beforehand."""
    width = 1
    for size in spec.shape[1:]:
        if size < 0:
            return None
        width *= size
    return width


def kind_of(spec: TensorSpec, column: int | None) -> Kind | None:
    """Return what one row of a tensor is in an expression; None for what has no place there."""
    single = column is not None or columns_of(spec) == 1
    if spec.datatype == "BYTES":
        return "text" if single and spec.text else None
    if spec.datatype == "BOOL":
        return "truth" if single else None
    return "number" if single else "numbers"
