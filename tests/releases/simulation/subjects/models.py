"""Models: processes load versions, answer requests with them, and count how that goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from crossfade.registry.native import NativeBackend
from crossfade.registry.registry import Registry
from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.plan import PRESETS, RolloutPlan, Step
from crossfade.releases.subjects.models import ModelSubject
from crossfade.traffic.fleet import FAILED, READY
from crossfade.traffic.health import SHADOW, Counts
from tests.releases.simulation.subjects.port import PRINCIPAL, Move, Script
from tests.traffic.support import move, publish_all

if TYPE_CHECKING:
    from tests.releases.simulation.actors import Replica
    from tests.releases.simulation.oracle import Known, Transition
    from tests.releases.simulation.world import World

MODEL = "m"
VERSIONS = ("1.0.0", "1.0.1", "1.0.2")
NEW = VERSIONS[1]
FAILING = 0.9
ERRORS = ErrorRateCheck("errors")
LIMITS = {"no_traffic_seconds": 25, "deadline_seconds": 240, "hold_down_seconds": 15, "fast_rollback_seconds": 60}
PLANS = {
    "canary": RolloutPlan(
        (Step(0.1, hold_seconds=3, minimum_units=20), Step(0.5, hold_seconds=2, minimum_units=20), Step(1.0)),
        checks=(ERRORS,),
        **LIMITS,
    ),
    "blind": RolloutPlan((Step(0.2), Step(0.6, hold_seconds=1), Step(1.0)), kind="staged", **LIMITS),
    "shadow": RolloutPlan(
        (Step(0.0, shadow=True, minimum_units=10), Step(0.3, hold_seconds=2, minimum_units=10), Step(1.0)),
        kind="shadow_first",
        checks=(ERRORS,),
        **LIMITS,
    ),
    "approved": RolloutPlan(
        (Step(0.25, hold_seconds=1, minimum_units=10, approval=True), Step(1.0)), checks=(ERRORS,), **LIMITS
    ),
    "rolling": RolloutPlan(
        (Step(0.25, minimum_units=5), Step(0.5, minimum_units=5), Step(1.0)),
        kind="rolling",
        checks=(ERRORS,),
        **LIMITS,
    ),
    "watched": RolloutPlan(
        (Step(0.2, hold_seconds=2), Step(1.0)),
        checks=(
            ERRORS,
            WebhookCheck("service", "https://example.org/check", interval_seconds=2, success_count=2),
            ThresholdCheck("limit", series="error_rate", maximum=0.5, interval_seconds=2),
        ),
        **LIMITS,
    ),
    "endless": RolloutPlan((Step(0.1, minimum_units=10**9), Step(1.0)), **LIMITS),
    "nothing": RolloutPlan(
        (Step(0.0, hold_seconds=2, checks=()), Step(0.1, minimum_units=5), Step(1.0)), checks=(ERRORS,), **LIMITS
    ),
    "fast": PRESETS["fast"],
}
TRUTHS = ("good", "good", "bad", "bad", "silent", "broken")
"""Of the new version: does no harm; fails nine of ten requests; is never asked; cannot be loaded somewhere."""
_INSERT_HEALTH = "INSERT INTO health (tier, model, at_us, process, body) VALUES (?, ?, ?, ?, ?)"


class View(NamedTuple):
    """What a process knows of the database."""

    champion: str = ""
    candidate: str = ""
    weight: float = 0.0
    shadow: bool = False
    wanted: tuple[str, ...] = ()


class ModelLife:
    """The model of one life."""

    kind, name = "model", MODEL
    script = Script(
        PLANS,
        TRUTHS,
        "hostile",
        ("move", "move", "unalias", "reject", "delete"),
        (VERSIONS[0], NEW, NEW, VERSIONS[2]),
        NEW,
    )
    prometheus = None

    def __init__(self, world: World) -> None:
        self.world = world
        self.raw = world.memory.raw
        self.product = ModelSubject()
        self.reported: Counter[str] = Counter()
        self.calm_asked: Counter[str] = Counter()
        self._backend = NativeBackend(world.connect(PRINCIPAL), None, clock=world.clock_of(PRINCIPAL))
        self._moved = self._count_moves()

    @staticmethod
    def prepare(registry: Registry) -> None:
        """Write down three versions, the first of which is champion."""
        publish_all(registry, MODEL, *VERSIONS)
        move(registry, MODEL, VERSIONS[0])

    def server(self, replica: Replica) -> ModelServer:
        return ModelServer(self, replica)

    def act(self, verb: str, version: str) -> None:
        if verb in {"move", "unalias"}:
            target = version if verb == "move" else None
            self._backend.move_alias(MODEL, "champion", target, expected=None, principal=PRINCIPAL, reason="")
        elif verb == "reject":
            self._backend.change_stage(MODEL, version, "rejected", source="registered", principal=PRINCIPAL, reason="")
        else:
            self._backend.delete_version(MODEL, version, principal=PRINCIPAL, reason="")

    # --- what the oracle asks ---

    def present(self) -> str:
        query = "SELECT semver FROM aliases WHERE model = ? AND alias = 'champion'"
        row = self.raw.execute(query, [MODEL]).fetchone()
        return row[0] if row else ""

    def _count_moves(self) -> int:
        return int(self.raw.execute("SELECT count(*) FROM alias_history").fetchone()[0])

    def moves(self) -> list[Move]:
        query = "SELECT source, target, moved_by FROM alias_history ORDER BY seq LIMIT -1 OFFSET ?"
        found = [Move(*row) for row in self.raw.execute(query, [self._moved])]
        self._moved += len(found)
        return found

    def echoes(self, before: Known, entry: Transition, moved: Move | None) -> tuple[str, ...]:
        return () if moved is None else ("alias.move",)

    def look(self, actor: str, news: Sequence[Transition], moved: Move | None) -> None:
        """Nothing more: whoever serves reads rollouts."""

    def is_followed(self, rollout: Known, process: str, revision: int) -> bool:
        return revision >= rollout.revision

    def is_ready(self, slots: Mapping[str, Sequence[str]], version: str) -> bool:
        return slots.get(f"{MODEL}:{version}", ["", ""])[0] == READY

    def is_watched(self, plan: RolloutPlan, step: int) -> bool:
        return bool(plan.checks_of(step))

    def came(self, rollout: Known) -> int:
        return self.reported[rollout.candidate]

    def has_harmed(self, rollout: Known) -> bool:
        return min(self.calm_asked[rollout.stable], self.calm_asked[rollout.candidate]) > 50

    def tally(self, versions: Mapping[str, Counts]) -> None:
        """Remember what the database is told."""
        for version, counts in versions.items():
            self.reported[version.removesuffix(SHADOW)] += counts.requests
            self.calm_asked[version] += counts.requests * self.world.calm


class ModelServer:
    """Loads what is wanted, and reports what requests did."""

    def __init__(self, model: ModelLife, replica: Replica) -> None:
        self.model, self.replica, self.random = model, replica, replica.random
        self.world = model.world
        self.view = View()
        self.loads: dict[str, int] = {VERSIONS[0]: 0}
        self.hostile = False

    def suffer(self, until: int) -> None:
        """Report nonsense once."""
        self.hostile = True

    def follow(self) -> int:
        revision = self.world.memory.raw.execute("SELECT revision FROM head").fetchone()[0]
        champion = self.model.present()
        wanted, view = [champion] if champion else [], View(champion)
        for rollout in self.world.oracle.rollouts.values():
            if not rollout.routed:
                continue
            wanted += [rollout.stable, rollout.candidate]
            if rollout.active:
                view = View(rollout.stable, rollout.candidate, rollout.weight, rollout.shadow)
        self.view = view._replace(wanted=tuple(dict.fromkeys(wanted)))
        return int(revision)

    def slots(self) -> dict[str, tuple[str, str]]:
        return {f"{MODEL}:{version}": self._load(version) for version in self.view.wanted}

    def _load(self, version: str) -> tuple[str, str]:
        left = self.loads.setdefault(version, self.random.randint(0, 2))
        if left:
            self.loads[version] = left - 1
            return ("loading", "")
        if version == NEW and self.world.scenario.truth == "broken" and self.replica.name == "a":
            return (FAILED, "its file is damaged")
        return (READY, "")

    def configs(self) -> dict[str, int]:
        return {}

    def serve(self) -> dict[str, Counts]:
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

    def write(self, at_us: int, served: Mapping[str, Counts]) -> None:
        """Do what `HealthLog.write` does."""
        self.model.tally(served)
        row = 1, MODEL, at_us, self.replica.name, msgspec.msgpack.encode(served)
        self.world.memory.raw.execute(_INSERT_HEALTH, row)
