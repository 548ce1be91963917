"""`Batcher`: requests that are there together are predicted together; nobody ever waits for company.

While a model is idle a request goes at once, and what arrives while it runs forms the next batch. A fast model runs on
the event loop, where the requests of one turn of the loop share one call, and those of the turns after it as long as
each brings more; a slower one, or a large request, runs on a thread of its own. A model is never called from two
threads at a time.

A request for a busy model is refused at once when the line is too long to answer it in time, is dropped when its
deadline passes while it waits, and gets its refusal at the deadline even while the model runs on.

Many models answer a batch with slightly other last bits than row by row; nothing here makes that better or worse.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import DeadlineExceededError, OverloadedError, PredictionError
from crossfade.serving.cost import CostModel
from crossfade.serving.counters import Counters
from crossfade.serving.waiting import Priority, Request, WaitingLine
from crossfade.settings import ModelRules

_log = logging.getLogger(__name__)

Predict = Callable[[Tensors, frozenset[str]], Tensors]
Refusal = Callable[[Tensors, frozenset[str]], Exception | None]

_SLOW_FACTOR = 10.0
_SLOW_BATCHES = 3
"""A model moves from the event loop to a thread when this many batches in a row took ten times what was allowed."""
_END_SECONDS = 5.0
_REFUSED_BATCHES = 3
"""A model gets no more batches when it failed so many in a row whose requests it answers one by one."""
_LOOK_SECONDS = 0.02
"""How late a refusal may come after its deadline."""
_LINE_SHARES = {Priority.ONLINE: 0.6, Priority.BATCH: 0.3, Priority.SHADOW: 0.1}
"""How much of its time a request may spend waiting; shadows are turned away first.

Source: a simulated server with bounded queues, where 0.6 kept 98 to 101 % of the capacity as goodput at up to ten times
the load (docs/decisions/0007).
"""

Outcome = tuple[Request, Tensors | Exception]


class Staged(Protocol):
    """Says how long the parts of the last call took; wherever the model runs, one call is made at a time."""

    preprocess_seconds: float
    """Until the model itself was called."""


class Batcher:
    """Feeds one loaded version. `submit` is called on one event loop only.

    Args:
        predict: The model, its inputs already checked.
        signature: Tells whether requests can differ in more than their number of rows.
        rules: Rows of one call (a single request may have more), and how long the first request of an incomplete batch
            waits for company, off the event loop.
        ref: What errors call the version.
        inline: Whether the model is fast enough for the event loop.
        inline_seconds: What counts as fast; infinite when the model has been declared to be.
        counters: Where batches are counted.
        expected_seconds: What one row is known to take; 0 when nothing is known.

    Attributes:
        inline: Whether the model runs on the event loop now.
        refusal: Says of a request why it must not be put to the model, if so; None when nothing is ever refused.
        staged: Where `predict` says how long the parts of a call took, or None when it does not.
    """

    def __init__(
        self,
        predict: Predict,
        signature: Signature,
        rules: ModelRules,
        *,
        ref: str,
        inline: bool,
        inline_seconds: float,
        counters: Counters,
        expected_seconds: float = 0.0,
    ) -> None:
        self.inline = inline
        self.staged: Staged | None = None
        self._predict = predict
        self.refusal: Refusal | None = None
        self._ref = ref
        self._open_shapes = any(-1 in spec.shape[1:] for spec in signature.inputs)
        self._slow_seconds = _SLOW_FACTOR * inline_seconds
        self._slow_batches = 0
        self._refused_batches = 0
        self._max_rows = rules.max_batch_rows
        self._counters = counters
        self._cost = CostModel(expected_seconds)
        self._gathered: list[Request] = []
        self._seen = 0
        self._line = WaitingLine(rules.max_batch_rows, rules.max_batch_delay_seconds)
        self._on_thread: set[Request] = set()
        self._look: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the model may still be running, even if nobody waits for it any more."""
        return bool(self._on_thread or self._gathered)

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return len(self._line)

    def submit(
        self,
        tensors: Tensors,
        wanted: frozenset[str],
        deadline: float = math.inf,
        priority: Priority = Priority.ONLINE,
    ) -> asyncio.Future[Tensors]:
        """Predict, together with whoever else is there.

        Args:
            tensors: Inputs that passed the check of the signature.
            wanted: Names of outputs.
            deadline: When the answer is of no use any more, on the monotonic clock.
            priority: Who goes first when the model is busy.

        Returns:
            The wanted outputs of this request alone, or the error that it alone caused: among others
            `OverloadedError` at once, and `DeadlineExceededError` at its deadline.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Tensors] = loop.create_future()
        request = Request(tensors, wanted, future, deadline, priority)
        if self.inline and not self._on_thread:
            if not self._gathered:
                loop.call_soon(self._flush)
            self._gathered.append(request)
        elif self._admits(request):
            self._hand_over(request)
        return future

    def close(self) -> None:
        """End the thread after what it has been given. Call it when no request is under way."""
        if self._thread is not None:
            self._line.close()
            self._thread.join(_END_SECONDS)

    # --- on the event loop ---

    def _flush(self) -> None:
        # While every turn of the loop brings more, it is read first. The turn that brings nothing costs microseconds,
        # and 32 clients share a call instead of a dozen: 60 % less time in a small model.
        if self._seen < len(self._gathered) < self._max_rows:
            self._seen = len(self._gathered)
            asyncio.get_running_loop().call_soon(self._flush)
            return
        gathered, self._gathered, self._seen = self._gathered, [], 0
        for batch in self._batches(gathered):
            if self._on_thread or not self.inline or (len(batch) == 1 and batch[0].rows > self._max_rows):
                for request in filter(self._admits, batch):
                    self._hand_over(request)
            else:
                self._settle(self._run_inline(batch))

    def _run_inline(self, batch: list[Request]) -> list[Outcome]:
        started = time.perf_counter()
        outcomes = self._answer(batch)
        if time.perf_counter() - started > self._slow_seconds:
            self._slow_batches += 1
            if self._slow_batches == _SLOW_BATCHES:
                _log.info("`%s` is too slow for the event loop and moves to a thread", self._ref)
                self.inline = False
        else:
            self._slow_batches = 0
        return outcomes

    def _admits(self, request: Request) -> bool:
        """Tell whether a request can still be answered in time; refuse it when not."""
        if not self._on_thread:
            return True
        rows = self._line.rows_before(request.priority)
        seconds = self._cost.seconds(rows, math.ceil(rows / self._max_rows))
        if seconds <= _LINE_SHARES[request.priority] * (request.deadline - request.arrived_at):
            return True
        wait = math.ceil(seconds)
        self._counters.count_shed("overload", request.priority.name.lower())
        request.future.set_exception(OverloadedError(ref=self._ref, waiting=self.waiting, retry_after_seconds=wait))
        return False

    def _hand_over(self, request: Request) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"crossfade-{self._ref}", daemon=True)
            self._thread.start()
        self._on_thread.add(request)
        if self._look is None and request.deadline < math.inf:
            self._look = request.future.get_loop().call_later(_LOOK_SECONDS, self._look_for_expired)
        self._line.put(request)

    def _look_for_expired(self) -> None:
        """Refuse whose deadline has passed, and look again while there is somebody to look for."""
        now = time.monotonic()
        expired = self._line.remove_expired(now)
        self._settle_from_thread([(request, self._too_late("waiting")) for request in expired])
        late = [request for request in self._on_thread if request.deadline <= now]
        self._settle((request, self._too_late("running")) for request in late)
        self._look = None
        if self._on_thread:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_for_expired)

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        for request, outcome in outcomes:
            if request.future.done():  # the client has gone, or was told that it is too late
                continue
            if isinstance(outcome, DeadlineExceededError):
                self._counters.count_shed(str(outcome.facts["stage"]), request.priority.name.lower())
            if isinstance(outcome, Exception):
                request.future.set_exception(outcome)
            else:
                request.future.set_result(outcome)

    def _settle_from_thread(self, outcomes: list[Outcome]) -> None:
        self._on_thread.difference_update(request for request, _ in outcomes)
        self._settle(outcomes)

    # --- on the thread ---

    def _work(self) -> None:
        while taken := self._line.take(self._cost.seconds):
            for batch in self._batches(taken):
                loop = batch[0].future.get_loop()
                try:
                    loop.call_soon_threadsafe(self._settle_from_thread, self._answer(batch))
                except RuntimeError:  # the loop was closed: nobody is there to hear the answer
                    _log.warning("answers of `%s` came after the end of the event loop", self._ref)

    # --- anywhere ---

    def _batches(self, requests: list[Request]) -> Iterator[list[Request]]:
        """Split requests, in their order, into batches that one call can answer."""
        if len(requests) == 1:
            yield requests
            return
        groups: dict[object, list[Request]] = {}
        rows: dict[object, int] = {}
        for request in requests:
            key = self._key(request)
            if key in groups and rows[key] + request.rows > self._max_rows:
                yield groups.pop(key)
            groups.setdefault(key, []).append(request)
            rows[key] = request.rows + (rows[key] if len(groups[key]) > 1 else 0)
        yield from groups.values()

    def _key(self, request: Request) -> object:
        """Requests with equal keys can share a call. One without rows shares none: alone, many models refuse it."""
        if request.rows == 0:
            return request
        if not self._open_shapes:
            return request.wanted
        return request.wanted, *(value.shape[1:] for value in request.tensors.values())

    def _answer(self, batch: list[Request]) -> list[Outcome]:
        now = time.monotonic()
        waiting: list[Request] = []
        outcomes: list[Outcome] = []
        for request in batch:
            if request.future.done():  # the client has gone, or was told that it is too late
                outcomes.append((request, {}))
            elif request.deadline <= now:
                outcomes.append((request, self._too_late("waiting")))
            elif self.refusal is not None and (refusal := self.refusal(request.tensors, request.wanted)):
                outcomes.append((request, refusal))
            else:
                self._counters.queue_seconds.add(now - request.arrived_at)
                waiting.append(request)
        if len(waiting) > 1:
            return outcomes + self._answer_together(waiting)
        return outcomes + [(request, self._answer_alone(request)) for request in waiting]

    def _too_late(self, stage: str) -> DeadlineExceededError:
        return DeadlineExceededError(ref=self._ref, stage=stage)

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
        outcomes = [outcome for request in batch for outcome in self._answer([request])]
        if not any(isinstance(outcome, Exception) for _, outcome in outcomes):
            self._refused_batches += 1
            if self._refused_batches == _REFUSED_BATCHES:
                _log.warning("`%s` answers requests one by one, but not together: no more batches", self._ref)
                self._max_rows = 1
        return outcomes

    def _call(self, tensors: Tensors, wanted: frozenset[str], requests: list[Request]) -> Tensors:
        started = time.perf_counter()
        outputs = self._predict(tensors, wanted)
        seconds = time.perf_counter() - started
        rows = sum(request.rows for request in requests)
        preprocess = 0.0 if self.staged is None else self.staged.preprocess_seconds
        self._cost.observe(rows, seconds)
        self._counters.count_batch(rows, seconds, len(requests), preprocess)
        for request in requests:
            if request.trace is not None:
                request.trace.note_call(request.arrived_at, rows, len(requests), seconds, preprocess)
        return outputs
