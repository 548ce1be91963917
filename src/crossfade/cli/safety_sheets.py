"""Policies, overrides, violations and emergencies as people see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment

if TYPE_CHECKING:
    from crossfade.safety.reports import Violation
    from crossfade.safety.requests import CheckReport, EmergencyReport, LocalSafetyStatus, SafetyStatus
    from crossfade.safety.rules import Emergency, Override, SafetyPolicy
    from crossfade.safety.specs import Check, Fallback


def status_sheet(status: SafetyStatus) -> Sheet:
    """What is in force."""
    emergencies = (*status.local, *status.emergencies)
    pairs = [("EMERGENCY", _emergency(item)) for item in emergencies]
    pairs.extend(
        ("check off", f"{_covered(item)} until {moment(item.expires_at)}: {item.reason}") for item in status.overrides
    )
    pairs.append(("policies", ", ".join(status.models) or "none"))
    pairs.extend(
        (f"violated, {seen.level.value}", f"{seen.model}: {seen.check}, {seen.answers:,} answers within the last hour")
        for seen in status.violations
    )
    return Sheet((), pairs, [item.scope for item in emergencies])


def local_status_sheet(status: LocalSafetyStatus) -> Sheet:
    """What is in force on this machine, as long as nothing else is known."""
    pairs = [("EMERGENCY", _emergency(item)) for item in status.local] or [("on this machine", "no emergency")]
    return Sheet((), [*pairs, ("everything else", f"not known: {status.problem}")], [it.scope for it in status.local])


def policy_sheet(policies: Iterable[SafetyPolicy]) -> Sheet:
    """Policies, one per row."""
    rows = [
        (item.model, str(len(item.spec.checks)), _chain(item.spec.fallback), moment(item.created_at), item.created_by)
        for item in policies
    ]
    return Sheet(("model", "checks", "instead", "since", "by"), rows, empty="no safety policies yet")


def one_policy(item: SafetyPolicy) -> Sheet:
    """A policy."""
    pairs = [
        ("model", item.model),
        *((f"check {check.name}", f"{check.level.value}: {_check(check)}") for check in item.spec.checks),
        ("instead", _chain(item.spec.fallback)),
        ("critical answers", f"stop the model ({item.spec.latch})" if item.spec.latch else ""),
        ("since", f"{moment(item.created_at)} by {item.created_by}"),
        ("reason", item.reason),
    ]
    return facts(pairs, name=item.model)


def override_sheet(overrides: Iterable[Override]) -> Sheet:
    """Overrides, one per row."""
    rows = [(item.id, _covered(item), item.reason, item.created_by, _until(item)) for item in overrides]
    return Sheet(("override", "off", "reason", "by", "until"), rows, empty="no check was ever turned off")


def one_override(item: Override) -> Sheet:
    """An override."""
    pairs = [
        ("override", item.id),
        ("off", _covered(item)),
        ("until", _until(item)),
        ("reason", item.reason),
        ("by", item.created_by),
        ("ended", f"by {item.ended_by}: {item.ended_because}" if item.ended_at is not None else ""),
    ]
    return facts(pairs, name=item.id)


def violation_sheet(violations: Iterable[Violation]) -> Sheet:
    """Violations, one per row."""
    rows = [
        (
            moment(item.at),
            f"{item.model}:{item.version}",
            item.check,
            item.level.value,
            item.role.value,
            f"{item.answers:,}",
            item.instead,
            item.example,
        )
        for item in violations
    ]
    headings = ("minute", "version", "check", "level", "role", "answers", "instead", "example")
    return Sheet(headings, rows, empty="nothing was violated")


def emergency_sheet(report: EmergencyReport) -> Sheet:
    """An emergency that began."""
    item = report.emergency
    pairs = [
        ("scope", item.scope),
        ("mode", item.mode),
        ("reason", item.reason),
        ("since", f"{moment(item.since)} by {item.started_by}"),
        ("processes", f"{report.processes} follow" if report.revision else ""),
        ("late", ", ".join(report.late)),
    ]
    return facts(pairs, name=item.scope)


def ended_sheet(item: Emergency, reason: str, report: EmergencyReport | None = None) -> Sheet:
    """An emergency that has ended, everywhere or on this machine."""
    pairs = [
        ("scope", f"{item.scope}, on this machine" if item.local else item.scope),
        ("ended", reason),
        ("was", f"{item.mode}, since {moment(item.since)} by {item.started_by}: {item.reason}"),
        ("processes", f"{report.processes} follow" if report is not None and report.revision else ""),
        ("late", "" if report is None else ", ".join(report.late)),
    ]
    return facts(pairs, name=item.scope)


def local_emergency_sheet(item: Emergency) -> Sheet:
    """An emergency of this machine that began."""
    pairs = [
        ("scope", f"{item.scope}, on this machine"),
        ("mode", item.mode),
        ("reason", item.reason),
        ("since", f"{moment(item.since)} by {item.started_by}"),
    ]
    return facts(pairs, name=item.scope)


def check_sheet(report: CheckReport) -> Sheet:
    """What a policy found, one row per row."""
    rows = [(str(number), row.level.value, ", ".join(row.checks)) for number, row in enumerate(report.rows)]
    rows += [("", "not asked", f"{name}: {problem}") for name, problem in report.problems.items()]
    return Sheet(("row", "level", "violated"), rows, [report.level.value])


def _emergency(item: Emergency) -> str:
    where = " on this machine" if item.local else ""
    return f"{item.scope}{where}: {item.mode}, since {moment(item.since)} by {item.started_by}: {item.reason}"


def _covered(item: Override) -> str:
    return f"{item.check or 'every check'} of {item.model}{':' if item.version else ''}{item.version}"


def _until(item: Override) -> str:
    return moment(item.ended_at or item.expires_at)


def _chain(chain: Iterable[Fallback]) -> str:
    from crossfade.safety.specs import OtherVersion

    said = [f"version {step.version}" if isinstance(step, OtherVersion) else _tag(step) for step in chain]
    return ", else ".join([*said, "refuse"] if "refuse" not in said else said)


def _tag(step: Fallback | Check) -> str:
    return str(step.__struct_config__.tag)


def _check(check: Check) -> str:
    import msgspec

    hidden = {"name", "level", "kind", "reference", "allowed"}
    fields = {name: value for name, value in msgspec.to_builtins(check).items() if name not in hidden}
    shown = [str(value) if name == _tag(check) else f"{name} {value}" for name, value in fields.items()]
    return f"{_tag(check)} {', '.join(shown)}".strip()
