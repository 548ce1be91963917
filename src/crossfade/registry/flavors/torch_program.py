"""An exported PyTorch program as plain data: a JSON list of operators, run by a small interpreter.

`torch.export.save` would be the obvious format, but loading it unpickles, evaluates expressions and executes generated
Python. Here a file only names operators of PyTorch's own `aten` library and their arguments; nothing else can be said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from crossfade.core.tensors import TensorSpec
from crossfade.registry.flavors.torch_operators import OPERATORS, check_arguments, resolve
from crossfade.registry.flavors.torch_rehearsal import Call, Ref, rehearse

_WORDS = frozenset({
    "none", "tanh", "floor", "trunc", "ij", "xy", "sum", "mean", "prod", "amax", "amin",
    "constant", "reflect", "replicate", "circular",
})  # fmt: skip
"""The only text an operator is ever given: names of modes. No operator can be handed a path."""

_REMEMBERED = 1024
"""Sizes of inputs whose rehearsal is not repeated: one for each size of a batch, and some for sequences."""

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
    """Runs a program; every operator and argument is checked once, in advance, and memory once per size of the inputs.

    Args:
        program: What to run.
        weights: Its tensors by name.
        device: Where it runs, as PyTorch calls it. Inputs come from anywhere, outputs are there.

    Raises:
        ValueError: The program names an operator, an argument or a value that it may not.
    """

    def __init__(self, program: Program, weights: Mapping[str, Any], device: str = "cpu") -> None:
        self.program = program
        self._device = device
        self._constants = {name: weights[key].to(device) for name, key in program.weights.items()}
        self._outlines = {name: tensor.to("meta") for name, tensor in self._constants.items()}
        self._calls = _calls(program)
        # on the CPU nobody needs to be told
        self._placed = {call.name for call in self._calls if device != "cpu" and call.chooses_device}
        self._rehearse = lru_cache(_REMEMBERED)(self._rehearse_sizes)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs as tensors.

        Raises:
            MemoryError: It would need more memory than one prediction may.
            Exception: Whatever PyTorch raises.
        """
        self._rehearse(*((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items()))
        moved = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        values: dict[str, Any] = {**self._constants, **moved}
        for call in self._calls:
            args, kwargs = call.arguments(values)
            if call.name in self._placed:
                kwargs["device"] = self._device
            values[call.name] = call.function(*args, **kwargs)
            for name in call.finished:
                del values[name]
        return {name: values[result] for name, result in self.program.results.items()}

    def _rehearse_sizes(self, *inputs: tuple[str, Any, Any]) -> None:
        import torch

        outlines = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape, dtype in inputs}
        rehearse(self._calls, {**self._outlines, **outlines})


def _calls(program: Program) -> list[Call]:
    """Check the steps of a program, and say after which one each value is no longer needed."""
    kept = {*program.weights, *(spec.name for spec in program.inputs)}
    known = set(kept)
    if len(known) != len(program.weights) + len(program.inputs):
        raise ValueError("two values have the same name")
    last: dict[str, int] = {}
    parsed: list[tuple[Step, Any, list[Any], dict[str, Any]]] = []
    for position, step in enumerate(program.steps):
        function = resolve(step.target)
        args = [_argument(value, known) for value in step.args]
        kwargs = {key: _argument(value, known) for key, value in step.kwargs.items()}
        if step.target in OPERATORS:
            check_arguments(function, args, kwargs)
        if step.name in known:
            raise ValueError(f"`{step.name[:80]}` is computed twice")
        known.add(step.name)
        parsed.append((step, function, args, kwargs))
        last.update(dict.fromkeys([step.name, *_references([args, *kwargs.values()])], position))
    if not set(program.results.values()) <= known or set(program.results) != {s.name for s in program.outputs}:
        raise ValueError("an output is never computed")
    finished: list[list[str]] = [[] for _ in parsed]
    for name in last.keys() - kept - set(program.results.values()):
        finished[last[name]].append(name)
    return [
        Call(step.name, step.target, function, args, kwargs, tuple(names))
        for (step, function, args, kwargs), names in zip(parsed, finished, strict=True)
    ]


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    return [str(value)] if isinstance(value, Ref) else []


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
            return Ref(name)
        if kind == "torch" and name in {*_TYPES, *_OTHERS}:
            return getattr(torch, name)
        if kind == "float" and name in {"nan", "inf", "-inf"}:
            return float(name)
    raise ValueError(f"argument {str(value)[:80]!r} is not allowed")


# --- writing -------------------------------------------------------------------------------------------------------


def functional(exported: Any) -> Any:
    """Return an exported program without changes in place, in operators that may be saved where PyTorch knows how."""
    from torch.export import default_decompositions

    ways = {kind: way for kind, way in default_decompositions().items() if str(kind) not in OPERATORS}
    return exported.run_decompositions(ways)


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
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and value in _WORDS):
        return value
    raise ValueError(f"argument {value!r} cannot be saved")
