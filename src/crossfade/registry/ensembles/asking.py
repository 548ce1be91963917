"""Asking the members of an ensemble: at the same time, each within its budget, row by row where a batch fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from typing import NamedTuple

import numpy as np

from crossfade.core.tensors import Array, Tensors, row_count
from crossfade.errors import CrossfadeError, MemberSlowError, PredictionError
from crossfade.registry.ensembles.lanes import Lane
from crossfade.registry.flavors.answers import in_words
from crossfade.registry.pipeline import Pipeline

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 30.0
"""How often it is logged that a member does not answer."""


class Answer(NamedTuple):
    """What a member said.

    Attributes:
        outputs: By name, n rows each; empty when it said nothing at all.
        good: (n,) bool, the rows that it answered with finite numbers.
        error: Why a row is not good, when one is not.
    """

    outputs: Tensors
    good: Array
    error: CrossfadeError | None = None


class Question(NamedTuple):
    """What a member is asked.

    Attributes:
        inputs: Of the ensemble, of which the member takes its own.
        wanted: Names of outputs.
        rows_apart: Whether rows of a failed batch are asked one by one, so that one row spoils no other.
        budget_seconds: How long the answer is waited for; None means as long as it takes.
    """

    inputs: Tensors
    wanted: frozenset[str]
    rows_apart: bool = False
    budget_seconds: float | None = None


class Voice:
    """A loaded version that takes part in an ensemble. Asked from one thread at a time.

    Args:
        pipeline: Its preprocessor and model.

    Attributes:
        failures: How many times it did not answer everything.
        error: Why it did not, the last time.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.ref = pipeline.ref
        self.failures = 0
        self.error: CrossfadeError | None = None
        self._pipeline = pipeline
        self._names = tuple(spec.name for spec in pipeline.signature.inputs)
        self._lane: Lane[Answer] = Lane(f"crossfade-member-{pipeline.ref}")
        self._logged_at = -_QUIET_SECONDS
        self._unlogged = 0

    def start(self, question: Question) -> Future[Answer] | None:
        """Ask on a thread; None when the member still is busy with a question that nobody waits for any more."""
        if self._lane.occupied:
            return None
        until = None if question.budget_seconds is None else time.monotonic() + question.budget_seconds
        pipeline, names = self._pipeline, self._names
        return self._lane.send(lambda: _answer(pipeline, names, question, until))

    def ask(self, question: Question) -> Answer:
        """Ask on this thread, for as long as it takes."""
        return self._noted(_answer(self._pipeline, self._names, question, None))

    def finish(self, future: Future[Answer] | None, question: Question, until: float | None) -> Answer:
        """Wait for what `start` began, until a moment of the monotonic clock. An answer that is there is taken."""
        if future is not None:
            with suppress(TimeoutError):
                future.exception(None if until is None else max(0.0, until - time.monotonic()))
                return self._noted(future.result())
        late = MemberSlowError(member=self.ref, budget_seconds=question.budget_seconds)
        return self._noted(Answer({}, np.zeros(row_count(question.inputs), bool), late))

    def _noted(self, answer: Answer) -> Answer:
        if answer.error is not None:
            self.failures += 1
            self.error = copy(answer.error)
            self._unlogged += 1
            now = time.monotonic()
            if now - self._logged_at >= _QUIET_SECONDS:
                _log.warning("member %s did not answer, %d times: %s", self.ref, self._unlogged, answer.error)
                self._logged_at, self._unlogged = now, 0
        return answer


def ask_together(voices: Mapping[str, Voice], questions: Mapping[str, Question]) -> dict[str, Answer]:
    """Ask several members at the same time, each its question, and wait for all of them within their budgets.

    All are waited for even when one has failed, because those under way could not be asked anything else meanwhile.
    This thread takes one of those that may take as long as they like.
    """
    started = time.monotonic()
    patient = [ref for ref, question in questions.items() if question.budget_seconds is None]
    own = patient[-1] if patient else None
    futures = {ref: voices[ref].start(question) for ref, question in questions.items() if ref != own}
    answers = {} if own is None else {own: voices[own].ask(questions[own])}
    for ref, future in futures.items():
        budget = questions[ref].budget_seconds
        answers[ref] = voices[ref].finish(future, questions[ref], None if budget is None else started + budget)
    return answers


def _answer(pipeline: Pipeline, names: tuple[str, ...], question: Question, until: float | None) -> Answer:
    """Ask for all rows at once, and one by one when that fails and the rows are to be told apart."""
    inputs = {name: question.inputs[name] for name in names}
    rows = row_count(question.inputs)
    try:
        return _judged(pipeline.ref, pipeline.predict(inputs, question.wanted), rows)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a member is foreign code, whatever it raises is a failure
        failure = _failure(pipeline.ref, error)
    if rows < 2 or not question.rows_apart:
        return Answer({}, np.zeros(rows, bool), failure)
    outputs: Tensors = {}
    good = np.zeros(rows, bool)
    for row in range(rows):
        if until is not None and time.monotonic() > until:
            break  # what is not reached in time counts as not answered
        try:
            found = pipeline.predict({name: value[row : row + 1] for name, value in inputs.items()}, question.wanted)
            for name, value in found.items():
                outputs.setdefault(name, np.zeros((rows, *value.shape[1:]), value.dtype))[row] = value[0]
            good[row] = True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            failure = _failure(pipeline.ref, error)
    if not good.any():
        return Answer({}, good, failure)
    judged = _judged(pipeline.ref, outputs, rows)
    return Answer(outputs, good & judged.good, judged.error or (None if good.all() else failure))


def _failure(ref: str, error: BaseException) -> CrossfadeError:
    """Return the error without its traceback, which would keep the rows alive for as long as itself."""
    return copy(error) if isinstance(error, CrossfadeError) else PredictionError(ref=ref, problem=in_words(error))


def _judged(ref: str, outputs: Tensors, rows: int) -> Answer:
    """Find the rows that hold NaN, infinity or nothing, which is no answer."""
    good = np.ones(rows, bool)
    for value in outputs.values():
        inner = tuple(range(1, value.ndim))
        if value.dtype.kind == "f":
            good &= np.isfinite(value).all(axis=inner)
        elif value.dtype.kind == "O":
            good &= np.array([item is not None for item in value.flat], bool).reshape(value.shape).all(axis=inner)
    if good.all():
        return Answer(outputs, good)
    row = int(np.argmin(good))
    return Answer(
        outputs, good, PredictionError(ref=ref, problem=f"its answer to row {row} is NaN, infinite or missing")
    )
