"""Replaying a capture: what another version answers to the same inputs, and how that differs, row by row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from crossfade.core.tensors import Array, Tensors, row_count
from crossfade.errors import (
    BatchRestsError,
    DeadlineExceededError,
    MalformedRequestError,
    OverloadedError,
    PredictionError,
    SignatureMismatchError,
)
from crossfade.serving.capture_files import SEE, Origin, find_files, read_file
from crossfade.serving.predictor import Predictor

QUANTILES = (0.5, 0.9, 0.99)
_MOST_CHANGES = 10
_PATIENCE_SECONDS = 300.0
"""How long rows make way for whoever waits for an answer, before the replay gives up."""
_LONGEST_PAUSE_SECONDS = 5.0


class Change(msgspec.Struct, frozen=True):
    """One answer that became another, and how often."""

    before: bool | int | str
    after: bool | int | str
    rows: int


class OutputReport(msgspec.Struct, frozen=True):
    """How one output differs.

    Args:
        rows: How many were compared.
        equal: How many of them are equal, within the tolerance; NaN equals NaN.
        mean_absolute, max_absolute: Of the differences of all finite numbers.
        quantiles: Of the same, by their level.
        not_finite: Numbers of which one side is not finite and the other another.
        changes: Of answers that are no floats: which became which, the most frequent first.
    """

    rows: int
    equal: int
    mean_absolute: float | None = None
    max_absolute: float | None = None
    quantiles: dict[str, float] = {}
    not_finite: int = 0
    changes: tuple[Change, ...] = ()


class ReplayReport(msgspec.Struct, frozen=True):
    """What a version answers to a capture.

    Args:
        ref: The version.
        captured: Whose answers it was compared with: versions, and how many rows of each.
        rows: How many were replayed.
        different: In how many of them any output differs, or there is no answer any more.
        failed: How many have no answer any more.
        problem: Of the first of these.
        outputs: By name.
        missing: Outputs that were captured and that the version does not have.
    """

    ref: str
    captured: dict[str, int]
    rows: int
    different: int
    failed: int
    problem: str
    outputs: dict[str, OutputReport]
    missing: tuple[str, ...]


class Differences:
    """Of one output, gathered over groups of rows."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.rows = self.equal = self.not_finite = 0
        self.distances: list[Array] = []
        self.changes: Counter[tuple[bool | int | str, bool | int | str]] = Counter()

    def add(self, before: Array, after: Array) -> Array:
        """Compare rows, and tell which of them are equal."""
        if before.shape != after.shape:
            same = np.zeros(len(before), dtype=bool)
        elif before.dtype.kind == "f" or after.dtype.kind == "f":
            same = self._numbers(before.astype(np.float64), after.astype(np.float64))
        else:
            same = _by_row(before == after)
            if before.ndim == 1:
                changed = zip(before[~same].tolist(), after[~same].tolist(), strict=True)
                self.changes.update((_plain(old), _plain(new)) for old, new in changed)
        self.rows += len(before)
        self.equal += int(same.sum())
        return same

    def report(self) -> OutputReport:
        """Return what was found."""
        distances = np.concatenate([np.empty(0), *self.distances])
        changes = tuple(Change(*pair, rows) for pair, rows in self.changes.most_common(_MOST_CHANGES))
        if not distances.size:
            return OutputReport(self.rows, self.equal, not_finite=self.not_finite, changes=changes)
        levels = np.quantile(distances, QUANTILES).tolist()
        return OutputReport(
            self.rows,
            self.equal,
            float(distances.mean()),
            float(distances.max()),
            {f"{level:g}": value for level, value in zip(QUANTILES, levels, strict=True)},
            self.not_finite,
            changes,
        )

    def _numbers(self, before: Array, after: Array) -> Array:
        finite = np.isfinite(before) & np.isfinite(after)
        identical = (before == after) | (np.isnan(before) & np.isnan(after))
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(after - before)
            close = identical | (finite & (distance <= self.tolerance * (1.0 + np.abs(before))))
        self.not_finite += int((~finite & ~identical).sum())
        self.distances.append(distance[finite].ravel())
        return _by_row(close)


def replay(path: Path, predictor: Predictor, *, batch_size: int = 1000, tolerance: float = 0.0) -> ReplayReport:
    """Put captured inputs to another version, and compare its answers with the captured ones.

    Inputs that the version does not take are left out.

    Args:
        path: A file, or a folder of files, of one model or several.
        predictor: The other version.
        batch_size: Rows per call.
        tolerance: Numbers are equal when |after - before| <= tolerance * (1 + |before|).

    Raises:
        MalformedRequestError: There is no capture.
        SignatureMismatchError: An input of the version was not captured, or does not fit.

    Example:
        >>> report = replay(Path("captures/churn"), crossfade.load("churn:1.3.0"))  # doctest: +SKIP
        >>> report.outputs["predict"].equal / report.outputs["predict"].rows  # doctest: +SKIP
        0.98
    """
    files = find_files(path)
    if not files:
        raise MalformedRequestError(problem=f"`{path}` holds no captured predictions", see=SEE)
    comparison = _Comparison(predictor, tolerance)
    for file in files:
        origin, groups = read_file(file)
        _check_inputs(predictor, origin)
        for inputs, outputs in groups:
            for asked, expected in _pieces(inputs, outputs, batch_size):
                comparison.add(origin, asked, expected)
    return comparison.report()


class _Comparison:
    """Of one version with everything that was captured."""

    def __init__(self, predictor: Predictor, tolerance: float) -> None:
        self._predictor = predictor
        self._tolerance = tolerance
        self._has = [spec.name for spec in predictor.info.signature.outputs]
        self._captured: Counter[str] = Counter()
        self._outputs: dict[str, Differences] = {}
        self._missing: dict[str, None] = {}
        self._different = self._failed = 0
        self._problem = ""

    def add(self, origin: Origin, inputs: Tensors, outputs: Tensors) -> None:
        """Ask for some rows, and compare."""
        rows = row_count(inputs)
        self._captured[f"{origin.model}:{origin.version}"] += rows
        self._missing.update(dict.fromkeys(name for name in outputs if name not in self._has))
        asked = {spec.name: inputs[spec.name] for spec in self._predictor.info.signature.inputs}
        compared = {name: value for name, value in outputs.items() if name in self._has}
        answers, lost, problem = answer_rows(self._predictor, asked, tuple(compared or self._has))
        kept = np.setdiff1d(np.arange(rows), lost)
        same = np.ones(len(kept), dtype=bool)
        for name, before in compared.items() if len(kept) else ():
            seen = self._outputs.setdefault(name, Differences(self._tolerance))
            same &= seen.add(before[kept], answers[name])
        self._failed += len(lost)
        self._different += len(lost) + int((~same).sum())
        self._problem = self._problem or problem

    def report(self) -> ReplayReport:
        """Return what was found."""
        return ReplayReport(
            self._predictor.info.ref,
            dict(self._captured),
            sum(self._captured.values()),
            self._different,
            self._failed,
            self._problem,
            {name: seen.report() for name, seen in self._outputs.items()},
            tuple(self._missing),
        )


def _pieces(inputs: Tensors, outputs: Tensors, size: int) -> Iterator[tuple[Tensors, Tensors]]:
    for start in range(0, row_count(inputs), size):
        yield tuple(  # type: ignore[misc]
            {name: value[start : start + size] for name, value in part.items()} for part in (inputs, outputs)
        )


def answer_rows(predictor: Predictor, inputs: Tensors, wanted: tuple[str, ...]) -> tuple[Tensors, list[int], str]:
    """Return the answers to all rows that have one, which rows have none, and why the first of them has not."""
    rows = row_count(inputs)
    try:
        return _asked(predictor, inputs, wanted), [], ""
    except PredictionError as error:
        if rows == 1:
            return {}, [0], error.message
    lost: list[int] = []
    problem = ""
    pieces: list[Tensors] = []
    for row in range(rows):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        answers, gone, why = answer_rows(predictor, one, wanted)
        lost += [row] * len(gone)
        problem = problem or why
        pieces += [answers] if answers else []
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in wanted} if pieces else {}
    return joined, lost, problem


def _asked(predictor: Predictor, inputs: Tensors, wanted: tuple[str, ...]) -> Tensors:
    """Ask until the model has time: a replay goes behind whoever waits for an answer."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return predictor.predict_outputs(inputs, wanted, batch_size=row_count(inputs), progress=False)
        except (OverloadedError, BatchRestsError, DeadlineExceededError) as error:
            is_slow = isinstance(error, DeadlineExceededError) and error.facts["stage"] != "waiting"
            if is_slow or time.monotonic() >= until:
                raise
            time.sleep(min(float(str(error.facts.get("retry_after_seconds", 1.0))), _LONGEST_PAUSE_SECONDS))


def _check_inputs(predictor: Predictor, origin: Origin) -> None:
    """Refuse a capture that lacks an input, and say whether that was its field policy."""
    kept = {spec.name for spec in origin.inputs}
    for spec in predictor.info.signature.inputs:
        if spec.name not in kept:
            how = "only its hash was captured" if spec.name in origin.hashed else "it was not captured"
            raise SignatureMismatchError(
                field=spec.name, expected=spec.describe(), given=f"nothing: {how}", ref=predictor.info.ref
            )


def _by_row(same: Array) -> Array:
    rows: Array = np.logical_and.reduce(np.asarray(same, dtype=bool).reshape(len(same), -1), axis=1)
    return rows


def _plain(value: object) -> bool | int | str:
    return value if isinstance(value, bool | int | str) else str(value)
