"""How deployments look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment
from crossfade.core.memory import size

if TYPE_CHECKING:
    from crossfade.releases.deployment import Deployment, DeploymentHealth, DeploymentSpec, Failure, ProcessReplicas


def deployment_sheet(found: Sequence[Deployment]) -> Sheet:
    """Return a table of deployments."""
    rows = [
        (each.name, f"{each.model}:{each.version}", each.environment, each.status.value, _range(each.spec), each.reason)
        for each in found
    ]
    return Sheet(("name", "runs", "environment", "status", "replicas", "reason"), rows)


def one_deployment(found: Deployment) -> Sheet:
    """Return everything about one deployment."""
    spec = found.spec
    failure = found.failure
    probe = f"every {spec.probe.interval_seconds:g} s, {spec.probe.timeout_seconds:g} s each, "
    return facts(
        [
            ("name", found.name),
            (
                "runs",
                f"{found.model}:{found.version}" + ("" if spec.version == found.version else f" ({spec.version})"),
            ),
            ("environment", found.environment),
            ("status", found.status.value),
            ("generation", str(found.generation)),
            ("replicas", f"{_range(spec)} in each process, {spec.target_utilisation:.0%} busy"),
            ("each", _resources(spec)),
            ("probe", f"{probe}{spec.probe.failure_threshold} may fail"),
            ("on error", "go back to what ran before" if spec.rollback_on_error else "go on trying"),
            ("beside it", "" if found.previous is None else f"{found.model}:{found.previous.version}"),
            ("last failure", "" if failure is None else _failure(failure)),
            ("reason", found.reason),
            ("changed", f"{moment(found.changed_at)} by {found.changed_by}"),
        ],
        name=found.name,
    )


def undeployed_sheet(found: Deployment, reason: str) -> Sheet:
    """Return what a deployment was that is forgotten now, and why."""
    was = f"{found.model}:{found.version}, {found.status.value}, {_range(found.spec)} replicas"
    return facts([("name", found.name), ("forgotten", reason or "now"), ("was", was)], name=found.name)


def replica_sheet(processes: Sequence[ProcessReplicas]) -> Sheet:
    """Return how the replicas are, process by process."""
    rows = []
    for each in processes:
        report = each.report
        counts = report.replicas
        rows.append(
            (
                f"{each.host}/{each.pid}",
                report.version,
                str(report.generation),
                f"{counts.ready}/{counts.wanted}",
                str(counts.ejected),
                str(counts.restarting),
                str(report.restarts),
                f"{report.utilisation:.0%}",
                size(report.memory_bytes),
                report.problem,
            )
        )
    headings = ("process", "version", "generation", "ready", "ejected", "restarting", "restarts", "busy", "memory")
    return Sheet((*headings, "last problem"), rows, empty="no serving process runs it")


def health_sheet(found: DeploymentHealth) -> Sheet:
    """Return how the versions of a deployment did, window by window."""
    rows = [
        (
            each.version,
            f"{each.window_seconds:g} s",
            f"{each.requests_per_second:.4g}",
            *map(_milliseconds, (each.p50_seconds, each.p95_seconds, each.p99_seconds)),
            *map(_share, (each.error_rate, each.fallback_rate)),
            "" if each.batch_size is None else f"{each.batch_size:.3g}",
            f"{each.cpu:.3g}",
            size(each.memory_bytes),
            str(each.queue_depth),
        )
        for each in found.windows
    ]
    latencies = ("p50", "p95", "p99")
    headings = ("version", "window", "requests/s", *latencies, "errors", "fallbacks", "rows/call", "cpu", "memory")
    return Sheet((*headings, "waiting"), rows)


def _range(spec: DeploymentSpec) -> str:
    least, most = spec.replicas.min, spec.replicas.most
    return str(least) if least == most else f"{least} to {most}"


def _failure(failure: Failure) -> str:
    return f"{failure.spec.version} at {moment(failure.at)}: {failure.reason}"


def _resources(spec: DeploymentSpec) -> str:
    need = spec.resources
    parts = (
        f"{need.cpu} processors" if need.cpu else "",
        size(need.memory_bytes) if need.memory_bytes else "",
        f"{need.gpu} GPUs" if need.gpu else "",
    )
    return ", ".join(part for part in parts if part)


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2%}"
