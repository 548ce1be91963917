"""Configs: write a version down, check it, see its impact, approve, activate, take it back; and read what is active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response

from crossfade.configs.active import ReadConfig
from crossfade.configs.difference import Difference
from crossfade.configs.reading import ANY, LONGEST_WAIT
from crossfade.configs.record import Config, ConfigStatus, ConfigVersion, MovedConfig
from crossfade.configs.reports import DriftReport, ImpactReport
from crossfade.configs.requests import ActivateRequest, DeployConfigRequest, DraftRequest, ImpactRequest
from crossfade.errors import ConflictError, MalformedRequestError, NotFoundError, UnsafeError
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.registry.versions import Page
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import Rollout
from crossfade.web.api.contract import Cursor, DryRun, Limit, Open, Principal, answer, body, documented, log_change

routes = APIRouter(tags=["configs"])
RETRY_AFTER_SECONDS = 5
"""When a reader that could not be let wait shall ask again."""
_REFUSES = (NotFoundError, ConflictError)
Number = Annotated[int, Path(description="of a version", ge=1, le=2**31 - 1)]
_VERSION = "/configs/{config}/versions/{number}"
_READING = documented(ReadConfig, refuses=(NotFoundError,))
_READING["responses"] |= {304: {"description": "What the reader has is still true"}}


@routes.get("/configs", **documented(Page[Config]))
def list_configs(platform: Open, cursor: Cursor = "", limit: Limit = 100) -> Response:
    """List configs, newest first."""
    return answer(platform.configs.verbs.list(cursor=cursor, limit=limit))


@routes.get("/configs/{config}", **documented(Config, refuses=(NotFoundError,)))
def show_config(config: str, platform: Open) -> Response:
    """Show a config: which version is active, and what documents have to be."""
    return answer(platform.configs.verbs.find(config))


@routes.head("/configs/{config}/active", include_in_schema=False)
@routes.get("/configs/{config}/active", **_READING)
async def read_config(
    config: str,
    platform: Open,
    unit: Annotated[str, Query(description="whom it is for: a rollout gives units different versions")] = "",
    context: Annotated[str, Query(description="what segments of a rollout look at: a JSON object")] = "",
    wait_seconds: Annotated[
        float, Query(description="with `If-None-Match`: how long to wait for something new", ge=0, le=LONGEST_WAIT)
    ] = 0.0,
    if_none_match: Annotated[str, Header(description="the `ETag` of what the reader has")] = "",
    x_client_id: Annotated[str, Header(description="who reads, to find out who runs what", max_length=128)] = "",
) -> Response:
    """Read the document that is active for a unit. 304 when the reader has it already."""
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",") if tag.strip()]
    if x_client_id and platform.configs.readers.knows(config):
        platform.configs.drift.hear(config, x_client_id, unit, _digest_in(known))
    found, refused = await platform.configs.readers.wait(
        config, known, unit=unit or None, context=_context(context), seconds=wait_seconds if known else 0.0
    )
    headers = {"cache-control": "no-cache"}
    if refused:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if found is not None and found.variant and unit:
        exposure = platform.configs.readers.exposure(config, unit, _context(context))
        if exposure is not None:
            platform.ledger.expose(exposure)
    if found is None:
        return Response(status_code=304, headers=headers | {"etag": _its_tag(platform, config, known, unit, context)})
    made = answer(found)
    made.headers.update(headers | {"etag": found.etag})
    return made


@routes.get("/configs/{config}/drift", **documented(DriftReport, refuses=(NotFoundError,)))
def show_config_drift(config: str, platform: Open) -> Response:
    """Show which clients run something else than they should read, and which have not been heard of for a while."""
    return answer(platform.configs.drift.report(config))


@routes.get("/configs/{config}/versions", **documented(Page[ConfigVersion], refuses=(NotFoundError,)))
def list_config_versions(
    config: str,
    platform: Open,
    status: Annotated[ConfigStatus | None, Query(description="only those with this status")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List the versions of a config without their documents, newest first."""
    where = "" if status is None else status.value
    return answer(platform.configs.verbs.versions(config, status=where, cursor=cursor, limit=limit))


@routes.post(
    "/configs/{config}/versions",
    **documented(ConfigVersion, takes=DraftRequest, status=201, changes=True, refuses=_REFUSES),
)
def draft_config(
    config: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[DraftRequest, body(DraftRequest, "crossfade configs draft --help")],
    dry_run: DryRun = False,
) -> Response:
    """Write a version down. The same document as the newest version's answers 200 instead of 201."""
    made, new = platform.configs.verbs.draft(
        config,
        bytes(wanted.document),
        spec=wanted.spec,
        reason=wanted.reason,
        principal=principal,
        dry_run=dry_run,
    )
    if dry_run:
        return answer(Rehearsal(f"write down version {made.number} of config {config}"))
    if new:
        log_change(request, "config.draft", principal, config=config, number=made.number)
    return answer(made, 201 if new else 200)


@routes.get(_VERSION, **documented(ConfigVersion, refuses=(NotFoundError,)))
def show_config_version(config: str, number: Number, platform: Open) -> Response:
    """Show a version with its document, and what its checks found."""
    return answer(platform.configs.verbs.version(config, number))


@routes.get(f"{_VERSION}/diff", **documented(tuple[Difference, ...], refuses=(NotFoundError,)))
def diff_config(
    config: str,
    number: Number,
    platform: Open,
    against: Annotated[int | None, Query(description="another version; default the active one", ge=1)] = None,
) -> Response:
    """Show what a version changes, as a JSON Patch with what was there before."""
    return answer(platform.configs.verbs.diff(config, number, against))


@routes.post(f"{_VERSION}/validate", **documented(ConfigVersion, takes=ReasonRequest, changes=True, refuses=_REFUSES))
def validate_config(
    config: str,
    number: Number,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade configs validate --help")],
    dry_run: DryRun = False,
) -> Response:
    """Run the checks of a version: its schema, its rules, and whether what it names exists."""
    after = platform.configs.verbs.validate(config, number, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        found = "" if after.validation is None else after.validation.problem
        return answer(
            Rehearsal(f"make version {number} of config {config} {after.status.value}" + (found and f": {found}"))
        )
    log_change(request, "config.validate", principal, config=config, number=number, status=after.status.value)
    return answer(after)


@routes.post(
    f"{_VERSION}/impact", **documented(ImpactReport, takes=ImpactRequest, refuses=(NotFoundError, UnsafeError))
)
def assess_config(
    config: str,
    number: Number,
    platform: Open,
    wanted: Annotated[ImpactRequest, body(ImpactRequest, "crossfade configs impact --help")],
) -> Response:
    """Find out what a version would change: its text, the units that read it, the answers of the declared models."""
    report = platform.configs.impact.assess(
        config, number, against=wanted.against, rows=wanted.rows, limit=max(1, wanted.limit)
    )
    return answer(report)


@routes.post(
    f"{_VERSION}/approve",
    **documented(ConfigVersion, takes=ReasonRequest, changes=True, refuses=(*_REFUSES, UnsafeError)),
)
def approve_config(
    config: str,
    number: Number,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade configs approve --help")],
    dry_run: DryRun = False,
) -> Response:
    """Agree that a version may be read; whoever wrote it may not."""
    after = platform.configs.verbs.approve(config, number, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"approve version {number} of config {config}"))
    log_change(request, "config.approve", principal, config=config, number=number)
    return answer(after)


@routes.post(
    f"{_VERSION}/activate",
    **documented(MovedConfig, takes=ActivateRequest, changes=True, refuses=(*_REFUSES, UnsafeError)),
)
def activate_config(
    config: str,
    number: Number,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ActivateRequest, body(ActivateRequest, "crossfade configs activate --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let everybody read an approved version, or a former one, from now on."""
    after = platform.configs.verbs.activate(
        config, number, expected=wanted.expected, reason=wanted.reason, principal=principal, dry_run=dry_run
    )
    return _moved(request, platform, "activate", after, principal, dry_run=dry_run)


@routes.post(
    f"{_VERSION}/deploy",
    **documented(Rollout, takes=DeployConfigRequest, status=201, changes=True, refuses=(*_REFUSES, UnsafeError)),
)
def deploy_config(
    config: str,
    number: Number,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[DeployConfigRequest, body(DeployConfigRequest, "crossfade configs deploy --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let units read an approved version one after the other, by the plan of a rollout."""
    asked = RolloutRequest(config, str(number), wanted.plan, "config", wanted.reason)
    made = platform.rollouts.create(asked, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"roll version {number} of config {config} out in {len(made.plan.steps)} steps"))
    log_change(request, "rollout.create", principal, rollout=made.name, candidate=made.candidate)
    return answer(made.shown(), 201)


@routes.post(
    "/configs/{config}/rollback",
    **documented(MovedConfig, takes=ReasonRequest, changes=True, refuses=(*_REFUSES, UnsafeError)),
)
def roll_back_config(
    config: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade configs rollback --help")],
    dry_run: DryRun = False,
) -> Response:
    """Let everybody read the version that was active before; the present one has to be approved anew."""
    after = platform.configs.verbs.rollback(config, reason=wanted.reason, principal=principal, dry_run=dry_run)
    return _moved(request, platform, "rollback", after, principal, dry_run=dry_run)


def _moved(request: Request, platform: Open, verb: str, after: Config, principal: str, *, dry_run: bool) -> Response:
    if dry_run:
        return answer(Rehearsal(f"make version {after.active} of config {after.name} active"))
    log_change(request, f"config.{verb}", principal, config=after.name, number=after.active)
    return answer(MovedConfig(**msgspec.structs.asdict(after), behind=platform.configs.readers.refresh()))


def _its_tag(platform: Open, config: str, known: list[str], unit: str, context: str) -> str:
    """Return the tag of what a reader still has: of several it is the present one."""
    if len(known) == 1 and known[0] != ANY:
        return known[0]
    now = platform.configs.readers.read(config, unit or None, _context(context)).etag
    return now if now in known or ANY in known else known[0]


def _context(text: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`context`: {error}") from error


def _digest_in(tags: list[str]) -> str:
    return tags[0].strip('"').rpartition("-")[2] if tags else ""
