"""Asking in somebody's name: the answer says who gave it and why, and what outcomes call the decision.

Rows go as JSON and by their names, because an experiment decides who answers: whichever version that is reads them by
its own signature, and a request that another version would have read cannot become an error of the one that answers.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

import httpx
import msgspec
import numpy as np
import orjson

from crossfade.client import verbs
from crossfade.client.calls import JSON, Call, ref_path
from crossfade.client.predicting import KnownSignatures, describe, layout
from crossfade.client.tensors import PROBLEM
from crossfade.core.identity import ModelRef
from crossfade.core.tensors import Array, Label, Signature
from crossfade.errors import MalformedRequestError, SignatureMismatchError
from crossfade.ledger.admission import is_slug
from crossfade.serving.predictor import checked_inputs


class Who(TypedDict, total=False):
    """Who asks: what experiments and safety rules go by.

    Attributes:
        unit_id: The unit, such as a user: it keeps its variant.
        context: What else is known about the request: segments, dimensions and policies look at it.
        experiment: The only one that may decide.
    """

    unit_id: str | int | None
    context: Mapping[str, Any] | None
    experiment: str


class Decided(msgspec.Struct, frozen=True):
    """What an experiment decided about a request.

    Args:
        name: Of the experiment; empty when none is about the model.
        variant: What the unit got.
        reason: Why, as a code, such as `split` or `missing_unit`.
        why: The same in a sentence.
        decision_id: What outcomes name; empty when the unit does not take part.
    """

    name: str = ""
    variant: str = ""
    reason: str = ""
    why: str = ""
    decision_id: str = ""


_NOTHING = Decided()


@dataclass(frozen=True)
class Prediction:
    """An answer, and who gave it.

    Attributes:
        model: Who answered.
        version: Its semver.
        predictions: One per row: labels, or the first output when there are none.
        probabilities: One row each, in the order of `classes`; None when they were not asked for.
        classes: The labels, where probabilities were asked for.
        experiment: What an experiment decided about it.
        fallback: Whether it answered in the stead of another version.
        request_id: What the server calls the request.
    """

    model: str
    version: str
    predictions: Array
    probabilities: Array | None = None
    classes: tuple[Label, ...] = ()
    experiment: Decided = _NOTHING
    fallback: bool = False
    request_id: str = ""

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return f"{self.model}:{self.version}"

    @property
    def wanted(self) -> Array:
        """The probabilities when they were asked for, else the predictions."""
        return self.predictions if self.probabilities is None else self.probabilities


def asking(
    known: KnownSignatures,
    ref: str,
    inputs: object,
    *,
    probabilities: bool,
    unit_id: str | int | None = None,
    context: Mapping[str, Any] | None = None,
    experiment: str = "",
) -> Generator[Call[Any], Any, Prediction]:
    """Yield the calls that ask for predictions in somebody's name.

    Args:
        known: What earlier predictions taught.
        ref: Any spelling of a reference; experiments decide about those to the champion.
        inputs: See `Predictor.predict`.
        probabilities: Ask for the probabilities of the classes, too.
        unit_id, context, experiment: See `Who`.
    """
    terms = {"probabilities": probabilities, "unit_id": unit_id, "context": context, "experiment": experiment or None}
    target = ref_path(ref)
    if ModelRef.parse(ref).stage is not None:
        target = (yield verbs.version(ref)).version.ref
    used = known.find(target)
    if used is None:
        used = yield describe(target)
        known.remember(target, used)
    try:
        answer: Prediction = yield _question(target, used, inputs, terms)
    except SignatureMismatchError:
        latest: Signature = yield describe(target)
        if layout(latest) == layout(used):
            raise
        known.remember(target, latest)  # the alias has moved to a version that is asked for something else
        answer = yield _question(target, latest, inputs, terms)
    return answer


def _question(target: str, signature: Signature, inputs: object, terms: Mapping[str, Any]) -> Call[Prediction]:
    tensors = checked_inputs(inputs, signature, target)
    cells = zip(*(array.tolist() for array in tensors.values()), strict=True)
    document = {"rows": [dict(zip(tensors, row, strict=True)) for row in cells], **terms}
    headers = {"content-type": JSON, "accept": PROBLEM}
    experiment = terms["experiment"]
    if experiment is not None:
        if not is_slug(experiment):
            raise MalformedRequestError(problem=f"`{experiment[:80]}` is not a name of an experiment")
        headers["x-experiment-id"] = experiment  # so that it is answered for even where the model has no experiment
    try:
        body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise MalformedRequestError(problem=f"it cannot be written as JSON ({error})") from error
    return Call("POST", f"{verbs.API}/predict/{target}", _prediction, body=body, headers=headers, repeatable=True)


class _Answer(msgspec.Struct):
    model: str
    version: str
    predictions: list[Any]
    probabilities: list[Any] | None = None
    classes: tuple[Label, ...] = ()
    experiment: Decided = _NOTHING
    fallback: bool = False
    non_finite: bool = False
    request_id: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


def _prediction(response: httpx.Response) -> Prediction:
    said = _decode(response.content)
    return Prediction(
        said.model,
        said.version,
        _array(said.predictions, gaps=said.non_finite),
        None if said.probabilities is None else _array(said.probabilities, gaps=said.non_finite),
        said.classes,
        said.experiment,
        said.fallback,
        said.request_id,
    )


def _array(values: list[Any], *, gaps: bool) -> Array:
    """Return JSON values as an array: text as objects; null as NaN, where something is not finite."""
    array = np.array(values)
    if gaps and array.dtype.kind == "O":
        with suppress(TypeError, ValueError):  # labels are text, and it is a probability that is not finite
            return array.astype(np.float64)
    return array.astype(object) if array.dtype.kind == "U" else array
