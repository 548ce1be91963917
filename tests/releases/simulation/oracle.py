"""What must hold after every transaction of a simulated life, and at its end. It reads the tables by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crossfade.errors import CorruptAuditError
from crossfade.releases.plan import RolloutPlan
from crossfade.storage.changes import verify_audit
from tests.releases.simulation.places import MODEL, VERSIONS

if TYPE_CHECKING:
    from tests.releases.simulation.world import World

CONTROLLER = "controller"
ACTIVE = {"preparing", "progressing", "paused"}
ENDS = {"completed", "rolled_back", "aborted"}
NEXT = {
    "preparing": {"progressing", "paused", "completed", "rolled_back", "aborted"},
    "progressing": {"progressing", "paused", "completed", "rolled_back", "aborted"},
    "paused": {"preparing", "progressing", "completed", "rolled_back", "aborted"},
    "completed": {"rolled_back"},
    "rolled_back": set(),
    "aborted": set(),
}


class Violation(BaseException):
    """Something happened that must not. No `except Exception` hides it."""


class Known(NamedTuple):
    """A rollout as its row is."""

    name: str
    status: str
    weight: float
    seen: int
    stable: str
    candidate: str
    digest: str
    latched: bool
    step: int
    revision: int
    requests: int
    approved: int
    processes: tuple[str, ...]
    waiting_for: str
    words: str
    reason: str
    routed: bool
    in_route: float
    shadow: bool
    plan: RolloutPlan
    created_at: str

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def noticed(self) -> tuple[str, float, int, bool]:
        """What a change of the row is noticed by."""
        return self.status, self.weight, self.seen, self.latched


class Transition(NamedTuple):
    """One entry of a history."""

    rollout: str
    seq: int
    kind: str
    source: str
    target: str
    step: int
    weight: float
    reason: str
    epoch: int
    by: str


_FIELDS = "name, status, weight, seen, stable, candidate, digest, latched, state, reason, routing, plan, created_at"
_ENTRY = 'rollout, seq, kind, source, target, step, weight, reason, epoch, "by"'


class Oracle:
    """Looks after every commit.

    Attributes:
        rollouts: Name -> how it is.
        live: Controller -> processes that it saw alive when it looked last.
        overridden: Whether whoever creates a rollout now says that a latched version may come again.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.raw = world.memory.raw
        self.rollouts: dict[str, Known] = {}
        self.transitions: list[Transition] = []
        self.live: dict[str, set[str]] = {}
        self.overridden = False
        self.touched: set[str] = set()
        self._plans: dict[str, RolloutPlan] = {}
        self._revision = self._one("SELECT revision FROM head")
        self._moves = self._one("SELECT count(*) FROM alias_history")

    def _one(self, query: str, *values: object) -> Any:
        row = self.raw.execute(query, values).fetchone()
        return None if row is None else row[0]

    def require(self, truth: object, words: str) -> None:
        """Raise unless something is true."""
        if not truth:
            raise Violation(words)

    def champion(self) -> str:
        """Return who answers."""
        return self._one("SELECT semver FROM aliases WHERE model = ? AND alias = 'champion'", MODEL) or ""

    # --- after each commit ---

    def look(self, actor: str) -> None:
        """Look at what a commit has changed."""
        revision = self._one("SELECT revision FROM head")
        rows = self.raw.execute(f"SELECT {_FIELDS} FROM rollouts ORDER BY number").fetchall()
        fresh = self.raw.execute(
            f"SELECT {_ENTRY} FROM rollout_transitions ORDER BY rowid LIMIT -1 OFFSET ?", [len(self.transitions)]
        ).fetchall()
        news = [Transition(*row) for row in fresh]
        self.require(revision >= self._revision, "the revision went back")
        self.require(len(news) <= 1, "one commit wrote two entries of history")
        moved = self._moved_alias()
        for row in rows:
            known = self.rollouts.get(row[0])
            if known is None or (row[1], row[2], row[3], bool(row[7])) != known.noticed:
                now = self._known(row)
                entry = next((each for each in news if each.rollout == now.name), None)
                self._compare(actor, known, now, entry, revision, moved)
                self.rollouts[now.name] = now
        self.require(all(each.rollout in self.rollouts for each in news), "history of a rollout that is none")
        for entry in news:
            self._judge_entry(entry)
        self.transitions += news
        active = [rollout.name for rollout in self.rollouts.values() if rollout.active]
        self.require(len(active) <= 1, f"two rollouts at the same time: {active}")
        if moved is not None:
            self._judge_move(moved, news)
        self._revision = revision

    def _moved_alias(self) -> tuple[str, str, str] | None:
        """Return (from, to, by) of an alias move that is new."""
        rows = self.raw.execute(
            "SELECT source, target, moved_by FROM alias_history ORDER BY seq LIMIT -1 OFFSET ?", [self._moves]
        ).fetchall()
        self._moves += len(rows)
        self.require(len(rows) <= 1, "one commit moved two aliases")
        return rows[0] if rows else None

    def _known(self, row: tuple[Any, ...]) -> Known:
        name, status, weight, seen, stable, candidate, digest, latched, state, reason, routing, plan, created = row
        state = json.loads(state)
        route = json.loads(routing) if routing else None
        if name not in self._plans:
            self._plans[name] = msgspec.json.decode(plan, type=RolloutPlan)
        in_route = {each["name"]: each["weight"] for each in route["allocation"]["spec"]["variants"]} if route else {}
        return Known(
            name, status, weight, seen, stable, candidate, digest, bool(latched), state.get("step", -1),
            state.get("revision", 0), state.get("requests", 0), state.get("approved", -1),
            tuple(state.get("processes", ())), state.get("waiting_for", ""), state.get("words", ""), reason,
            route is not None, in_route.get("candidate", 0.0), bool(route and route.get("shadows")),
            self._plans[name], created,
        )  # fmt: skip

    def _compare(
        self,
        actor: str,
        before: Known | None,
        now: Known,
        entry: Transition | None,
        revision: int,
        moved: tuple[str, str, str] | None,
    ) -> None:
        """Compare a row with what it was before."""
        name = now.name
        if before is None:
            self.world.say(f"begins {name}: {now.stable} -> {now.candidate}")
            self._judge_creation(now)
            return
        if before.latched and not now.latched:
            self.require(self.overridden, f"{name}: a latch was opened")
            self.require(now._replace(latched=True) == before, f"{name}: more than its latch changed")
            return
        self.require(
            now.seen == before.seen + 1 + (entry is not None and actor.startswith(CONTROLLER))
            or now.seen == before.seen + 1,
            f"{name}: `seen` went from {before.seen} to {now.seen}",
        )
        self.require(now.revision >= before.revision, f"{name}: its revision went back")
        self.require((before.plan, before.candidate, before.stable) == (now.plan, now.candidate, now.stable), "remade")
        if entry is None:
            self.require(before.status == now.status, f"{name}: a status without an entry of history")
            self.require(before.weight == now.weight, f"{name}: a weight without an entry of history")
            self.require(before.step == now.step, f"{name}: a step without an entry of history")
            if before.in_route != now.in_route:
                self.require(not now.routed and not now.active, f"{name}: a route without an entry of history")
            return
        self.world.say(
            f"{name} {entry.kind}: {now.status}, step {now.step}, weight {now.weight:g}: {entry.reason[:110]}"
        )
        self._judge_weight(before, now, entry)
        self._judge_record(now, entry, revision, moved)
        if entry.by == CONTROLLER:
            self._judge_controller(actor, before, now, entry)

    def _judge_creation(self, now: Known) -> None:
        self.require((now.weight, now.status) == (0.0, "preparing"), f"{now.name} begins in the middle")
        latched = [other.name for other in self.rollouts.values() if other.latched and other.digest == now.digest]
        self.require(not latched or self.overridden, f"{now.name} brings a latched version again: {latched}")

    def _judge_weight(self, before: Known, now: Known, entry: Transition) -> None:
        """Weights are those of the plan, never shrink on the way, and never grow at the end."""
        name = now.name
        self.require(now.status in NEXT[before.status], f"{name}: {before.status} became {now.status}")
        self.require(
            (entry.source, entry.target, entry.step, entry.weight) == (before.status, now.status, now.step, now.weight),
            f"{name}: its history says something else than its row",
        )
        if entry.kind == "step":
            self.require(now.weight == now.plan.steps[now.step].weight, f"{name}: a weight that no step has")
            self.require(now.weight >= before.weight, f"{name}: a step took traffic away")
        elif now.status == "completed":
            self.require(now.weight == 1, f"{name}: complete without everything")
        elif now.status in ENDS:
            self.require(now.weight == 0, f"{name}: over, and still has traffic")
            self.require(not now.routed, f"{name}: over, and still has a route")
        else:
            self.require((now.weight, now.step) == (before.weight, before.step), f"{name}: {entry.kind} moved traffic")
        if now.active:
            self.require(abs(now.in_route - now.weight) < 1e-9, f"{name}: serving is told another weight")

    def _judge_record(self, now: Known, entry: Transition, revision: int, moved: tuple[str, str, str] | None) -> None:
        """Each change has one audit entry and one revision; a change of the champion has one besides."""
        query = "SELECT action, details FROM audit WHERE seq > ? AND subject = ?"
        entries = self.raw.execute(query, [self._revision, now.name]).fetchall()
        self.require(len(entries) == 1, f"{now.name}: {entry.kind} has {len(entries)} entries of the audit log")
        action, details = entries[0][0], json.loads(entries[0][1])
        self.require(
            (action, details["weight"]) == (f"rollout.{entry.kind}", now.weight), f"{now.name}: audited otherwise"
        )
        self.require(revision == self._revision + 1 + (moved is not None), f"{now.name}: {entry.kind} has no revision")
        self.require(now.revision == revision, f"{now.name}: waits for another revision than its own")
        champion = self.champion()
        if entry.kind == "complete":
            self.require(champion == now.candidate, f"{now.name}: complete, but {champion} is champion")
        if entry.kind in {"rollback", "abort"} and moved is not None:
            self.require(champion == now.stable, f"{now.name}: {entry.kind} made {champion} champion")

    def _judge_controller(self, actor: str, before: Known, now: Known, entry: Transition) -> None:
        """What happens by itself happens under the lease, and only when nothing is missing."""
        self.require(entry.epoch > 0, f"{now.name}: the controller has no epoch")
        epoch = self._one("SELECT epoch FROM leases WHERE name = 'releases'")
        self.require(entry.epoch == epoch, f"{now.name}: epoch {entry.epoch} wrote in epoch {epoch}")
        if entry.kind == "rollback":
            self.require(now.latched, f"{now.name}: rolled back, and not latched")
        already = entry.kind == "complete" and "already" in entry.reason
        if entry.kind not in {"step", "complete"} or already:
            return
        self.require(before.status != "paused", f"{now.name}: went on while a person was waited for")
        if entry.kind == "step" and now.step == before.step:  # other processes serve than those that it was rolled to
            self.require(now.plan.kind == "rolling", f"{now.name}: the same step again")
            self.require(now.processes != before.processes, f"{now.name}: the same step again for the same processes")
            return
        wanted = before.step + (entry.kind == "step")
        self.require(now.step == wanted, f"{now.name}: from step {before.step} to {now.step}")
        if entry.kind == "complete":
            self.require(before.step == len(now.plan.steps) - 1, f"{now.name}: complete before its last step")
        self._judge_followers(actor, before)
        self._judge_requests(before)

    def _judge_followers(self, actor: str, before: Known) -> None:
        live = self.live.get(actor, set())
        self.require(live, f"{before.name}: went on although no process was seen alive")
        rows = self.raw.execute("SELECT process, revision, slots FROM processes").fetchall()
        for process, revision, slots in rows:
            if process not in live:
                continue
            self.require(revision >= before.revision, f"{before.name}: went on while {process} had not followed")
            if before.status == "preparing":
                state = json.loads(slots).get(f"{MODEL}:{before.candidate}", ["", ""])[0]
                self.require(state == "ready", f"{before.name}: began while {process} was not ready")

    def _judge_requests(self, before: Known) -> None:
        if before.step < 0:
            return
        step = before.plan.steps[before.step]
        least = max(step.minimum_units, int(bool(before.plan.checks_of(before.step))))
        came = self.world.reported[before.candidate]
        self.require(came >= least, f"{before.name}: went on after {came} requests, {least} were wanted")
        if step.approval:
            self.require(before.approved >= before.step, f"{before.name}: went on without the approval")

    def _judge_entry(self, entry: Transition) -> None:
        mine = [each for each in self.transitions if each.rollout == entry.rollout]
        self.require(entry.seq == len(mine) + 1, f"{entry.rollout}: its history has a gap")
        if entry.kind == "rollback":
            self.require(all(each.kind != "rollback" for each in mine), f"{entry.rollout}: rolled back twice")
        if entry.by == CONTROLLER:
            newest = max((each.epoch for each in self.transitions), default=0)
            self.require(entry.epoch >= newest, f"{entry.rollout}: epoch {entry.epoch} after epoch {newest}")
        else:
            self.require(entry.epoch == 0, f"{entry.rollout}: a person with an epoch")
            self.touched.add(entry.rollout)

    def _judge_move(self, moved: tuple[str, str, str], news: list[Transition]) -> None:
        """Nobody's word is overruled: by itself the champion goes from the old version to the new one only."""
        source, target, by = moved
        self.world.say(f"champion: {source} -> {target} by {by}")
        if by != CONTROLLER:
            return
        self.require(news and news[0].kind == "complete", "the champion was moved by itself without a completion")
        rollout = self.rollouts[news[0].rollout]
        self.require(
            (source, target) == (rollout.stable, rollout.candidate), f"{source}, a person's choice, was overruled"
        )

    # --- at the end ---

    def is_over(self) -> bool:
        """Tell whether nothing can happen any more, even if somebody looks for long."""
        return self.settled() and not any(rollout.active for rollout in self.rollouts.values())

    def decided(self) -> bool:
        """Tell whether every rollout is over, or waits for a person."""
        return all(rollout.status == "paused" or not rollout.active for rollout in self.rollouts.values())

    def settled(self) -> bool:
        """Tell whether nothing can happen by itself any more."""
        return self.decided() and all(each.active or not each.routed for each in self.rollouts.values())

    def finish(self) -> None:
        """Look at how it ended."""
        for rollout in self.rollouts.values():
            if rollout.status == "paused":
                self.require(rollout.waiting_for in {"person", "approval"}, f"{rollout.name} waits for nobody")
            else:
                self.require(rollout.status in ENDS, f"{rollout.name} does not end: {rollout.words}")
                self.require(not rollout.routed, f"{rollout.name} never lets the old version go")
            self.require(len(rollout.words) > 5 and rollout.reason, f"{rollout.name} does not say why")
            self._judge_end(rollout)
        with self.world.memory.read() as connection:
            try:
                count = verify_audit(connection)
            except CorruptAuditError as error:
                raise Violation(str(error)) from error
        self.require(count == self._one("SELECT revision FROM head"), "revisions without audit")

    def _judge_end(self, rollout: Known) -> None:
        """A version that does harm neither arrives by itself nor keeps traffic; one that does none is not sent back."""
        self._judge_harm(rollout)
        by_itself = rollout.name not in self.touched
        checked = all(rollout.plan.checks_of(place) for place in range(len(rollout.plan.steps)))
        last = [each for each in self.transitions if each.rollout == rollout.name][-1:]
        if not last or last[0].by != CONTROLLER:
            return
        already = "already" in rollout.reason
        if self.world.scenario.truth == "bad" and rollout.candidate == VERSIONS[1] and by_itself and checked:
            self.require(rollout.status != "completed" or already, f"{rollout.name}: a bad version arrived")
        if self.world.harmless() and last[0].kind == "rollback":
            self.require("gone or rejected" in rollout.reason, f"{rollout.name}: a good version was sent back")

    def _judge_harm(self, rollout: Known) -> None:
        """What fails nine of ten requests beside a version that fails none has no traffic, whoever is waited for."""
        kinds = {happening.kind for happening in self.world.scenario.happenings}
        if self.world.scenario.truth != "bad" or rollout.candidate != VERSIONS[1] or "hostile" in kinds:
            return
        watched = rollout.step >= 0 and rollout.plan.checks_of(rollout.step)
        asked = min(self.world.calm_asked[rollout.stable], self.world.calm_asked[rollout.candidate])
        if watched and 0 < rollout.weight < 1 and asked > 50:
            raise Violation(f"{rollout.name}: {rollout.status}, and a bad version keeps its traffic")
