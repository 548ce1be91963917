"""Experiments: write one down, let it run, look at the evidence, decide; and layers that experiments share units in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from crossfade.errors import ConflictError, InvalidExperimentError, NotFoundError, UnsafeError
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Experiment, ExperimentChange, Status
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.requests import DecideRequest, ReweightRequest
from crossfade.experiments.spec import ExperimentSpec
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.registry.versions import Page
from crossfade.traffic.allocation.allocation import LayerSummary
from crossfade.traffic.allocation.specs import LayerSpec
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
    pieces_of,
)

routes = APIRouter(tags=["experiments"])
PARQUET = "application/vnd.apache.parquet"
_REFUSES = (NotFoundError, ConflictError)


@routes.post("/experiments", **documented(Experiment, takes=ExperimentSpec, status=201, changes=True, refuses=_REFUSES))
def create_experiment(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ExperimentSpec, body(ExperimentSpec, "crossfade experiments create --help")],
    dry_run: DryRun = False,
) -> Response:
    """Write an experiment down. The same specification again answers 200 instead of 201."""
    made, new = platform.experiments.create(wanted, principal=principal, dry_run=dry_run)
    if dry_run:
        would = f"write down experiment {made.name} with {len(made.spec.variants)} variants"
        return answer(Rehearsal(would + _cautioned(made)))
    if new:
        log_change(request, "experiment.create", principal, experiment=made.name)
    return answer(made, 201 if new else 200)


@routes.get("/experiments", **documented(Page[Experiment]))
def list_experiments(
    platform: Open,
    model: Annotated[str, Query(description="only those on this model", max_length=64)] = "",
    status: Annotated[Status | None, Query(description="only those with this status")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List experiments, newest first."""
    where = "" if status is None else status.value
    return answer(platform.experiments.list(model=model, status=where, cursor=cursor, limit=limit))


@routes.get("/experiments/{experiment}", **documented(Experiment, refuses=(NotFoundError,)))
def show_experiment(experiment: str, platform: Open) -> Response:
    """Show an experiment: its specification, its status, the weights of its variants now."""
    return answer(platform.experiments.find(experiment))


@routes.get("/experiments/{experiment}/history", **documented(Page[ExperimentChange], refuses=(NotFoundError,)))
def experiment_history(
    experiment: str,
    platform: Open,
    learned: Annotated[bool, Query(description="also the weights that a bandit has set by itself")] = False,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List what was done to an experiment, newest first: who, when, why."""
    return answer(platform.experiments.history(experiment, learned=learned, cursor=cursor, limit=limit))


@routes.put("/experiments/{experiment}", **documented(Experiment, takes=ExperimentSpec, changes=True, refuses=_REFUSES))
def amend_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ExperimentSpec, body(ExperimentSpec, "crossfade experiments create --help")],
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Change an experiment that has not ended. Once it has started, what its numbers depend on stays."""
    if wanted.name != experiment:
        raise InvalidExperimentError(name=experiment, problem=f"its specification is of `{wanted.name[:80]}`")
    after = platform.experiments.amend(wanted, reason=reason, principal=principal, dry_run=dry_run)
    return _changed(request, "amend", after, principal, dry_run=dry_run)


@routes.post(
    "/experiments/{experiment}/start", **documented(Experiment, takes=ReasonRequest, changes=True, refuses=_REFUSES)
)
def start_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade experiments start --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let units take part, the first time or after a pause, once every process has the versions ready."""
    after = platform.experiments.start(experiment, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "start", after, principal, dry_run=dry_run)


@routes.post(
    "/experiments/{experiment}/pause", **documented(Experiment, takes=ReasonRequest, changes=True, refuses=_REFUSES)
)
def pause_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade experiments pause --help")],
    dry_run: DryRun = False,
) -> Response:
    """Give everybody the champion for now. Units keep their slots, and get their variant again after the pause."""
    after = platform.experiments.pause(experiment, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "pause", after, principal, dry_run=dry_run)


@routes.post(
    "/experiments/{experiment}/stop", **documented(Experiment, takes=ReasonRequest, changes=True, refuses=_REFUSES)
)
def stop_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade experiments stop --help")],
    dry_run: DryRun = False,
) -> Response:
    """End an experiment without a decision, with a reason; everybody gets the champion."""
    after = platform.experiments.stop(experiment, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _changed(request, "stop", after, principal, dry_run=dry_run)


@routes.post(
    "/experiments/{experiment}/reweight",
    **documented(Experiment, takes=ReweightRequest, changes=True, refuses=_REFUSES),
)
def reweight_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReweightRequest, body(ReweightRequest, "crossfade experiments reweight --help")],
    dry_run: DryRun = False,
) -> Response:
    """Change weights or coverage. No unit leaves a variant whose part does not shrink."""
    after = platform.experiments.reweight(
        experiment,
        wanted.weights,
        coverage=wanted.coverage,
        reason=wanted.reason,
        principal=principal,
        dry_run=dry_run,
    )
    return _changed(request, "reweight", after, principal, dry_run=dry_run)


@routes.post(
    "/experiments/{experiment}/decide",
    **documented(Experiment, takes=DecideRequest, changes=True, refuses=(NotFoundError, ConflictError, UnsafeError)),
)
def decide_experiment(
    experiment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[DecideRequest, body(DecideRequest, "crossfade experiments decide --help")],
    dry_run: DryRun = False,
) -> Response:
    """End an experiment by a decision: what the analysis says, or what the body says."""
    after = platform.judge.decide(experiment, wanted, principal=principal, dry_run=dry_run)
    if dry_run and after.verdict is not None:
        verdict = after.verdict
        plan = after.spec.decision.plan if verdict.action == "ship" else ""
        by = f" by a rollout with the plan `{plan}`" if plan else ""
        return answer(Rehearsal(f"{verdict.action} {verdict.variant or after.spec.control}{by}: {verdict.reason}"))
    return _changed(request, "decide", after, principal, dry_run=False)


@routes.get("/experiments/{experiment}/analysis", **documented(AnalysisReport, refuses=(NotFoundError, ConflictError)))
def analyze_experiment(experiment: str, platform: Open) -> Response:
    """Say what the evidence says: effects, health, and what follows, with the reason in words."""
    return answer(platform.judge.analyze(experiment))


@routes.get(
    "/experiments/{experiment}/report",
    **documented(bytes, media_types=("text/html",), refuses=(NotFoundError, ConflictError)),
)
def report_experiment(experiment: str, platform: Open) -> Response:
    """Show the analysis as a page for people, with all effects and primary ones over time; it needs nothing else."""
    page = platform.judge.analyze(experiment)._repr_html_()
    return HTMLResponse(f'<!doctype html><meta charset="utf-8"><title>{experiment}</title>{page}')


@routes.get("/experiments/{experiment}/bandit", **documented(BanditReport, refuses=_REFUSES))
def show_bandit(experiment: str, platform: Open) -> Response:
    """Show what a bandit has learned: the weights that follow, and how likely each variant is the best."""
    return answer(platform.learner.report(experiment))


@routes.get(
    "/experiments/{experiment}/export",
    **documented(bytes, media_types=(PARQUET,), refuses=(NotFoundError, ConflictError)),
)
def export_experiment(
    experiment: str,
    platform: Open,
    reward: Annotated[str, Query(description="an outcome: each row is a decision and its reward", max_length=64)] = "",
) -> Response:
    """Download the events of an experiment as a Parquet file, or its decisions with what they earned."""
    folder = tempfile.TemporaryDirectory(prefix="crossfade-export-")
    target = Path(folder.name) / "events.parquet"
    try:
        platform.judge.export(experiment, target, reward=reward)
        stream, size = target.open("rb"), target.stat().st_size
    finally:
        folder.cleanup()  # the open file goes on
    headers = {"content-length": str(size), "content-disposition": f'attachment; filename="{experiment}.parquet"'}
    return StreamingResponse(pieces_of(stream), headers=headers, media_type=PARQUET)


@routes.post("/layers", **documented(LayerSummary, takes=LayerSpec, changes=True, refuses=(ConflictError,), status=201))
def create_layer(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[LayerSpec, body(LayerSpec, "crossfade experiments layer --help")],
    dry_run: DryRun = False,
) -> Response:
    """Make a layer: each unit is in one of its experiments at most. The same again changes nothing."""
    layer = platform.experiments.create_layer(wanted, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"make layer {layer.spec.name}"))
    log_change(request, "layer.create", principal, layer=layer.spec.name)
    return answer(layer.summary(), 201)


@routes.get("/layers", **documented(tuple[LayerSummary, ...]))
def list_layers(platform: Open) -> Response:
    """List layers: how much of each is held out, belongs to which experiment, and is free."""
    return answer(tuple(layer.summary() for layer in platform.experiments.layers()))


def _changed(request: Request, verb: str, after: Experiment, principal: str, *, dry_run: bool) -> Response:
    if dry_run:
        would = f"{verb} experiment {after.name}, which would be {after.status.value} then"
        return answer(Rehearsal(would + _cautioned(after)))
    log_change(request, f"experiment.{verb}", principal, experiment=after.name, status=after.status.value)
    return answer(after)


def _cautioned(after: Experiment) -> str:
    return f"; {after.caution}" if after.caution else ""
