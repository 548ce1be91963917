"""What a flavor does. One file per flavor beside this one; `backends.py` lists them in the order they are tried."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Protocol

import msgspec

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.registry.placement import ANYWHERE, Placement


class Trust(IntEnum):
    """What loading a format can do to the process that loads it."""

    DATA = 0
    """Only data is parsed."""
    CONSTRAINED = 1
    """Only types on a list of the server are built."""
    CODE = 2
    """Code from the file runs: refused unless the server's policy allows it."""


class TrustPolicy(msgspec.Struct, frozen=True):
    """What this server trusts."""

    allow_code: bool = False
    trusted_types: frozenset[str] = frozenset()


class Runnable(Protocol):
    """A loaded model. Called from one thread at a time."""

    outputs: tuple[TensorSpec, ...]
    """What it can answer; a classifier has `predict` and `predict_proba`."""
    inputs: tuple[TensorSpec, ...]
    """What it wants, when the format says so (ONNX, exported programs); else empty."""
    columns: tuple[str, ...]
    """The columns it was fitted on, in their order, when it knows them; else empty."""
    matrix: bool
    """Whether columns of numbers may come as one float64 matrix, which costs less than a frame."""
    classes: tuple[Label, ...]
    """The labels behind the columns of `predict_proba`; empty for anything but classifiers."""

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs.

        Args:
            inputs: In the signature's layout: a dict of arrays, a single array, or a frame.
            wanted: Names of outputs; others may be left out.
        """


class Transformer(Protocol):
    """A loaded, fitted preprocessor. A flavor's runnable is one too when the object behind it can transform."""

    def transform(self, inputs: object) -> object:
        """Return what the model wants."""


class Flavor(Protocol):
    """One serialization format. Stateless; third-party packages are imported inside the methods only."""

    name: ClassVar[str]
    extra: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide whether a file loads elsewhere; the card records them."""
    trust: ClassVar[Trust]

    def recognises(self, model: object) -> bool:
        """Tell whether `save` can write this object, without importing anything."""

    def detects(self, path: str, head: bytes) -> bool:
        """Tell whether a file is in this format, from its name and its first 4 KiB."""

    def wrap(self, model: object) -> Runnable:
        """Return a model object as it is, without saving it, so that what was saved can be compared with it."""

    def save(self, model: object) -> dict[str, bytes]:
        """Return path -> bytes. Equal models give equal bytes, so that registering again converges.

        Raises:
            MissingExtraError: The package is not installed.
        """

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:
        """Check files for publication without loading them.

        Raises:
            DeniedError: The policy forbids them.
            LoadFailedError: They are not in this format.
        """

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Return the runnable model on its device. `inspect` runs first.

        Raises:
            DeniedError: The policy forbids it.
            LoadFailedError: The bytes are not in this format, or damaged, or there is no GPU for it.
            MissingExtraError: The package is not installed.
        """
