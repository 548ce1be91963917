"""PyTorch programs made by `torch.export`: operators as JSON, weights as safetensors. Loading unpickles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np

from crossfade.core.hashing import canonical_json
from crossfade.core.tensors import DTYPES, Label, Tensors, TensorSpec, datatype_of
from crossfade.errors import LoadFailedError, UnknownFlavorError
from crossfade.registry.flavors.answers import LABELS, in_words, require, tidy
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.flavors.torch_program import Interpreter, Program, functional, step_of
from crossfade.registry.placement import ANYWHERE, Placement

_PROGRAM, _WEIGHTS = "program.json", "weights.safetensors"


class Torch:
    """`torch.export.ExportedProgram` with a variable batch size and without state."""

    name: ClassVar[str] = "torch"
    extra: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    trust: ClassVar[Trust] = Trust.CONSTRAINED

    def recognises(self, model: object) -> bool:
        """Tell whether it is an exported program, or a plain module, for which `save` says what to do."""
        names = {(kind.__module__, kind.__name__) for kind in type(model).__mro__}
        scripted = ("torch.jit._script", "ScriptModule") in names
        plain = ("torch.nn.modules.module", "Module") in names and not scripted
        return plain or ("torch.export.exported_program", "ExportedProgram") in names

    def detects(self, path: str, head: bytes) -> bool:  # noqa: ARG002 - the name says it
        """Tell by the name of the file that lists the operators."""
        return path == _PROGRAM

    def wrap(self, model: object) -> Runnable:
        """Run the exported program with PyTorch's own means."""
        program: Any = model
        return Exported(_program(functional(program)), program.module())

    def save(self, model: object) -> dict[str, bytes]:
        """Return the program and its weights.

        Raises:
            UnknownFlavorError: It is a plain module, has state, a fixed batch size, or an operator that is not allowed.
            MissingExtraError: PyTorch or safetensors is not installed.
        """
        exported: Any = model
        if type(model).__name__ != "ExportedProgram":
            raise _refused("a plain PyTorch module; pass `torch.export.export(module, args, dynamic_shapes=...)`")
        safetensors = require("safetensors.torch", extra=self.extra, feature="flavor `torch`")
        pure = functional(exported)
        program = _program(pure)
        tensors = {**pure.state_dict, **pure.constants}
        weights = {
            key: tensors[key].detach().cpu().contiguous().clone() for key in sorted(set(program.weights.values()))
        }
        return {_PROGRAM: canonical_json(program), _WEIGHTS: safetensors.save(weights)}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:  # noqa: ARG002 - there is one rule for all
        """Check that there are two files and that the program parses.

        Raises:
            LoadFailedError: They are not.
        """
        _parse(files)

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:  # noqa: ARG002
        """Check every operator and build the interpreter.

        Raises:
            LoadFailedError: The files are damaged, or the program names an operator that is not allowed.
            MissingExtraError: PyTorch or safetensors is not installed.
        """
        program = _parse(files)
        torch = require("torch", extra=self.extra, feature="flavor `torch`")
        safetensors = require("safetensors.torch", extra=self.extra, feature="flavor `torch`")
        device = "cuda" if placement.on_gpu(torch.cuda.is_available, self.name) else "cpu"
        error_type = require("safetensors", extra=self.extra, feature="flavor `torch`").SafetensorError
        try:
            return Exported(program, Interpreter(program, safetensors.load(files[_WEIGHTS]), device))
        except (error_type, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise LoadFailedError(ref=self.name, problem=f"the program is not sound ({in_words(error)})") from error


class Exported:
    """A program that is ready to run."""

    columns: tuple[str, ...] = ()
    classes: tuple[Label, ...] = ()
    matrix = True

    def __init__(self, program: Program, runner: Any) -> None:
        from torch import inference_mode

        self.inputs, self.outputs = program.inputs, program.outputs
        self._runner = runner
        self._inference = inference_mode

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Run the program. A bare array, as a preprocessor gives it, is the single input."""
        import torch

        arrays = inputs if isinstance(inputs, dict) else {self.inputs[0].name: inputs}
        feed = {}
        for spec in self.inputs:
            array = tidy(arrays[spec.name]).astype(DTYPES[spec.datatype], copy=False)
            # PyTorch shares the memory, and warns when it is read-only
            feed[spec.name] = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        with self._inference():
            if isinstance(self._runner, Interpreter):
                answers = self._runner.run(feed)
            else:
                answers = _named(self._runner(*feed.values()))
        return {name: value.cpu().numpy() for name, value in answers.items() if name in wanted}


def _parse(files: Mapping[str, bytes]) -> Program:
    if set(files) != {_PROGRAM, _WEIGHTS}:
        raise LoadFailedError(ref="torch", problem=f"a program consists of {_PROGRAM} and {_WEIGHTS}")
    try:
        return msgspec.json.decode(files[_PROGRAM], type=Program)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LoadFailedError(ref="torch", problem=f"{_PROGRAM} is damaged ({in_words(error)})") from error


def _named(answer: Any) -> dict[str, Any]:
    """Name the outputs of a module: the keys of a dict, `predict`, or `output_0` and so on."""
    if isinstance(answer, dict):
        return {str(name): value for name, value in answer.items()}
    if isinstance(answer, (list, tuple)) and len(answer) != 1:
        return {f"output_{position}": value for position, value in enumerate(answer)}
    return {LABELS: answer[0] if isinstance(answer, (list, tuple)) else answer}


def _program(exported: Any) -> Program:
    """Read the graph of an exported program."""
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        raise _refused("a program that changes its own state")
    nodes = {node.name: node for node in exported.graph.nodes}
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    sources |= signature.inputs_to_lifted_tensor_constants
    names = [str(name) for name in signature.user_outputs]
    keys = list(_named(_unflatten(exported, names)))
    try:
        return Program(
            inputs=tuple(_spec(name, nodes[name], variable=True) for name in signature.user_inputs),
            outputs=tuple(_spec(key, nodes[name], variable=False) for key, name in zip(keys, names, strict=True)),
            weights=sources,
            steps=[step_of(node) for node in nodes.values() if node.op == "call_function" and not _is_assertion(node)],
            results=dict(zip(keys, names, strict=True)),
        )
    except (KeyError, ValueError) as error:
        raise _refused(f"this exported program ({in_words(error)})") from error


def _unflatten(exported: Any, names: list[str]) -> Any:
    from torch.utils._pytree import tree_unflatten

    return tree_unflatten(names, exported.call_spec.out_spec)


def _is_assertion(node: Any) -> bool:
    return not node.users and any(word in str(node.target) for word in ("_assert", "sym_constrain"))


def _spec(name: str, node: Any, *, variable: bool) -> TensorSpec:
    value = node.meta["val"]
    shape = tuple(size if type(size) is int else -1 for size in value.shape)
    if variable and (not shape or shape[0] != -1):
        raise ValueError(f"input `{name}` has a fixed batch size; export it with `dynamic_shapes`")
    dtype = np.dtype(str(value.dtype).removeprefix("torch."))
    return TensorSpec(name, datatype_of(dtype), (-1, *shape[1:]))


def _refused(given: str) -> UnknownFlavorError:
    return UnknownFlavorError(given=given, supported="programs of `torch.export` with a variable batch size, ONNX")
