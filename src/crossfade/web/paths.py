"""Paths of the data plane as one visible table. A path is decoded once; what is odd afterwards is not found.

There are no redirects: a path works with and without a trailing slash. Segments that name a model take every spelling
of a `ModelRef` that has no slash: `churn`, `churn@challenger`, `churn:1.2.0`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args
from urllib.parse import unquote

import msgspec

from crossfade.core.identity import ModelRef, check_name
from crossfade.errors import InvalidRefError, NotFoundError

Family = Literal["oip", "plain", "mlflow", "ofrep"]
FAMILIES: tuple[Family, ...] = get_args(Family)

TABLE: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v2", "server"),
    ("GET", "/v2/health/live", "live"),
    ("GET", "/v2/health/ready", "ready"),
    ("GET", "/v2/models/stats", "statistics"),  # before the models, one of which may have this name
    ("GET", "/v2/models/{model}", "model"),
    ("GET", "/v2/models/{model}/versions/{version}", "model"),
    ("GET", "/v2/models/{model}/ready", "model_ready"),
    ("GET", "/v2/models/{model}/versions/{version}/ready", "model_ready"),
    ("GET", "/v2/models/{model}/stats", "model_statistics"),
    ("GET", "/v2/models/{model}/versions/{version}/stats", "model_statistics"),
    ("GET", "/v2/models/{model}/config", "configuration"),
    ("GET", "/v2/models/{model}/versions/{version}/config", "configuration"),
    ("POST", "/v2/models/{model}/infer", "infer"),
    ("POST", "/v2/models/{model}/versions/{version}/infer", "infer"),
    ("POST", "/v2/repository/index", "index"),
    ("POST", "/v2/repository/models/{model}/load", "load"),
    ("POST", "/v2/repository/models/{model}/unload", "unload"),
    ("POST", "/api/v1/predict/{model}", "predict"),
    ("POST", "/ofrep/v1/evaluate/flags", "evaluate_flags"),
    ("POST", "/ofrep/v1/evaluate/flags/{flag}", "evaluate_flag"),
    ("POST", "/invocations", "invocations"),
    ("POST", "/models/{model}/invocations", "invocations"),
    ("GET", "/ping", "ping"),
    ("GET", "/health", "ping"),
    ("GET", "/version", "version"),
    ("GET", "/healthz", "healthz"),
    ("GET", "/readyz", "readyz"),
    ("GET", "/metrics", "metrics"),
)
"""Method, path, and the name of a method of a part of `web.dataplane.DataPlane`; the first match counts."""
_OWNED = re.compile(
    r"/(?:(?P<oip>v2)|(?P<ofrep>ofrep)|(?P<plain>api/v1/predict|healthz|readyz|metrics)"
    r"|(?P<mlflow>(models/[^/]+/)?invocations|ping|health|version))(/|$)"
)
_SEGMENT = re.compile(r"[A-Za-z0-9_.@:+-]{1,160}")


class Route(msgspec.Struct, frozen=True):
    """Where a request goes.

    Args:
        action: The name of a method of a part of `web.dataplane.DataPlane`.
        method: GET (HEAD then works too) or POST.
        family: How errors are written: Open Inference Protocol, problem documents, MLflow's, or OpenFeature's.
        ref: The model or version that the path names.
        key: The flag that the path names.
    """

    action: str
    method: str
    family: Family
    ref: ModelRef | None = None
    key: str = ""


_ROUTES = [(tuple(path.split("/")[1:]), method, action) for method, path, action in TABLE]


def family_of(path: str) -> Family | None:
    """Return whose path this is, None when it belongs to the control plane."""
    owned = _OWNED.match(path)
    if owned is None:
        return None
    return next(family for family in FAMILIES if owned[family])


def find_route(path: str) -> Route:
    """Return the route of an undecoded path that `family_of` knows.

    Raises:
        NotFoundError: No route has this path.
        InvalidInputError: It names no possible model or version.

    Example:
        >>> find_route("/v2/models/churn%401.0/infer/").ref
        ModelRef(name='churn', version=None, alias='1.0', stage=None, number=None)
    """
    segments = [unquote(segment) for segment in path.removesuffix("/").split("/")[1:]]
    if all(_SEGMENT.fullmatch(segment) for segment in segments):
        for pattern, method, action in _ROUTES:
            found = _match(pattern, segments)
            if found is not None:
                return Route(action, method, family_of(path) or "plain", _ref(found), found.get("{flag}", ""))
    raise NotFoundError(what=path[:200])


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    found: dict[str, str] = {}
    for want, have in zip(pattern, segments, strict=True):
        if want.startswith("{"):
            found[want] = have
        elif want != have:
            return None
    return found


def _ref(found: dict[str, str]) -> ModelRef | None:
    return parse_ref(found["{model}"], found.get("{version}", "")) if "{model}" in found else None


def parse_ref(model: str, version: str = "") -> ModelRef:
    """Return what a model and perhaps a version of it mean, as every route of the data plane understands them.

    Raises:
        InvalidInputError: They name no possible model or version.

    Example:
        >>> parse_ref("churn", "1.0.0").version
        '1.0.0'
    """
    if not (_SEGMENT.fullmatch(model) and (not version or _SEGMENT.fullmatch(version))):
        raise InvalidRefError(ref=f"{model}:{version}"[:160] if version else model[:160])
    return ModelRef.parse(f"{check_name(model)}:{version}" if version else model)
