"""Every call of the REST interface, once: the names and arguments that `Client` and `AsyncClient` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec

from crossfade.alerts.record import Alert, ChannelTrial, Silence, SilenceRequest, Told
from crossfade.alerts.rule import AlertRule
from crossfade.client.calls import Call, json_as, ref_path, segment
from crossfade.core.compatibility import SignatureDiff
from crossfade.core.decoding import problem_of
from crossfade.core.tensors import Signature
from crossfade.errors import InvalidOutcomesError, MalformedRequestError
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Experiment, ExperimentChange
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.requests import DecideRequest, ReweightRequest
from crossfade.experiments.spec import ExperimentSpec
from crossfade.jobs.records import Job, JobRequest
from crossfade.ledger.requests import SEE_OUTCOMES, Recorded, RecordRequest, ReportedOutcome
from crossfade.registry.comparison import ComparisonReport
from crossfade.registry.ensembles.document import EnsembleSpec
from crossfade.registry.requests import (
    CacheStatus,
    EnsembleRequest,
    Garbage,
    HistoryEntry,
    InvalidateRequest,
    MoveRequest,
    Proposal,
    PublishRequest,
    ReasonRequest,
    Rehearsal,
    ServerStatus,
    SignatureRequest,
    TransitionRequest,
    Upload,
    UploadRequest,
    VersionDetails,
)
from crossfade.registry.verification import VerifyReport
from crossfade.registry.versions import AliasMove, Card, Manifest, Page, RegisteredModel, StageChange, Version
from crossfade.releases.deployment import Deployment, DeploymentHealth, DeploymentSpec, DeploymentStatus
from crossfade.releases.plan import RolloutPlan
from crossfade.releases.requests import PromoteRequest, RetryRequest, RolloutForecast, RolloutRequest
from crossfade.releases.rollout import Rollout, RolloutTransition
from crossfade.storage.blobs.port import Blob
from crossfade.traffic.allocation.allocation import LayerSummary
from crossfade.traffic.allocation.specs import LayerSpec
from crossfade.traffic.reports import Invalidation, SwitchReport

API = "/api/v1"


def models(*, prefix: str = "", cursor: str = "", limit: int = 100) -> Call[Page[RegisteredModel]]:
    """List models in the order of their names."""
    params = {"prefix": prefix, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/models", json_as(Page[RegisteredModel]), params, repeatable=True)


def model(name: str) -> Call[RegisteredModel]:
    """Return a model: how many versions it has, where its aliases point."""
    return Call("GET", f"{API}/models/{segment(name)}", json_as(RegisteredModel), repeatable=True)


def versions(
    name: str, *, stage: str = "", prefix: str = "", cursor: str = "", limit: int = 100
) -> Call[Page[Version]]:
    """List the versions of a model, newest first; `prefix` selects semvers like `2.` or `2.1.`."""
    params = {"stage": stage, "prefix": prefix, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/models/{segment(name)}/versions", json_as(Page[Version]), params, repeatable=True)


def version(ref: str) -> Call[VersionDetails]:
    """Return everything about the version that a reference means."""
    return Call("GET", f"{API}/versions/{ref_path(ref)}", json_as(VersionDetails), repeatable=True)


def file(ref: str, path: str) -> Call[bytes]:
    """Return the bytes of one file of a version, in memory; `download` writes large ones to disk."""
    parts = "/".join(segment(part) for part in path.split("/"))
    return Call("GET", f"{API}/versions/{ref_path(ref)}/files/{parts}", lambda answer: answer.content, repeatable=True)


def compare(a: str, b: str) -> Call[ComparisonReport]:
    """Compare two versions: evaluations, signatures, parameters, size."""
    return Call("GET", f"{API}/compare", json_as(ComparisonReport), {"a": a, "b": b}, repeatable=True)


def propose(name: str, signature: Signature) -> Call[Proposal]:
    """Return the semver that a new signature asks for."""
    path = f"{API}/models/{segment(name)}/proposal"
    return Call("POST", path, json_as(Proposal), body=SignatureRequest(signature), repeatable=True)


def check_compatibility(ref: str, signature: Signature) -> Call[SignatureDiff]:
    """Compare a new signature with the one of a version, from the callers' point of view."""
    path = f"{API}/versions/{ref_path(ref)}/compatibility"
    return Call("POST", path, json_as(SignatureDiff), body=SignatureRequest(signature), repeatable=True)


def upload(holder: str, digests: tuple[str, ...]) -> Call[Upload]:
    """Begin a registration: protect the blobs it relies on, and learn which of them have to be sent."""
    return Call("POST", f"{API}/uploads", json_as(Upload), body=UploadRequest(holder, digests), repeatable=True)


def put_blob(digest: str, body: bytes | Path, *, holder: str, sent: Callable[[int], None] | None = None) -> Call[Blob]:
    """Store a blob."""
    path = f"{API}/blobs/{segment(digest)}"
    return Call("PUT", path, json_as(Blob), {"holder": holder}, body, repeatable=True, sent=sent)


def publish(manifest: Manifest, *, holder: str = "") -> Call[Version]:
    """Make a version visible, after its blobs are stored. Publishing the same content again changes nothing."""
    path = f"{API}/models/{segment(manifest.name)}/versions"
    return Call("POST", path, json_as(Version), body=PublishRequest(manifest, holder), repeatable=True)


def register_ensemble(
    name: str, spec: EnsembleSpec, *, version: str | None = None, card: Card | None = None
) -> Call[Version]:
    """Register versions that answer together as a new version of `name`; nothing but the specification is sent."""
    path = f"{API}/models/{segment(name)}/ensembles"
    body = EnsembleRequest(spec, version, card or Card())
    return Call("POST", path, json_as(Version), body=body, repeatable=True)


def transition(ref: str, stage: str, *, reason: str = "") -> Call[Version]:
    """Change the stage of a version."""
    body = TransitionRequest(stage, reason)
    return Call("POST", f"{API}/versions/{ref_path(ref)}/transition", json_as(Version), body=body)


def deprecate(ref: str, *, reason: str = "") -> Call[Version]:
    """Mark a version as deprecated; it stays usable."""
    return Call(
        "POST",
        f"{API}/versions/{ref_path(ref)}/deprecate",
        json_as(Version),
        body=ReasonRequest(reason),
        repeatable=True,
    )


def delete(ref: str, *, reason: str = "") -> Call[Version]:
    """Forget a version that nothing refers to; its former record is returned."""
    return Call("DELETE", f"{API}/versions/{ref_path(ref)}", json_as(Version), {"reason": reason})


def verify(ref: str) -> Call[VerifyReport]:
    """Load a version on the server and ask it its golden requests."""
    return Call("POST", f"{API}/versions/{ref_path(ref)}/verify", json_as(VerifyReport), repeatable=True)


def stage_history(ref: str, *, cursor: str = "", limit: int = 100) -> Call[Page[StageChange]]:
    """List the stage changes of a version, newest first."""
    params = {"cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/versions/{ref_path(ref)}/history", json_as(Page[StageChange]), params, repeatable=True)


def history(name: str, *, cursor: str = "", limit: int = 100) -> Call[Page[HistoryEntry]]:
    """List what happened to a model's aliases and to the stages of its versions, newest first: who, when, why."""
    params = {"cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/models/{segment(name)}/history", json_as(Page[HistoryEntry]), params, repeatable=True)


def alias_history(name: str, alias: str, *, cursor: str = "", limit: int = 100) -> Call[Page[AliasMove]]:
    """List the moves of one alias, newest first: who, when, why, from where to where."""
    path = f"{API}/models/{segment(name)}/aliases/{segment(alias)}/history"
    return Call("GET", path, json_as(Page[AliasMove]), {"cursor": cursor, "limit": limit}, repeatable=True)


def move_alias(
    name: str,
    alias: str,
    version: str,
    *,
    expected: str | None = None,
    reason: str = "",
    override_latch: bool = False,
) -> Call[SwitchReport]:
    """Point an alias to a version, once every serving process has it ready."""
    path = f"{API}/models/{segment(name)}/aliases/{segment(alias)}"
    body = MoveRequest(version, expected, reason, override_latch)
    return Call("PUT", path, json_as(SwitchReport), body=body, repeatable=expected is None)


def remove_alias(name: str, alias: str, *, expected: str | None = None, reason: str = "") -> Call[SwitchReport]:
    """Remove an alias; its history stays."""
    path = f"{API}/models/{segment(name)}/aliases/{segment(alias)}"
    return Call("DELETE", path, json_as(SwitchReport), {"expected": expected, "reason": reason})


def rollback(name: str, *, alias: str = "champion", reason: str = "") -> Call[SwitchReport]:
    """Point an alias to where it pointed before."""
    path = f"{API}/models/{segment(name)}/aliases/{segment(alias)}/rollback"
    return Call("POST", path, json_as(SwitchReport), body=ReasonRequest(reason))


def submit_job(request: JobRequest) -> Call[Job]:
    """Have an uploaded file predicted by one version. Asking again with the same id changes nothing."""
    return Call("POST", f"{API}/jobs", json_as(Job), body=request, repeatable=True)


def jobs(*, model: str = "", state: str = "", cursor: str = "", limit: int = 100) -> Call[Page[Job]]:
    """List batch jobs, newest first."""
    params = {"model": model, "state": state, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/jobs", json_as(Page[Job]), params, repeatable=True)


def job(job: str) -> Call[Job]:
    """Return a batch job: its state, how many rows are done, how many of them failed, how fast it is."""
    return Call("GET", f"{API}/jobs/{segment(job)}", json_as(Job), repeatable=True)


def cancel_job(job: str, *, reason: str = "") -> Call[Job]:
    """Stop a batch job; what it has answered so far is let go of."""
    path = f"{API}/jobs/{segment(job)}/cancel"
    return Call("POST", path, json_as(Job), body=ReasonRequest(reason), repeatable=True)


def job_result(job: str) -> Call[bytes]:
    """Return the answers of a batch job, in memory; `download_result` writes large ones to disk."""
    return Call("GET", f"{API}/jobs/{segment(job)}/result", lambda answer: answer.content, repeatable=True)


def create_experiment(spec: ExperimentSpec) -> Call[Experiment]:
    """Write an experiment down. Asking again with the same specification changes nothing."""
    return Call("POST", f"{API}/experiments", json_as(Experiment), body=spec, repeatable=True)


def amend_experiment(spec: ExperimentSpec, *, reason: str = "") -> Call[Experiment]:
    """Change an experiment that has not ended. Once it has started, what its numbers depend on stays."""
    path = f"{API}/experiments/{segment(spec.name)}"
    return Call("PUT", path, json_as(Experiment), {"reason": reason}, body=spec, repeatable=True)


def experiments(*, model: str = "", status: str = "", cursor: str = "", limit: int = 100) -> Call[Page[Experiment]]:
    """List experiments, newest first."""
    params = {"model": model, "status": status, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/experiments", json_as(Page[Experiment]), params, repeatable=True)


def experiment(name: str) -> Call[Experiment]:
    """Return an experiment: its specification, its status, the weights of its variants now."""
    return Call("GET", f"{API}/experiments/{segment(name)}", json_as(Experiment), repeatable=True)


def experiment_history(
    name: str, *, learned: bool = False, cursor: str = "", limit: int = 100
) -> Call[Page[ExperimentChange]]:
    """List what was done to an experiment, newest first: who, when, why.

    With `learned`, also the weights that a bandit has set by itself.
    """
    params = {"learned": learned, "cursor": cursor, "limit": limit}
    path = f"{API}/experiments/{segment(name)}/history"
    return Call("GET", path, json_as(Page[ExperimentChange]), params, repeatable=True)


def start_experiment(name: str, *, reason: str = "") -> Call[Experiment]:
    """Let units take part, the first time or after a pause, once every process has the versions ready."""
    return _life_of(name, "start", reason)


def pause_experiment(name: str, *, reason: str = "") -> Call[Experiment]:
    """Give everybody the champion for now; units keep their slots."""
    return _life_of(name, "pause", reason)


def stop_experiment(name: str, *, reason: str) -> Call[Experiment]:
    """End an experiment without a decision, and say why; everybody gets the champion."""
    return _life_of(name, "stop", reason)


def reweight_experiment(
    name: str, weights: dict[str, float] | None = None, *, coverage: float | None = None, reason: str = ""
) -> Call[Experiment]:
    """Change weights or coverage. No unit leaves a variant whose part does not shrink."""
    body = ReweightRequest(weights, coverage, reason)
    return Call("POST", f"{API}/experiments/{segment(name)}/reweight", json_as(Experiment), body=body, repeatable=True)


def analyze_experiment(name: str) -> Call[AnalysisReport]:
    """Return what the evidence says: effects, health, and what follows, with the reason in words."""
    path = f"{API}/experiments/{segment(name)}/analysis"
    return Call("GET", path, json_as(AnalysisReport), repeatable=True)


def decide_experiment(
    name: str, action: Literal["", "ship", "keep"] = "", *, variant: str = "", reason: str = ""
) -> Call[Experiment]:
    """End an experiment by a decision: what the analysis says, unless an action is named."""
    body = DecideRequest(action, variant, reason)
    return Call("POST", f"{API}/experiments/{segment(name)}/decide", json_as(Experiment), body=body)


def experiment_events(name: str, *, reward: str = "") -> Call[bytes]:
    """Return the events of an experiment as Parquet, in memory; `export_experiment` writes large ones to disk.

    With the name of an outcome as `reward`, each row is a decision with what it earned.
    """
    path = f"{API}/experiments/{segment(name)}/export"
    return Call("GET", path, lambda answer: answer.content, {"reward": reward}, repeatable=True)


def bandit(name: str) -> Call[BanditReport]:
    """Return what a bandit has learned: the weights that follow, and how likely each variant is the best."""
    return Call("GET", f"{API}/experiments/{segment(name)}/bandit", json_as(BanditReport), repeatable=True)


def create_layer(spec: LayerSpec) -> Call[LayerSummary]:
    """Make a layer: each unit is in one of its experiments at most. The same again changes nothing."""
    return Call("POST", f"{API}/layers", json_as(LayerSummary), body=spec, repeatable=True)


def layers() -> Call[tuple[LayerSummary, ...]]:
    """List layers: how much of each is held out, belongs to which experiment, and is free."""
    return Call("GET", f"{API}/layers", json_as(tuple[LayerSummary, ...]), repeatable=True)


def _life_of(name: str, verb: str, reason: str) -> Call[Experiment]:
    path = f"{API}/experiments/{segment(name)}/{verb}"
    return Call("POST", path, json_as(Experiment), body=ReasonRequest(reason), repeatable=True)


def create_rollout(wanted: RolloutRequest) -> Call[Rollout]:
    """Begin to roll a version out: it is loaded everywhere, then gets traffic by the steps of its plan."""
    return Call("POST", f"{API}/rollouts", json_as(Rollout), body=wanted)


def forecast_rollout(wanted: RolloutRequest) -> Call[RolloutForecast]:
    """Say what a rollout would do, and after how many requests it would see twice as many errors."""
    return Call("POST", f"{API}/rollout-forecasts", json_as(RolloutForecast), body=wanted, repeatable=True)


def plans() -> Call[dict[str, RolloutPlan]]:
    """List the plans that need not be written."""
    return Call("GET", f"{API}/rollouts/plans", json_as(dict[str, RolloutPlan]), repeatable=True)


def rollouts(*, subject: str = "", status: str = "", cursor: str = "", limit: int = 100) -> Call[Page[Rollout]]:
    """List rollouts, newest first."""
    params = {"subject": subject, "cursor": cursor, "limit": limit} | ({"status": status} if status else {})
    return Call("GET", f"{API}/rollouts", json_as(Page[Rollout]), params, repeatable=True)


def rollout(name: str) -> Call[Rollout]:
    """Return a rollout; the name of a model or document stands for its newest one."""
    return Call("GET", f"{API}/rollouts/{segment(name)}", json_as(Rollout), repeatable=True)


def rollout_history(name: str) -> Call[tuple[RolloutTransition, ...]]:
    """List everything that happened to a rollout, oldest first."""
    path = f"{API}/rollouts/{segment(name)}/history"
    return Call("GET", path, json_as(tuple[RolloutTransition, ...]), repeatable=True)


def pause_rollout(name: str, *, reason: str = "") -> Call[Rollout]:
    """Let a rollout keep what it has, and go no further. Failing checks still bring it back."""
    return _move_of(name, "pause", ReasonRequest(reason))


def resume_rollout(name: str, *, reason: str = "") -> Call[Rollout]:
    """Let a paused rollout go on."""
    return _move_of(name, "resume", ReasonRequest(reason))


def promote_rollout(
    name: str, *, to_end: bool = False, reason: str = "", expected_step: int | None = None
) -> Call[Rollout]:
    """Go on by a person's word: past the approval that it waits for, to the next step, or from the last to its end.

    With `expected_step`, the step (`state.step`) that it was seen in, the same word said twice goes one step.
    """
    return _move_of(name, "promote", PromoteRequest(to_end, reason, expected_step))


def abort_rollout(name: str, *, reason: str = "") -> Call[Rollout]:
    """Stop a rollout that is under way, and give the old version everything. The new version may come again."""
    return _move_of(name, "abort", ReasonRequest(reason))


def roll_back_rollout(name: str, *, reason: str = "") -> Call[Rollout]:
    """Give the old version everything, even after the end of the rollout. The new version is latched."""
    return _move_of(name, "rollback", ReasonRequest(reason))


def retry_rollout(name: str, *, override_latch: bool = False, reason: str = "") -> Call[Rollout]:
    """Begin again, from the first step, what was aborted or rolled back."""
    return _move_of(name, "retry", RetryRequest(override_latch, reason))


def _move_of(name: str, verb: str, body: msgspec.Struct) -> Call[Rollout]:
    return Call("POST", f"{API}/rollouts/{segment(name)}/{verb}", json_as(Rollout), body=body)


def alerts(*, status: str = "", rule: str = "", model: str = "", limit: int = 100) -> Call[tuple[Alert, ...]]:
    """List alerts: firing ones first, then pending, then those that are over."""
    params = {"status": status, "rule": rule, "model": model, "limit": limit}
    return Call("GET", f"{API}/alerts", json_as(tuple[Alert, ...]), params, repeatable=True)


def alert_rules() -> Call[tuple[AlertRule, ...]]:
    """List the alert rules, with the thresholds of the server's settings."""
    return Call("GET", f"{API}/alerts/rules", json_as(tuple[AlertRule, ...]), repeatable=True)


def prometheus_rules() -> Call[str]:
    """Return the alert rules as a rule file of Prometheus, in YAML."""
    return Call("GET", f"{API}/alerts/rules/prometheus", lambda answer: answer.text, repeatable=True)


def silences(*, over: bool = False) -> Call[tuple[Silence, ...]]:
    """List silences, the newest first; also those that are over when they are asked for."""
    return Call("GET", f"{API}/alerts/silences", json_as(tuple[Silence, ...]), {"over": over}, repeatable=True)


def silence(matchers: Sequence[str], *, seconds: float, reason: str) -> Call[Silence]:
    """Let nobody be told of alerts that match `model=churn`, `rule=Model*`, `severity!=page`: all of these."""
    body = SilenceRequest(tuple(matchers), seconds, reason)
    return Call("POST", f"{API}/alerts/silences", json_as(Silence), body=body)


def end_silence(silence: str, *, reason: str = "") -> Call[Silence]:
    """End a silence before its time."""
    path = f"{API}/alerts/silences/{segment(silence)}/end"
    return Call("POST", path, json_as(Silence), body=ReasonRequest(reason), repeatable=True)


def try_channels(channel: str = "", *, reason: str = "") -> Call[tuple[Told, ...]]:
    """Tell one channel, or all of them, of nothing in particular, and say what became of it."""
    return Call("POST", f"{API}/alerts/test", json_as(tuple[Told, ...]), body=ChannelTrial(channel, reason))


def deploy(spec: DeploymentSpec, *, reason: str = "") -> Call[Deployment]:
    """Let a version run with replicas, or let a deployment run something else. The same again changes nothing."""
    return Call("POST", f"{API}/deployments", json_as(Deployment), {"reason": reason}, body=spec, repeatable=True)


def deployments(
    *, model: str = "", environment: str = "", status: str = "", cursor: str = "", limit: int = 100
) -> Call[Page[Deployment]]:
    """List deployments, newest first."""
    params = {"model": model, "environment": environment, "status": status, "cursor": cursor, "limit": limit}
    return Call("GET", f"{API}/deployments", json_as(Page[Deployment]), params, repeatable=True)


def deployment(name: str) -> Call[DeploymentStatus]:
    """Return a deployment: what shall run, and how its replicas are in every serving process."""
    return Call("GET", f"{API}/deployments/{segment(name)}", json_as(DeploymentStatus), repeatable=True)


def deployment_health(name: str) -> Call[DeploymentHealth]:
    """Return how a deployment does: requests, latency, errors, resources, over a minute, five minutes and an hour."""
    return Call("GET", f"{API}/deployments/{segment(name)}/health", json_as(DeploymentHealth), repeatable=True)


def undeploy(name: str, *, reason: str = "") -> Call[Deployment]:
    """Forget a deployment; its version goes on without replicas if an alias points to it, else it goes."""
    return Call("DELETE", f"{API}/deployments/{segment(name)}", json_as(Deployment), {"reason": reason})


def record_outcomes(outcomes: Sequence[ReportedOutcome | Mapping[str, Any]]) -> Call[Recorded]:
    """Record what became of decisions or units: all of up to 10,000, or nothing. The same ids again change nothing."""
    try:
        body = msgspec.convert({"outcomes": outcomes}, RecordRequest)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(problem=problem_of(error, RecordRequest), see=SEE_OUTCOMES) from error
    for index, each in enumerate(body.outcomes):
        if not isfinite(each.value):  # JSON would make it null
            raise InvalidOutcomesError(index=index, problem=f"its value is {each.value}")
    return Call("POST", f"{API}/outcomes", json_as(Recorded), body=body, repeatable=True)


def invalidate_answers(ref: str, *, reason: str = "") -> Call[Invalidation]:
    """Let no process give an answer of a version, or of all versions of a model, that was computed before now."""
    body = InvalidateRequest(ref, reason)
    return Call("POST", f"{API}/cache/invalidate", json_as(Invalidation), body=body, repeatable=True)


def cache_status() -> Call[CacheStatus]:
    """Return what is kept of answers, and what the process that answers this has found in it."""
    return Call("GET", f"{API}/cache", json_as(CacheStatus), repeatable=True)


def collect_garbage() -> Call[Garbage]:
    """Delete blobs that nothing has needed for the grace period."""
    return Call("POST", f"{API}/garbage", json_as(Garbage), repeatable=True)


def status() -> Call[ServerStatus]:
    """Return what runs: the revision, the processes, their slots."""
    return Call("GET", f"{API}/status", json_as(ServerStatus), repeatable=True)


def dry_run(call: Call[Any]) -> Call[Rehearsal]:
    """Turn a call that changes something into one that only checks it and says what would happen."""
    params = {**call.params, "dry_run": True}
    return replace(call, params=params, answer=json_as(Rehearsal), repeatable=True)
