"""Rollouts: begin one, watch it, go on by a person's word, come back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from crossfade.errors import ConflictError, NotFoundError
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.registry.versions import Page
from crossfade.releases.forecast import forecast
from crossfade.releases.plan import PRESETS, RolloutPlan
from crossfade.releases.requests import PromoteRequest, RetryRequest, RolloutForecast, RolloutRequest
from crossfade.releases.rollout import Rollout, RolloutStatus, RolloutTransition
from crossfade.web.api.contract import (
    Cursor,
    DryRun,
    Limit,
    Open,
    Principal,
    answer,
    body,
    documented,
    log_change,
)

routes = APIRouter(tags=["rollouts"])
_REFUSES = (NotFoundError, ConflictError)
_SUBJECT = Query(description="only those of this model or document", max_length=64)


@routes.post("/rollouts", **documented(Rollout, takes=RolloutRequest, status=201, changes=True, refuses=_REFUSES))
def create_rollout(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[RolloutRequest, body(RolloutRequest, "crossfade rollouts create --help")],
    dry_run: DryRun = False,
) -> Response:
    """Begin to roll a version out: it is loaded everywhere, then gets traffic by the steps of its plan."""
    made = platform.rollouts.create(wanted, principal=principal, dry_run=dry_run)
    if dry_run:
        words = f"roll {made.subject} out from {made.stable} to {made.candidate} in {len(made.plan.steps)} steps"
        return answer(Rehearsal(words))
    log_change(request, "rollout.create", principal, rollout=made.name, candidate=made.candidate)
    return answer(made.shown(), 201)


@routes.post("/rollout-forecasts", **documented(RolloutForecast, takes=RolloutRequest, refuses=_REFUSES))
def forecast_rollout(
    platform: Open,
    principal: Principal,
    wanted: Annotated[RolloutRequest, body(RolloutRequest, "crossfade rollouts create --help")],
) -> Response:
    """Say what a rollout would do, and after how many requests it would see twice as many errors. Nothing changes."""
    return answer(forecast(platform.rollouts.create(wanted, principal=principal, dry_run=True), platform.health))


@routes.get("/rollouts/plans", **documented(dict[str, RolloutPlan]))
def list_plans() -> Response:
    """List the plans that need not be written."""
    return answer(PRESETS)


@routes.get("/rollouts", **documented(Page[Rollout]))
def list_rollouts(
    platform: Open,
    subject: Annotated[str, _SUBJECT] = "",
    status: Annotated[RolloutStatus | None, Query(description="only those with this status")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List rollouts, newest first."""
    where = "" if status is None else status.value
    page = platform.rollouts.list(subject=subject, status=where, cursor=cursor, limit=limit)
    return answer(Page(tuple(item.shown() for item in page.items), page.next_cursor))


@routes.get("/rollouts/{rollout}", **documented(Rollout, refuses=(NotFoundError,)))
def show_rollout(rollout: str, platform: Open) -> Response:
    """Show a rollout; the name of a model or document stands for its newest one."""
    return answer(platform.rollouts.find(rollout).shown())


@routes.get("/rollouts/{rollout}/history", **documented(tuple[RolloutTransition, ...], refuses=(NotFoundError,)))
def rollout_history(rollout: str, platform: Open) -> Response:
    """List everything that happened to a rollout, oldest first."""
    return answer(platform.rollouts.history(rollout))


@routes.post("/rollouts/{rollout}/pause", **documented(Rollout, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def pause_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade rollouts pause --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let a rollout keep what it has, and go no further. Failing checks still bring it back."""
    after = platform.rollouts.pause(rollout, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "pause", after, principal, dry_run=dry_run)


@routes.post("/rollouts/{rollout}/resume", **documented(Rollout, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def resume_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade rollouts resume --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let a paused rollout go on."""
    after = platform.rollouts.resume(rollout, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "resume", after, principal, dry_run=dry_run)


@routes.post("/rollouts/{rollout}/promote", **documented(Rollout, takes=PromoteRequest, changes=True, refuses=_REFUSES))
def promote_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[PromoteRequest, body(PromoteRequest, "crossfade rollouts promote --help")],
    dry_run: DryRun = False,
) -> Response:
    """Go on by a person's word: past the approval that it waits for, to the next step, or from the last to its end."""
    after = platform.rollouts.promote(
        rollout,
        to_end=wanted.to_end,
        expected_step=wanted.expected_step,
        reason=wanted.reason,
        principal=principal,
        dry_run=dry_run,
    )
    return _changed(request, "promote", after, principal, dry_run=dry_run)


@routes.post("/rollouts/{rollout}/abort", **documented(Rollout, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def abort_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade rollouts abort --help")],
    dry_run: DryRun = False,
) -> Response:
    """Stop a rollout that is under way, and give the old version everything. The new version may come again."""
    after = platform.rollouts.abort(rollout, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "abort", after, principal, dry_run=dry_run)


@routes.post("/rollouts/{rollout}/rollback", **documented(Rollout, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def roll_back_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade rollouts rollback --help")],
    dry_run: DryRun = False,
) -> Response:
    """Give the old version everything, even after the end of the rollout. The new version is latched."""
    after = platform.rollouts.rollback(rollout, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "rollback", after, principal, dry_run=dry_run)


@routes.post(
    "/rollouts/{rollout}/retry",
    **documented(Rollout, takes=RetryRequest, status=201, changes=True, refuses=_REFUSES),
)
def retry_rollout(
    rollout: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[RetryRequest, body(RetryRequest, "crossfade rollouts retry --help")],
    dry_run: DryRun = False,
) -> Response:
    """Begin again, from the first step, what was aborted or rolled back."""
    made = platform.rollouts.retry(
        rollout,
        reason=wanted.reason,
        override_latch=wanted.override_latch,
        principal=principal,
        dry_run=dry_run,
    )
    if dry_run:
        return answer(Rehearsal(f"roll {made.subject} out to {made.candidate} again"))
    log_change(request, "rollout.create", principal, rollout=made.name, candidate=made.candidate)
    return answer(made.shown(), 201)


def _changed(request: Request, verb: str, after: Rollout, principal: str, *, dry_run: bool) -> Response:
    if dry_run:
        words = f"{verb} rollout {after.name}, which would be {after.status.value} then"
        return answer(Rehearsal(f"{words}, with {after.weight:.4g} of the traffic on {after.candidate}"))
    log_change(request, f"rollout.{verb}", principal, rollout=after.name, status=after.status.value)
    return answer(after.shown())
