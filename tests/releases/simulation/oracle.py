"""What must hold after every transaction of a simulated life, and at its end. It reads the tables by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crossfade.errors import CorruptAuditError
from crossfade.releases.plan import RolloutPlan
from crossfade.storage.changes import verify_audit
from tests.releases.simulation.subjects.port import Move

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
    live: bool
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
        self.subject = world.subject
        self.raw = world.memory.raw
        self.rollouts: dict[str, Known] = {}
        self.transitions: list[Transition] = []
        self.live: dict[str, set[str]] = {}
        self.overridden = False
        self.touched: set[str] = set()
        self._plans: dict[str, RolloutPlan] = {}
        self._revision = self._one("SELECT revision FROM head")

    def _one(self, query: str, *values: object) -> Any:
        row = self.raw.execute(query, values).fetchone()
        return None if row is None else row[0]

    def require(self, truth: object, words: str) -> None:
        """Raise unless something is true."""
        if not truth:
            raise Violation(words)

    def under_way(self) -> Known | None:
        """Return the rollout that is."""
        return next((rollout for rollout in self.rollouts.values() if rollout.active), None)

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
        moves = self.subject.moves()
        self.require(len(moves) <= 1, "one commit moved the subject twice")
        moved = moves[0] if moves else None
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
        self.subject.look(actor, news, moved)
        self._revision = revision

    def _known(self, row: tuple[Any, ...]) -> Known:
        name, status, weight, seen, stable, candidate, digest, latched, state, reason, routing, plan, created = row
        state = json.loads(state)
        route = json.loads(routing) if routing else None
        if name not in self._plans:
            self._plans[name] = msgspec.json.decode(plan, type=RolloutPlan)
        in_route = {each["name"]: each["weight"] for each in route["allocation"]["spec"]["variants"]} if route else {}
        return Known(
            name, status, weight, seen, stable, candidate, digest, bool(latched), state.get("step", -1),
            state.get("revision", 0), "live_at" in state, state.get("requests", 0), state.get("approved", -1),
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
        moved: Move | None,
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
        self._judge_record(before, now, entry, revision, moved)
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

    def _judge_record(self, before: Known, now: Known, entry: Transition, revision: int, moved: Move | None) -> None:
        """Each change has one audit entry and one revision; what it does to its subject has its own besides."""
        query = "SELECT action, details, subject FROM audit WHERE seq > ? ORDER BY seq"
        written = self.raw.execute(query, [self._revision]).fetchall()
        entries = [each for each in written if each[2] == now.name]
        self.require(len(entries) == 1, f"{now.name}: {entry.kind} has {len(entries)} entries of the audit log")
        action, details = entries[0][0], json.loads(entries[0][1])
        self.require(
            (action, details["weight"]) == (f"rollout.{entry.kind}", now.weight), f"{now.name}: audited otherwise"
        )
        echoes = tuple(each[0] for each in written if each[2] != now.name)
        self.require(echoes == self.subject.echoes(before, entry, moved), f"{now.name}: {entry.kind} left {echoes}")
        self.require(revision == self._revision + len(written), f"{now.name}: {entry.kind} has no revision")
        self.require(now.revision == revision, f"{now.name}: waits for another revision than its own")
        present = self.subject.present()
        if entry.kind == "complete":
            self.require(present == now.candidate, f"{now.name}: complete, but everybody gets {present}")
        if entry.kind in {"rollback", "abort"} and moved is not None:
            self.require(present == now.stable, f"{now.name}: {entry.kind} gave everybody {present}")

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
        present = self.subject.present()
        self.require(entry.kind != "step" or present == now.stable, f"{now.name}: went on past the choice of {present}")
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
            follows = self.subject.is_followed(before, process, revision)
            self.require(follows, f"{before.name}: went on while {process} had not followed")
            if before.status == "preparing":
                ready = self.subject.is_ready(json.loads(slots), before.candidate)
                self.require(ready, f"{before.name}: began while {process} was not ready")

    def _judge_requests(self, before: Known) -> None:
        if before.step < 0:
            return
        step = before.plan.steps[before.step]
        least = max(step.minimum_units, int(self.subject.is_watched(before.plan, before.step)))
        came = self.subject.came(before)
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

    def _judge_move(self, moved: Move, news: list[Transition]) -> None:
        """Nobody's word is overruled: by itself everybody goes from the old version to the new one only."""
        source, target, by = moved
        self.world.say(f"everybody: {source} -> {target} by {by}")
        if by != CONTROLLER:
            return
        self.require(news and news[0].kind == "complete", "everybody was moved by itself without a completion")
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
        checked = all(self.subject.is_watched(rollout.plan, place) for place in range(len(rollout.plan.steps)))
        last = [each for each in self.transitions if each.rollout == rollout.name][-1:]
        if not last or last[0].by != CONTROLLER:
            return
        already = "already" in rollout.reason
        if self._is_bad(rollout) and by_itself and checked:
            self.require(rollout.status != "completed" or already, f"{rollout.name}: a bad version arrived")
        if self.world.harmless() and last[0].kind == "rollback":
            gone = rollout.reason.endswith(("is gone or rejected", "was rejected"))
            self.require(gone, f"{rollout.name}: a good version was sent back")

    def _is_bad(self, rollout: Known) -> bool:
        return self.world.scenario.truth == "bad" and rollout.candidate == self.subject.script.new

    def _judge_harm(self, rollout: Known) -> None:
        """What fails nine of ten requests beside a version that fails none has no traffic, whoever is waited for."""
        kinds = {happening.kind for happening in self.world.scenario.happenings}
        if not self._is_bad(rollout) or "hostile" in kinds:
            return
        watched = rollout.step >= 0 and self.subject.is_watched(rollout.plan, rollout.step)
        if watched and 0 < rollout.weight < 1 and self.subject.has_harmed(rollout):
            raise Violation(f"{rollout.name}: {rollout.status}, and a bad version keeps its traffic")
