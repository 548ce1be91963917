"""Deployments: let a version run with replicas, see how they are and how they do, let it go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from crossfade.errors import ConflictError, NotFoundError
from crossfade.registry.requests import Rehearsal
from crossfade.registry.versions import Page
from crossfade.releases.deployment import (
    Deployment,
    DeploymentHealth,
    DeploymentSpec,
    DeploymentState,
    DeploymentStatus,
)
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

routes = APIRouter(tags=["deployments"])
_REFUSES = (NotFoundError, ConflictError)


@routes.post("/deployments", **documented(Deployment, takes=DeploymentSpec, status=201, changes=True, refuses=_REFUSES))
def deploy(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[DeploymentSpec, body(DeploymentSpec, "crossfade deployments deploy --help")],
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Let a version run with replicas, or let a deployment run something else. The same again answers 200."""
    made, changed = platform.deployments.deploy(wanted, reason=reason, principal=principal, dry_run=dry_run)
    if dry_run:
        many = f"{made.spec.replicas.min} to {made.spec.replicas.most} replicas in each process of `{made.environment}`"
        return answer(Rehearsal(f"run {made.model}:{made.version} with {many}" if changed else "change nothing"))
    if changed:
        log_change(request, "deployment.deploy", principal, deployment=made.name, generation=made.generation)
    return answer(made, 201 if changed else 200)


@routes.get("/deployments", **documented(Page[Deployment]))
def list_deployments(
    platform: Open,
    model: Annotated[str, Query(description="only those of this model", max_length=64)] = "",
    environment: Annotated[str, Query(description="only those in this environment", max_length=64)] = "",
    status: Annotated[DeploymentState | None, Query(description="only those with this status")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List deployments, newest first."""
    where = "" if status is None else status.value
    page = platform.deployments.list(model=model, environment=environment, status=where, cursor=cursor, limit=limit)
    return answer(page)


@routes.get("/deployments/{deployment}", **documented(DeploymentStatus, refuses=(NotFoundError,)))
def show_deployment(deployment: str, platform: Open) -> Response:
    """Show a deployment: what shall run, and how its replicas are in every serving process."""
    return answer(platform.deployments.status(deployment))


@routes.get("/deployments/{deployment}/health", **documented(DeploymentHealth, refuses=(NotFoundError,)))
def show_deployment_health(deployment: str, platform: Open) -> Response:
    """Show how a deployment does: requests, latency, errors, resources, over a minute, five minutes and an hour."""
    return answer(platform.deployments.health(deployment))


@routes.delete("/deployments/{deployment}", **documented(Deployment, changes=True, refuses=(NotFoundError,)))
def undeploy(
    deployment: str,
    platform: Open,
    principal: Principal,
    request: Request,
    reason: Reason = "",
    dry_run: DryRun = False,
) -> Response:
    """Forget a deployment. Its version goes on as it would without one, if an alias points to it; else it goes."""
    former = platform.deployments.undeploy(deployment, reason=reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"undeploy {former.name}, which runs {former.model}:{former.version}"))
    log_change(request, "deployment.undeploy", principal, deployment=former.name)
    return answer(former)
