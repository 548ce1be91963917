"""Versions: publish, list, show, compare, change the stage, deprecate, delete, verify, download."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from crossfade.core.compatibility import SignatureDiff, compare_signatures
from crossfade.core.identity import Semver, check_name
from crossfade.errors import (
    ConflictError,
    MalformedRequestError,
    NotFoundError,
    PredictionError,
    UnsafeError,
    VersionConflictError,
)
from crossfade.registry.acceptance import read_manifest
from crossfade.registry.comparison import ComparisonReport
from crossfade.registry.packaging import check_signature
from crossfade.registry.port import RegistryBackend
from crossfade.registry.publication import check_bump, suggest_version
from crossfade.registry.registration import next_version
from crossfade.registry.requests import (
    EnsembleRequest,
    PublishRequest,
    ReasonRequest,
    Rehearsal,
    SignatureRequest,
    TransitionRequest,
    VersionDetails,
)
from crossfade.registry.verification import VerifyReport
from crossfade.registry.versions import Manifest, Page, StageChange, Version
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
from crossfade.web.api.rehearsal import registry_of

routes = APIRouter(tags=["versions"])


@routes.get("/models/{name}/versions", **documented(Page[Version], refuses=(NotFoundError,)))
def list_versions(
    name: str,
    platform: Open,
    stage: Annotated[str, Query(description="only versions in this stage", max_length=64)] = "",
    prefix: Annotated[str, Query(description="only a line such as `2.` or `2.1.`", max_length=32)] = "",
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List the versions of a model, newest first."""
    found = platform.registry.list_versions(name, stage=stage, prefix=prefix, cursor=cursor, limit=limit)
    return answer(found)


@routes.post(
    "/models/{name}/versions",
    **documented(
        Version, takes=PublishRequest, changes=True, refuses=(NotFoundError, ConflictError, UnsafeError), status=201
    ),
)
def publish_version(
    name: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[PublishRequest, body(PublishRequest, "crossfade models register --help")],
    dry_run: DryRun = False,
) -> Response:
    """Make a version visible whose blobs are stored. Publishing the same manifest again answers 200 instead of 201."""
    manifest = wanted.manifest
    if manifest.name != name:
        raise MalformedRequestError(problem=f"the manifest is of `{manifest.name[:64]}`, the path names `{name[:64]}`")
    registry = platform.registry
    if dry_run:
        return answer(Rehearsal(_rehearse(registry.backend, read_manifest(manifest))))
    version, new = registry.publish(manifest, principal=principal)
    if wanted.holder:
        registry.release(wanted.holder)
    if new:
        log_change(request, "version.publish", principal, ref=version.ref)
    return answer(version, 201 if new else 200)


@routes.post(
    "/models/{name}/ensembles",
    **documented(
        Version,
        takes=EnsembleRequest,
        changes=True,
        refuses=(NotFoundError, ConflictError, UnsafeError, PredictionError),
        status=201,
    ),
)
def register_ensemble(
    name: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[EnsembleRequest, body(EnsembleRequest, "crossfade models ensemble --help")],
    dry_run: DryRun = False,
) -> Response:
    """Register versions that answer together as a new version; they are pinned, loaded and tried out here."""
    registry = platform.registry
    check_name(name)
    if dry_run:
        draft = registry.pack_ensemble(wanted.spec, wanted.card)
        version = str(Semver.parse(wanted.version)) if wanted.version else next_version(registry.backend, draft, name)
        return answer(Rehearsal(_rehearse(registry.backend, read_manifest(draft.manifest(name, version)))))
    registered = registry.register_ensemble(
        name, wanted.spec, version=wanted.version, card=wanted.card, principal=principal
    )
    log_change(request, "version.publish", principal, ref=registered.ref)
    return answer(registered, 201)


@routes.get("/versions/{ref}", **documented(VersionDetails, refuses=(NotFoundError, UnsafeError)))
def show_version(ref: str, platform: Open) -> Response:
    """Show everything about the version that a reference means: its record, its content, its card."""
    registry = platform.registry
    version = registry.resolve(ref)
    return answer(VersionDetails(version, registry.backend.manifest(version), registry.backend.card(version)))


@routes.delete("/versions/{ref}", **documented(Version, changes=True, refuses=(NotFoundError, ConflictError)))
def delete_version(
    ref: str, platform: Open, principal: Principal, request: Request, reason: Reason = "", dry_run: DryRun = False
) -> Response:
    """Forget a version that nothing refers to; its former record is answered."""
    version = registry_of(platform, dry_run=dry_run).delete(ref, reason=reason, principal=principal)
    if dry_run:
        return answer(Rehearsal(f"delete {version.ref}"))
    log_change(request, "version.delete", principal, ref=version.ref, reason=reason)
    return answer(version)


@routes.post(
    "/versions/{ref}/transition",
    **documented(Version, takes=TransitionRequest, changes=True, refuses=(NotFoundError, ConflictError, UnsafeError)),
)
def transition_version(
    ref: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[TransitionRequest, body(TransitionRequest, "crossfade models transition --help")],
    dry_run: DryRun = False,
) -> Response:
    """Move a version to another stage."""
    registry = registry_of(platform, dry_run=dry_run)
    before = registry.resolve(ref)
    after = registry.transition(before.ref, wanted.stage, reason=wanted.reason, principal=principal)
    if dry_run:
        return answer(Rehearsal(f"move {after.ref} from stage {before.stage} to {wanted.stage}"))
    log_change(request, "version.transition", principal, ref=after.ref, source=before.stage, target=after.stage)
    return answer(after)


@routes.post(
    "/versions/{ref}/deprecate", **documented(Version, takes=ReasonRequest, changes=True, refuses=(NotFoundError,))
)
def deprecate_version(
    ref: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade models deprecate --help")],
    dry_run: DryRun = False,
) -> Response:
    """Mark a version as deprecated; it stays usable."""
    version = registry_of(platform, dry_run=dry_run).deprecate(ref, reason=wanted.reason, principal=principal)
    if dry_run:
        return answer(Rehearsal(f"deprecate {version.ref}"))
    log_change(request, "version.deprecate", principal, ref=version.ref, reason=wanted.reason)
    return answer(version)


@routes.post(
    "/versions/{ref}/verify", **documented(VerifyReport, refuses=(NotFoundError, UnsafeError, PredictionError))
)
def verify_version(ref: str, platform: Open) -> Response:
    """Read every byte of a version, load it, and ask it its golden requests."""
    return answer(platform.verify(ref))


@routes.post(
    "/versions/{ref}/compatibility",
    **documented(SignatureDiff, takes=SignatureRequest, refuses=(NotFoundError, UnsafeError)),
)
def check_compatibility(
    ref: str,
    platform: Open,
    wanted: Annotated[SignatureRequest, body(SignatureRequest, "crossfade models compatibility --help")],
) -> Response:
    """Say what callers of a version would meet with a new signature."""
    check_signature(wanted.signature)
    return answer(compare_signatures(platform.registry.manifest(ref).signature, wanted.signature))


@routes.get("/versions/{ref}/history", **documented(Page[StageChange], refuses=(NotFoundError,)))
def list_stage_changes(ref: str, platform: Open, cursor: Cursor = "", limit: Limit = 100) -> Response:
    """List the stage changes of a version, newest first."""
    version = platform.registry.resolve(ref)
    history = platform.registry.backend.stage_history(version.model, version.version, cursor=cursor, limit=limit)
    return answer(history)


@routes.get(
    "/versions/{ref}/files/{path:path}",
    **documented(bytes, media_types=("*/*",), refuses=(NotFoundError, UnsafeError)),
)
def download_file(
    ref: str,
    path: str,
    platform: Open,
    if_none_match: Annotated[str, Header(description="an ETag that the client has", max_length=200)] = "",
) -> Response:
    """Download one file of a version (`manifest.json` is the manifest). Check its SHA-256 against the manifest."""
    entry, stream = platform.registry.open_file(ref, path)
    etag = f'"{entry.digest}"'
    if if_none_match == etag:
        stream.close()
        return Response(status_code=304, headers={"etag": etag})
    headers = {
        "content-length": str(entry.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(entry.path.rpartition('/')[2])}",
        "etag": etag,
    }
    return StreamingResponse(pieces_of(stream), headers=headers, media_type=entry.media_type)


@routes.get("/compare", **documented(ComparisonReport, refuses=(NotFoundError, UnsafeError)))
def compare_versions(
    platform: Open,
    a: Annotated[str, Query(description="a reference", max_length=200)],
    b: Annotated[str, Query(description="another reference", max_length=200)],
) -> Response:
    """Compare two versions: evaluations, signatures, parameters, size."""
    return answer(platform.registry.compare(a, b))


def _rehearse(backend: RegistryBackend, manifest: Manifest) -> str:
    """Say what publishing would do. The files are not asked for, because a dry run sends none."""
    known = backend.find_version(manifest.name, manifest.version)
    if known is None:
        check_bump(backend, manifest)
        return f"register {manifest.ref}"
    if known.manifest_digest != manifest.digest:
        raise VersionConflictError(ref=manifest.ref, proposed=suggest_version(backend, manifest))
    return f"change nothing: {manifest.ref} is registered"
