"""What is said about models, the repository and the server: the same documents over HTTP and gRPC."""

from __future__ import annotations

from typing import Any

import crossfade
from crossfade.core.identity import ModelRef
from crossfade.errors import NotServedError
from crossfade.serving.prediction import PredictionService, ServedVersion
from crossfade.serving.protocol.answers import describe_model
from crossfade.serving.protocol.configuration import describe_configuration
from crossfade.serving.protocol.statistics import describe_statistics

_EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


class Descriptions:
    """Documents in the words of the Open Inference Protocol.

    Args:
        predictions: What is served.
        max_rows: The most rows that one request may have.
    """

    def __init__(self, predictions: PredictionService, max_rows: int) -> None:
        self._predictions = predictions
        self._max_rows = max_rows

    def server(self) -> dict[str, Any]:
        """Describe the server."""
        return {"name": "crossfade", "version": crossfade.__version__, "extensions": _EXTENSIONS}

    async def model(self, ref: ModelRef) -> dict[str, Any]:
        """Describe a model."""
        version = await self._answering(ref)
        versions = [item.version for item in self._ready(version.model)]
        return describe_model(version.model, versions, version.flavor, version.signature)

    async def configuration(self, ref: ModelRef) -> dict[str, Any]:
        """Describe a model as Triton's configuration does."""
        version = await self._answering(ref)
        return describe_configuration(version.model, version.flavor, version.signature, self._max_rows)

    async def statistics(self, ref: ModelRef | None = None) -> dict[str, Any]:
        """Tell what a version has done in this process.

        Args:
            ref: Without a version, all of the model, the one that answers first; None means every version of all.
        """
        if ref is None:
            return _statistics([item for item in self._predictions.served() if item.ready])
        answering = await self._answering(ref)
        others = [item for item in self._ready(answering.model) if item.version != answering.version]
        return _statistics([answering] if ref.alias is None else [answering, *others])

    def index(self, *, ready_only: bool) -> list[dict[str, str]]:
        """List every version in this process."""
        return [
            {
                "name": item.model,
                "version": item.version,
                "state": "READY" if item.ready else "UNAVAILABLE",
                "reason": item.problem,
            }
            for item in self._predictions.served()
            if item.ready or not ready_only
        ]

    async def _answering(self, ref: ModelRef) -> ServedVersion:
        version = await self._predictions.find(ref)
        if not version.ready:
            raise NotServedError(ref=f"{version.model}:{version.version}", problem=version.problem)
        return version

    def _ready(self, model: str) -> list[ServedVersion]:
        return [item for item in self._predictions.served() if item.model == model and item.ready]


def _statistics(versions: list[ServedVersion]) -> dict[str, Any]:
    return {"model_stats": [describe_statistics(item.model, item.version, item.counters) for item in versions]}
