"""Safety: what answers have to be, checks that are off for a while, what was violated, and emergency mode."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from crossfade.errors import InvalidSafetyPolicyError, NotFoundError
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.registry.versions import Page
from crossfade.safety.levels import Level
from crossfade.safety.reports import Violation
from crossfade.safety.requests import (
    CheckReport,
    CheckRequest,
    EmergencyReport,
    EmergencyRequest,
    EndEmergencyRequest,
    OverrideRequest,
    SafetyStatus,
)
from crossfade.safety.rules import Override, SafetyPolicy
from crossfade.safety.specs import SafetyPolicySpec
from crossfade.safety.trial import try_policy
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

routes = APIRouter(prefix="/safety", tags=["safety"])
_REFUSES = (NotFoundError,)
Model = Annotated[str, Query(description="only about this model", max_length=64)]


@routes.get("/status", **documented(SafetyStatus))
def show_safety(platform: Open) -> Response:
    """Show what is in force: emergencies, checks that are off, policies, and the violations of the last hour."""
    return answer(platform.safety.status())


@routes.get("/policies", **documented(tuple[SafetyPolicy, ...]))
def list_safety_policies(platform: Open) -> Response:
    """List policies, by the names of their models."""
    return answer(platform.safety.policies())


@routes.get("/policies/{model}", **documented(SafetyPolicy, refuses=_REFUSES))
def show_safety_policy(model: str, platform: Open) -> Response:
    """Show the policy of a model."""
    return answer(platform.safety.policy(model))


@routes.put("/policies/{model}", **documented(SafetyPolicy, takes=SafetyPolicySpec, changes=True, refuses=_REFUSES))
def put_safety_policy(
    model: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[SafetyPolicySpec, body(SafetyPolicySpec, "crossfade safety policy set --help")],
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Give a model a policy, in the place of the one that it has. The same again changes nothing."""
    if wanted.model != model:
        raise InvalidSafetyPolicyError(problem=f"it is of `{wanted.model[:80]}`, and the path names `{model[:80]}`")
    made = platform.safety.put_policy(wanted, reason=reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"look at the answers of {made.model} with {len(made.spec.checks)} checks"))
    log_change(request, "safety.policy", principal, model=made.model, checks=len(made.spec.checks))
    return answer(made)


@routes.delete("/policies/{model}", **documented(SafetyPolicy, changes=True, refuses=_REFUSES))
def remove_safety_policy(
    model: str,
    platform: Open,
    principal: Principal,
    request: Request,
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Let a model answer without checks."""
    former = platform.safety.remove_policy(model, reason=reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"let {former.model} answer without its {len(former.spec.checks)} checks"))
    log_change(request, "safety.policy.remove", principal, model=former.model)
    return answer(former)


@routes.post("/check", **documented(CheckReport, takes=CheckRequest, refuses=_REFUSES))
def try_safety_policy(
    platform: Open, wanted: Annotated[CheckRequest, body(CheckRequest, "crossfade safety check --help")]
) -> Response:
    """Say what a policy finds in answers; nothing is changed or remembered."""
    return answer(try_policy(platform.safety, wanted))


@routes.get("/overrides", **documented(Page[Override]))
def list_overrides(
    platform: Open,
    model: Model = "",
    holding: Annotated[bool, Query(description="only those that have an effect")] = False,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List checks that were turned off, newest first."""
    return answer(platform.safety.overrides(model=model, holding=holding, cursor=cursor, limit=limit))


@routes.post("/overrides", **documented(Override, takes=OverrideRequest, status=201, changes=True, refuses=_REFUSES))
def create_override(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[OverrideRequest, body(OverrideRequest, "crossfade safety override --help")],
    dry_run: DryRun = False,
) -> Response:
    """Turn checks off for a while; answers say so."""
    made = platform.safety.override(
        wanted.model,
        seconds=wanted.seconds,
        reason=wanted.reason,
        check=wanted.check,
        version=wanted.version,
        principal=principal,
        dry_run=dry_run,
    )
    what = f"{made.check or 'every check'} of {made.model}{':' if made.version else ''}{made.version}"
    if dry_run:
        return answer(Rehearsal(f"turn off {what} until {made.expires_at:%Y-%m-%d %H:%M:%S} UTC"))
    log_change(request, "safety.override", principal, what=what, id=made.id)
    return answer(made, 201)


@routes.post("/overrides/{override}/end", **documented(Override, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def end_override(
    override: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade safety end-override --help")],
    dry_run: DryRun = False,
) -> Response:
    """Turn checks on again before their time."""
    ended = platform.safety.end_override(override, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"turn {ended.check or 'every check'} of {ended.model} on again"))
    log_change(request, "safety.override.end", principal, model=ended.model, id=ended.id)
    return answer(ended)


@routes.get("/violations", **documented(Page[Violation]))
def list_violations(
    platform: Open,
    model: Model = "",
    check: Annotated[str, Query(description="only of this check", max_length=64)] = "",
    level: Annotated[Level | None, Query(description="only of this level")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List what was violated, newest first: one item for each check, version, level and minute, with an example."""
    wanted = "" if level is None else level.value
    return answer(platform.safety.violations(model=model, check=check, level=wanted, cursor=cursor, limit=limit))


@routes.post("/emergency/on", **documented(EmergencyReport, takes=EmergencyRequest, changes=True, refuses=_REFUSES))
def begin_emergency(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[EmergencyRequest, body(EmergencyRequest, "crossfade safety emergency on --help")],
    dry_run: DryRun = False,
) -> Response:
    """Stop a model, or everything, in every process, until a person ends it."""
    begun = platform.safety.begin_emergency(
        wanted.reason, mode=wanted.mode, model=wanted.model, principal=principal, dry_run=dry_run
    )
    if dry_run:
        return answer(Rehearsal(f"stop {begun.emergency.scope} ({begun.emergency.mode})"))
    _log_emergency(request, "safety.emergency", principal, begun)
    return answer(begun)


@routes.post("/emergency/off", **documented(EmergencyReport, takes=EndEmergencyRequest, changes=True, refuses=_REFUSES))
def end_emergency(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[EndEmergencyRequest, body(EndEmergencyRequest, "crossfade safety emergency off --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let a model, or everything, answer again. What was begun on one machine alone is ended there."""
    ended = platform.safety.end_emergency(wanted.reason, model=wanted.model, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"let {ended.emergency.scope} answer again"))
    _log_emergency(request, "safety.emergency.end", principal, ended)
    return answer(ended)


def _log_emergency(request: Request, action: str, principal: str, report: EmergencyReport) -> None:
    facts = {"scope": report.emergency.scope, "mode": report.emergency.mode, "late": report.late}
    log_change(request, action, principal, **facts)
