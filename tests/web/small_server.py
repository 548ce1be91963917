"""A server with the real protocol, data plane and guards, and models small enough to read: run it as a script.

`python small_server.py PORT [SETTING=VALUE ...]` with the settings of `HttpSettings`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Self

import msgspec
import numpy as np
import uvicorn
from starlette.types import ASGIApp

from crossfade.core.identity import ModelRef
from crossfade.core.tensors import DTYPES, Signature, Tensors, TensorSpec, row_count
from crossfade.errors import ModelNotFoundError, NotServedError, VersionNotFoundError
from crossfade.serving.counters import Counters
from crossfade.serving.enrolment import Enroller
from crossfade.serving.flags import FlagService
from crossfade.serving.holding import DEFAULT_TERMS, Prediction, Terms
from crossfade.serving.slots import SlotTable
from crossfade.settings import HttpSettings
from crossfade.traffic.routing import Asker
from crossfade.traffic.snapshot import Snapshot
from crossfade.web.budget import BodyBudget
from crossfade.web.dataplane import DataPlane
from crossfade.web.protocol import guarded_protocol

Function = Callable[[Tensors], Tensors]


class SmallModel(msgspec.Struct):
    model: str
    version: str
    flavor: str
    signature: Signature
    function: Function
    ready: bool = True
    problem: str = ""
    counters: Counters = msgspec.field(default_factory=Counters)


class SmallHeldVersion:
    def __init__(self, model: SmallModel, alias: str | None, asked: SmallPredictions) -> None:
        self.model, self.alias, self.signature, self.asked = model, alias, model.signature, asked

    async def predict(
        self,
        tensors: Tensors,
        wanted: frozenset[str] | None = None,
        terms: Terms = DEFAULT_TERMS,
        request_id: str = "",
    ) -> Prediction:
        self.asked.terms.append(terms)
        self.asked.request_ids.append(request_id)
        checked = self.signature.check(tensors)
        started = time.monotonic()
        outputs = self.model.function(checked)
        now = time.monotonic()
        self.model.counters.count_batch(row_count(checked), now - started)
        self.model.counters.count_answer(row_count(checked), now - started, now)
        return Prediction(self.model.model, self.model.version, outputs, self.alias, self.alias == "fallback")

    def question(self, terms: Terms, head: bytes, body: bytes) -> None:
        """Nothing is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SmallFollower:
    """The part of `SnapshotFollower` that flags need; no experiment runs."""

    snapshot = Snapshot()


class SmallPredictions:
    """What the data plane asks of `PredictionService`, over a few functions."""

    def __init__(self, models: list[SmallModel]) -> None:
        self.models = {model.model: model for model in models}
        self.terms: list[Terms] = []
        self.request_ids: list[str] = []
        self.draining = False

    async def find(self, ref: ModelRef) -> SmallModel:
        model = self.models.get(ref.name)
        if model is None:
            raise ModelNotFoundError(name=ref.name)
        if (
            ref.alias not in (None, "champion", "fallback")
            or ref.version not in (None, model.version)
            or ref.number
            or ref.stage
        ):
            raise VersionNotFoundError(ref=str(ref), name=ref.name)
        return model

    guarded = False

    def asks_who(self, _ref: ModelRef) -> bool:
        return False

    def emergencies(self, _model: str = "") -> str:
        return ""

    def database_away_seconds(self) -> float:
        return 0.0

    async def hold(
        self,
        ref: ModelRef,
        terms: Terms = DEFAULT_TERMS,
        asker: Asker | None = None,
    ) -> SmallHeldVersion:
        model = await self.find(ref)
        if not model.ready:
            raise NotServedError(ref=str(ref), problem=model.problem)
        return SmallHeldVersion(model, ref.alias, self)

    def served(self) -> list[SmallModel]:
        return list(self.models.values())

    def unready(self) -> list[str]:
        return ["draining"] if self.draining else [model.model for model in self.served() if not model.ready]

    def metrics(self) -> bytes:
        return b"# no metrics\n"

    async def set_loaded(self, name: str, *, loaded: bool) -> None:
        model = await self.find(ModelRef(name))
        model.ready, model.problem = loaded, "" if loaded else "unloaded"


def linear(tensors: Tensors) -> Tensors:
    scores = np.asarray(tensors["x"]).sum(axis=1)
    chances = 1 / (1 + np.exp(-scores))
    return {"predict": (scores > 0).astype(np.int64), "predict_proba": np.stack([1 - chances, chances], axis=1)}


def columns(tensors: Tensors) -> Tensors:
    known = np.array([f"{city}!" for city in tensors["city"]], dtype=object)
    return {"predict": known, "age": tensors["age"]}


def broken(tensors: Tensors) -> Tensors:
    raise RuntimeError(f"secret detail {sorted(tensors)}")


def echo(name: str, datatype: str, *, text: bool = True) -> SmallModel:
    """Answer `y = x` for one datatype and any shape of rank 2, missing values allowed."""
    x = TensorSpec("x", datatype, (-1, -1), missing=True, text=text)
    signature = Signature((x,), (TensorSpec("y", datatype, (-1, -1), text=text),))
    return SmallModel(name, "1.0.0", "echo", signature, lambda tensors: {"y": tensors["x"]})


def small_models() -> list[SmallModel]:
    lr = Signature(
        (TensorSpec("x", "FP64", (-1, 30)),),
        (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
        classes=(False, True),
    )
    people = Signature(
        (TensorSpec("age", "FP64", (-1,), missing=True), TensorSpec("city", "BYTES", (-1,))),
        (TensorSpec("predict", "BYTES", (-1,)), TensorSpec("age", "FP64", (-1,))),
    )
    x = Signature((TensorSpec("x", "FP64", (-1, 30)),), (TensorSpec("y", "FP64", (-1,)),))
    infinite = lambda tensors: {"y": np.full(len(tensors["x"]), np.inf)}  # noqa: E731
    return [
        SmallModel("lr", "1.2.0", "sklearn", lr, linear),
        SmallModel("people", "0.1.0", "onnx", people, columns),
        SmallModel("broken", "1.0.0", "code", x, broken),
        SmallModel("infinite", "1.0.0", "code", x, infinite),
        echo("raw_bytes", "BYTES", text=False),
        *(echo(f"echo_{datatype.lower()}", datatype) for datatype in DTYPES),
    ]


async def control(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for the control plane: answers 404 in words of its own."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.body", "body": b"control"})


def small_app(
    settings: HttpSettings, predictions: SmallPredictions | None = None, control: ASGIApp = control
) -> DataPlane:
    predictions = predictions or SmallPredictions(small_models())
    flags = FlagService(SmallFollower(), Enroller(SlotTable(), lambda _exposure: None))  # type: ignore[arg-type]
    return DataPlane(predictions, flags, settings, control, BodyBudget(settings))  # type: ignore[arg-type]


def serve(port: int, settings: HttpSettings) -> None:
    app = small_app(settings)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=guarded_protocol(settings, app),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        loop="uvloop",
        timeout_keep_alive=5,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    given: dict[str, Any] = dict(argument.split("=", 1) for argument in sys.argv[2:])
    serve(int(sys.argv[1]), HttpSettings(**given))
