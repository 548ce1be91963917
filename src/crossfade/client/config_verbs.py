"""Every call of the REST interface about configs: the names and arguments that `Client` and `AsyncClient` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from crossfade.client.calls import Call, json_as, segment
from crossfade.configs.active import ReadConfig
from crossfade.configs.difference import Difference
from crossfade.configs.document import document_of, read_document
from crossfade.configs.record import Config, ConfigVersion, MovedConfig
from crossfade.configs.reports import DriftReport, ImpactReport
from crossfade.configs.requests import ActivateRequest, DeployConfigRequest, DraftRequest, ImpactRequest
from crossfade.configs.spec import ConfigSpec
from crossfade.registry.requests import ReasonRequest
from crossfade.registry.versions import Page
from crossfade.releases.rollout import Rollout

CONFIGS = "/api/v1/configs"


def configs(*, cursor: str = "", limit: int = 100) -> Call[Page[Config]]:
    """List configs, newest first."""
    return Call("GET", CONFIGS, json_as(Page[Config]), {"cursor": cursor, "limit": limit}, repeatable=True)


def config_status(name: str) -> Call[Config]:
    """Return a config: which version is active, and what documents have to be. `config` reads the document."""
    return Call("GET", f"{CONFIGS}/{segment(name)}", json_as(Config), repeatable=True)


def config_versions(name: str, *, status: str = "", cursor: str = "", limit: int = 100) -> Call[Page[ConfigVersion]]:
    """List the versions of a config without their documents, newest first."""
    params = {"status": status, "cursor": cursor, "limit": limit}
    path = f"{CONFIGS}/{segment(name)}/versions"
    return Call("GET", path, json_as(Page[ConfigVersion]), params, repeatable=True)


def config_version(name: str, number: int) -> Call[ConfigVersion]:
    """Return a version of a config with its document, and what its checks found."""
    return Call("GET", _version(name, number), json_as(ConfigVersion), repeatable=True)


def draft_config(
    name: str, document: Mapping[str, Any] | bytes | str, *, spec: ConfigSpec | None = None, reason: str = ""
) -> Call[ConfigVersion]:
    """Write a version of a config down: a JSON object or its text. The same as the newest version changes nothing."""
    read = read_document(document, name) if isinstance(document, bytes | str) else document_of(dict(document), name)
    body = DraftRequest(msgspec.Raw(read.text.encode()), spec, reason)
    return Call("POST", f"{CONFIGS}/{segment(name)}/versions", json_as(ConfigVersion), body=body, repeatable=True)


def validate_config(name: str, number: int, *, reason: str = "") -> Call[ConfigVersion]:
    """Run the checks of a version: its schema, its rules, and whether what it names exists."""
    path = f"{_version(name, number)}/validate"
    return Call("POST", path, json_as(ConfigVersion), body=ReasonRequest(reason), repeatable=True)


def config_diff(name: str, number: int, *, against: int | None = None) -> Call[tuple[Difference, ...]]:
    """Return what a version changes, compared with the active one or another."""
    path = f"{_version(name, number)}/diff"
    return Call("GET", path, json_as(tuple[Difference, ...]), {"against": against}, repeatable=True)


def config_impact(
    name: str,
    number: int,
    *,
    against: int | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    limit: int = 1_000,
) -> Call[ImpactReport]:
    """Find out what a version would change: its text, the units that read it, the answers of the declared models."""
    body = ImpactRequest(against, tuple(map(dict, rows)), limit)
    return Call("POST", f"{_version(name, number)}/impact", json_as(ImpactReport), body=body, repeatable=True)


def approve_config(name: str, number: int, *, reason: str = "") -> Call[ConfigVersion]:
    """Agree that a version may be read; whoever wrote it may not."""
    path = f"{_version(name, number)}/approve"
    return Call("POST", path, json_as(ConfigVersion), body=ReasonRequest(reason), repeatable=True)


def activate_config(name: str, number: int, *, expected: int | None = None, reason: str = "") -> Call[MovedConfig]:
    """Let everybody read an approved version from now on; `expected` is what has to be active now, 0 for none."""
    body = ActivateRequest(expected, reason)
    path = f"{_version(name, number)}/activate"
    return Call("POST", path, json_as(MovedConfig), body=body, repeatable=expected is None)


def deploy_config(name: str, number: int, *, plan: str = "careful", reason: str = "") -> Call[Rollout]:
    """Let units read an approved version one after the other, by the plan of a rollout."""
    path = f"{_version(name, number)}/deploy"
    return Call("POST", path, json_as(Rollout), body=DeployConfigRequest(plan, reason))


def roll_back_config(name: str, *, reason: str = "") -> Call[MovedConfig]:
    """Let everybody read the version that was active before; the present one has to be approved anew."""
    return Call("POST", f"{CONFIGS}/{segment(name)}/rollback", json_as(MovedConfig), body=ReasonRequest(reason))


def read_config(
    name: str,
    *,
    unit: str = "",
    context: Mapping[str, Any] | None = None,
    known: str = "",
    wait_seconds: float = 0.0,
    client: str = "",
) -> Call[ReadConfig | None]:
    """Return what a unit reads of a config; None when that is still what `known`, an entity tag, says.

    `client` is who reads, to find out who runs what. `Client.config` keeps and follows a config in one object.
    """
    params = {
        "unit": unit,
        "context": "" if context is None else msgspec.json.encode(dict(context)).decode(),
        "wait_seconds": wait_seconds or None,
    }
    headers = {"if-none-match": known, "x-client-id": client}
    headers = {header: value for header, value in headers.items() if value}
    path = f"{CONFIGS}/{segment(name)}/active"
    return Call("GET", path, _unless_known, params, headers=headers, repeatable=True)


def config_drift(name: str) -> Call[DriftReport]:
    """Return which clients run something else than they should read, and which have not been heard of for a while."""
    return Call("GET", f"{CONFIGS}/{segment(name)}/drift", json_as(DriftReport), repeatable=True)


def _version(name: str, number: int) -> str:
    return f"{CONFIGS}/{segment(name)}/versions/{int(number)}"


def _unless_known(answer: httpx.Response) -> ReadConfig | None:
    return None if answer.status_code == httpx.codes.NOT_MODIFIED else json_as(ReadConfig)(answer)
