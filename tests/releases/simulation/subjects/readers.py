"""Those who read a config: units that ask one process or another, which knows the board as of some revision."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from crossfade.configs.active import ActiveConfig, ReadConfig
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.following import ConfigFollower
from crossfade.ledger.events import Exposure
from crossfade.ledger.rollups import fold

if TYPE_CHECKING:
    from tests.releases.simulation.actors import Replica
    from tests.releases.simulation.world import World

UNITS = 40
_FORGETFUL = 8
"""Units that always ask as if for the first time; the others are told only what is new to them."""
_POLL_SECONDS = 1.0
_CLOSE = 0.01
"""By how much slots miss a weight."""


class State(NamedTuple):
    """Who had to read what from some revision on."""

    active: str
    rollout: str = ""
    stable: str = ""
    candidate: str = ""
    weight: float = 0.0


class Readings:
    """What was read in one life, held against what there was to read.

    Attributes:
        tags: Unit -> the entity tag of what it has.
        read: Rollout -> how often its new version was read.
        calm: The same after the last fault.
        delivered: Rollout -> unit -> when the ledger was first told that it has read the new version.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.tags: dict[str, str] = {}
        self.read: Counter[str] = Counter()
        self.calm: Counter[str] = Counter()
        self.delivered: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._known: set[tuple[str, int, str, str]] = set()
        self._since: dict[tuple[str, str], int] = {}
        self._revisions = [int(self._one("SELECT revision FROM head"))]
        self._states = [State(self._one("SELECT active FROM configs WHERE name = ?", name))]

    def _one(self, query: str, *values: object) -> str:
        return str(self.world.memory.raw.execute(query, values).fetchone()[0])

    def note(self, active: str) -> None:
        """Remember what there is to read from now on."""
        now, rollout = State(active), self.world.oracle.under_way()
        if rollout is not None:
            now = State(active, rollout.name, rollout.stable, rollout.candidate, rollout.weight)
        if now != self._states[-1]:
            self._revisions.append(int(self._one("SELECT revision FROM head")))
            self._states.append(now)

    def judge(self, position: int, unit: str | None, found: ReadConfig, exposure: Exposure | None) -> None:
        """Judge what a unit has read of a process that knows everything up to a revision."""
        state, number = self._states[bisect_right(self._revisions, position) - 1], str(found.number)
        require, who = self.world.oracle.require, f"unit {unit} at revision {position}"
        digest = self._one("SELECT digest FROM config_versions WHERE name = ? AND number = ?", self.name, number)
        require(found.digest == digest, f"{who} read something else than version {number}")
        if not state.rollout or unit is None:
            everybody = state.candidate if state.weight == 1 else state.active
            require(number == everybody, f"{who} read version {number}, and {everybody} is what everybody reads")
            require(exposure is None, f"{who} counts, and nothing is rolled out to it")
            return
        new = number == state.candidate
        require(new or number == state.stable, f"{who} read version {number} of neither side")
        require(not new or state.weight > 0, f"{who} read the new version, which nobody may")
        require(new or state.weight < 1, f"{who} read the old version, which nobody may")
        key = state.rollout, unit
        require(new or self._since.get(key, position + 1) > position, f"{who} was taken back to the old version")
        require(exposure is not None, f"{who} does not count")
        side, share = ("candidate", state.weight) if new else ("stable", 1 - state.weight)
        require((exposure.experiment, exposure.variant) == (state.rollout, side), f"{who} counts for another side")
        require(abs(exposure.propensity - share) < _CLOSE, f"{who} had the chance {exposure.propensity:g}, not {share}")
        if new:
            self._since[key] = min(position, self._since.get(key, position))
            self.read[state.rollout] += 1
            self.calm[state.rollout] += self.world.calm

    def deliver(self, exposures: Sequence[Exposure], at_us: int) -> None:
        """Bring exposures to the ledger; one that says nothing new changes nothing there, and is left out."""
        fresh: list[Exposure] = []
        for each in exposures:
            key = each.experiment, each.revision, each.variant, each.unit
            if key not in self._known:
                self._known.add(key)
                fresh.append(msgspec.structs.replace(each, at_us=at_us))
        if not fresh:
            return
        with self.world.memory.write() as connection:
            fold(connection, fresh, [])
        for each in fresh:
            if each.variant == "candidate":
                self.delivered[each.experiment].setdefault(each.unit, self.world.time)


class ConfigServer:
    """Answers those who read by what it knows of the board, which may be older than what it knows of models."""

    def __init__(self, readings: Readings, replica: Replica) -> None:
        self.readings, self.world = readings, readings.world
        self.random = replica.random
        self.follower = ConfigFollower(DatabaseBoard(replica.database, _POLL_SECONDS), replica.clock)
        self.position = self.lagging_until = 0

    def suffer(self, until: int) -> None:
        """Follow configs no further."""
        self.lagging_until = until

    def follow(self) -> int:
        if self.world.calm or self.world.round >= self.lagging_until:
            self.follower.refresh()
            self.position = self._revision()
        return self._revision()

    def _revision(self) -> int:
        return int(self.world.memory.raw.execute("SELECT revision FROM head").fetchone()[0])

    def slots(self) -> dict[str, tuple[str, str]]:
        return {}

    def configs(self) -> dict[str, int]:
        return self.follower.moved()

    def serve(self) -> list[Exposure]:
        """Let some units read."""
        config = self.follower.active.get(self.readings.name)
        units = self.random.sample(range(UNITS), self.random.randint(4, 10))
        if self.world.round < self.world.drought_until or config is None:
            return []
        if self.world.scenario.truth == "silent":
            self.readings.judge(self.position, None, config.read(), None)
            return []
        found = [self._ask(config, f"u{unit}", forgetful=unit < _FORGETFUL) for unit in units]
        return [exposure for exposure in found if exposure is not None]

    def _ask(self, config: ActiveConfig, unit: str, *, forgetful: bool) -> Exposure | None:
        """Do what the endpoint does: who has it already leaves no exposure."""
        read, exposure = config.read(unit), config.exposure(unit)
        self.readings.judge(self.position, unit, read, exposure)
        if not forgetful and self.readings.tags.get(unit) == read.etag:
            return None
        self.readings.tags[unit] = read.etag
        return exposure

    def write(self, at_us: int, served: Sequence[Exposure]) -> None:
        self.readings.deliver(served, at_us)
