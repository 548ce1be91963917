"""Asking a model with the values of two documents: which answers a new document changes, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from crossfade.configs.document import look_up
from crossfade.configs.spec import ReplaySpec
from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Tensors, TensorSpec, row_count
from crossfade.errors import MalformedRequestError, MissingExtraError, SignatureMismatchError
from crossfade.serving.capture_files import find_files, read_file
from crossfade.serving.predictor import Predictor
from crossfade.serving.replay import Differences, OutputReport, answer_rows

OpenPredictor = Callable[[str], AbstractContextManager[Predictor]]
"""Loads the version that a reference means, for a while."""
_MAX_FILES = 100


class ReplayedModel(msgspec.Struct, frozen=True):
    """What a new document changes about the answers of one model.

    Args:
        model: The version that was asked.
        source: Where the other inputs came from: `rows` that were given, `captures`, or `document` when it has all.
        rows: How many were compared.
        different: In how many any output differs.
        failed_before, failed_after: How many have no answer, with the old and with the new document.
        problem: Why nothing could be compared, or why the first row has no answer.
        outputs: By name.
    """

    model: str
    source: str = ""
    rows: int = 0
    different: int = 0
    failed_before: int = 0
    failed_after: int = 0
    problem: str = ""
    outputs: dict[str, OutputReport] = {}


def replay_documents(
    spec: ReplaySpec,
    before: dict[str, Any],
    after: dict[str, Any],
    predictor: Predictor,
    captures: Path,
    *,
    rows: Sequence[dict[str, Any]] = (),
    limit: int,
) -> ReplayedModel:
    """Ask a model with both documents, and compare.

    Args:
        spec: How values of a document become inputs.
        before, after: The documents.
        predictor: The model.
        captures: The folder of captured predictions.
        rows: Inputs to use instead of captured ones.
        limit: Rows at most.

    Raises:
        SignatureMismatchError: An input is missing, or does not fit.
        MalformedRequestError: A document lacks a value, or nothing was captured.
    """
    signature = predictor.info.signature
    others = [each for each in signature.inputs if each.name not in spec.inputs]
    unknown = spec.inputs.keys() - {each.name for each in signature.inputs}
    if unknown:
        raise MalformedRequestError(problem=f"`{predictor.info.ref}` has no input `{min(unknown)}`")
    source = "rows" if rows else "captures" if others else "document"
    comparison = _Comparison(predictor, spec.tolerance)
    for inputs in _groups(source, others, captures / predictor.info.version.model, rows, limit):
        count = row_count(inputs) if inputs else 1
        asked = (_mapped(spec, document, inputs, count, predictor) for document in (before, after))
        comparison.add(count, *asked)
    if not comparison.rows:
        problem = "no predictions were captured; give rows, or let the server capture some (`capture.models`)"
        raise MalformedRequestError(problem=problem)
    return comparison.report(source)


def _groups(
    source: str, others: Sequence[TensorSpec], folder: Path, rows: Sequence[dict[str, Any]], limit: int
) -> Iterator[Tensors]:
    """Yield the inputs that no document has."""
    if source == "document":
        yield {}
        return
    if source == "rows":
        names = [each.name for each in others]
        given = [{name: row.get(name) for name in names} for row in rows[:limit]]
        yield to_tensors(given, others) if others else {"": np.zeros(len(given))}
        return
    left = limit
    for file in islice(sorted(find_files(folder), key=_age), _MAX_FILES) if folder.exists() else ():
        for inputs, _ in read_file(file)[1]:
            if not {each.name for each in others} <= inputs.keys():
                continue  # of a version that took other inputs, or its field policy left some out
            part = {each.name: inputs[each.name][:left] for each in others}
            left -= row_count(part)
            yield part
            if left <= 0:
                return


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _mapped(spec: ReplaySpec, document: dict[str, Any], inputs: Tensors, count: int, predictor: Predictor) -> Tensors:
    values: dict[str, Any] = {name: array for name, array in inputs.items() if name}
    for name, path in spec.inputs.items():
        try:
            value = look_up(document, path)
        except (LookupError, IndexError):
            raise MalformedRequestError(problem=f"a document has nothing at `{path}`") from None
        values[name] = [value] * count
    converted = to_tensors(values, predictor.info.signature.inputs)
    return predictor.info.check(converted)


class _Comparison:
    """Of the answers with the old document and with the new one."""

    def __init__(self, predictor: Predictor, tolerance: float) -> None:
        self._predictor = predictor
        self._tolerance = tolerance
        self._outputs: dict[str, Differences] = {}
        self._failed = [0, 0]
        self._different = 0
        self._problem = ""
        self.rows = 0

    def add(self, count: int, before: Tensors, after: Tensors) -> None:
        names = tuple(spec.name for spec in self._predictor.info.signature.outputs)
        answers = [_Answers(*answer_rows(self._predictor, asked, names), count) for asked in (before, after)]
        both = np.intersect1d(answers[0].kept, answers[1].kept)
        same = np.ones(len(both), dtype=bool)
        for name in names if len(both) else ():
            old, new = (each.of(name, both) for each in answers)
            same &= self._outputs.setdefault(name, Differences(self._tolerance)).add(old, new)
        self.rows += count
        self._different += int((~same).sum()) + len(np.setxor1d(answers[0].kept, answers[1].kept))
        for place, each in enumerate(answers):
            self._failed[place] += count - len(each.kept)
            self._problem = self._problem or each.problem

    def report(self, source: str) -> ReplayedModel:
        outputs = {name: seen.report() for name, seen in self._outputs.items()}
        ref, (before, after) = self._predictor.info.ref, self._failed
        return ReplayedModel(ref, source, self.rows, self._different, before, after, self._problem, outputs)


class _Answers:
    """To some rows; `kept` are those that have one."""

    def __init__(self, outputs: Tensors, lost: list[int], problem: str, count: int) -> None:
        self.kept = np.setdiff1d(np.arange(count), lost)
        self.problem = problem
        self._outputs = outputs

    def of(self, name: str, rows: Any) -> Any:
        return self._outputs[name][np.searchsorted(self.kept, rows)]


def replayed(
    spec: ReplaySpec, open_predictor: OpenPredictor, replay: Callable[[Predictor], ReplayedModel]
) -> ReplayedModel:
    """Load a model and replay, or tell in the report why that cannot be: an impact has other parts, too."""
    try:
        with open_predictor(spec.model) as predictor:
            return replay(predictor)
    except (MalformedRequestError, SignatureMismatchError, MissingExtraError) as error:
        return ReplayedModel(spec.model, problem=error.message)
