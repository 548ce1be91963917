"""`Caller`: puts requests to one copy of a model, several in a call where they fit, and gives each its own answer."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import DeadlineExceededError, PredictionError
from crossfade.serving.cost import CostModel
from crossfade.serving.counters import Counters
from crossfade.serving.waiting import Priority, Request

_log = logging.getLogger(__name__)

Predict = Callable[[Tensors, frozenset[str]], Tensors]
Refusal = Callable[[Tensors, frozenset[str]], Exception | None]
Outcome = tuple[Request, Tensors | Exception]

_REFUSED_BATCHES = 3
"""A model gets no more batches when it failed so many in a row whose requests it answers one by one."""


class Staged(Protocol):
    """Says how the last call went; wherever the model runs, one call is made at a time."""

    @property
    def preprocess_seconds(self) -> float:
        """Until the model itself was called."""

    @property
    def member_rows(self) -> Mapping[tuple[str, str], int]:
        """(member, what became of its rows) -> how many, where the model has members."""


class Bounded(Protocol):
    """Runs a model in another process, which may hang or end; one call is made at a time."""

    def bounded(self, seconds: float, *, spared: bool) -> AbstractContextManager[None]:
        """Say of the calls of a `with` block how long somebody waits for them, and whether their end is forgiven.

        Args:
            seconds: The process is not ended before, even when it usually would be.
            spared: An end of the process is not held against the version.
        """


class Record:
    """What calls of one version leave behind, from however many threads they are made.

    Args:
        counters: Where batches are counted.
        cost: What learns from them how long they take.
    """

    def __init__(self, counters: Counters, cost: CostModel) -> None:
        self._counters = counters
        self._cost = cost
        self._writing = threading.Lock()

    def count_wait(self, seconds: float) -> None:
        """Note how long a request waited."""
        with self._writing:
            self._counters.queue_seconds.add(seconds)

    def count_batch(self, rows: int, seconds: float, requests: int, preprocess_seconds: float) -> None:
        """Note one call; see `Counters.count_batch`."""
        with self._writing:
            self._cost.observe(rows, seconds)
            self._counters.count_batch(rows, seconds, requests, preprocess_seconds)

    def count_members(self, rows: Mapping[tuple[str, str], int]) -> None:
        """Note what became of rows with each member; see `Counters.count_members`."""
        with self._writing:
            self._counters.count_members(rows)


class Caller:
    """Calls one copy of a model, on one thread at a time.

    Args:
        predict: The model, its inputs already checked.
        signature: Tells whether requests can differ in more than their number of rows.
        max_rows: Rows of one call; a single request may have more.
        ref: What errors call the version.
        record: What calls leave behind.

    Attributes:
        predict: See above.
        max_rows: See above; 1 once the model has shown that it takes no batches.
        refusal: Says of a request why it must not be put to the model, if so; None when nothing is ever refused.
        apart: What is told about each call, where `predict` asks another process; None when it asks none.
        staged: Where `predict` says how long the parts of a call took, or None when it does not.
    """

    def __init__(self, predict: Predict, signature: Signature, max_rows: int, *, ref: str, record: Record) -> None:
        self.predict = predict
        self.max_rows = max_rows
        self.staged: Staged | None = None
        self.apart: Bounded | None = None
        self.refusal: Refusal | None = None
        self._ref = ref
        self._record = record
        self._open_shapes = any(-1 in spec.shape[1:] for spec in signature.inputs)
        self._refused_batches = 0

    def batches(self, requests: list[Request]) -> Iterator[list[Request]]:
        """Split requests, in their order, into batches that one call can answer."""
        if len(requests) == 1:
            yield requests
            return
        groups: dict[object, list[Request]] = {}
        rows: dict[object, int] = {}
        for request in requests:
            key = self._key(request)
            if key in groups and rows[key] + request.rows > self.max_rows:
                yield groups.pop(key)
            groups.setdefault(key, []).append(request)
            rows[key] = request.rows + (rows[key] if len(groups[key]) > 1 else 0)
        yield from groups.values()

    def answer(self, batch: list[Request]) -> list[Outcome]:
        """Answer a batch, except those whom nobody waits for, who are late, or who must not be asked."""
        now = time.monotonic()
        waiting: list[Request] = []
        outcomes: list[Outcome] = []
        for request in batch:
            if request.future.done():  # the client has gone, or was told that it is too late
                outcomes.append((request, {}))
            elif request.deadline <= now:
                outcomes.append((request, DeadlineExceededError(ref=self._ref, stage="waiting")))
            elif self.refusal is not None and (refusal := self.refusal(request.tensors, request.wanted)):
                outcomes.append((request, refusal))
            else:
                self._record.count_wait(now - request.arrived_at)
                waiting.append(request)
        if len(waiting) > 1:
            return outcomes + self._answer_together(waiting)
        return outcomes + [(request, self._answer_alone(request)) for request in waiting]

    def _key(self, request: Request) -> object:
        """Requests with equal keys can share a call. One without rows shares none: alone, many models refuse it.

        Where a model can end its process, rows of batch jobs share no call with those that somebody waits for.
        """
        if request.rows == 0:
            return request
        spared = self.apart is not None and request.priority is Priority.BATCH
        if not self._open_shapes:
            return request.wanted, spared
        return request.wanted, spared, *(value.shape[1:] for value in request.tensors.values())

    def _answer_alone(self, request: Request) -> Tensors | Exception:
        try:
            return self._call(request.tensors, request.wanted, [request])
        except SystemExit as error:  # a model is foreign code, and must not end the server
            failure = PredictionError(ref=self._ref, problem=f"it tried to exit ({error})")
            failure.__cause__ = error
            return failure
        except Exception as error:  # noqa: BLE001 - it is raised where the request waits
            return error

    def _answer_together(self, batch: list[Request]) -> list[Outcome]:
        names, wanted = batch[0].tensors, batch[0].wanted
        joined = {name: np.concatenate([request.tensors[name] for request in batch]) for name in names}
        try:
            outputs = self._call(joined, wanted, batch)
        except (Exception, SystemExit):  # noqa: BLE001 - whose fault it was shows when each is tried alone
            return self._answer_one_by_one(batch)
        self._refused_batches = 0
        outcomes: list[Outcome] = []
        start = 0
        for request in batch:
            end = start + request.rows
            outcomes.append((request, {name: value[start:end] for name, value in outputs.items()}))
            start = end
        return outcomes

    def _answer_one_by_one(self, batch: list[Request]) -> list[Outcome]:
        outcomes = [outcome for request in batch for outcome in self.answer([request])]
        if not any(isinstance(outcome, Exception) for _, outcome in outcomes):
            self._refused_batches += 1
            if self._refused_batches == _REFUSED_BATCHES:
                _log.warning("`%s` answers requests one by one, but not together: no more batches", self._ref)
                self.max_rows = 1
        return outcomes

    def _call(self, tensors: Tensors, wanted: frozenset[str], requests: list[Request]) -> Tensors:
        started = time.perf_counter()
        if self.apart is None:
            outputs = self.predict(tensors, wanted)
        else:
            with self.apart.bounded(_longest_wait(requests), spared=requests[0].priority is Priority.BATCH):
                outputs = self.predict(tensors, wanted)
        seconds = time.perf_counter() - started
        rows = sum(request.rows for request in requests)
        preprocess = 0.0 if self.staged is None else self.staged.preprocess_seconds
        self._record.count_batch(rows, seconds, len(requests), preprocess)
        if self.staged is not None and self.staged.member_rows:
            self._record.count_members(self.staged.member_rows)
        for request in requests:
            if request.trace is not None:
                request.trace.note_call(request.arrived_at, rows, len(requests), seconds, preprocess)
        return outputs


def _longest_wait(requests: list[Request]) -> float:
    """Return how long one of those waits who said how long; 0 when none did."""
    longest = max((request.deadline for request in requests if request.deadline < math.inf), default=0.0)
    return max(0.0, longest - time.monotonic())
