"""`ReplicaSet`: the replicas of one version in this process, behind one line of requests.

Whoever is idle takes the next requests. That is balancing by least outstanding requests with nothing outstanding: no
request waits at one replica while another is free. A supervisor starts and ends replicas as load asks for, leaves
outliers alone for a while, and replaces those that have been given up.

Source: one line before several servers never does worse than a line before each (Harchol-Balter, Performance Modeling
and Design of Computer Systems, 2013, chapter 24).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from crossfade.errors import CrossfadeError
from crossfade.serving.batching import Batcher
from crossfade.serving.replicas.ejection import WINDOW_BATCHES, WINDOW_SECONDS, ejection_seconds, outlier, reason
from crossfade.serving.replicas.lane import Lane, LaneState, Question, Turns
from crossfade.serving.replicas.port import Replica, Template
from crossfade.serving.replicas.scaling import Scaler
from crossfade.traffic.deployed import Deployed, DeploymentReport, ReplicaCounts

_log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
REPLACE_SECONDS = 60.0
"""A replica that was given up is replaced after so long, as long as another one answers."""
_USAGE_TICKS = 5
_JOIN_SECONDS = 5.0


class ReplicaSet:
    """Replicas of one version. Made with the first of them, which has been started and has proved itself.

    Args:
        template: What more are made from; closed with the set.
        first: The first replica.
        terms: How many, and how they are kept.
        fitting: How many of these this machine has got the resources for.
        question: What they prove themselves by.
        ref: What the log calls the version.

    Attributes:
        terms: See above; changed by `adjust`.
        given_up: Why no replica answers any more, in words; empty while one may.
        ejections: How often one was left alone.
        on_given_up: Called when that happens, on a thread of the set.
        on_changed: Called when the number of ready replicas changes.
        has_room: Tells whether so many bytes more may be used.
        cpu_seconds: Processor time that its replicas have used so far.
        on_resized: Told how many bytes the set uses, whenever that changes.
    """

    def __init__(
        self,
        template: Template,
        first: Replica,
        terms: Deployed,
        fitting: Callable[[Deployed], int],
        question: Question,
        ref: str,
    ) -> None:
        most = fitting(terms)
        self.terms = terms
        self.given_up = ""
        self.ejections = 0
        self.cpu_seconds = 0.0
        self.on_given_up: Callable[[], None] = _nothing
        self.on_changed: Callable[[], None] = _nothing
        self.has_room: Callable[[int], bool] = _always
        self.on_resized: Callable[[int], None] = _nothing_of
        self.wanted = min(terms.replicas.min, most)
        self._template = template
        self._first = first
        self._most = most
        self._fitting = fitting
        self._question = question
        self._ref = ref
        self._lanes: tuple[Lane, ...] = ()
        self._batcher: Batcher | None = None
        self._scaler = Scaler()
        self._turns = Turns()
        self._times: dict[int, int] = {}
        self._free_at: dict[int, float] = {}
        self._failed_at: dict[int, float] = {}
        self._problem = ""
        self._restarts = 0
        self._window_at = 0.0
        self._seen: tuple[float, float] = (0.0, 0.0)
        self._utilisation = 0.0
        self._each_bytes = first.usage().memory_bytes
        self._memory = self._each_bytes
        self._cpu = 0.0
        self._cpu_seen: dict[Lane, float] = {}
        self._measured_at = 0.0
        self._ticks = 0
        self._width = 0
        self._ending = threading.Event()
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"crossfade-replicas-{ref}", daemon=True)

    @property
    def width(self) -> int:
        """How many replicas take requests, as the supervisor saw it last; asked for every request."""
        return self._width

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Its replicas, those included that are about to end."""
        return self._lanes

    @property
    def size_bytes(self) -> int:
        """Memory of all replicas, and of the files that they are made from."""
        return self._template.size_bytes + self._each_bytes * max(1, len(self._lanes))

    def attach(self, batcher: Batcher) -> None:
        """Begin to answer what waits there."""
        self._batcher = batcher
        batcher.crew = self
        batcher.rest_seconds = self._template.rest_seconds
        self._add(0, self._first, proved=True)
        self._width = 1
        self._thread.start()

    def adjust(self, terms: Deployed) -> None:
        """Go on under other terms, the resources of each replica excepted.

        Raises:
            InsufficientResourcesError: The machine has not got them for so many.
        """
        self._most = self._fitting(terms)
        if terms.generation != self.terms.generation:  # what happened before is no fault of what is new
            self._restarts = 0
            for lane in self._lanes:
                lane.restarts = 0
        self.terms = terms
        self._scaler.forget()
        for lane in self._lanes:
            lane.probe = terms.probe
        self._look_soon()

    def report(self) -> DeploymentReport:
        """Say how the replicas do."""
        lanes = [lane for lane in self._lanes if not lane.leaving]
        counts = ReplicaCounts(
            self.wanted,
            ready=sum(lane.answers for lane in lanes),
            ejected=sum(lane.ejected for lane in lanes),
            restarting=sum(lane.state is not LaneState.READY and not lane.ejected for lane in lanes),
        )
        return DeploymentReport(
            self.terms.name,
            self.terms.generation,
            replicas=counts,
            failed=bool(self.given_up),
            problem=self.given_up or self._problem,
            restarts=self._restarts + sum(lane.restarts for lane in lanes),
            ejections=self.ejections,
            utilisation=round(self._utilisation, 4),
            memory_bytes=self._template.size_bytes + self._memory,
            cpu=round(self._cpu, 4),
            queue_depth=0 if self._batcher is None else self._batcher.waiting,
        )

    def kill(self) -> None:
        """End all replicas at once; whoever waits for an answer gets an error."""
        self.given_up = self.given_up or "it is unloaded"
        self._ending.set()
        self._look.set()
        self._first.kill()
        for lane in self._lanes:
            lane.kill()

    def close(self) -> None:
        """End everything."""
        self.kill()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        for lane in self._lanes:
            lane.kill()  # also one that was started while this began
            lane.join()
        if self._batcher is None:
            self._first.close()
        self._template.close()

    # --- on the supervisor's thread ---

    def _run(self) -> None:
        self._window_at = self._seen_at()
        while not self._ending.is_set():
            try:
                self._tick(time.monotonic())
            except Exception:  # noqa: BLE001 - replicas answer without being supervised, and the next look may be better
                _log.exception("replicas of `%s` are not supervised", self._ref)
            self._look.wait(TICK_SECONDS)
            self._look.clear()

    def _seen_at(self) -> float:
        now = time.monotonic()
        self._seen = (now, 0.0)
        return now

    def _look_soon(self) -> None:
        self._look.set()

    def _tick(self, now: float) -> None:
        self._remove_ended()
        self._note_problems(now)
        self._replace_failed(now)
        self._eject(now)
        if now - self._seen[0] >= TICK_SECONDS / 2:
            self._scale(now)
            self._measure(now)
        self._fill()
        width = sum(lane.answers for lane in self._lanes)
        if width != self._width:
            self._width = width
            self.on_changed()

    def _note_problems(self, now: float) -> None:
        for lane in self._lanes:
            if lane.problem:
                self._problem, lane.problem = f"replica {lane.number}: {lane.problem}", ""
                _log.warning("`%s` %s", self._ref, self._problem)
            if lane.state is LaneState.FAILED:
                self._failed_at.setdefault(lane.number, now)
        living = [lane for lane in self._lanes if not lane.leaving]
        if living and all(lane.state is LaneState.FAILED for lane in living) and not self.given_up:
            self.given_up = living[0].replica.given_up or self._problem or "none of its replicas can be kept alive"
            for lane in living:
                lane.refuse_all()
            self.on_given_up()

    def _remove_ended(self) -> None:
        ended = [lane for lane in self._lanes if lane.ended and lane.leaving]
        if ended:
            self._restarts += sum(lane.restarts for lane in ended)
            self._lanes = tuple(lane for lane in self._lanes if lane not in ended)
            self.on_resized(self.size_bytes)

    def _replace_failed(self, now: float) -> None:
        for lane in self._lanes:
            if lane.state is LaneState.FAILED and now - self._failed_at.get(lane.number, now) > REPLACE_SECONDS:
                del self._failed_at[lane.number]
                lane.leave()

    def _eject(self, now: float) -> None:
        """Leave one more alone, or take those back whose time is over, or all when nobody else answers."""
        nobody = not any(lane.answers for lane in self._lanes)
        for lane in self._lanes:
            if lane.ejected and (nobody or now >= self._free_at.get(lane.number, 0.0)):
                lane.ejected = False
                lane.look()
                self._begin_window(now)
        lanes = [lane for lane in self._lanes if not lane.leaving]
        standings = [lane.standing() for lane in lanes]
        number = outlier(standings)
        for lane, standing in zip(lanes, standings, strict=True):
            if lane.number == number:
                self._times[number] = self._times.get(number, 0) + 1
                seconds = ejection_seconds(self._times[number])
                self._free_at[number] = now + seconds
                self.ejections += 1
                why = reason(standing, standings)
                if self._problem.startswith(f"replica {number}: "):
                    why += f"; lastly: {self._problem.partition(': ')[2]}"
                lane.problem = f"it is left alone for {seconds:.0f} s: {why}"
                lane.forgive()
                lane.ejected = True
                lane.look()
        counted = sum(standing.batches for standing in standings)
        if now - self._window_at >= WINDOW_SECONDS and counted >= WINDOW_BATCHES * len(standings):
            self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        """Compare replicas over the same time only: whoever comes back missed what the others have been asked."""
        self._window_at = now
        for lane in self._lanes:
            lane.begin_window()

    def _scale(self, now: float) -> None:
        then, busy_then = self._seen
        busy = math.fsum(lane.busy_until(now) for lane in self._lanes)
        self._seen = (now, busy)
        load = max(0.0, busy - busy_then) / (now - then)
        self._utilisation = min(1.0, load / max(1, self.width))
        least, most = min(self.terms.replicas.min, self._most), min(self.terms.replicas.most, self._most)
        target = self.terms.target_utilisation
        advice = self._scaler.advise(now, self.wanted, load=load, target=target, least=least, most=most)
        if advice != self.wanted:
            _log.info("`%s` shall have %d replicas instead of %d (load %.2f)", self._ref, advice, self.wanted, load)
            self.wanted = advice
            self.on_changed()

    def _fill(self) -> None:
        """Start what is missing, one after the other; end what is too much."""
        staying = [lane for lane in self._lanes if not lane.leaving]
        for lane in sorted(staying, key=lambda each: (each.answers, -each.number))[
            : max(0, len(staying) - self.wanted)
        ]:
            lane.leave()
        for _ in range(self.wanted - len(staying)):
            if self._ending.is_set():
                return
            if not self.has_room(self._each_bytes):
                self._problem = f"there is no memory for another replica, which takes {self._each_bytes} bytes"
                return
            taken = {lane.number for lane in self._lanes}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            try:
                replica = self._template.replica(number)
            except (CrossfadeError, OSError) as error:
                self._problem = f"replica {number} cannot be started: {error}"
                return
            self._add(number, replica)

    def _add(self, number: int, replica: Replica, *, proved: bool = False) -> None:
        assert self._batcher is not None  # noqa: S101 - it is attached before anything is added
        lane = Lane(number, replica, self._batcher, self._question, self.terms.probe, self._look_soon, self._turns)
        lane.refuse_by(self._template.refusal)
        self._lanes = (*self._lanes, lane)
        self._begin_window(time.monotonic())
        lane.start(proved=proved)
        self.on_resized(self.size_bytes)

    def _measure(self, now: float) -> None:
        self._ticks += 1
        if self._ticks % _USAGE_TICKS != 1:
            return
        used = {lane: lane.replica.usage() for lane in self._lanes}
        # a process that was started anew has used less than the one before it
        news = math.fsum(max(0.0, use.cpu_seconds - self._cpu_seen.get(lane, 0.0)) for lane, use in used.items())
        self._cpu = news / (now - self._measured_at) if self._measured_at else 0.0
        self._cpu_seen = {lane: use.cpu_seconds for lane, use in used.items()}
        self._measured_at = now
        self.cpu_seconds += news
        self._memory = sum(use.memory_bytes for use in used.values())
        each = max((use.memory_bytes for use in used.values()), default=0)
        if each > self._each_bytes:
            self._each_bytes = each
            self.on_resized(self.size_bytes)


def _nothing() -> None:
    """Nobody wants to know."""


def _nothing_of(_value: int) -> None:
    """Nobody wants to know that."""


def _always(_bytes: int) -> bool:
    """There is room."""
    return True
