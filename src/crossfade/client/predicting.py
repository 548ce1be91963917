"""Predicting from afar with the data plane alone, which answers while the registry is away; sends nothing itself.

The signature that rows are encoded by comes from the data plane too. An alias may move at any moment, so the answer
says which version gave it; when that version reads requests in another way, it is asked again.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
import msgspec

from crossfade.client import verbs
from crossfade.client.calls import Call, ref_path
from crossfade.client.tensors import PROBLEM, Answered, infer
from crossfade.core.identity import ModelRef
from crossfade.core.tensors import Array, Signature, TensorSpec
from crossfade.errors import SignatureMismatchError, UnavailableError
from crossfade.registry.requests import VersionDetails
from crossfade.serving.predictor import checked_inputs, wanted_output

_MOST_KNOWN = 1_000


class KnownSignatures:
    """What a client remembers of the versions that answered it; a version never changes, so neither does this.

    What it remembers of an alias is a guess, which the answer confirms.
    """

    def __init__(self) -> None:
        self._versions: dict[str, Signature] = {}
        self._answered: dict[str, str] = {}

    def find(self, target: str) -> Signature | None:
        """Return the signature of a version, or of the version that answered last for an alias."""
        return self._versions.get(self._answered.get(target, target))

    def remember(self, version: str, signature: Signature) -> None:
        """Keep the signature of a version."""
        if len(self._versions) >= _MOST_KNOWN:
            self._versions.clear()
        self._versions[version] = signature

    def answered(self, target: str, version: str) -> None:
        """Keep which version answered for a reference."""
        if len(self._answered) >= _MOST_KNOWN:
            self._answered.clear()
        self._answered[target] = version


def prediction(
    known: KnownSignatures, ref: str, inputs: object, *, probabilities: bool
) -> Generator[Call[Any], Any, Array]:
    """Yield the calls that predict rows with the version that `ref` means now.

    Args:
        known: What earlier predictions taught.
        ref: Any spelling of a reference; the registry is needed for stages, which the data plane does not know.
        inputs: See `Predictor.predict`.
        probabilities: Return the probabilities of the classes instead of labels.
    """
    target = ref_path(ref)
    if ModelRef.parse(ref).stage is not None:
        target = (yield verbs.version(ref)).version.ref
    used = known.find(target)
    try:
        if used is None:
            used = yield describe(target)
        answer: Answered = yield _question(target, used, inputs, probabilities)
    except SignatureMismatchError as mismatch:
        if used is None:
            raise
        answer, used = yield from _ask_again(known, target, used, mismatch, (inputs, probabilities))
    signature = known.find(answer.ref)
    if signature is None:
        signature = used if target == answer.ref else (yield describe(answer.ref))
        known.remember(answer.ref, signature)
    known.answered(target, answer.ref)
    if layout(signature) != layout(used):
        answer = yield _question(answer.ref, signature, inputs, probabilities)
    return answer.outputs[wanted_output(signature, probabilities=probabilities)]


def describe(target: str) -> Call[Signature]:
    """Describe the call that asks the data plane how a version is asked.

    What it does not tell is left to the server's own check: whether values may be missing, what the labels are.
    """
    return Call("GET", f"/v2/models/{target}", _signature, headers={"accept": PROBLEM}, repeatable=True)


def _ask_again(
    known: KnownSignatures,
    target: str,
    used: Signature,
    mismatch: SignatureMismatchError,
    question: tuple[object, bool],
) -> Generator[Call[Any], Any, tuple[Answered, Signature]]:
    """Ask once more when the signature is another than the one used; if it is not, the inputs are wrong."""
    signature: Signature = yield describe(target)
    if layout(signature) == layout(used):
        signature = yield from _registered(known, target, mismatch)
    if layout(signature) == layout(used):
        raise mismatch
    answer: Answered = yield _question(target, signature, *question)
    return answer, signature


def _registered(
    known: KnownSignatures, target: str, mismatch: SignatureMismatchError
) -> Generator[Call[Any], Any, Signature]:
    """Return what the registry says, which alone tells raw bytes from text; while it is away the inputs are wrong."""
    try:
        details: VersionDetails = yield verbs.version(target)
    except UnavailableError:
        raise mismatch from None
    known.remember(details.version.ref, details.manifest.signature)
    return details.manifest.signature


def _question(target: str, signature: Signature, inputs: object, probabilities: bool) -> Call[Answered]:
    wanted = wanted_output(signature, probabilities=probabilities)
    return infer(target, signature, checked_inputs(inputs, signature, target), (wanted,))


def layout(signature: Signature) -> list[tuple[str, str, tuple[int, ...], bool]]:
    """Return what the encoding of a request and the reading of its answer depend on, of a signature."""
    return [(spec.name, spec.datatype, spec.shape, spec.text) for spec in (*signature.inputs, *signature.outputs)]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor]
    outputs: list[_Tensor]


def _signature(response: httpx.Response) -> Signature:
    document = msgspec.json.decode(response.content, type=_Metadata)
    inputs = tuple(TensorSpec(item.name, item.datatype, item.shape, missing=True) for item in document.inputs)
    return Signature(inputs, tuple(TensorSpec(item.name, item.datatype, item.shape) for item in document.outputs))
