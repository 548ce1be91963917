"""Who acts in a simulated life besides controllers: processes that serve, and people."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from crossfade.errors import CrossfadeError, DatabaseUnavailableError
from crossfade.registry.native import NativeBackend
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.store import RolloutStore
from crossfade.storage.times import to_text
from crossfade.traffic.fleet import FAILED, READY
from crossfade.traffic.health import SHADOW, Counts
from tests.releases.simulation.places import MODEL, VERSIONS
from tests.releases.simulation.scenario import PLANS

if TYPE_CHECKING:
    from tests.releases.simulation.world import World

PRINCIPAL = "ann"
REASON = "ann knows why"
NEW = VERSIONS[1]
FAILING = 0.9
_INSERT_PROCESS = (
    "INSERT OR REPLACE INTO processes (process, host, pid, started_at, seen_at, revision, slots)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_HEALTH = "INSERT INTO health (tier, model, at_us, process, body) VALUES (?, ?, ?, ?, ?)"


class View(NamedTuple):
    """What a process knows of the database."""

    revision: int
    champion: str = ""
    candidate: str = ""
    weight: float = 0.0
    shadow: bool = False
    wanted: tuple[str, ...] = ()


class Replica:
    """A process that serves: it follows sooner or later, loads what is wanted, and reports what requests did."""

    def __init__(self, world: World, name: str, random_: random.Random) -> None:
        self.world = world
        self.name = name
        self.clock = world.clock_of(name)
        self.random = random_
        self.database = world.connect(name)
        self.started = to_text(self.clock())
        self.view = View(0)
        self.loads: dict[str, int] = {VERSIONS[0]: 0}
        self.reported_us = 0
        self.silent_until = self.stuck_until = self.mute_until = 0
        self.twice = self.late = self.hostile = self.frozen = False
        self.kept: tuple[int, dict[str, Counts]] | None = None

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
                self.view = self.world.look()
            self._report({f"{MODEL}:{version}": self._load(version) for version in self.view.wanted})
            if self.world.round >= self.mute_until:
                self._serve()

    def _report(self, slots: dict[str, tuple[str, str]]) -> None:
        """Do what `Fleet.report` does, in a twentieth of the time."""
        self.database.reach("before a report")
        row = self.name, "host", 1, self.started, to_text(self.clock()), self.view.revision, json.dumps(slots)
        self.world.memory.raw.execute(_INSERT_PROCESS, row)

    def _write(self, at_us: int, versions: dict[str, Counts]) -> None:
        """Do what `HealthLog.write` does."""
        self.world.tally(versions)
        row = 1, MODEL, at_us, self.name, msgspec.msgpack.encode(versions)
        self.world.memory.raw.execute(_INSERT_HEALTH, row)
        self.reported_us = at_us

    def _load(self, version: str) -> tuple[str, str]:
        left = self.loads.setdefault(version, self.random.randint(0, 2))
        if left:
            self.loads[version] = left - 1
            return ("loading", "")
        if version == NEW and self.world.scenario.truth == "broken" and self.name == "a":
            return (FAILED, "its file is damaged")
        return (READY, "")

    def _serve(self) -> None:
        versions = self._requests()
        if not versions:
            return
        now_us = max(int(self.clock().timestamp() * 1e6), self.reported_us + 1)
        if self.late:  # it is written in the next round, after whatever happens until then
            self.late, self.kept = False, (now_us, versions)
            return
        if self.kept is not None:
            self._write(*self.kept)
            self.kept, now_us = None, max(now_us, self.reported_us + 1)
        self._write(now_us, versions)
        if self.twice:  # the first report was written, and the process has not heard of it
            self.twice = False
            self._write(now_us + 1, versions)

    def _requests(self) -> dict[str, Counts]:
        view, total = self.view, self.random.randint(20, 60)
        if self.world.round < self.world.drought_until or not view.champion:
            return {}
        new = sum(self.random.random() < view.weight for _ in range(total))
        if self.world.scenario.truth == "silent":
            new = 0
        asked = {view.champion: total - new}
        if view.candidate:
            asked[view.candidate] = asked.get(view.candidate, 0) + new
        if view.shadow and self.world.scenario.truth != "silent":
            asked[view.candidate + SHADOW] = total
        return {version: self._counts(version, requests) for version, requests in asked.items() if requests}

    def _counts(self, version: str, requests: int) -> Counts:
        fails = self.world.scenario.truth == "bad" and version.removesuffix(SHADOW) == NEW
        bad = sum(self.random.random() < FAILING for _ in range(requests)) if fails else 0
        if self.hostile:
            self.hostile, bad = False, -3
        return Counts(requests=requests, errors=bad, latency={50: requests - max(bad, 0)})


class Person:
    """Somebody who uses the verbs, sometimes twice."""

    def __init__(self, world: World) -> None:
        self.world = world
        database, clock = world.connect(PRINCIPAL), world.clock_of(PRINCIPAL)
        self.store = RolloutStore(database, world.subjects, None, clock)
        self.backend = NativeBackend(database, None, clock=clock)
        self.random = random.Random(world.scenario.seed + 1)

    def begin(self) -> None:
        """Begin the first rollout."""
        self._create(NEW, override=False)

    def act(self, what: str) -> None:
        """Do something; refusals are answers."""
        verb, version = what.split()
        try:
            self._do(verb, version)
        except CrossfadeError as error:
            self.world.say(f"is refused: {error.message[:120]}")

    def _do(self, verb: str, version: str) -> None:
        if verb in {"pause", "resume", "promote", "abort", "rollback"}:
            getattr(self.store, verb)(MODEL, principal=PRINCIPAL)
        elif verb == "promote_to_end":
            self.store.promote(MODEL, to_end=True, principal=PRINCIPAL)
        elif verb in {"retry", "retry_override"}:
            self.world.oracle.overridden = verb == "retry_override"
            self.store.retry(MODEL, override_latch=verb == "retry_override", reason=REASON, principal=PRINCIPAL)
        elif verb in {"create", "create_override"}:
            self._create(version, override=verb == "create_override")
        elif verb in {"move", "unalias"}:
            target = version if verb == "move" else None
            self.backend.move_alias(MODEL, "champion", target, expected=None, principal=PRINCIPAL, reason="")
        elif verb == "reject":
            self.backend.change_stage(MODEL, version, "rejected", source="registered", principal=PRINCIPAL, reason="")
        else:
            self.backend.delete_version(MODEL, version, principal=PRINCIPAL, reason="")

    def _create(self, version: str, *, override: bool) -> None:
        self.world.oracle.overridden = override
        wanted = RolloutRequest(MODEL, version, PLANS[self.world.scenario.plan], reason=REASON, override_latch=override)
        self.store.create(wanted, principal=PRINCIPAL)


class Service:
    """Somebody's service that webhook checks ask."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.until = 0
        self.answer = ""

    def ask(self, url: str, event: dict[str, object]) -> dict[str, object]:
        """Answer as the scenario says; without a word of it, agree."""
        msgspec.json.encode(event)
        if self.world.round >= self.until or self.world.calm:
            return {"result": "pass", "reason": "fine"}
        if self.answer == "error":
            raise DatabaseUnavailableError(problem="the service is away")
        return {"result": self.answer, "reason": self.answer}
