"""An exported PyTorch program as plain data: a JSON list of operators, run by a small interpreter.

`torch.export.save` would be the obvious format, but loading it unpickles, evaluates expressions and executes generated
Python. Here a file only names operators of PyTorch's own `aten` library and their arguments; nothing else can be said.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from crossfade.core.tensors import TensorSpec

_ATEN = re.compile(r"aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)")
_DENIED = re.compile(r".*_|from_file|save|_?set_data|set_source.*|resize.*|_assert.*|sym_constrain.*")
"""In place (a trailing underscore), or reaching outside of the tensors they are given."""

_WORDS = frozenset(
    {"none", "tanh", "floor", "trunc", "ij", "xy", "mean", "sum", "left", "right", "prod", "amax", "amin"}
)
"""The only text an operator is ever given: names of modes. No operator can be handed a path."""

_SCALARS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(operator, name)
        for name in (
            "add",
            "sub",
            "mul",
            "truediv",
            "floordiv",
            "mod",
            "neg",
            "getitem",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
        )
    },
    **{name: getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    "sym_max": max,
    "sym_min": min,
    "sym_float": float,
    "sym_int": int,
    "sym_not": operator.not_,
    "sym_sqrt": math.sqrt,
}
"""Functions of sizes, which are plain numbers when the program runs."""

_TYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
_OTHERS = ("strided", "contiguous_format", "preserve_format", "channels_last")


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call: the name of its result, the operator, its arguments.

    An argument is plain JSON, `{"ref": name}` for an earlier result, or `{"torch": name}` for a dtype.
    """

    name: str
    target: str
    args: list[Any]
    kwargs: dict[str, Any]


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program without state: inputs and weights in, outputs out.

    Args:
        weights: Name in the program -> name of the tensor.
        results: Name of the output -> name in the program.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: dict[str, str]
    steps: list[Step]
    results: dict[str, str]


class Interpreter:
    """Runs a program; every operator is found and checked once, in advance.

    Raises:
        ValueError: The program names an operator, an argument or a value that it may not.
    """

    def __init__(self, program: Program, weights: Mapping[str, Any]) -> None:
        self.program = program
        self._constants = {name: weights[key] for name, key in program.weights.items()}
        known = {*self._constants, *(spec.name for spec in program.inputs)}
        self._calls: list[tuple[str, Callable[..., Any], list[Any], dict[str, Any]]] = []
        for step in program.steps:
            arguments = (
                _argument(step.args, known),
                {key: _argument(value, known) for key, value in step.kwargs.items()},
            )
            self._calls.append((step.name, resolve(step.target), *arguments))
            known.add(step.name)
        if not set(program.results.values()) <= known or set(program.results) != {s.name for s in program.outputs}:
            raise ValueError("an output is never computed")

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs as tensors."""
        values: dict[str, Any] = {**self._constants, **inputs}
        for name, call, args, kwargs in self._calls:
            values[name] = call(*_fill(args, values), **{key: _fill(value, values) for key, value in kwargs.items()})
        return {name: values[result] for name, result in self.program.results.items()}


class _Ref(str):
    """The name of an earlier result."""

    __slots__ = ()


def resolve(target: str) -> Any:
    """Return the operator with this name.

    Raises:
        ValueError: It is not one that a program may call.
    """
    import torch

    if target in _SCALARS:
        return _SCALARS[target]
    match = _ATEN.fullmatch(target)
    if match is None or _DENIED.fullmatch(match[1]):
        raise ValueError(f"operator `{target[:80]}` is not allowed")
    found = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"there is no operator `{target[:80]}`")  # noqa: TRY004 - the file is wrong, not a type
    return found


def _argument(value: Any, known: set[str]) -> Any:
    """Turn an argument of the file into what the operator is given."""
    import torch

    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and value in _WORDS):
        return value
    if isinstance(value, list):
        return [_argument(item, known) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, name),) = value.items()
        if kind == "ref" and name in known:
            return _Ref(name)
        if kind == "torch" and name in {*_TYPES, *_OTHERS}:
            return getattr(torch, name)
        if kind == "float" and name in {"nan", "inf", "-inf"}:
            return float(name)
    raise ValueError(f"argument {str(value)[:80]!r} is not allowed")


def _fill(value: Any, values: Mapping[str, Any]) -> Any:
    if type(value) is _Ref:
        return values[value]
    return [_fill(item, values) for item in value] if type(value) is list else value


# --- writing -------------------------------------------------------------------------------------------------------


def step_of(node: Any) -> Step:
    """Return the step for a `call_function` node of an exported graph.

    Raises:
        ValueError: It calls something that a program may not.
    """
    target = str(node.target) if "aten." in str(node.target) else node.target.__name__
    step = Step(node.name, target, [_plain(item) for item in node.args], {k: _plain(v) for k, v in node.kwargs.items()})
    resolve(step.target)
    return step


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, torch.fx.Node):
        return {"ref": value.name}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return None  # everything runs on the CPU
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"argument {value!r} cannot be saved")
