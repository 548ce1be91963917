"""The system: what runs, and the collection of garbage."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

import crossfade
from crossfade.registry.requests import Garbage, Rehearsal, ServerStatus
from crossfade.web.api.contract import DryRun, Open, Principal, answer, documented, log_change

routes = APIRouter(tags=["system"])


@routes.get("/status", **documented(ServerStatus))
def show_status(platform: Open) -> Response:
    """Show what runs: the newest revision, the serving processes and their slots."""
    now = platform.safety.status()
    stopped: dict[str, str] = {item.scope: item.mode for item in (*now.local, *now.emergencies)}
    revision, live = platform.database.revision(), platform.fleet.live()
    return answer(ServerStatus(crossfade.__version__, revision, live, stopped, tuple(platform.warnings())))


@routes.post("/garbage", **documented(Garbage, changes=True))
def collect_garbage(platform: Open, principal: Principal, request: Request, dry_run: DryRun = False) -> Response:
    """Delete blobs that nothing has needed for the grace period."""
    blobs, size_bytes = platform.registry.collect_garbage(dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"delete {blobs} blobs, {size_bytes} bytes"))
    log_change(request, "garbage.collect", principal, blobs=blobs, size_bytes=size_bytes)
    return answer(Garbage(blobs, size_bytes))
