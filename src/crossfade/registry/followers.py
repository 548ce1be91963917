"""Deployments that follow an alias: what it means next has to prove itself with them, too."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, select, update

from crossfade.storage.tables import DEPLOYING, deployments
from crossfade.storage.times import to_text


def prove_anew(
    connection: Connection, name: str, alias: str, target: str | None, principal: str, now: datetime
) -> list[str]:
    """Put deployments that follow an alias on probation, since they shall run something else; return their names.

    It belongs to the transaction that moves the alias, so no deployment says of one version what was found out about
    another.
    """
    moved = f"`{alias}` was removed" if target is None else f"`{alias}` moved to {target}"
    table = deployments.c
    rows = connection.execute(select(table.name, table.spec).where(table.model == name).order_by(table.number))
    followers = [row.name for row in rows if msgspec.json.decode(row.spec, type=_Follower).version == alias]
    values = {"status": DEPLOYING, "reason": moved, "changed_at": to_text(now), "changed_by": principal}
    connection.execute(
        update(deployments).where(table.name.in_(followers)).values(generation=table.generation + 1, **values)
    )
    return followers


class _Follower(msgspec.Struct):
    """The part of what is stored of a deployment that says what it follows."""

    version: str
