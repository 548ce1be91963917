"""`Lane`: one replica and the thread that keeps it alive and answers with it.

While requests come, their answers are the proof that the replica lives; only one that is idle, or fails them, is
probed. So a probe never waits behind a long request, and a replica that answers is never ended because of a probe.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from crossfade.core.tensors import Tensors
from crossfade.errors import CrossfadeError, ModelCrashedError, NotServedError
from crossfade.serving.batching import Batcher
from crossfade.serving.replicas.ejection import Standing
from crossfade.serving.replicas.port import Replica
from crossfade.traffic.deployed import Probe

_log = logging.getLogger(__name__)

_DOUBTFUL = 5
"""Batches that fail one after the other, after which a probe is due."""
_LONGEST_REST = 1.0
"""Seconds after which an idle lane looks whether its replica still lives."""
_JOIN_SECONDS = 5.0


class LaneState(StrEnum):
    """What a lane does."""

    RESTARTING = "restarting"
    READY = "ready"
    FAILED = "failed"
    """Its replica has been given up."""


class Question:
    """What replicas prove themselves by.

    Args:
        ask: Puts it to a model: raises when an answer is not what it should be.
    """

    def __init__(self, ask: Callable[[Callable[[Tensors, frozenset[str]], Tensors]], None]) -> None:
        self._ask = ask

    def put_to(self, replica: Replica, seconds: float) -> None:
        """Ask a replica, which is ended when it does not answer in time.

        Raises:
            CrossfadeError: It fails.
        """
        self._ask(lambda tensors, wanted: replica.predict(tensors, wanted, seconds))


class Turns:
    """Who of the replicas answered a batch last."""

    last: Lane | None = None


class Lane:
    """One replica of a version, from its start to its end.

    Args:
        number: Its place among the replicas.
        replica: Started by the lane; closed at its end.
        batcher: Where requests wait.
        question: What it proves itself by, before the first request, while there are none, and when it fails them.
        probe: How often, and what follows.
        changed: Called when the lane's state changes or it fails, on its thread.
        turns: Shared by all lanes of the version.

    Attributes:
        state: What it does.
        ejected: Whether it is left alone; set from outside, then `look`.
        problem: The last thing that went wrong, in words.
        restarts: How often its replica had to be started again.
        busy_seconds: How long it has been predicting, all in all.
    """

    def __init__(
        self,
        number: int,
        replica: Replica,
        batcher: Batcher,
        question: Question,
        probe: Probe,
        changed: Callable[[], None],
        turns: Turns,
    ) -> None:
        self.number = number
        self.state = LaneState.RESTARTING
        self.ejected = False
        self.problem = ""
        self.restarts = 0
        self.busy_seconds = 0.0
        self.probe = probe
        self.replica = replica
        self._started = False
        self._refusing = False
        self._spared = False
        self._batcher = batcher
        self._caller = batcher.another_caller(self._predict)
        self._caller.staged = replica
        self._caller.apart = self
        self._question = question
        self._changed = changed
        self._turns = turns
        self._failures = 0
        self._probe_failures = 0
        self._batches = 0
        self._errors = 0
        self._errors_in_a_row = 0
        self._calls = 0
        self._failed_calls = 0
        self._busy_since = 0.0
        self._probe_at = 0.0
        self._look = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"crossfade-replica-{number}", daemon=True)

    @property
    def answers(self) -> bool:
        """Whether it takes requests."""
        return self.state is LaneState.READY and not self.ejected and not self._leaving.is_set()

    @property
    def leaving(self) -> bool:
        """Whether it has been told to end."""
        return self._leaving.is_set()

    @property
    def ended(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    @contextmanager
    def bounded(self, seconds: float, *, spared: bool) -> Iterator[None]:
        """Say of a call how long somebody waits for it, and whether its end is forgiven."""
        self._spared = spared
        with self.replica.bounded(seconds, spared=spared):
            yield

    def refuse_by(self, refusal: Callable[[Tensors, frozenset[str]], Exception | None]) -> None:
        """Say which requests must not be put to the replica."""
        self._caller.refusal = refusal

    def refuse_all(self) -> None:
        """Let whoever waits hear at once that nobody will answer."""
        self._refusing = True
        self.look()

    def start(self, *, proved: bool = False) -> None:
        """Begin.

        Args:
            proved: The replica has been started, and has answered the question.
        """
        if proved:
            self._started = True
            self._be_ready()
        self._thread.start()

    def leave(self) -> None:
        """End after the requests that it has taken; does not wait."""
        self._leaving.set()
        self.look()

    def look(self) -> None:
        """Let the thread notice what was changed from outside."""
        self._look.set()
        self._batcher.wake()

    def kill(self) -> None:
        """End the replica at once."""
        self._leaving.set()
        self.replica.kill()
        self.look()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def standing(self) -> Standing:
        """Say how it does, for those who decide whether to leave it alone."""
        return Standing(
            self.number, self.answers, self.ejected, self._failures, self._batches, min(self._errors, self._batches)
        )

    def begin_window(self) -> None:
        """Count batches anew."""
        self._batches = self._errors = 0

    def forgive(self) -> None:
        """Forget failures: it has been left alone for them."""
        self._failures = 0

    def busy_until(self, now: float) -> float:
        """Return for how long it has been predicting, all in all, the request under way included."""
        since = self._busy_since
        return self.busy_seconds + (now - since if since else 0.0)

    # --- on the thread ---

    def _run(self) -> None:
        try:
            while not self._leaving.is_set():
                self._step()
        except Exception as error:  # noqa: BLE001 - whoever supervises replaces it
            self.problem = f"its thread ended: {type(error).__name__}: {error}"
            _log.exception("a replica is not attended to any more")
            self.state = LaneState.FAILED
        finally:
            self.replica.close()
            self._changed()

    def _step(self) -> None:
        if self._refusing:
            until = time.monotonic() + _LONGEST_REST
            self._batcher.answer_next(self._caller, until=until, stopped=self._leaving.is_set, alive=_yes)
        elif self.state is LaneState.FAILED:
            self._rest()
        elif self.state is LaneState.RESTARTING:
            self._bring_back()
        elif problem := self.replica.lost():
            self._fall(problem)
        elif self.ejected:
            self._rest()
            self._probe_when_due()
        else:
            until = min(self._probe_at, time.monotonic() + _LONGEST_REST)
            self._batcher.answer_next(self._caller, until=until, stopped=self._stopped, alive=self._alive)
            self._count_batch()
            self._probe_when_due()

    def _stopped(self) -> bool:
        return self.ejected or self._leaving.is_set()

    def _alive(self) -> bool:
        """Look, before requests are put to it, whether it has ended while there were none."""
        problem = self.replica.lost()
        if problem:
            self._fall(problem)
        return not problem

    def _rest(self) -> None:
        self._look.wait(_LONGEST_REST)
        self._look.clear()

    def _bring_back(self) -> None:
        try:
            self.replica.restart()
            self._question.put_to(self.replica, self._patience())
        except (ModelCrashedError, NotServedError) as error:
            self._note(str(error.facts["problem"]))
        except CrossfadeError as error:  # it lives, and answers wrongly
            self._note(error.message)
            self.replica.end(error.message)
        else:
            self.restarts += self._started
            self._started = True
            self._be_ready()
        if self.replica.given_up and not self._leaving.is_set():
            self.state = LaneState.FAILED
            self._changed()

    def _be_ready(self) -> None:
        self._probe_failures = 0
        self._probe_at = time.monotonic() + self.probe.interval_seconds
        self.state = LaneState.READY
        self._changed()

    def _patience(self) -> float:
        """How long it may take to answer a probe: as long as several that fail one after the other."""
        return self.probe.timeout_seconds * self.probe.failure_threshold

    def _probe_when_due(self) -> None:
        if self.state is not LaneState.READY or time.monotonic() < self._probe_at or self._leaving.is_set():
            return
        self._probe_at = time.monotonic() + self.probe.interval_seconds
        try:
            self._question.put_to(self.replica, self._patience())
        except (ModelCrashedError, NotServedError) as error:
            self._fall(f"it ended while it was probed: {error.facts['problem']}")
        except CrossfadeError as error:
            self._probe_failures += 1
            self._fail(f"it failed a probe: {error.message}")
            if self._probe_failures >= self.probe.failure_threshold:
                self.replica.end(self.problem)
                self._fall(f"it failed {self._probe_failures} probes: {error.message}")
        else:
            self._probe_failures = 0
            self._failures = 0

    def _count_batch(self) -> None:
        """Count what was just answered as one batch; its requests may have been tried one by one.

        Whoever fails at once is free again first, and gets the next bad request as well. So a run of batches on one
        lane is one piece of evidence, and after some that fail the lane is asked what it has to know.
        """
        if not self._calls:
            return
        failed = self._calls == self._failed_calls
        self._calls = self._failed_calls = 0
        self._errors_in_a_row = self._errors_in_a_row + 1 if failed else 0
        if self._errors_in_a_row >= _DOUBTFUL:
            self._errors_in_a_row, self._probe_at = 0, 0.0
        if self._turns.last is not self:
            self._turns.last = self
            self._batches += 1
            self._errors += failed

    def _predict(self, tensors: Tensors, wanted: frozenset[str]) -> Tensors:
        self._busy_since = started = time.monotonic()
        self._calls += 1
        try:
            outputs = self.replica.predict(tensors, wanted)
        except (ModelCrashedError, NotServedError) as error:
            self._failed_calls += not self._spared
            self._fall(str(error.facts["problem"]), counted=not self._spared)
            raise
        except Exception:
            self._failed_calls += 1
            raise
        finally:
            now = time.monotonic()
            self._busy_since = 0.0
            self.busy_seconds += now - started
        self._failures = 0
        self._probe_failures = 0
        self._probe_at = now + self.probe.interval_seconds
        return outputs

    def _fall(self, problem: str, *, counted: bool = True) -> None:
        """Note that the replica has ended."""
        if self.state is LaneState.FAILED:
            return
        self.state = LaneState.RESTARTING
        self._fail(problem, counted=counted)

    def _fail(self, problem: str, *, counted: bool = True) -> None:
        self._failures += counted
        self._note(problem)
        self._changed()

    def _note(self, problem: str) -> None:
        if not self._leaving.is_set():
            self.problem = problem


def _yes() -> bool:
    """Tell that it may be asked, although it will refuse."""
    return True
