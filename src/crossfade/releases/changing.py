"""One change of a rollout as one transaction: weight, history, audit, and the revision that processes follow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from crossfade.errors import RolloutConflictError, RolloutNotFoundError
from crossfade.ledger.admission import is_slug
from crossfade.releases.rollout import LEGAL, Rollout, RolloutEvidence, RolloutState, RolloutStatus, rollout_of
from crossfade.storage.changes import commit_change
from crossfade.storage.tables import rollout_transitions, rollouts
from crossfade.storage.times import to_text
from crossfade.traffic.routing import ExperimentRoute
from crossfade.traffic.snapshot import ROLLOUT

ITSELF = "rollout:"
"""Before the name of a rollout: no model and no config that is called the same is meant."""
_MANY = 100
"""Rollouts of one name that are looked at to see whether a model and a config share it."""


class StaleError(Exception):
    """The rollout has changed since it was looked at; look again."""


class Change(msgspec.Struct, frozen=True):
    """What changes.

    Args:
        kind: Of the transition: `step`, `pause`, `rollback` and so on.
        target: The status afterwards.
        reason: Why, in words.
        state: Where it is in the plan afterwards; its revision and, when traffic moves, its times are filled in.
        weight: Of the new version afterwards; None leaves it.
        values: Columns besides.
    """

    kind: str
    target: RolloutStatus
    reason: str
    state: RolloutState
    weight: float | None = None
    values: Mapping[str, object] = {}


def row_of(connection: Connection, name: str) -> Row[Any]:
    """Return the row of a rollout that is there, by its own name."""
    return connection.execute(select(rollouts).where(rollouts.c.name == name)).one()


def find_row(connection: Connection, name: str) -> Row[Any]:
    """Return the row of the rollout that a person means.

    The name of a model or document stands for its newest one; `rollout:NAME` is the one of that name, whatever else
    is called so.

    Raises:
        RolloutNotFoundError: There is none.
        RolloutConflictError: The name may mean several.
    """
    own = name.removeprefix(ITSELF)
    if not is_slug(own):
        raise RolloutNotFoundError(name=name[:80])
    itself = connection.execute(select(rollouts).where(rollouts.c.name == own)).one_or_none()
    found = {} if own != name else _newest(connection, name)
    rows = {row.name: row for row in (itself, *found.values()) if row is not None}
    if not rows:
        raise RolloutNotFoundError(name=name[:80])
    if len(rows) > 1:
        whose = [] if itself is None else [f"a rollout of `{itself.subject}`"]
        meanings = " and ".join([*whose, *(f"a {kind}" for kind in sorted(found, reverse=True))])
        ways = [ITSELF + each if each == name else each for each in rows]
        problem = f"is {meanings}; say which rollout: {' or '.join(f'`{way}`' for way in ways)}"
        raise RolloutConflictError(name=name, problem=problem, see=f"crossfade rollouts show {ways[0]}")
    return next(iter(rows.values()))


def _newest(connection: Connection, subject: str) -> dict[str, Row[Any]]:
    """Return the newest rollouts of whatever has a name, by what it is."""
    query = select(rollouts).where(rollouts.c.subject == subject).order_by(rollouts.c.number.desc())
    return {each.kind: each for each in reversed(connection.execute(query.limit(_MANY)).all())}


def route_of(row: Row[Any]) -> ExperimentRoute:
    """Return what serving knows about a rollout that is under way."""
    return msgspec.json.decode(row.routing, type=ExperimentRoute)


def encoded(value: Any) -> str:
    """Return JSON."""
    return msgspec.json.encode(value).decode()


def apply(
    connection: Connection, rollout: Rollout, change: Change, *, principal: str, epoch: int, now: datetime
) -> Rollout:
    """Change a rollout as it was seen, or not at all.

    Args:
        connection: From `Database.write`.
        rollout: As it was seen.
        change: What changes.
        principal: Who does it.
        epoch: Of the lease that allows it; 0 when a person does.
        now: The present moment.

    Raises:
        StaleError: It has changed since.
        RolloutConflictError: Its status does not allow that, or it was rolled back already.
    """
    if change.target not in LEGAL[rollout.status]:
        problem = f"is {rollout.status.value}, and cannot become {change.target.value}"
        raise RolloutConflictError(name=rollout.name, problem=problem)
    revision = commit_change(
        connection,
        kind=ROLLOUT,
        model=rollout.subject if rollout.kind == "model" else "",
        subject=rollout.name,
        principal=principal,
        action=f"rollout.{change.kind}",
        details=_details(rollout, change),
        now=now,
    )
    weight = rollout.weight if change.weight is None else change.weight
    state = msgspec.structs.replace(change.state, revision=revision)
    values = {
        "status": change.target.value,
        "state": encoded(state),
        "weight": weight,
        "reason": change.reason,
        "seen": rollout.seen + 1,
    }
    mine = (rollouts.c.name == rollout.name) & (rollouts.c.seen == rollout.seen)
    written = connection.execute(update(rollouts).where(mine).values(**values, **change.values))
    if written.rowcount != 1:
        raise StaleError(rollout.name)
    _remember(connection, rollout, change, state.step, weight, principal=principal, epoch=epoch, now=now)
    return rollout_of(row_of(connection, rollout.name))


def keep_evidence(connection: Connection, rollout: Rollout, evidence: RolloutEvidence, state: RolloutState) -> Rollout:
    """Keep what was measured; nothing that processes follow changes.

    Raises:
        StaleError: The rollout has changed since it was seen.
    """
    mine = (rollouts.c.name == rollout.name) & (rollouts.c.seen == rollout.seen)
    values = {"evidence": encoded(evidence), "state": encoded(state), "seen": rollout.seen + 1}
    if connection.execute(update(rollouts).where(mine).values(**values)).rowcount != 1:
        raise StaleError(rollout.name)
    return msgspec.structs.replace(rollout, evidence=evidence, state=state, seen=rollout.seen + 1)


def _details(rollout: Rollout, change: Change) -> dict[str, object]:
    return {
        "candidate": rollout.candidate,
        "stable": rollout.stable,
        "from": rollout.status.value,
        "to": change.target.value,
        "step": change.state.step,
        "weight": rollout.weight if change.weight is None else change.weight,
        "reason": change.reason,
    }


def _remember(
    connection: Connection,
    rollout: Rollout,
    change: Change,
    step: int,
    weight: float,
    *,
    principal: str,
    epoch: int,
    now: datetime,
) -> None:
    mine = rollout_transitions.c.rollout == rollout.name
    seq = connection.scalar(select(func.coalesce(func.max(rollout_transitions.c.seq), 0)).where(mine)) or 0
    entry = {
        "rollout": rollout.name,
        "seq": seq + 1,
        "kind": change.kind,
        "source": rollout.status.value,
        "target": change.target.value,
        "step": step,
        "weight": weight,
        "reason": change.reason,
        "epoch": epoch,
        "at": to_text(now),
        "by": principal,
    }
    try:
        connection.execute(insert(rollout_transitions).values(entry))
    except IntegrityError as error:  # only ever one rollback: the schema says so
        raise RolloutConflictError(name=rollout.name, problem="was rolled back already") from error
