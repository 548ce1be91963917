"""Whether versions can work together in an ensemble, and the signature that they have then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Array, Label, Signature, Tensors, TensorSpec
from crossfade.errors import InvalidEnsembleError
from crossfade.registry.ensembles.document import EnsembleSpec, Member, Method
from crossfade.registry.flavors.answers import LABELS, PROBABILITIES, label_datatype

Signatures = Mapping[str, Signature]
"""Pinned reference -> signature of every version that takes part."""

_ONE = 1e-6
"""How far the probabilities of a constant may be from summing to one."""


def agree(spec: EnsembleSpec, signatures: Signatures) -> Signature:
    """Return the signature of an ensemble, when its members fit its method and each other.

    Its inputs are those of all members together: an input that several have must be the same for all of them.

    Raises:
        InvalidEnsembleError: They do not fit; names the version and what is in the way.
    """
    if spec.stacker in {ref for member in spec.members for ref in (member.ref, member.substitute)} - {""}:
        _refuse(spec.stacker, "cannot both answer as a member and be asked about the answers of all")
    voices = [ref for ref in spec.refs() if ref != spec.stacker]
    inputs = _joined_inputs({ref: signatures[ref] for ref in voices})
    used = {ref: used_outputs(spec.method, ref, signatures[ref]) for ref in voices}
    if spec.method == "stack":
        for member in spec.members:
            if member.substitute:
                _check_equal("stack", {ref: used[ref] for ref in (member.ref, member.substitute)}, signatures)
        outputs, classes = _stacked(spec, used, signatures)
    else:
        _check_equal(spec.method, used, signatures)
        outputs, classes = _combined(spec.method, voices, used, signatures)
    for member in spec.members:
        if member.constant is not None:
            constant_answer(spec.method, member, signatures[member.ref])
    return Signature(inputs, outputs, "tensors", classes)


def used_outputs(method: Method, ref: str, signature: Signature) -> tuple[TensorSpec, ...]:
    """Return the outputs of a member that an ensemble looks at.

    Raises:
        InvalidEnsembleError: It does not have what the method needs.
    """
    if method == "first":
        return signature.outputs
    outputs = {spec.name: spec for spec in signature.outputs}
    if method == "soft_vote":
        return (_probabilities(ref, outputs.get(PROBABILITIES), signature.classes),)
    if method == "hard_vote":
        return (_labels(ref, outputs.get(LABELS), signature.classes),)
    if method == "average" and signature.classes:
        _refuse(ref, "is a classifier, and the mean of labels means nothing; use `soft_vote`")
    chosen = signature.outputs
    if method == "stack" and signature.classes and PROBABILITIES in outputs:
        chosen = (outputs[PROBABILITIES],)
    for spec in chosen:
        if DTYPES[spec.datatype].kind not in "fiu":
            _refuse(ref, f"gives no numbers as `{spec.name}` but {spec.describe()}")
        if method == "stack" and (len(spec.shape) > 2 or -1 in spec.shape[1:]):
            _refuse(ref, f"gives `{spec.name}` as {spec.describe()}, which is no fixed number of columns")
    return chosen


def _probabilities(ref: str, spec: TensorSpec | None, classes: tuple[Label, ...]) -> TensorSpec:
    if spec is None or not _is_float(spec) or len(spec.shape) != 2 or spec.shape[1] != len(classes):
        _refuse(ref, f"gives no `{PROBABILITIES}` of classes, which a soft vote needs")
    return spec


def _labels(ref: str, spec: TensorSpec | None, classes: tuple[Label, ...]) -> TensorSpec:
    if spec is None or len(spec.shape) != 1 or (_is_float(spec) and not classes):
        _refuse(ref, f"gives no labels as `{LABELS}`, which a hard vote needs")
    return spec


def is_binary(signature: Signature, used: Sequence[TensorSpec]) -> bool:
    """Tell whether a stacker gets only the second of two probabilities, as in scikit-learn."""
    return len(signature.classes) == 2 and [spec.name for spec in used] == [PROBABILITIES]


def constant_answer(method: Method, member: Member, signature: Signature) -> Tensors:
    """Return what stands in for a member: one array per output that is used, without the dimension of rows.

    Raises:
        InvalidEnsembleError: The constant does not fit these outputs.
    """
    used = used_outputs(method, member.ref, signature)
    values = member.constant
    if not isinstance(values, dict):
        values = {used[0].name: values} if len(used) == 1 else {}
    if set(values) != {spec.name for spec in used}:
        _refuse(member.ref, f"needs a constant for each of {', '.join(f'`{spec.name}`' for spec in used)[:300]}")
    return {spec.name: _constant(member.ref, spec, values[spec.name], signature.classes) for spec in used}


def _constant(ref: str, spec: TensorSpec, value: Any, classes: tuple[Label, ...]) -> Array:
    dtype = DTYPES[spec.datatype]
    try:
        given = np.asarray(value, dtype=object if dtype.kind == "O" else None)
        with np.errstate(over="ignore"):
            array = given.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        _refuse(ref, f"has a constant that is no {spec.describe()}")
    wanted = spec.shape[1:]
    fits = given.ndim == len(wanted) and all(
        have and size in (-1, have) for size, have in zip(wanted, given.shape, strict=True)
    )
    kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "O"}[dtype.kind]
    if not fits or given.dtype.kind not in kinds or not _is_same(given, array):
        _refuse(ref, f"has a constant that is no `{spec.name}` of a row, {spec.datatype} {list(wanted)}")
    if dtype.kind == "O" and not (spec.text and all(isinstance(item, str) for item in array.flat)):
        _refuse(ref, f"has a constant that is no text for `{spec.name}`")
    if spec.name == PROBABILITIES and classes and (array.min() < 0 or abs(float(array.sum()) - 1.0) > _ONE):
        _refuse(ref, "has a constant whose probabilities do not sum to one")
    if spec.name == LABELS and classes and array.ndim == 0 and array.item() not in classes:
        _refuse(ref, f"has the constant `{value}`, which is none of its classes")
    return array


def _is_same(given: Array, array: Array) -> bool:
    """Tell whether casting changed nothing but the width of floats."""
    return bool(np.isfinite(array).all()) if array.dtype.kind == "f" else bool((given == array).all())


def _joined_inputs(signatures: Signatures) -> tuple[TensorSpec, ...]:
    joined: dict[str, tuple[str, TensorSpec]] = {}
    for ref, signature in signatures.items():
        for spec in signature.inputs:
            other, known = joined.setdefault(spec.name, (ref, spec))
            if _form(known) != _form(spec):
                _refuse(ref, f"wants `{spec.name}` as {_words(spec)}, and `{other}` as {_words(known)}")
            # a value may be missing only where all of them can do without it
            joined[spec.name] = other, msgspec.structs.replace(known, missing=known.missing and spec.missing)
    return tuple(spec for _, spec in joined.values())


def _form(spec: TensorSpec) -> tuple[object, ...]:
    return spec.datatype, spec.shape, spec.text


def _words(spec: TensorSpec) -> str:
    return spec.describe() if spec.text else f"{spec.describe()} of raw bytes"


def _check_equal(method: Method, used: Mapping[str, tuple[TensorSpec, ...]], signatures: Signatures) -> None:
    """Check that members answer alike; for means, the width of numbers may differ."""
    first, *others = used
    exact = method in {"first", "hard_vote"}
    for ref in others:
        if [_output(spec, exact) for spec in used[ref]] != [_output(spec, exact) for spec in used[first]]:
            here, there = (", ".join(f"`{s.name}` {_words(s)}" for s in used[which]) for which in (ref, first))
            _refuse(ref, f"answers with {here[:300]}, and `{first}` with {there[:300]}")
        if method != "hard_vote" and not _equal_labels(signatures[ref].classes, signatures[first].classes):
            _refuse(ref, f"has other classes than `{first}`, or has them in another order")


def _output(spec: TensorSpec, exact: bool) -> tuple[object, ...]:
    return spec.name, spec.shape, spec.text, spec.datatype if exact else ""


def _equal_labels(a: tuple[Label, ...], b: tuple[Label, ...]) -> bool:
    return a == b and [type(label) for label in a] == [type(label) for label in b]


def _combined(
    method: Method, voices: Sequence[str], used: Mapping[str, tuple[TensorSpec, ...]], signatures: Signatures
) -> tuple[tuple[TensorSpec, ...], tuple[Label, ...]]:
    first = used[voices[0]]
    classes = signatures[voices[0]].classes
    if method == "first":
        return first, classes
    if method == "hard_vote":
        same = all(_equal_labels(signatures[ref].classes, classes) for ref in voices)
        return first, classes if same else ()
    means = tuple(
        TensorSpec(spec.name, _common_float(used[ref][position].datatype for ref in voices), spec.shape)
        for position, spec in enumerate(first)
    )
    if method == "average":
        return means, ()
    labels = {spec.name: spec for spec in signatures[voices[0]].outputs}.get(LABELS)
    datatype = labels.datatype if labels else label_datatype(classes)
    return (TensorSpec(LABELS, datatype, (-1,)), *means), classes


def _common_float(datatypes: Iterable[str]) -> str:
    found = set(datatypes)
    return found.pop() if len(found) == 1 and DTYPES[next(iter(found))].kind == "f" else "FP64"


def _stacked(
    spec: EnsembleSpec, used: Mapping[str, tuple[TensorSpec, ...]], signatures: Signatures
) -> tuple[tuple[TensorSpec, ...], tuple[Label, ...]]:
    width = sum(_width(signatures[member.ref], used[member.ref]) for member in spec.members)
    stacker = signatures[spec.stacker]
    inputs = stacker.inputs
    columns = [len(each.shape) == 1 for each in inputs]
    matrix = len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].shape[1] in (-1, width)
    if not (matrix or (all(columns) and len(inputs) == width)) or not all(map(_is_float, inputs)):
        wants = ", ".join(f"`{each.name}` {_words(each)}" for each in inputs)[:300]
        _refuse(spec.stacker, f"wants {wants}, and the members give {width} columns of numbers")
    return stacker.outputs, stacker.classes


def _width(signature: Signature, used: Sequence[TensorSpec]) -> int:
    if is_binary(signature, used):
        return 1
    return sum(math.prod(spec.shape[1:]) for spec in used)


def _is_float(spec: TensorSpec) -> bool:
    return DTYPES[spec.datatype].kind == "f"


def _refuse(ref: str, problem: str) -> NoReturn:
    raise InvalidEnsembleError(problem=f"`{ref}` {problem}")
