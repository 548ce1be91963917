"""One simulated life: three controllers, processes that serve, people and faults, on one virtual clock and one thread.

Whoever is paused lets the others act where it stands: between two transactions, which is wherever that can make a
difference. Everything is drawn from the seed, so a life that went wrong goes wrong again.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from crossfade.errors import DatabaseUnavailableError
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.checks.questions import Questions
from crossfade.releases.controller import LEASE, Controller
from crossfade.releases.rollout import Rollout
from crossfade.releases.store import RolloutStore
from crossfade.releases.surroundings import Surroundings
from crossfade.settings import ReleaseSettings, ServingSettings
from crossfade.storage.lease import Lease
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import HealthLog
from tests.releases.simulation.actors import Person, Replica, Service
from tests.releases.simulation.oracle import Oracle, Violation
from tests.releases.simulation.places import Boundaries, Crash, Memory
from tests.releases.simulation.scenario import CONTROLLERS, ROUNDS, Happening, Scenario
from tests.releases.simulation.subjects.kinds import KINDS
from tests.releases.simulation.subjects.port import PRINCIPAL

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_CALM = ((8, 3.0, Oracle.is_over), (400, 3.0, Oracle.decided), (60, 120.0, Oracle.settled))
"""After the last fault: rounds, seconds of each, and what ends them. No plan here may take longer; a version that was
replaced may stay loaded for as long as a clock was wrong."""
PATIENCE_SECONDS = 20.0


class Outcome(NamedTuple):
    """What came of a life."""

    scenario: Scenario
    problem: str
    trace: tuple[str, ...]
    ends: tuple[str, ...] = ()


class SimulatedFleet(Fleet):
    """A fleet that tells the oracle who was live by the clock of whoever looked."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world.databases[name], world.serving, world.clocks[name])
        self._world, self._name = world, name

    def _all(self) -> list[ProcessStatus]:
        found = super()._all()
        stale = self._world.clocks[self._name]() - timedelta(seconds=3 * self._world.serving.heartbeat_seconds)
        self._world.oracle.live[self._name] = {each.process for each in found if each.seen_at > stale}
        return found


class SimulatedController(Controller):
    """A controller whose bugs are violations, not lines of a log."""

    world: World

    def say(self, problem: str, about: str = "", *, bug: bool = False) -> None:
        self.world.say(f"cannot attend to `{about}`: {problem[:200]}")
        if bug:
            raise Violation(f"a turn met a bug: {problem}")


class Clock:
    """The clock of one actor: the time of the world, and by how much it is wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wrong = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self._world.time + self.wrong)


class World:
    """One life.

    Args:
        scenario: What happens in it.
        memory: Where it happens.
    """

    def __init__(self, scenario: Scenario, memory: Memory) -> None:
        kind = KINDS[scenario.kind]
        memory.begin(kind.prepare)
        self.scenario, self.memory = scenario, memory
        self.random = random.Random(scenario.seed + 2)
        self.serving = ServingSettings(heartbeat_seconds=2)
        self.releases = ReleaseSettings(poll_seconds=2, lease_seconds=6)
        self.time, self.round, self.calm = 0.0, 0, False
        self.drought_until = self.emergency_until = 0
        self.trace: list[str] = []
        self.acting: list[str] = []
        self.begun: dict[str, float] = {}
        self.clocks: dict[str, Clock] = {}
        self.databases: dict[str, Boundaries] = {}
        self.armed: defaultdict[str, list[Happening]] = defaultdict(list)
        self.places: Counter[str] = Counter()
        self.later: list[tuple[int, Callable[[], None]]] = []
        self.subject = kind(self)
        self.subjects = {kind.kind: self.subject.product}
        self.oracle = Oracle(self)
        self.service = Service(self)
        self.replicas = [self._replica(name) for name in "abc"[: scenario.replicas]]
        self.person = Person(self)
        self.controllers: list[Controller | None] = [self._controller(number) for number in range(CONTROLLERS)]
        self.happenings = list(scenario.happenings)

    # --- parts ---

    def clock_of(self, name: str) -> Clock:
        return self.clocks.setdefault(name, Clock(self))

    def connect(self, name: str) -> Boundaries:
        if name not in self.databases:
            at, written = lambda place: self._boundary(name, place), lambda: self.oracle.look(name)
            self.databases[name] = Boundaries(self.memory, at, written)
        return self.databases[name]

    def _replica(self, name: str) -> Replica:
        return Replica(self, name, random.Random(f"{self.scenario.seed} {name}"))

    def _controller(self, number: int) -> SimulatedController:
        name = f"controller {number}"
        database, clock = self.connect(name), self.clock_of(name)
        controller = SimulatedController(
            RolloutStore(database, self.subjects, None, clock),
            database,
            Surroundings(database, self.subjects, SimulatedFleet(self, name), PATIENCE_SECONDS, self._emergency),
            Measurer(
                database,
                HealthLog(database, clock),
                None,
                self.subject.prometheus,
                webhooks=self.service,
                questions=Questions(PATIENCE_SECONDS),  # so that a life is the same every time
            ),
            Lease(database, LEASE, self.releases.lease_seconds, clock),
            self.releases,
            clock=clock,
        )
        controller.world = self
        return controller

    def _emergency(self, _rollout: Rollout) -> str:
        return "somebody stopped everything" if self.round < self.emergency_until and not self.calm else ""

    def say(self, words: str) -> None:
        self.trace.append(f"{self.round:4} {self.time:7.1f} {'  ' * len(self.acting)}{'/'.join(self.acting)}: {words}")

    def harmless(self) -> bool:
        """Tell whether nothing speaks against a rollout: no version ever failed, and nobody's service objects."""
        kinds = {happening.kind for happening in self.scenario.happenings}
        return self.scenario.truth != "bad" and not kinds & {"service", "hostile"}

    # --- time ---

    def run(self) -> Outcome:
        """Live through it."""
        try:
            self._live()
        except Violation as violation:
            return Outcome(self.scenario, str(violation), tuple(self.trace))
        ends = tuple(rollout.status for rollout in self.oracle.rollouts.values())
        return Outcome(self.scenario, "", tuple(self.trace), ends)

    def _live(self) -> None:
        for replica in self.replicas:
            self._act(replica.name, replica.act)
        self._act(PRINCIPAL, self.person.begin)
        while self.round < ROUNDS and not (self.oracle.settled() and not self.happenings and not self.later):
            self._turn(self.random.uniform(0.6, 3.0))
        self._calm_down()
        for rounds, seconds, settled in _CALM:
            for _ in range(rounds):
                if settled(self.oracle):
                    break
                self._turn(seconds)
        self.oracle.finish()

    def _calm_down(self) -> None:
        self.calm = True
        self.armed.clear()
        for database in self.databases.values():
            database.away = False
        if self.random.random() < 0.5:  # somebody sets the clocks
            for clock in self.clocks.values():
                clock.wrong = 0.0
        for _, act in sorted(self.later, key=lambda each: each[0]):
            act()
        self.later.clear()
        for number in range(CONTROLLERS):
            self._restart(number)
        for replica in self.replicas:
            replica.silent_until = replica.stuck_until = replica.mute_until = 0
        self.say("all is calm")

    def _turn(self, seconds: float) -> None:
        """Let some time pass, and everybody who is not paused or dead act."""
        self.time += seconds
        self.round += 1
        for at, act in [each for each in self.later if each[0] <= self.round]:
            self.later.remove((at, act))
            act()
        while self.happenings and self.happenings[0].round < self.round and not self.calm:
            self._happen(self.happenings.pop(0))
        actors: list[tuple[str, Callable[[], None]]] = [(replica.name, replica.act) for replica in self.replicas]
        actors += [
            (f"controller {number}", lambda number=number: self._turn_of(number)) for number in range(CONTROLLERS)
        ]
        self.random.shuffle(actors)
        for name, act in actors:
            if name not in self.acting and self.random.random() < (0.4 if name.startswith("controller") else 0.6):
                self._act(name, act)

    def _act(self, name: str, act: Callable[[], None]) -> None:
        self.acting.append(name)
        self.begun[name] = self.time
        self.places[name] = 0
        try:
            act()
        finally:
            self.acting.remove(name)

    def _turn_of(self, number: int) -> None:
        controller, name = self.controllers[number], f"controller {number}"
        if controller is None:
            return
        try:
            controller.turn()
        except DatabaseUnavailableError as error:
            self.say(f"finds no database: {error.message}")
        except Crash:
            self.say("is dead")
            self.controllers[number] = None
        except Exception as error:
            raise Violation(f"{name} raised {error!r}") from error

    def _boundary(self, name: str, place: str) -> None:
        """Do what shall happen at a beginning or end of somebody's transaction."""
        number = self.places[name]
        self.places[name] += 1
        for fault in [fault for fault in self.armed[name] if fault.place == number]:
            if fault.kind == "pause" and place == "before a commit":
                self.armed[name][self.armed[name].index(fault)] = fault._replace(place=number + 1)
                continue
            self.armed[name].remove(fault)
            self.say(f"{fault.kind} {place}")
            if fault.kind == "pause":
                for _ in range(int(fault.amount)):
                    self._turn(self.random.uniform(0.6, 3.0))
                self.say(f"goes on {place}")
            elif fault.kind == "crash":
                raise Crash
            else:
                raise DatabaseUnavailableError(problem="no answer came")

    # --- what happens ---

    def _happen(self, happening: Happening) -> None:
        self.say(f"{happening}")
        replica = self.replicas[happening.who % len(self.replicas)] if self.replicas else None
        controller, until = f"controller {happening.who}", self.round + int(happening.amount)
        match happening.kind:
            case "person":
                self._ask_person(happening)
            case "pause" | "crash" | "lost":
                self._arm(controller, happening, until)
            case "clock":
                self._shift_clock(replica.name if replica and happening.what else controller, happening)
            case "partition":
                self._part(replica.name if replica and happening.place else controller, until)
            case "service":
                self.service.until, self.service.answer = until, happening.what
            case "drought" | "emergency":
                setattr(self, f"{happening.kind}_until", until)
            case "join":
                self.replicas.append(self._replica(f"n{len(self.databases)}"))
            case _ if replica is not None:
                self._strike(replica, happening.kind, until)

    def _arm(self, controller: str, fault: Happening, until: int) -> None:
        self.armed[controller].append(fault)
        if fault.kind == "crash":
            self.later.append((until, lambda: self._restart(fault.who)))

    def _shift_clock(self, actor: str, happening: Happening) -> None:
        clock = self.clocks[actor]
        clock.wrong += happening.amount
        if happening.place:
            self.later.append((self.round + happening.place, lambda: setattr(clock, "wrong", 0.0)))

    def _part(self, actor: str, until: int) -> None:
        database = self.databases[actor]
        database.away = True
        self.later.append((until, lambda: setattr(database, "away", False)))

    def _strike(self, replica: Replica, kind: str, until: int) -> None:
        if kind == "die":
            self.replicas.remove(replica)
        elif kind in {"twice", "late", "frozen"}:
            setattr(replica, kind, True)
        elif kind == self.subject.script.fault:
            replica.server.suffer(until)
        else:
            setattr(replica, {"stop": "silent"}.get(kind, kind) + "_until", until)

    def _ask_person(self, happening: Happening) -> None:
        def act() -> None:
            with contextlib.suppress(Crash):
                self._act(PRINCIPAL, lambda: self.person.act(happening.what))

        act()
        if happening.place:  # the same request arrives once more
            self.later.append((self.round + happening.place, act))

    def _restart(self, number: int) -> None:
        if self.controllers[number] is None:
            self.controllers[number] = self._controller(number)
