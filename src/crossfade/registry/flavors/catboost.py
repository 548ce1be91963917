"""CatBoost's own binary format (`cbm`), for models with numeric and text (categorical) columns."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from crossfade.core.tensors import Tensors, TensorSpec
from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.answers import (
    LABELS,
    PROBABILITIES,
    classifier_outputs,
    in_words,
    label_datatype,
    labels_of,
    only_file,
    require,
    single,
    tidy,
)
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.placement import ANYWHERE, Placement, never

_MAGIC = b"CBM1"


class CatBoost:
    """`catboost.CatBoost` and its classifier, regressor and ranker."""

    name: ClassVar[str] = "catboost"
    extra: ClassVar[str] = "catboost"
    packages: ClassVar[tuple[str, ...]] = ("catboost", "numpy")
    trust: ClassVar[Trust] = Trust.DATA

    def recognises(self, model: object) -> bool:
        """Tell whether it is a CatBoost model, by its class name."""
        return ("catboost.core", "CatBoost") in {(kind.__module__, kind.__name__) for kind in type(model).__mro__}

    def detects(self, path: str, head: bytes) -> bool:  # noqa: ARG002 - the content is unmistakable
        """Tell by the signature."""
        return head.startswith(_MAGIC)

    def wrap(self, model: object) -> Runnable:
        """Return the model as it is."""
        return Boosted(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return the model as `cbm`."""
        item: Any = model
        return {"model.cbm": bytes(item._serialize_model())}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:  # noqa: ARG002 - nothing to trust in data
        """Check the signature and the length.

        Raises:
            LoadFailedError: They are wrong.
        """
        data = only_file(files, self.name)
        if not data.startswith(_MAGIC) or len(data) < 8 or len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
            raise LoadFailedError(ref=self.name, problem="it is no whole CatBoost file")

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Parse the model.

        Raises:
            LoadFailedError: It is no CatBoost model.
            MissingExtraError: CatBoost is not installed.
        """
        self.inspect(files, policy)
        placement.on_gpu(never, self.name)
        library = require("catboost", extra=self.extra, feature="flavor `catboost`")
        model = library.CatBoost()
        try:
            model.load_model(blob=only_file(files, self.name))
            return Boosted(model, placement.threads or 1)
        except (library.CatBoostError, UnicodeDecodeError, ValueError) as error:
            raise LoadFailedError(ref=self.name, problem=f"CatBoost refuses it ({in_words(error)})") from error


class Boosted:
    """A CatBoost model, asked as its loss says."""

    inputs: tuple[TensorSpec, ...] = ()
    matrix = True

    def __init__(self, model: Any, threads: int = 1) -> None:
        self._model = model
        self._threads = threads
        names = list(model.feature_names_)
        self.columns: tuple[str, ...] = () if names == [str(i) for i in range(len(names))] else tuple(names)
        self.classes = labels_of(model.classes_)
        self._kind = _prediction_type(model)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(LABELS, "FP64", (-1,)),)
        if self.classes:
            self.outputs = classifier_outputs(self.classes, labels=label_datatype(self.classes))

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return labels, probabilities or values."""
        rows = single(inputs)
        if not self.classes:
            return {LABELS: self._ask(rows, self._kind)}
        answers: Tensors = {}
        if LABELS in wanted:
            answers[LABELS] = tidy(self._ask(rows, "Class")).reshape(-1)  # several classes come as a column
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = self._ask(rows, "Probability")
        return answers

    def _ask(self, rows: object, kind: str) -> Any:
        from catboost import CatBoost as Plain

        return Plain.predict(self._model, rows, prediction_type=kind, thread_count=self._threads)


def _prediction_type(model: Any) -> str:
    """Return what `CatBoostRegressor.predict` would return for this loss."""
    parameters = orjson.loads(model.get_metadata()["params"])
    loss = parameters.get("loss_function", {}).get("type", "")
    if loss in {"Poisson", "Tweedie"}:
        return "Exponent"
    return "RMSEWithUncertainty" if loss == "RMSEWithUncertainty" else "RawFormulaVal"
