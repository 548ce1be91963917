"""A slow and obvious reading of expressions and checks, row by row, to hold the compiled ones to."""

from __future__ import annotations

import ast
import math

import numpy as np

ORDER = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}


def evaluate(expression, inputs, outputs, row):
    """Return what an expression gives for one row, by walking over its tree."""
    return _walk(ast.parse(expression, mode="eval").body, inputs, outputs, row)


def _walk(node, inputs, outputs, row):  # noqa: C901, PLR0911, PLR0912 - one case for each kind of node
    again = lambda child: _walk(child, inputs, outputs, row)  # noqa: E731
    match node:
        case ast.Constant():
            return node.value if isinstance(node.value, bool | str) else float(node.value)
        case ast.Name():
            return _value((outputs if node.id in outputs else inputs)[node.id][row])
        case ast.Subscript(value=ast.Name(id="inputs" | "outputs" as side), slice=ast.Constant(value=str(name))):
            return _value((inputs if side == "inputs" else outputs)[name][row])
        case ast.Subscript(slice=ast.Constant(value=column)):
            found = again(node.value)
            return found[column] if isinstance(found, list) else found
        case ast.BoolOp(op=ast.And()):
            return all(again(value) for value in node.values)
        case ast.BoolOp():
            return any(again(value) for value in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not again(node.operand)
        case ast.UnaryOp(op=ast.USub()):
            return -again(node.operand)
        case ast.UnaryOp():
            return again(node.operand)
        case ast.BinOp():
            return _calculate(node.op, again(node.left), again(node.right))
        case ast.Compare(ops=[ast.In()]):
            return again(node.left) in [again(item) for item in node.comparators[0].elts]
        case ast.Compare(ops=[ast.NotIn()]):
            return again(node.left) not in [again(item) for item in node.comparators[0].elts]
        case ast.Compare():
            values = [again(node.left), *map(again, node.comparators)]
            return all(ORDER[type(op)](values[at], values[at + 1]) for at, op in enumerate(node.ops))
        case ast.Call():
            return _called(node.func.id, [again(argument) for argument in node.args])
    raise AssertionError(ast.dump(node))


def _value(value):
    if isinstance(value, np.ndarray):
        return [float(item) for item in value.ravel()]
    return value if isinstance(value, str) else bool(value) if isinstance(value, np.bool_) else float(value)


def _calculate(op, a, b):
    """Every operation by numpy, one pair of float64 at a time: that is what IEEE 754 says."""
    operations = {
        ast.Add: np.add,
        ast.Sub: np.subtract,
        ast.Mult: np.multiply,
        ast.Div: np.true_divide,
        ast.Mod: np.remainder,
        ast.Pow: np.float_power,
    }
    with np.errstate(all="ignore"):
        return float(operations[type(op)](np.float64(a), np.float64(b)))


def _called(name, values):
    if name in {"min", "max", "sum", "mean"}:
        numbers = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        if any(math.isnan(number) for number in numbers):
            return math.nan
        if name in {"min", "max"}:
            return {"min": min, "max": max}[name](numbers)
        added = 0.0
        with np.errstate(all="ignore"):
            for number in numbers:
                added = float(np.float64(added) + np.float64(number))
        return added if name == "sum" else added / len(numbers)
    number = np.float64(values[0])
    with np.errstate(all="ignore"):
        return {
            "abs": lambda: float(abs(number)),
            "sqrt": lambda: float(np.sqrt(number)),
            "log": lambda: float(np.log(number)),
            "exp": lambda: float(np.exp(number)),
            "is_finite": lambda: math.isfinite(number),
            "is_missing": lambda: math.isnan(number),
        }[name]()


def out_of_range(values, low, high):
    """Tell whether any number of a row lies outside; NaN lies nowhere."""
    numbers = [float(item) for item in np.ravel(values)]
    return any(math.isnan(number) or number < low or number > high for number in numbers)


def jumps(check, answers):
    """Return which of (unit, number, time) are too far from the one before: by looking at all that came before."""
    violated = []
    for at, (unit, number, now) in enumerate(answers):
        if not unit:
            violated.append(False)
            continue
        accepted = [
            (value, when)
            for (whose, value, when), bad in zip(answers[:at], violated, strict=True)
            if whose == unit and not bad
        ]
        bad = not math.isfinite(number)
        if not bad and accepted:
            value, when = accepted[-1]
            if now - when <= check.forget_seconds:
                allowed = check.maximum
                if check.per_seconds is not None:
                    allowed = check.maximum * (now - when) / check.per_seconds
                bad = not abs(number - value) <= allowed
        violated.append(bad)
    return violated
