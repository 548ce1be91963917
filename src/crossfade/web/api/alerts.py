"""Alerts: what fires, by which rules, who is told, and silences."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from crossfade.alerts.record import Alert, AlertStatus, ChannelTrial, Silence, SilenceRequest, Told
from crossfade.alerts.rule import AlertRule
from crossfade.errors import NotFoundError
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.web.api.contract import DryRun, Limit, Open, Principal, answer, body, documented, log_change

routes = APIRouter(tags=["alerts"])
YAML = "application/yaml"


@routes.get("/alerts", **documented(tuple[Alert, ...]))
def list_alerts(
    platform: Open,
    status: Annotated[AlertStatus | None, Query(description="only those with this status")] = None,
    rule: Annotated[str, Query(description="only those of this rule", max_length=64)] = "",
    model: Annotated[str, Query(description="only those about this model", max_length=64)] = "",
    limit: Limit = 100,
) -> Response:
    """List alerts: firing ones first, then pending, then those that are over."""
    where = "" if status is None else status.value
    return answer(platform.alerts.list(status=where, rule=rule, model=model, limit=limit))


@routes.get("/alerts/rules", **documented(tuple[AlertRule, ...]))
def list_alert_rules(platform: Open) -> Response:
    """List the rules, with the thresholds of the settings."""
    return answer(platform.alerts.rules())


@routes.get("/alerts/rules/prometheus", **documented(bytes, media_types=(YAML,)))
def export_alert_rules(platform: Open) -> Response:
    """Download the rules as a rule file of Prometheus."""
    return PlainTextResponse(platform.alerts.prometheus_rules(), media_type=YAML)


@routes.get("/alerts/silences", **documented(tuple[Silence, ...]))
def list_silences(
    platform: Open, over: Annotated[bool, Query(description="also those that are over")] = False
) -> Response:
    """List silences, the newest first."""
    return answer(platform.alerts.silences(over=over))


@routes.post("/alerts/silences", **documented(Silence, takes=SilenceRequest, status=201, changes=True))
def create_silence(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[SilenceRequest, body(SilenceRequest, "crossfade alerts silence --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let nobody be told of some alerts for a while; they go on being evaluated and shown."""
    silence = platform.alerts.silence(wanted, principal=principal, dry_run=dry_run)
    if dry_run:
        matchers = " and ".join(map(str, silence.matchers))
        return answer(Rehearsal(f"tell nobody of alerts with {matchers} for {wanted.seconds:g} s"))
    log_change(request, "alert.silence", principal, silence=silence.id)
    return answer(silence, 201)


@routes.post(
    "/alerts/silences/{silence}/end",
    **documented(Silence, takes=ReasonRequest, changes=True, refuses=(NotFoundError,)),
)
def end_silence(
    silence: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade alerts unsilence --help")],
    dry_run: DryRun = False,
) -> Response:
    """End a silence before its time."""
    ended = platform.alerts.end_silence(silence, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"end silence {ended.id}"))
    log_change(request, "alert.unsilence", principal, silence=ended.id)
    return answer(ended)


@routes.post("/alerts/test", **documented(tuple[Told, ...], takes=ChannelTrial, changes=True, refuses=(NotFoundError,)))
def try_channels(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ChannelTrial, body(ChannelTrial, "crossfade alerts test --help")],
    dry_run: DryRun = False,
) -> Response:
    """Tell channels of nothing in particular, and say what became of it."""
    if dry_run:
        return answer(Rehearsal(f"send a test to {', '.join(platform.alerts.channels(wanted)) or 'nobody'}"))
    told = platform.alerts.try_channels(wanted, principal=principal)
    log_change(request, "alert.test", principal, channels=[each.channel for each in told])
    return answer(told)
