"""Aliases: move, remove, roll back, list moves. An alias moves only to a version that every process has ready."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from crossfade.errors import ConflictError, NotFoundError, UnsafeError
from crossfade.registry.requests import MoveRequest, ReasonRequest, Rehearsal
from crossfade.registry.versions import AliasMove, Page
from crossfade.traffic.reports import SwitchReport
from crossfade.web.api.contract import (
    Cursor,
    DryRun,
    Limit,
    Open,
    Principal,
    Reason,
    answer,
    body,
    documented,
    log_change,
)

routes = APIRouter(tags=["aliases"])


@routes.put(
    "/models/{name}/aliases/{alias}",
    **documented(SwitchReport, takes=MoveRequest, changes=True, refuses=(NotFoundError, ConflictError, UnsafeError)),
)
def move_alias(
    name: str,
    alias: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[MoveRequest, body(MoveRequest, "crossfade models alias --help")],
    dry_run: DryRun = False,
) -> Response:
    """Point an alias to a version once every serving process has it ready; where it is already, nothing changes."""
    report = platform.switch.move(
        name,
        alias,
        wanted.version,
        expected=wanted.expected,
        reason=wanted.reason,
        principal=principal,
        override_latch=wanted.override_latch,
        dry_run=dry_run,
    )
    return _told(request, report, principal, dry_run=dry_run)


@routes.delete(
    "/models/{name}/aliases/{alias}", **documented(SwitchReport, changes=True, refuses=(NotFoundError, ConflictError))
)
def remove_alias(
    name: str,
    alias: str,
    platform: Open,
    principal: Principal,
    request: Request,
    expected: Annotated[str | None, Query(description="the semver it must point to", max_length=64)] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Remove an alias; its history stays."""
    report = platform.switch.remove(name, alias, expected=expected, reason=reason, principal=principal, dry_run=dry_run)
    return _told(request, report, principal, dry_run=dry_run)


@routes.post(
    "/models/{name}/aliases/{alias}/rollback",
    **documented(SwitchReport, takes=ReasonRequest, changes=True, refuses=(NotFoundError, ConflictError, UnsafeError)),
)
def roll_back_alias(
    name: str,
    alias: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade models rollback --help")],
    dry_run: DryRun = False,
) -> Response:
    """Point an alias to where it pointed before."""
    report = platform.switch.rollback(name, alias, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _told(request, report, principal, dry_run=dry_run)


@routes.get("/models/{name}/aliases/{alias}/history", **documented(Page[AliasMove], refuses=(NotFoundError,)))
def list_alias_moves(name: str, alias: str, platform: Open, cursor: Cursor = "", limit: Limit = 100) -> Response:
    """List the moves of one alias, newest first: who, when, why, from where to where."""
    return answer(platform.registry.alias_history(name, alias, cursor=cursor, limit=limit))


def _told(request: Request, report: SwitchReport, principal: str, *, dry_run: bool) -> Response:
    move = report.move
    pointer = f"{move.model}@{move.alias}"
    if not dry_run:
        facts = {"alias": pointer, "source": move.source, "target": move.target, "processes": report.processes}
        log_change(request, "alias.move", principal, **facts)
        return answer(report)
    if move.target is None:
        return answer(Rehearsal(f"remove {pointer}, which points to {move.source}"))
    if move.source == move.target:
        return answer(Rehearsal(f"change nothing: {pointer} points to {move.target}"))
    return answer(Rehearsal(f"move {pointer} from {move.source or 'nowhere'} to {move.target}"))
