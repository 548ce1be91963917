"""A runner without processes: what its replicas do is decided by the test."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

import numpy as np

from crossfade.errors import ModelCrashedError, NotServedError, PredictionError
from crossfade.serving.batching import Batcher
from crossfade.serving.counters import Counters
from crossfade.serving.replicas import replica_set
from crossfade.serving.replicas.lane import Question
from crossfade.serving.replicas.port import Usage
from crossfade.serving.replicas.replica_set import ReplicaSet
from crossfade.settings import ModelRules
from crossfade.traffic.deployed import Deployed
from tests.serving.fakes import SIGNATURE

WANTED = frozenset({"predict"})
MEGABYTE = 2**20


class FakeReplica:
    """Doubles its input.

    Attributes:
        alive: Whether it has a process.
        fails: What its calls raise from now on.
        fails_on: Only those that hold this value; None: all.
        broken: Whether it cannot be started.
        wrong: Whether it answers wrongly.
        gate: Calls wait for it.
    """

    def __init__(self, number):
        self.number = number
        self.alive = False
        self.fails = None
        self.fails_on = None
        self.broken = False
        self.wrong = False
        self.gate = threading.Event()
        self.gate.set()
        self.preprocess_seconds = 0.0
        self.member_rows = {}
        self.given_up = ""
        self.starts = 0
        self.calls = 0
        self.closed = False

    def lost(self):
        return "" if self.alive else "its process was ended by SIGKILL"

    def start(self):
        self.restart()

    def restart(self):
        if self.given_up:
            raise NotServedError(ref="m:1.0.0", problem=self.given_up)
        if self.alive:
            return
        if self.broken:
            raise ModelCrashedError(ref="m:1.0.0", problem="it cannot be started again")
        self.starts += 1
        self.alive = True

    def predict(self, tensors, wanted, seconds=None):
        self.calls += 1
        if not self.gate.wait(20 if seconds is None else seconds):
            self.alive = False
            raise ModelCrashedError(ref="m:1.0.0", problem=f"it did not answer within {seconds} seconds")
        if self.given_up:
            raise NotServedError(ref="m:1.0.0", problem=self.given_up)
        if self.fails is not None and (self.fails_on is None or self.fails_on in tensors["x"]):
            error, self.alive = self.fails, not isinstance(self.fails, ModelCrashedError)
            raise error
        return {"predict": (3 if self.wrong else 2) * tensors["x"]}

    def bounded(self, seconds, *, spared):
        return nullcontext()

    def end(self, problem):
        self.alive = False

    def usage(self):
        return Usage(MEGABYTE, 0.0)

    def kill(self):
        self.given_up = self.given_up or "it is unloaded"
        self.alive = False
        self.gate.set()

    def close(self):
        self.closed = True


class FakeTemplate:
    """Makes fake replicas, and keeps them."""

    size_bytes = 10

    def __init__(self, make=FakeReplica):
        self.make = make
        self.made = []
        self.closed = False

    def replica(self, number):
        replica = self.make(number)
        self.made.append(replica)
        return replica

    def refusal(self, tensors, wanted):
        return None

    def rest_seconds(self):
        return 0.0

    def close(self):
        self.closed = True


def ask_two(predict):
    answer = predict({"x": np.array([1.0])}, WANTED)["predict"].tolist()
    if answer != [2.0]:
        raise PredictionError(ref="m:1.0.0", problem=f"{answer} instead of [2.0]")


class Bench:
    """A set of fake replicas behind a batcher."""

    def __init__(self, terms, *, make=FakeReplica, most=64, rows=256):
        self.template = FakeTemplate(make)
        first = self.template.replica(0)
        first.start()
        self.given_up = []
        self.set = ReplicaSet(
            self.template, first, terms, lambda wanted: min(most, wanted.replicas.most), Question(ask_two), "m:1.0.0"
        )
        self.set.on_given_up = lambda: self.given_up.append(self.set.given_up)
        self.counters = Counters()
        self.batcher = Batcher(
            first.predict,
            SIGNATURE,
            ModelRules(max_batch_rows=rows),
            ref="m:1.0.0",
            inline=False,
            inline_seconds=1.0,
            counters=self.counters,
        )
        self.set.attach(self.batcher)

    def ask(self, value=1.0):
        return self.batcher.submit({"x": np.array([value])}, WANTED, time.monotonic() + 20)

    def lanes(self):
        return [lane for lane in self.set.lanes if not lane.leaving]

    def lane_of(self, replica):
        return next(lane for lane in self.set.lanes if lane.replica is replica)


def terms(least=2, most=0, **options):
    from crossfade.traffic.deployed import ReplicaRange

    return Deployed("d", 1, replicas=ReplicaRange(least, most), **options)


def quick(monkeypatch):
    """Let supervisors look a hundred times a second."""
    monkeypatch.setattr(replica_set, "TICK_SECONDS", 0.01)
