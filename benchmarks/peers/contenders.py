"""Who is compared: how each server is started, asked and understood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.model import question


def rows(row: list[float]) -> dict[str, Any]:
    return {"inputs": [row]}


@dataclass(frozen=True)
class Contender:
    """A server in one mode.

    `module` is run as `python -m benchmarks.MODULE PORT FOLDER MODE`, answers `ready` with 200 when it is, and becomes
    the server or its parent. Its Python is that of the peer's environment; where `peer` is empty, of the demo's, which
    has what Crossfade needs for this model. `package` is what is compared, `body` what it is sent for a row, and
    `label` finds the prediction in its answer.
    """

    name: str
    module: str
    package: str
    path: str
    ready: str
    body: Callable[[list[float]], dict[str, Any]]
    label: Callable[[Any], object] | None
    peer: str = ""
    mode: str = ""

    def title(self, version: str = "") -> str:
        return " ".join(filter(None, (self.name, version))) + (f", {self.mode}" if self.mode else "")


def _first_of_outputs(answer: Any) -> object:
    return answer["outputs"][0]["data"][0]


STATIC = Contender("a static answer, uvicorn", "static_app", "uvicorn", "/", "/", question, None)
"""The unit that all others are measured in; it says the same to everything."""

CONTENDERS = [
    Contender(
        "Crossfade", "peers.serve_crossfade", "crossfade", "/v2/models/lr/infer", "/readyz", question, _first_of_outputs
    ),
    Contender("FastAPI + pydantic", "fastapi_app", "fastapi", "/predict", "/ready", question, _first_of_outputs),
    *(
        Contender(
            "MLServer", "peers.serve_mlserver", "mlserver", "/v2/models/lr/infer", "/v2/models/lr/ready",
            question, _first_of_outputs, "mlserver", mode,
        )
        for mode in ("batching", "not batching")
    ),
    Contender(
        "MLflow", "peers.serve_mlflow", "mlflow", "/invocations", "/ping", rows,
        lambda answer: answer["predictions"][0], "mlflow",
    ),
    *(
        Contender(
            "LitServe", "peers.serve_litserve", "litserve", "/predict", "/health", rows,
            lambda answer: answer["outputs"][0], "litserve", mode,
        )
        for mode in ("batching", "not batching")
    ),
    *(
        Contender(
            "BentoML", "peers.serve_bentoml", "bentoml", "/predict", "/readyz", rows,
            lambda answer: answer[0], "bentoml", mode,
        )
        for mode in ("batching", "not batching")
    ),
    *(
        Contender(
            "Ray Serve", "peers.serve_ray", "ray", "/", "/-/healthz", rows,
            lambda answer: answer["outputs"][0], "ray", mode,
        )
        for mode in ("batching", "not batching")
    ),
]  # fmt: skip
