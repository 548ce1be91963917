"""Answers of the server as people see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment
from crossfade.core.memory import size

if TYPE_CHECKING:
    from pathlib import Path

    from crossfade.core.compatibility import SignatureDiff
    from crossfade.core.tensors import TensorSpec
    from crossfade.jobs.records import Job
    from crossfade.registry.comparison import ComparisonReport
    from crossfade.registry.placement import Placement
    from crossfade.registry.requests import CacheStatus, Garbage, HistoryEntry, VersionDetails
    from crossfade.registry.verification import VerifyReport
    from crossfade.registry.versions import AliasMove, FileEntry, RegisteredModel, StageChange, Version
    from crossfade.traffic.reports import Invalidation, SwitchReport


def model_sheet(models: Iterable[RegisteredModel]) -> Sheet:
    """Models, one per row."""
    rows = [
        (item.name, str(item.version_count), item.latest_version, _pointers(item.aliases), moment(item.created_at))
        for item in models
    ]
    return Sheet(("model", "versions", "latest", "aliases", "created"), rows, empty="no models yet")


def one_model(model: RegisteredModel) -> Sheet:
    """A model."""
    pairs = [
        ("model", model.name),
        ("description", model.description),
        ("versions", str(model.version_count)),
        ("latest", model.latest_version),
        ("aliases", _pointers(model.aliases)),
        ("created", f"{moment(model.created_at)} by {model.created_by}"),
        ("serving", "unloaded by request" if model.unloaded else ""),
    ]
    return facts(pairs, name=model.name)


def version_sheet(versions: Iterable[Version]) -> Sheet:
    """Versions, one per row."""
    rows = [
        (
            item.ref,
            item.stage + (" (deprecated)" if item.deprecated_at else ""),
            ", ".join(item.aliases),
            item.flavor,
            size(item.size_bytes),
            _numbers(item.evaluation),
            f"{moment(item.created_at)} by {item.created_by}",
        )
        for item in versions
    ]
    headings = ("version", "stage", "aliases", "flavor", "size", "evaluation", "registered")
    return Sheet(headings, rows, empty="no versions yet")


def one_version(version: Version) -> Sheet:
    """The record of a version."""
    return facts(_record(version), name=version.ref)


def version_details(details: VersionDetails) -> Sheet:
    """Everything about a version."""
    card, manifest = details.card, details.manifest
    pairs = [
        *_record(details.version),
        ("description", card.description),
        *((f"parameter {name}", str(value)) for name, value in sorted(card.parameters.items())),
        ("dataset", card.dataset),
        ("code", card.code),
        ("parents", ", ".join(card.parents)),
        ("environment", ", ".join(f"{name} {value}" for name, value in sorted(card.environment.items()))),
        ("placement", "" if manifest.placement is None else _place(manifest.placement)),
        ("layout", manifest.signature.layout),
        ("preprocessor", manifest.preprocessor),
        *((f"input {spec.name}", _spec(spec)) for spec in manifest.signature.inputs),
        *((f"output {spec.name}", _spec(spec)) for spec in manifest.signature.outputs),
        ("classes", ", ".join(map(str, manifest.signature.classes))),
        *((f"file {item.path}", f"{size(item.size)}, {item.role}, {item.digest}") for item in manifest.files),
        ("manifest", details.version.manifest_digest),
    ]
    return facts(pairs, name=details.version.ref)


def comparison_sheet(report: ComparisonReport) -> Sheet:
    """What differs between two versions."""
    rows = [
        (change.name, _number(change.a), _number(change.b), _signed(change.difference), _signed(change.percent, " %"))
        for change in report.evaluation
    ]
    rows += [(f"parameter {item.name}", _given(item.a), _given(item.b), "", "") for item in report.parameters]
    smaller, larger = size(report.a.size_bytes), size(report.b.size_bytes)
    rows.append(("size", smaller, larger, f"{report.size_difference_bytes:+,} B", ""))
    changes = "; ".join(report.signature.changes) or "the same"
    rows.append(("signature", "", changes, f"{report.signature.required} change", ""))
    return Sheet(("", report.a.ref, report.b.ref, "difference", "percent"), rows)


def job_sheet(jobs: Iterable[Job]) -> Sheet:
    """Batch jobs, one per row."""
    rows = [
        (
            item.id,
            f"{item.model}:{item.version}",
            item.state,
            f"{item.rows_done:,}",
            f"{item.rows_failed:,}",
            _share(item),
            f"{moment(item.created_at)} by {item.created_by}",
        )
        for item in jobs
    ]
    return Sheet(("job", "version", "state", "rows", "failed", "done", "submitted"), rows, empty="no jobs yet")


def one_job(job: Job) -> Sheet:
    """A batch job."""
    pairs = [
        ("job", job.id),
        ("version", f"{job.model}:{job.version}"),
        ("asked for", job.ref),
        ("state", job.state),
        ("problem", job.problem),
        ("rows", f"{job.rows_done:,}, {job.rows_failed:,} of them failed"),
        ("rate", f"{job.rows_per_second:,.0f} rows/s" if job.rows_per_second else ""),
        ("file", f"{size(job.input_bytes)} of {job.format}, {_share(job)} done, {job.input_digest}"),
        ("result", f"{size(job.result.size_bytes)} of {job.output}, {job.result.digest}" if job.result else ""),
        ("submitted", f"{moment(job.created_at)} by {job.created_by}"),
        ("started", moment(job.started_at)),
        ("ended", moment(job.finished_at)),
        ("kept until", moment(job.kept_until)),
    ]
    return facts(pairs, name=job.id)


def _share(job: Job) -> str:
    return "100 %" if job.state == "succeeded" else f"{100 * job.bytes_done // max(job.input_bytes, 1)} %"


def move_sheet(moves: Iterable[AliasMove]) -> Sheet:
    """Alias moves, one per row."""
    rows = [
        (
            moment(item.moved_at),
            f"{item.model}@{item.alias}",
            item.source or "-",
            item.target or "removed",
            item.moved_by,
            item.reason,
        )
        for item in moves
    ]
    names = [row[3] for row in rows]
    return Sheet(("when", "alias", "from", "to", "who", "why"), rows, names, empty="this alias has never been moved")


def history_sheet(entries: Iterable[HistoryEntry]) -> Sheet:
    """What happened to a model, one entry per row."""
    rows = [
        (
            moment(item.at),
            f"{item.model}{'@' if item.kind == 'alias' else ':'}{item.subject}",
            item.source or "-",
            item.target or "removed",
            item.by,
            item.reason,
        )
        for item in entries
    ]
    return Sheet(("when", "what", "from", "to", "who", "why"), rows, [row[3] for row in rows])


def stage_sheet(changes: Iterable[StageChange]) -> Sheet:
    """Stage changes, one per row."""
    rows = [
        (
            moment(item.changed_at),
            f"{item.model}:{item.version}",
            item.source or "-",
            item.target,
            item.changed_by,
            item.reason,
        )
        for item in changes
    ]
    names = [row[3] for row in rows]
    return Sheet(("when", "version", "from", "to", "who", "why"), rows, names)


def compatibility_sheet(difference: SignatureDiff, old: str, new: str) -> Sheet:
    """What callers of one version meet with another."""
    verdict = {"major": "would break", "minor": "keep working", "patch": "notice nothing"}[difference.required]
    pairs = [(f"callers of {old}", f"{verdict} with {new}"), ("needs", f"{difference.required} version")]
    pairs += [("change", change) for change in difference.changes]
    return facts(pairs, name=difference.required)


def files_sheet(files: Iterable[tuple[FileEntry, Path]]) -> Sheet:
    """Files that were downloaded, one per row."""
    rows = [(str(path), size(entry.size), entry.role, entry.digest) for entry, path in files]
    return Sheet(("file", "size", "role", "sha256"), rows)


def verification(report: VerifyReport) -> Sheet:
    """A version that passed verification."""
    difference = report.golden_difference
    pairs = [
        ("verified", report.ref),
        ("files", f"{report.files}, {size(report.size_bytes)}: every byte as registered"),
        ("golden requests", f"{report.golden_rows} rows" if difference is not None else "none stored"),
        ("largest difference", "" if difference is None else f"{difference:.3g}"),
        ("manifest", report.manifest_digest),
    ]
    return facts(pairs, name=report.ref)


def switch_sheet(report: SwitchReport) -> Sheet:
    """What a move of an alias did."""
    move = report.move
    pairs = [
        ("alias", f"{move.model}@{move.alias}"),
        ("from", move.source or "-"),
        ("to", move.target or "removed"),
        ("reason", move.reason),
        ("processes", f"{report.processes} answer with it" if report.processes and move.target else ""),
        ("late", ", ".join(report.late)),
        ("took", f"{report.seconds:.2f} s" if report.processes else ""),
    ]
    return facts(pairs, name=move.target or "")


def garbage_sheet(garbage: Garbage) -> Sheet:
    """What a collection deleted."""
    return facts([("deleted", f"{garbage.blobs} blobs, {size(garbage.size_bytes)}")], name=str(garbage.blobs))


def cache_sheet(status: CacheStatus) -> Sheet:
    """What is kept of answers."""
    asked = sum(status.lookups.values())
    found = asked - status.lookups.get("computed", 0)
    pairs = [
        ("mode", status.mode),
        ("models", ", ".join(status.models)),
        ("kept for", f"{status.ttl_seconds:g} s"),
        ("memory", f"{size(status.size_bytes)} of {size(status.max_bytes)}, {status.entries} answers"),
        ("evicted", str(status.evictions)),
        ("hit rate", f"{found / asked:.1%} of {asked}" if asked else ""),
        *((f"answers {name}", str(count)) for name, count in status.lookups.items()),
        ("shared level", "yes" if status.shared else "no"),
        *((f"shared {name}", str(count)) for name, count in status.problems.items()),
        *((f"breaker {name}", state) for name, state in status.breakers.items()),
    ]
    return facts(pairs, name=status.mode)


def invalidation_sheet(done: Invalidation) -> Sheet:
    """Whose answers are computed anew."""
    pairs = [
        ("computed anew", done.ref),
        ("since revision", str(done.generation)),
        ("processes", f"{done.processes} follow" if done.processes else ""),
        ("late", ", ".join(done.late)),
    ]
    return facts(pairs, name=done.ref)


def _record(version: Version) -> list[tuple[str, str]]:
    deprecated = version.deprecated_at is not None
    return [
        ("version", version.ref),
        ("stage", version.stage),
        ("aliases", ", ".join(version.aliases)),
        ("deprecated", f"{moment(version.deprecated_at)} {version.deprecation_reason}".strip() if deprecated else ""),
        ("flavor", version.flavor),
        ("size", size(version.size_bytes)),
        ("registered", f"{moment(version.created_at)} by {version.created_by}"),
        ("source", version.source),
        *((f"evaluation {name}", _number(value)) for name, value in sorted(version.evaluation.items())),
        *((f"tag {name}", value) for name, value in sorted(version.tags.items())),
    ]


def _place(placement: Placement) -> str:
    """Say what a version declares about where it runs; nothing of what it leaves open."""
    threads = f"{placement.threads} thread{'s' * (placement.threads > 1)}" if placement.threads else ""
    return ", ".join(filter(None, ["" if placement.device == "auto" else placement.device, threads]))


def _spec(spec: TensorSpec) -> str:
    return spec.describe() + (", may be missing" if spec.missing else "")


def _pointers(aliases: dict[str, str]) -> str:
    return ", ".join(f"{alias} -> {version}" for alias, version in sorted(aliases.items()))


def _numbers(evaluation: dict[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in sorted(evaluation.items()))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _given(value: object) -> str:
    return "-" if value is None else str(value)


def _signed(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:+.4g}{unit}"
