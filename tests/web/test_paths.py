from __future__ import annotations

import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import InvalidInputError, NotFoundError
from crossfade.web.dataplane import PARTS
from crossfade.web.paths import TABLE, family_of, find_route


@pytest.mark.parametrize(
    ("path", "action", "ref"),
    [
        ("/v2", "server", None),
        ("/v2/", "server", None),
        ("/v2/health/live", "live", None),
        ("/v2/health/ready/", "ready", None),
        ("/v2/models/lr", "model", "lr@champion"),
        ("/v2/models/lr/versions/1.2.0", "model", "lr:1.2.0"),
        ("/v2/models/lr/ready", "model_ready", "lr@champion"),
        ("/v2/models/lr/versions/v1.2.0/ready", "model_ready", "lr:1.2.0"),
        ("/v2/models/stats", "statistics", None),
        ("/v2/models/lr/stats", "model_statistics", "lr@champion"),
        ("/v2/models/stats@champion", "model", "stats@champion"),
        ("/v2/models/stats/stats", "model_statistics", "stats@champion"),
        ("/v2/models/lr/versions/1.2.0/stats/", "model_statistics", "lr:1.2.0"),
        ("/v2/models/lr/config", "configuration", "lr@champion"),
        ("/v2/models/lr/versions/1.2.0/config", "configuration", "lr:1.2.0"),
        ("/v2/models/lr/infer", "infer", "lr@champion"),
        ("/v2/models/lr/versions/3/infer/", "infer", "models:/lr/3"),
        ("/v2/models/lr@challenger/infer", "infer", "lr@challenger"),
        ("/v2/repository/index", "index", None),
        ("/v2/repository/models/lr/load", "load", "lr@champion"),
        ("/v2/repository/models/lr/unload", "unload", "lr@champion"),
        ("/api/v1/predict/lr", "predict", "lr@champion"),
        ("/api/v1/predict/lr:1.2.0/", "predict", "lr:1.2.0"),
        ("/api/v1/predict/lr%3A1.2.0", "predict", "lr:1.2.0"),
        ("/api/v1/predict/lr%40challenger", "predict", "lr@challenger"),
        ("/invocations", "invocations", None),
        ("/models/lr/invocations", "invocations", "lr@champion"),
        ("/models/lr:1.2.0/invocations/", "invocations", "lr:1.2.0"),
        ("/ping", "ping", None),
        ("/health/", "ping", None),
        ("/version", "version", None),
        ("/healthz", "healthz", None),
        ("/readyz/", "readyz", None),
        ("/metrics", "metrics", None),
    ],
)
def test_routes(path, action, ref):
    route = find_route(path)
    assert route.action == action
    assert route.ref == (None if ref is None else ModelRef.parse(ref))
    mlflow = ("/invocations", "/models/", "/ping", "/health/", "/version")
    family = "oip" if path.startswith("/v2") else "mlflow" if path.startswith(mlflow) else "plain"
    assert family_of(path) == route.family == family


def test_every_route_has_an_action():
    for method, _, action in TABLE:
        assert method in {"GET", "POST"}
        assert [callable(getattr(part, action, None)) for part in PARTS].count(True) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v3",
        "/v20",
        "/api/v1/models",
        "/api/v1/predictions",
        "/metricsx",
        "/docs",
        "/models",
        "/models/x",
        "/versions",
        "",
    ],
)
def test_other_paths_belong_to_the_control_plane(path):
    assert family_of(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models",
        "/v2//",
        "//v2",
        "/v2//models/lr",
        "/v2/models//infer",
        "/v2/models/lr/infer//",
        "/v2/models/lr/infer/extra",
        "/v2/models/lr/statistics",
        "/v2/models/lr/config/x",
        "/v2/stats",
        "/v2/models/../lr",
        "/v2/./health/live",
        "/v2/health/%2e%2e/live",
        "/v2/models/lr%2Finfer",
        "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/infer",
        "/v2/models/%252e%252e/infer",
        "/v2/models/..%5c..%5cwindows/infer",
        "/v2/models/lr%00/infer",
        "/v2/models/lr;x=1/infer",
        "/v2/models/lr\\..\\x/infer",
        "/v2/models/lr%0d%0aset-cookie/infer",
        "/v2/models/%ff%fe/infer",
        "/v2/models/" + "a" * 500 + "/infer",
        "/api/v1/predict",
        "/api/v1/predict/",
        "/healthz/x",
    ],
)
def test_odd_paths_are_not_found(path):
    with pytest.raises(NotFoundError):
        find_route(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/../infer",
        "/v2/models/%2e%2e/infer",
        "/v2/models/UPPER/infer",
        "/v2/models/-x/infer",
        "/v2/models/lr@/infer",
        "/v2/models/lr@A/infer",
        "/v2/models/lr/versions/../infer",
        "/v2/models/lr:1.0.0/versions/1.0.0/infer",
        "/v2/models/lr@champion/versions/1.0.0",
        "/api/v1/predict/..",
    ],
)
def test_names_that_cannot_be_are_refused(path):
    with pytest.raises((NotFoundError, InvalidInputError)):
        find_route(path)
