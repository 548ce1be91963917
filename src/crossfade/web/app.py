"""The application: the bare data plane in front, the control plane (FastAPI, `/api/v1`) behind it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Scope

import crossfade
from crossfade.ledger.known import KnownExperiments
from crossfade.platform import Platform
from crossfade.web import problems
from crossfade.web.api import (
    alerts,
    aliases,
    blobs,
    cache,
    configs,
    deployments,
    experiments,
    jobs,
    models,
    rollouts,
    safety,
    system,
    versions,
)
from crossfade.web.api.contract import schemas
from crossfade.web.budget import BodyBudget
from crossfade.web.guard import BodyGuard
from crossfade.web.outcomes import OutcomeIntake, outcome_paths
from crossfade.web.reference import render_reference
from crossfade.web.security import ControlGuard

API = "/api/v1"
PARTS = (
    models,
    versions,
    aliases,
    blobs,
    jobs,
    experiments,
    rollouts,
    deployments,
    configs,
    safety,
    alerts,
    cache,
    system,
)
"""Where the routes are, in the order of the documentation."""


def create_app(platform: Platform, bodies: BodyBudget | None = None) -> ASGIApp:
    """Return one ASGI application: both planes when the platform serves, else the control plane alone.

    Args:
        platform: Opening and closing it is left to the caller.
        bodies: Counts the large bodies of the process, when others than the application hold some.
    """
    http = platform.settings.http
    bodies = bodies or BodyBudget(http)
    control: ASGIApp = ControlGuard(BodyGuard(create_control_plane(platform), http, bodies, blobs.reads_own_body), http)
    control = OutcomeIntake(platform.ledger, KnownExperiments(platform.database), http, control, bodies)
    if platform.runtime is None:
        return control
    from crossfade.web.dataplane import DataPlane  # a command that serves nothing starts faster without it

    return DataPlane(platform.runtime.predictions, platform.runtime.flags, http, control, bodies)


async def warm_up(app: ASGIApp) -> None:
    """Ask for a path of the control plane that does not exist, before anybody else asks for anything.

    FastAPI builds the routes of a part when a request is first compared with them. It takes 60 ms in all, on the event
    loop, and whoever wanted a prediction meanwhile would wait for it.
    """
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"{API}/-",
        "raw_path": f"{API}/-".encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 0),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(_answer: Message) -> None:
        """Nobody wants to know."""

    await app(scope, receive, send)


def create_control_plane(platform: Platform) -> FastAPI:
    """Return the control plane alone, without its guards."""
    app = FastAPI(
        title="Crossfade",
        version=crossfade.__version__,
        summary="Release machine-learning models",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.platform = platform
    app.state.upload_places = asyncio.Semaphore(blobs.CONCURRENT_UPLOADS)
    problems.install(app)
    for part in PARTS:
        app.include_router(part.routes, prefix=API)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas()  # of the routes: FastAPI copies what they say
            document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            document["paths"] |= outcome_paths()
            if platform.runtime is not None:
                from crossfade.web.documentation import data_plane_paths  # as the data plane itself

                document["paths"] |= data_plane_paths()
            document.setdefault("components", {})["schemas"] = schemas()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way of extending it

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        return render_reference(app.openapi())

    return app
