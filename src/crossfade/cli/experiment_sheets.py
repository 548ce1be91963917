"""Experiments and layers as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment

if TYPE_CHECKING:
    from datetime import datetime

    from crossfade.experiments.analysis_spec import DecisionSpec
    from crossfade.experiments.learned import BanditReport
    from crossfade.experiments.record import Experiment, ExperimentChange
    from crossfade.experiments.spec import ExperimentSpec
    from crossfade.ledger.metrics import MetricSpec
    from crossfade.traffic.allocation.allocation import LayerSummary


BY_CONTEXT = "by context"
"""Stands for the weights where the context of each request decides."""


def experiment_sheet(experiments: Iterable[Experiment]) -> Sheet:
    """Experiments, one per row."""
    rows = [
        (
            item.name,
            item.status.value,
            item.kind,
            item.model,
            _weights(item),
            f"{item.coverage:.4g}",
            moment(item.started_at),
        )
        for item in experiments
    ]
    headings = ("experiment", "status", "kind", "model", "weights", "coverage", "started")
    return Sheet(headings, rows, empty="no experiments yet")


def _role(metric: MetricSpec) -> str:
    """Return what a metric is for; of a guardrail, how much worse is acceptable."""
    if metric.margin is not None:
        return f"{metric.role}, {metric.margin:.4g} of the control"
    return metric.role if metric.margin_absolute is None else f"{metric.role}, {metric.margin_absolute:.4g}"


def one_experiment(item: Experiment) -> Sheet:
    """An experiment."""
    from crossfade.core.clock import utc_now

    verdict = item.verdict
    pairs = [
        ("experiment", item.name),
        ("status", f"{item.status.value}: {item.reason}" if item.reason else item.status.value),
        ("kind", item.kind),
        ("model", item.model),
        ("description", item.spec.description),
        *((f"variant {variant.name}", _variant(item, variant.name)) for variant in item.spec.variants),
        ("schedule", _schedule(item, utc_now())),
        ("coverage", f"{item.coverage:.4g}"),
        *_restrictions(item.spec),
        ("layer", f"{item.spec.layer}, {item.spec.share:.4g} of its units" if item.spec.layer else ""),
        ("metrics", ", ".join(f"{metric.name} ({_role(metric)})" for metric in item.spec.metrics)),
        ("dimensions", ", ".join(item.spec.dimensions)),
        ("analysis", item.spec.analysis.method),
        *_deciding(item.spec.decision),
        ("behind", f"{', '.join(item.behind)}, whose units it does not get" if item.behind else ""),
        ("latched", item.caution),
        ("problem", item.problem),
        ("decision", "" if verdict is None else f"{verdict.action} {verdict.variant}".strip() + f": {verdict.reason}"),
        ("created", f"{moment(item.created_at)} by {item.created_by}"),
        ("started", moment(item.started_at)),
        ("finished", moment(item.finished_at)),
    ]
    return facts(pairs, name=item.name)


def history_sheet(changes: Iterable[ExperimentChange]) -> Sheet:
    """What was done to an experiment, one change per row."""
    rows = [(moment(item.at), item.what, _details(item), item.by, item.reason) for item in changes]
    return Sheet(("when", "what", "details", "who", "why"), rows, [row[1] for row in rows])


def bandit_sheet(report: BanditReport) -> Sheet:
    """What a bandit knows."""
    late = f", and {report.late:,} came too late" if report.late else ""
    late += f"; {report.late_rewards:,} rewards came after theirs were learned" if report.late_rewards else ""
    pairs = [
        ("experiment", report.experiment),
        ("policy", report.kind),
        ("weights", "" if report.weights else BY_CONTEXT),
        *((f"weight {name}", f"{weight:.4g}") for name, weight in report.weights.items()),
        *((f"chance that {name} is best", f"{chance:.1%}") for name, chance in report.chances.items()),
        ("chances", f"not estimable: {report.reason}" if report.reason else ""),
        ("learned", f"{report.decisions:,} decisions until {moment(report.learned_until)}{late}"),
    ]
    return facts(pairs, name=report.experiment)


def layer_sheet(layers: Iterable[LayerSummary]) -> Sheet:
    """Layers, one per row."""
    rows = [
        (layer.name, layer.unit, f"{layer.holdout:.4g}", _shares(layer.experiments), f"{layer.free:.4g}", layer.root)
        for layer in layers
    ]
    return Sheet(("layer", "unit", "holdout", "experiments", "free", "root"), rows, empty="no layers yet")


def _schedule(item: Experiment, now: datetime) -> str:
    """Return why nobody takes part in an experiment that runs; empty where units do."""
    spec = item.spec
    if item.status.value != "running":
        return ""
    if spec.start_at is not None and now < spec.start_at:
        return f"not started yet, starts at {moment(spec.start_at)}: nobody takes part"
    over = spec.end_at is not None and now >= spec.end_at
    return f"over since {moment(spec.end_at)} by its schedule: nobody takes part" if over else ""


def _restrictions(spec: ExperimentSpec) -> Iterator[tuple[str, str]]:
    """Yield when units take part, and which ones; what is not restricted is empty."""
    import msgspec

    yield "starts", moment(spec.start_at)
    yield "ends", moment(spec.end_at)
    yield "ramp", ", ".join(f"{step.coverage:.4g} from {moment(step.at)}" for step in spec.ramp)
    yield "segment", "" if spec.segment is None else msgspec.json.encode(spec.segment.condition).decode()
    yield "overrides", f"{len(spec.overrides):,} units get a variant by name" if spec.overrides else ""


def _deciding(decision: DecisionSpec) -> Iterator[tuple[str, str]]:
    from crossfade.experiments.reports import words

    least = decision.minimum_runtime_seconds
    yield "decides", "by itself" if decision.auto else ""
    yield "minimum runtime", words.duration(least) if least else ""
    yield "ships by", f"a rollout with the plan `{decision.plan}`" if decision.plan else ""


def _variant(item: Experiment, name: str) -> str:
    asked = next(variant.version for variant in item.spec.variants if variant.name == name)
    version = item.versions.get(name, asked)
    shadow = ", shadow" if name in item.spec.shadows else ""
    weight = BY_CONTEXT if item.spec.contextual else f"{item.weights.get(name, 0.0):.4g}"
    return ", ".join(filter(None, (weight, version))) + shadow


def _weights(item: Experiment) -> str:
    return BY_CONTEXT if item.spec.contextual else _shares(item.weights)


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.4g}" for name, share in shares.items())


def _details(item: ExperimentChange) -> str:
    """What else there is to say in a line; specifications are in the JSON."""
    said = item.details
    before, coverage, decisions = said.get("from"), said.get("coverage"), said.get("decisions")
    parts = (
        f"was {before}" if before else "",
        _shares(said.get("weights") or {}),
        "" if coverage is None else f"coverage {coverage:.4g}",
        "" if decisions is None else f"of {decisions:,} decisions",
    )
    return ", ".join(filter(None, parts))
