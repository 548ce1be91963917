"""What must hold for the tables of a config, whatever happens to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tests.releases.simulation.subjects.port import Move

if TYPE_CHECKING:
    from tests.releases.simulation.oracle import Known, Transition
    from tests.releases.simulation.world import World

NEXT = {
    "draft": {"validating"},
    "validating": {"approved", "draft"},
    "approved": {"deploying", "active", "draft"},
    "deploying": {"active", "approved", "deprecated", "rolled_back"},
    "active": {"deprecated", "rolled_back"},
    "deprecated": {"deploying", "active"},
    "rolled_back": {"validating", "draft"},
}
"""From one transaction to the next; what is activated at once is never seen deploying."""
_VERSIONS = "SELECT number, status, digest, created_by, approved_by FROM config_versions WHERE name = ?"


class Version(NamedTuple):
    """A version as its row is."""

    status: str
    digest: str
    author: str
    approver: str | None


class ConfigRules:
    """Looks at the config after each commit.

    Attributes:
        changed: Which revision changed what readers get the last time.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.raw = world.memory.raw
        self._shown, self.changed = self._published()
        self._versions = self._stored()
        self._former: dict[str, str] = {}
        self._way_back = [self._shown[0]]

    def _published(self) -> tuple[tuple[str, str | None], int]:
        query = "SELECT active, routing, changed FROM configs WHERE name = ?"
        active, routing, changed = self.raw.execute(query, [self.name]).fetchone()
        return (str(active), routing), changed

    def _stored(self) -> dict[str, Version]:
        return {str(number): Version(*row) for number, *row in self.raw.execute(_VERSIONS, [self.name])}

    def withdrawn(self, entry: Transition) -> str:
        """Return what becomes of a new version that is taken away again: what it was, unless it was bad."""
        return "rolled_back" if entry.kind == "rollback" else self._former[self._deploying()]

    def _deploying(self) -> str:
        return next(number for number, version in self._versions.items() if version.status == "deploying")

    def look(self, news: Sequence[Transition], moved: Move | None) -> None:
        """Judge a commit."""
        require = self.world.oracle.require
        (shown, changed), versions = self._published(), self._stored()
        rollout = self.world.oracle.under_way()
        require(shown == self._shown or changed > self.changed, "readers are not told of a change")
        self._judge_route(rollout, shown[1])
        for number, version in versions.items():
            before = self._versions.get(number)
            if before != version:
                self._judge_version(number, before, version, news)
        require(_of(versions, "active") == [shown[0]], f"{_of(versions, 'active')} are active, and {shown[0]} is read")
        wanted = [] if rollout is None else [rollout.candidate]
        require(_of(versions, "deploying") == wanted, f"{_of(versions, 'deploying')} are deploying, and not {wanted}")
        require((shown[0] != self._shown[0]) == (moved is not None), "the active version changed without an entry")
        if moved is not None:
            self._judge_move(moved, news, versions)
        self._shown, self.changed, self._versions = shown, changed, versions

    def _judge_route(self, rollout: Known | None, routing: str | None) -> None:
        """Units are moved while a rollout is under way, as far as it is."""
        require = self.world.oracle.require
        if rollout is None:
            require(routing is None, "units are moved, and nothing is rolled out")
            return
        require(routing is not None, f"{rollout.name} is under way, and moves nobody")
        route = json.loads(routing)
        sides = {"stable": rollout.stable, "candidate": rollout.candidate}
        weights = {each["name"]: each["weight"] for each in route["allocation"]["spec"]["variants"]}
        require(route["versions"] == sides, f"{rollout.name}: units read {route['versions']}")
        require(abs(weights["candidate"] - rollout.weight) < 1e-9, f"{rollout.name}: readers are told another weight")

    def _judge_version(self, number: str, before: Version | None, now: Version, news: Sequence[Transition]) -> None:
        """A document never changes, and nobody reads it before somebody else than its author agreed."""
        require, where = self.world.oracle.require, f"version {number}"
        if before is None:
            require(now.status == "draft", f"{where} begins as {now.status}")
            return
        require((before.digest, before.author) == (now.digest, now.author), f"{where} was written anew")
        if before.status == now.status:
            return
        require(now.status in NEXT[before.status], f"{where}: {before.status} became {now.status}")
        if before.status == "approved" and now.status in {"deploying", "active"}:
            require(now.approver not in {None, now.author}, f"{where} is read, approved by {now.approver}")
        if now.status == "deploying":
            self._former[number] = before.status
        elif before.status == "deploying" and now.status != "active":
            require(news and now.status == self.withdrawn(news[0]), f"{where} was {self._former[number]}, and is {now}")
        if now.status == "rolled_back" and number in self._way_back:
            self._way_back.remove(number)

    def _judge_move(self, moved: Move, news: Sequence[Transition], versions: Mapping[str, Version]) -> None:
        """While a rollout is under way nobody else decides; the way back leads to what was active last."""
        require = self.world.oracle.require
        before = self._shown[1]
        require(before is None or news, f"everybody was moved to {moved.target} past a rollout")
        require(moved.source == self._shown[0], f"{moved.source} was left, and {self._shown[0]} was active")
        if not news and versions[moved.source].status == "rolled_back":
            require(moved.target == self._way_back[-1], f"the way back led to {moved.target}, not {self._way_back[-1]}")
        self._way_back = [*(number for number in self._way_back if number != moved.target), moved.target]


def _of(versions: Mapping[str, Version], status: str) -> list[str]:
    return [number for number, version in versions.items() if version.status == status]
