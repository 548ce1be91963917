"""What a new signature means for the callers of the old one, and which part of the version has to change."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Signature, TensorSpec

Bump = Literal["major", "minor", "patch"]


class SignatureDiff(msgspec.Struct, frozen=True):
    """How two signatures differ.

    Args:
        changes: One sentence per difference, breaking ones first.
        required: `major` when a request or a reader of answers for the old signature may fail with the new one,
            `minor` when the new one only takes or gives more, `patch` when they are equal.
    """

    changes: tuple[str, ...]
    required: Bump


def compare_signatures(old: Signature, new: Signature) -> SignatureDiff:
    """Compare what callers can see: names, datatypes, shapes, missing values and labels, but not the layout.

    Example:
        >>> narrow = Signature((TensorSpec("x", "FP32", (-1,)),), ())
        >>> wide = Signature((TensorSpec("x", "FP64", (-1,)),), ())
        >>> compare_signatures(narrow, wide)
        SignatureDiff(changes=('input `x` widens from FP32 to FP64',), required='minor')
    """
    breaking: list[str] = []
    harmless: list[str] = []
    _compare_inputs(old, new, breaking, harmless)
    _compare_outputs(old, new, breaking, harmless)
    if old.classes and old.classes != new.classes:
        breaking.append("the labels of `predict_proba` change")
    required: Bump = "major" if breaking else "minor" if harmless else "patch"
    return SignatureDiff(changes=(*breaking, *harmless), required=required)


def _compare_inputs(old: Signature, new: Signature, breaking: list[str], harmless: list[str]) -> None:
    before, after = _by_name(old.inputs), _by_name(new.inputs)
    breaking += [f"input `{name}` is gone" for name in before if name not in after]
    breaking += [f"input `{name}` is new and required" for name in after if name not in before]
    for name, was in before.items():
        now = after.get(name, was)
        if was.datatype != now.datatype:
            widens = np.can_cast(DTYPES[was.datatype], DTYPES[now.datatype], "safe") and now.datatype != "BYTES"
            verb = "widens" if widens else "changes"
            (harmless if widens else breaking).append(f"input `{name}` {verb} from {was.datatype} to {now.datatype}")
        if was.shape != now.shape:
            loosened = len(was.shape) == len(now.shape) and all(
                size in (-1, before_size) for before_size, size in zip(was.shape, now.shape, strict=True)
            )
            (harmless if loosened else breaking).append(
                f"input `{name}` changes shape from {list(was.shape)} to {list(now.shape)}"
            )
        if was.missing and not now.missing:
            breaking.append(f"input `{name}` no longer accepts missing values")
        elif now.missing and not was.missing:
            harmless.append(f"input `{name}` now accepts missing values")
        if was.text != now.text:
            breaking.append(f"input `{name}` changes between text and raw bytes")


def _compare_outputs(old: Signature, new: Signature, breaking: list[str], harmless: list[str]) -> None:
    before, after = _by_name(old.outputs), _by_name(new.outputs)
    breaking += [f"output `{name}` is gone" for name in before if name not in after]
    harmless += [f"output `{name}` is new" for name in after if name not in before]
    for name, was in before.items():
        now = after.get(name, was)
        if was != now:
            breaking.append(f"output `{name}` changes from {_words(was)} to {_words(now)}")


def _by_name(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}


def _words(spec: TensorSpec) -> str:
    raw = "" if spec.text else " of raw bytes"
    missing = " or missing" if spec.missing else ""
    return f"{spec.describe()}{raw}{missing}"
