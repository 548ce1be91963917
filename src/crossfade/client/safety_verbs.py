"""Every call of the REST interface about safety, once, as `verbs` has the others."""

from __future__ import annotations

from crossfade.client.calls import Call, json_as, segment
from crossfade.registry.requests import ReasonRequest
from crossfade.registry.versions import Page
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
from crossfade.safety.specs import Mode, SafetyPolicySpec

API = "/api/v1/safety"


def safety_status() -> Call[SafetyStatus]:
    """Return what is in force: emergencies, checks that are off, policies, and the violations of the last hour."""
    return Call("GET", f"{API}/status", json_as(SafetyStatus), repeatable=True)


def safety_policies() -> Call[tuple[SafetyPolicy, ...]]:
    """List policies, by the names of their models."""
    return Call("GET", f"{API}/policies", json_as(tuple[SafetyPolicy, ...]), repeatable=True)


def safety_policy(model: str) -> Call[SafetyPolicy]:
    """Return the policy of a model."""
    return Call("GET", f"{API}/policies/{segment(model)}", json_as(SafetyPolicy), repeatable=True)


def put_safety_policy(spec: SafetyPolicySpec, *, reason: str = "") -> Call[SafetyPolicy]:
    """Give a model a policy, in the place of the one that it has. The same again changes nothing."""
    path = f"{API}/policies/{segment(spec.model)}"
    return Call("PUT", path, json_as(SafetyPolicy), {"reason": reason}, body=spec, repeatable=True)


def remove_safety_policy(model: str, *, reason: str = "") -> Call[SafetyPolicy]:
    """Let a model answer without checks; its former policy is returned."""
    return Call("DELETE", f"{API}/policies/{segment(model)}", json_as(SafetyPolicy), {"reason": reason})


def check_safety(request: CheckRequest) -> Call[CheckReport]:
    """Return what a policy finds in answers; nothing is changed or remembered."""
    return Call("POST", f"{API}/check", json_as(CheckReport), body=request, repeatable=True)


def override_safety(model: str, *, seconds: float, reason: str, check: str = "", version: str = "") -> Call[Override]:
    """Turn checks off for a while; answers say so."""
    body = OverrideRequest(model, reason, seconds, check, version)
    return Call("POST", f"{API}/overrides", json_as(Override), body=body)


def end_override(id: str, *, reason: str) -> Call[Override]:  # noqa: A002 - as everywhere
    """Turn checks on again before their time."""
    return Call("POST", f"{API}/overrides/{segment(id)}/end", json_as(Override), body=ReasonRequest(reason))


def overrides(*, model: str = "", holding: bool = False, cursor: str = "", limit: int = 100) -> Call[Page[Override]]:
    """List checks that were turned off, newest first."""
    params = {"model": model, "holding": holding, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/overrides", json_as(Page[Override]), params, repeatable=True)


def violations(
    *, model: str = "", check: str = "", level: str = "", cursor: str = "", limit: int = 100
) -> Call[Page[Violation]]:
    """List what was violated, newest first: one item for each check, version, level and minute, with an example."""
    params = {"model": model, "check": check, "level": level, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/violations", json_as(Page[Violation]), params, repeatable=True)


def begin_emergency(reason: str, *, mode: Mode = "block", model: str = "") -> Call[EmergencyReport]:
    """Stop a model, or everything, in every process, until a person ends it."""
    body = EmergencyRequest(reason, mode, model)
    return Call("POST", f"{API}/emergency/on", json_as(EmergencyReport), body=body, repeatable=True)


def end_emergency(reason: str, *, model: str = "") -> Call[EmergencyReport]:
    """Let a model, or everything, answer again."""
    body = EndEmergencyRequest(reason, model)
    return Call("POST", f"{API}/emergency/off", json_as(EmergencyReport), body=body)
