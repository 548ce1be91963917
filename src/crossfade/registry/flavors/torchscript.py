"""TorchScript archives. Their code is compiled and run when they are loaded, so the server's policy must allow it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.errors import CodeNotAllowedError, LoadFailedError
from crossfade.registry.flavors.answers import LABELS, in_words, only_file, require, tidy
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.placement import ANYWHERE, Placement


class TorchScript:
    """`torch.jit.ScriptModule` and files written by `torch.jit.save`."""

    name: ClassVar[str] = "torchscript"
    extra: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    trust: ClassVar[Trust] = Trust.CODE

    def recognises(self, model: object) -> bool:
        """Tell whether it is a scripted or traced module."""
        return ("torch.jit._script", "ScriptModule") in {
            (kind.__module__, kind.__name__) for kind in type(model).__mro__
        }

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the suffix and the zip signature; whether it is a pickled module instead shows when it is loaded."""
        return path.endswith((".pt", ".pth", ".ts")) and head.startswith(b"PK\x03\x04")

    def wrap(self, model: object) -> Runnable:
        """Run the module as it is."""
        return Scripted(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return the archive."""
        torch = require("torch", extra=self.extra, feature="flavor `torchscript`")
        buffer = io.BytesIO()
        torch.jit.save(model, buffer)
        return {"model.pt": buffer.getvalue()}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:
        """Refuse unless the policy allows code.

        Raises:
            CodeNotAllowedError: It does not.
        """
        only_file(files, self.name)
        if not policy.allow_code:
            raise CodeNotAllowedError(given="a TorchScript archive")

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Compile the module.

        Raises:
            CodeNotAllowedError: The policy does not allow code.
            LoadFailedError: It is no TorchScript archive.
            MissingExtraError: PyTorch is not installed.
        """
        self.inspect(files, policy)
        torch = require("torch", extra=self.extra, feature="flavor `torchscript`")
        device = "cuda" if placement.on_gpu(torch.cuda.is_available, self.name) else "cpu"
        try:
            module = torch.jit.load(io.BytesIO(only_file(files, self.name)), map_location=device)
        except (RuntimeError, ValueError) as error:
            raise LoadFailedError(ref=self.name, problem=f"PyTorch refuses it ({in_words(error)})") from error
        return Scripted(module.eval(), device)


class Scripted:
    """A module that takes its inputs in order."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = (TensorSpec(LABELS, "FP32", (-1,)),)
    columns: tuple[str, ...] = ()
    classes: tuple[Label, ...] = ()
    matrix = True

    def __init__(self, module: Any, device: str = "cpu") -> None:
        self._module = module
        self._device = device

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:  # noqa: ARG002 - only the module knows its outputs
        """Return all outputs: the keys of a dict, `predict`, or `output_0` and so on."""
        import torch

        arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
        with torch.inference_mode():
            answer = self._module(
                *(
                    torch.from_numpy(np.require(tidy(array), requirements=["C", "W"])).to(self._device)
                    for array in arrays
                )
            )
        if isinstance(answer, dict):
            return {str(name): value.cpu().numpy() for name, value in answer.items()}
        if isinstance(answer, (list, tuple)):
            return {f"output_{position}": value.cpu().numpy() for position, value in enumerate(answer)}
        return {LABELS: answer.cpu().numpy()}
