"""Who acts in a simulated life besides controllers: processes that serve, and people."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import msgspec

from crossfade.errors import CrossfadeError, DatabaseUnavailableError
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.store import RolloutStore
from crossfade.storage.times import to_text
from tests.releases.simulation.subjects.port import PRINCIPAL

if TYPE_CHECKING:
    from tests.releases.simulation.world import World

REASON = "ann knows why"
_INSERT_PROCESS = (
    "INSERT OR REPLACE INTO processes (process, host, pid, started_at, seen_at, revision, slots, configs)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class Replica:
    """A process that serves: it follows sooner or later, loads what is wanted, and writes down what requests did."""

    def __init__(self, world: World, name: str, random_: random.Random) -> None:
        self.world = world
        self.name = name
        self.clock = world.clock_of(name)
        self.random = random_
        self.database = world.connect(name)
        self.started = to_text(self.clock())
        self.revision = self.reported_us = 0
        self.silent_until = self.stuck_until = self.mute_until = 0
        self.twice = self.late = self.frozen = False
        self.kept: tuple[int, Any] | None = None
        self.server = world.subject.server(self)

    def act(self) -> None:
        """Do once what a process does all the time."""
        if self.world.round < self.silent_until:
            return
        with contextlib.suppress(DatabaseUnavailableError):
            if (
                not self.frozen
                and self.world.round >= self.stuck_until
                and (self.world.calm or self.random.random() < 0.8)
            ):
                self.revision = self.server.follow()
            self._report(self.server.slots())
            if self.world.round >= self.mute_until:
                self._serve()

    def _report(self, slots: dict[str, tuple[str, str]]) -> None:
        """Do what `Fleet.report` does, in a twentieth of the time."""
        self.database.reach("before a report")
        row = self.name, "host", 1, self.started, to_text(self.clock()), self.revision
        self.world.memory.raw.execute(_INSERT_PROCESS, [*row, json.dumps(slots), json.dumps(self.server.configs())])

    def _serve(self) -> None:
        served = self.server.serve()
        if not served:
            return
        now_us = max(int(self.clock().timestamp() * 1e6), self.reported_us + 1)
        if self.late:  # it is written in the next round, after whatever happens until then
            self.late, self.kept = False, (now_us, served)
            return
        if self.kept is not None:
            self._write(*self.kept)
            self.kept, now_us = None, max(now_us, self.reported_us + 1)
        self._write(now_us, served)
        if self.twice:  # the first report was written, and the process has not heard of it
            self.twice = False
            self._write(now_us + 1, served)

    def _write(self, at_us: int, served: Any) -> None:
        self.server.write(at_us, served)
        self.reported_us = at_us


class Person:
    """Somebody who uses the verbs, sometimes twice."""

    def __init__(self, world: World) -> None:
        self.world = world
        database, clock = world.connect(PRINCIPAL), world.clock_of(PRINCIPAL)
        self.subject = world.subject
        self.store = RolloutStore(database, world.subjects, None, clock)
        self.random = random.Random(world.scenario.seed + 1)

    def begin(self) -> None:
        """Begin the first rollout."""
        self._create(self.subject.script.new, override=False)

    def act(self, what: str) -> None:
        """Do something; refusals are answers."""
        verb, version = what.split()
        try:
            self._do(verb, version)
        except CrossfadeError as error:
            self.world.say(f"is refused: {error.message[:120]}")

    def _do(self, verb: str, version: str) -> None:
        name = self.subject.name
        if verb in {"pause", "resume", "promote", "abort", "rollback"}:
            getattr(self.store, verb)(name, principal=PRINCIPAL)
        elif verb == "promote_to_end":
            self.store.promote(name, to_end=True, principal=PRINCIPAL)
        elif verb in {"retry", "retry_override"}:
            self.world.oracle.overridden = verb == "retry_override"
            self.store.retry(name, override_latch=verb == "retry_override", reason=REASON, principal=PRINCIPAL)
        elif verb in {"create", "create_override"}:
            self._create(version, override=verb == "create_override")
        else:
            self.subject.act(verb, version)

    def _create(self, version: str, *, override: bool) -> None:
        self.world.oracle.overridden = override
        plan = self.subject.script.plans[self.world.scenario.plan]
        name, kind = self.subject.name, self.subject.kind
        wanted = RolloutRequest(name, version, plan, kind, reason=REASON, override_latch=override)
        self.store.create(wanted, principal=PRINCIPAL)


class Service:
    """Somebody's service that webhook checks ask."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.until = 0
        self.answer = ""

    def is_wrong(self) -> bool:
        """Tell whether it answers as the scenario says."""
        return self.world.round < self.until and not self.world.calm

    def ask(self, url: str, event: dict[str, object]) -> dict[str, object]:
        """Answer as the scenario says; without a word of it, agree."""
        msgspec.json.encode(event)
        if not self.is_wrong():
            return {"result": "pass", "reason": "fine"}
        if self.answer == "error":
            raise DatabaseUnavailableError(problem="the service is away")
        return {"result": self.answer, "reason": self.answer}
