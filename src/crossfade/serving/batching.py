"""`Batcher`: requests that are there together are predicted together; nobody ever waits for company.

While a model is idle a request goes at once, and what arrives while it runs forms the next batch. A fast model runs on
the event loop, where the requests that were parsed in one turn of the loop share one call; a slower one, or a large
request, runs on a thread of its own. A model is never called from two threads at a time.

Many models answer a batch with slightly other last bits than row by row; nothing here makes that better or worse.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from crossfade.core.tensors import Signature, Tensors, row_count
from crossfade.errors import PredictionError
from crossfade.serving.counters import Counters

_log = logging.getLogger(__name__)

Predict = Callable[[Tensors, frozenset[str]], Tensors]

_SLOW_FACTOR = 10.0
_SLOW_BATCHES = 3
"""A model moves from the event loop to a thread when this many batches in a row took ten times what was allowed."""
_END_SECONDS = 5.0
_REFUSED_BATCHES = 3
"""A model gets no more batches when it failed so many in a row whose requests it answers one by one."""


class Request:
    """One request on its way through a model."""

    __slots__ = ("future", "rows", "tensors", "wanted")

    def __init__(self, tensors: Tensors, wanted: frozenset[str], future: asyncio.Future[Tensors]) -> None:
        self.tensors = tensors
        self.wanted = wanted
        self.rows = row_count(tensors)
        self.future = future


Outcome = tuple[Request, Tensors | Exception]


class Batcher:
    """Feeds one loaded version. `submit` is called on one event loop only.

    Args:
        predict: The model, its inputs already checked.
        signature: Tells whether requests can differ in more than their number of rows.
        ref: What errors call the version.
        inline: Whether the model is fast enough for the event loop.
        inline_seconds: What counts as fast.
        max_rows: Rows of one call; a single request may have more.
        counters: Where batches are counted.
    """

    def __init__(
        self,
        predict: Predict,
        signature: Signature,
        *,
        ref: str,
        inline: bool,
        inline_seconds: float,
        max_rows: int,
        counters: Counters,
    ) -> None:
        self.inline = inline
        self._predict = predict
        self._ref = ref
        self._open_shapes = any(-1 in spec.shape[1:] for spec in signature.inputs)
        self._slow_seconds = _SLOW_FACTOR * inline_seconds
        self._slow_batches = 0
        self._refused_batches = 0
        self._max_rows = max_rows
        self._counters = counters
        self._gathered: list[Request] = []
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._on_thread = 0
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the model may still be running, even if nobody waits for it any more."""
        return self._on_thread > 0 or bool(self._gathered)

    def submit(self, tensors: Tensors, wanted: frozenset[str]) -> asyncio.Future[Tensors]:
        """Predict, together with whoever else is there.

        Returns:
            The wanted outputs of this request alone, or the error that it alone caused.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Tensors] = loop.create_future()
        request = Request(tensors, wanted, future)
        if self.inline and not self._on_thread:
            if not self._gathered:
                loop.call_soon(self._flush)
            self._gathered.append(request)
        else:
            self._hand_over(request)
        return future

    def close(self) -> None:
        """End the thread after what it has been given. Call it when no request is under way."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_END_SECONDS)

    # --- on the event loop ---

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        for batch in self._batches(gathered):
            if self._on_thread or not self.inline or (len(batch) == 1 and batch[0].rows > self._max_rows):
                for request in batch:
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

    def _hand_over(self, request: Request) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"crossfade-{self._ref}", daemon=True)
            self._thread.start()
        self._on_thread += 1
        self._queue.put(request)

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        for request, outcome in outcomes:
            if request.future.done():  # the client has gone
                continue
            if isinstance(outcome, Exception):
                request.future.set_exception(outcome)
            else:
                request.future.set_result(outcome)

    def _settle_from_thread(self, outcomes: list[Outcome]) -> None:
        self._on_thread -= len(outcomes)
        self._settle(outcomes)

    # --- on the thread ---

    def _work(self) -> None:
        while True:
            waiting, ending = self._waiting()
            for batch in self._batches(waiting):
                loop = batch[0].future.get_loop()
                try:
                    loop.call_soon_threadsafe(self._settle_from_thread, self._answer(batch))
                except RuntimeError:  # the loop was closed: nobody is there to hear the answer
                    _log.warning("answers of `%s` came after the end of the event loop", self._ref)
            if ending:
                return

    def _waiting(self) -> tuple[list[Request], bool]:
        """Wait for one request, and take along all the others that are there."""
        waiting: list[Request] = []
        request = self._queue.get()
        while request is not None:
            waiting.append(request)
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return waiting, False
        return waiting, True

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
        waiting = [request for request in batch if not request.future.cancelled()]
        gone: list[Outcome] = [(request, {}) for request in batch if request.future.cancelled()]
        if len(waiting) < 2:
            return [(request, self._answer_alone(request)) for request in waiting] + gone
        return self._answer_together(waiting) + gone

    def _answer_alone(self, request: Request) -> Tensors | Exception:
        try:
            return self._call(request.tensors, request.wanted, request.rows)
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
            outputs = self._call(joined, wanted, sum(request.rows for request in batch), len(batch))
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
        outcomes: list[Outcome] = [(request, self._answer_alone(request)) for request in batch]
        if not any(isinstance(outcome, Exception) for _, outcome in outcomes):
            self._refused_batches += 1
            if self._refused_batches == _REFUSED_BATCHES:
                _log.warning("`%s` answers requests one by one, but not together: no more batches", self._ref)
                self._max_rows = 1
        return outcomes

    def _call(self, tensors: Tensors, wanted: frozenset[str], rows: int, requests: int = 1) -> Tensors:
        started = time.perf_counter()
        outputs = self._predict(tensors, wanted)
        self._counters.count_batch(rows, time.perf_counter() - started, requests)
        return outputs
