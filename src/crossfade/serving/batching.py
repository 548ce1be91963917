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
from collections.abc import Callable, Iterable
from typing import Protocol

from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import BatchRestsError, DeadlineExceededError, NotServedError, OverloadedError
from crossfade.serving.calling import Caller, Outcome, Predict, Record
from crossfade.serving.cost import CostModel
from crossfade.serving.counters import Counters
from crossfade.serving.waiting import Priority, Request, WaitingLine
from crossfade.settings import ModelRules

_log = logging.getLogger(__name__)

_SLOW_FACTOR = 10.0
_SLOW_BATCHES = 3
"""A model moves from the event loop to a thread when this many batches in a row took ten times what was allowed."""
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.02
"""How late a refusal may come after its deadline."""
_LINE_SHARES = {Priority.ONLINE: 0.6, Priority.BATCH: 0.3, Priority.SHADOW: 0.1}
"""How much of its time a request may spend waiting; shadows are turned away first.

Source: a simulated server with bounded queues, where 0.6 kept 98 to 101 % of the capacity as goodput at up to ten times
the load (docs/decisions/0007).
"""


class Crew(Protocol):
    """Several copies of a model that answer what waits, each on a thread of its own, instead of the batcher's one."""

    @property
    def width(self) -> int:
        """How many of them take requests now."""

    @property
    def given_up(self) -> str:
        """Why none of them ever will, in words; empty while that is not so."""

    def close(self) -> None:
        """Let their threads end."""


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
        caller: What puts requests to the model on the event loop, or on the batcher's thread.
        crew: Who answers instead of that thread; None when it does.
        rest_seconds: Says how long batch requests have to wait, because one of them has just ended the model's process.
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
        self.crew: Crew | None = None
        self.rest_seconds: Callable[[], float] = _none
        self._ref = ref
        self._slow_seconds = _SLOW_FACTOR * inline_seconds
        self._slow_batches = 0
        self._signature = signature
        self._rules = rules
        self._counters = counters
        self._cost = CostModel(expected_seconds)
        self._record = Record(counters, self._cost)
        self.caller = self.another_caller(predict)
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

    def another_caller(self, predict: Predict) -> Caller:
        """Return what puts requests of the line to another copy of the model; see `answer_next`."""
        return Caller(predict, self._signature, self._rules.max_batch_rows, ref=self._ref, record=self._record)

    def answer_next(
        self, caller: Caller, *, until: float, stopped: Callable[[], bool], alive: Callable[[], bool]
    ) -> bool:
        """Wait for requests, and answer those who go next together; on a thread of the crew.

        Args:
            caller: From `another_caller`, used by this thread alone.
            until: When waiting ends, on the monotonic clock.
            stopped: Ends waiting, too, as soon as it is true; whoever makes it true calls `wake`.
            alive: Asked last: when the copy has ended meanwhile, the requests go back to where they were.

        Returns:
            Whether somebody was there.
        """
        taken = self._line.take(self._cost.seconds, taker=caller, sharers=self._width, until=until, stopped=stopped)
        if taken and not alive():
            self._line.put_back(taken, taker=caller)
            return False
        self._answer(caller, taken)
        return bool(taken)

    def _width(self) -> int:
        return 1 if self.crew is None else max(1, self.crew.width)

    def wake(self) -> None:
        """Let everybody who waits for requests look whether they shall stop."""
        self._line.wake()

    def close(self) -> None:
        """End the threads after what they have been given. Call it when no request is under way."""
        self._line.close()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
        if self.crew is not None:
            self.crew.close()

    # --- on the event loop ---

    def _flush(self) -> None:
        # While every turn of the loop brings more, it is read first. The turn that brings nothing costs microseconds,
        # and 32 clients share a call instead of a dozen: 60 % less time in a small model.
        if self._seen < len(self._gathered) < self.caller.max_rows:
            self._seen = len(self._gathered)
            asyncio.get_running_loop().call_soon(self._flush)
            return
        gathered, self._gathered, self._seen = self._gathered, [], 0
        for batch in self.caller.batches(gathered):
            if self._on_thread or not self.inline or (len(batch) == 1 and batch[0].rows > self.caller.max_rows):
                for request in filter(self._admits, batch):
                    self._hand_over(request)
            else:
                self._settle(self._run_inline(batch))

    def _run_inline(self, batch: list[Request]) -> list[Outcome]:
        started = time.perf_counter()
        outcomes = self.caller.answer(batch)
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
        width = self._width()
        if self.crew is not None and self.crew.given_up:
            request.future.set_exception(NotServedError(ref=self._ref, problem=self.crew.given_up))
            return False
        if request.priority is Priority.BATCH and (rest := self.rest_seconds()):
            request.future.set_exception(BatchRestsError(ref=self._ref, retry_after_seconds=math.ceil(rest)))
            return False
        if len(self._on_thread) < width:
            return True
        rows = math.ceil(self._line.rows_before(request.priority) / width)
        seconds = self._cost.seconds(rows, math.ceil(rows / self.caller.max_rows))
        if seconds <= _LINE_SHARES[request.priority] * (request.deadline - request.arrived_at):
            return True
        wait = math.ceil(seconds)
        self._counters.count_shed("overload", request.priority.name.lower())
        request.future.set_exception(OverloadedError(ref=self._ref, waiting=self.waiting, retry_after_seconds=wait))
        return False

    def _hand_over(self, request: Request) -> None:
        if self._thread is None and self.crew is None:
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

    def _too_late(self, stage: str) -> DeadlineExceededError:
        return DeadlineExceededError(ref=self._ref, stage=stage)

    # --- on a thread ---

    def _work(self) -> None:
        while taken := self._line.take(self._cost.seconds):
            self._answer(self.caller, taken)

    def _answer(self, caller: Caller, taken: list[Request]) -> None:
        for batch in caller.batches(taken):
            loop = batch[0].future.get_loop()
            try:
                loop.call_soon_threadsafe(self._settle_from_thread, caller.answer(batch))
            except RuntimeError:  # the loop was closed: nobody is there to hear the answer
                _log.warning("answers of `%s` came after the end of the event loop", self._ref)


def _none() -> float:
    """Tell that nobody has to wait."""
    return 0.0
