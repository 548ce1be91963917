"""Models: list, show, what happened to them, which version should come next."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from crossfade.core.compatibility import compare_signatures
from crossfade.errors import NotFoundError, UnsafeError
from crossfade.registry.histories import entry_of
from crossfade.registry.packaging import check_signature
from crossfade.registry.requests import HistoryEntry, Proposal, SignatureRequest
from crossfade.registry.versions import Page, RegisteredModel
from crossfade.web.api.contract import Cursor, Limit, Open, answer, body, documented

routes = APIRouter(tags=["models"])


@routes.get("/models", **documented(Page[RegisteredModel]))
def list_models(
    platform: Open,
    prefix: Annotated[str, Query(description="only names that begin so", max_length=64)] = "",
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List models in the order of their names."""
    return answer(platform.registry.list_models(prefix=prefix, cursor=cursor, limit=limit))


@routes.get("/models/{name}", **documented(RegisteredModel, refuses=(NotFoundError,)))
def show_model(name: str, platform: Open) -> Response:
    """Show a model: how many versions it has, where its aliases point."""
    return answer(platform.registry.model(name))


@routes.get("/models/{name}/history", **documented(Page[HistoryEntry], refuses=(NotFoundError,)))
def list_history(name: str, platform: Open, cursor: Cursor = "", limit: Limit = 100) -> Response:
    """List what happened to a model's aliases and to the stages of its versions, newest first: who, when, why."""
    page = platform.registry.history(name, cursor=cursor, limit=limit)
    return answer(Page(tuple(map(entry_of, page.items)), page.next_cursor))


@routes.post("/models/{name}/proposal", **documented(Proposal, takes=SignatureRequest, refuses=(UnsafeError,)))
def propose_version(
    name: str,
    platform: Open,
    wanted: Annotated[SignatureRequest, body(SignatureRequest, "crossfade models compatibility --help")],
) -> Response:
    """Say which semver should come next, by what a new signature changes."""
    check_signature(wanted.signature)
    registry = platform.registry
    version = registry.propose_version(name, wanted.signature)
    highest = registry.backend.highest_version(name)
    if highest is None:
        return answer(Proposal(str(version), "major"))
    difference = compare_signatures(registry.backend.manifest(highest).signature, wanted.signature)
    return answer(Proposal(str(version), difference.required, difference.changes))
