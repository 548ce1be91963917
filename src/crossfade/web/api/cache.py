"""The response cache: what is kept, and how to let go of it in every process."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from crossfade.errors import NotFoundError
from crossfade.registry.requests import CacheStatus, InvalidateRequest, Rehearsal
from crossfade.traffic.reports import Invalidation
from crossfade.web.api.contract import DryRun, Open, Principal, answer, body, documented, log_change

routes = APIRouter(tags=["cache"])


@routes.get("/cache", **documented(CacheStatus))
def show_cache(platform: Open) -> Response:
    """Show what is kept of answers, and what the process that answers this has found in it."""
    return answer(platform.cache_status())


@routes.post(
    "/cache/invalidate", **documented(Invalidation, takes=InvalidateRequest, changes=True, refuses=(NotFoundError,))
)
def invalidate_answers(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[InvalidateRequest, body(InvalidateRequest, "crossfade cache invalidate --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let no process give an answer of a version, or of all versions of a model, that was computed before now."""
    done = platform.invalidation.invalidate(wanted.ref, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"forget the kept answers of {done.ref} in {done.processes} processes"))
    log_change(request, "cache.invalidate", principal, ref=done.ref, processes=done.processes, late=done.late)
    return answer(done)
