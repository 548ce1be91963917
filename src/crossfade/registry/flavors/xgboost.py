"""XGBoost's own format (UBJSON or JSON): boosters, and the models of its scikit-learn interface."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.answers import (
    LABELS,
    PROBABILITIES,
    Estimator,
    classifier_outputs,
    in_words,
    only_file,
    require,
    single,
    tidy,
)
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.flavors.xgboost_file import check_file
from crossfade.registry.placement import ANYWHERE, Placement, never

_MISSING = "crossfade_missing"
"""Attribute of a booster: the number that its model took for a missing value, when it was not NaN."""


class XGBoost:
    """`xgboost.Booster` and `xgboost.XGB*`; a classification objective gives labels and probabilities."""

    name: ClassVar[str] = "xgboost"
    extra: ClassVar[str] = "xgboost"
    packages: ClassVar[tuple[str, ...]] = ("xgboost", "xgboost-cpu", "numpy")
    trust: ClassVar[Trust] = Trust.DATA

    def recognises(self, model: object) -> bool:
        """Tell whether it is a booster or a model of the scikit-learn interface, by their class names."""
        names = {(kind.__module__, kind.__name__) for kind in type(model).__mro__}
        return bool(names & {("xgboost.core", "Booster"), ("xgboost.sklearn", "XGBModel")})

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the first key of the document, which is `learner` or `version`."""
        start = head.lstrip()[:64]
        return path.endswith((".ubj", ".json", ".xgb")) and start.startswith(b"{") and b"learner" in head

    def wrap(self, model: object) -> Runnable:
        """Return the model as it is."""
        return Boosted(model) if type(model).__name__ == "Booster" else _Wrapped(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return the booster as UBJSON, cut to the best iteration when training stopped early."""
        booster: Any = model
        if type(model).__name__ != "Booster":
            booster = _standalone(model)
        return {"model.ubj": bytes(booster.save_raw("ubj"))}

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:  # noqa: ARG002 - nothing to trust in data
        """Check that the document is whole and that every tree in it stays within itself.

        Raises:
            LoadFailedError: It is not.
        """
        check_file(only_file(files, self.name))

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Parse the booster.

        Raises:
            LoadFailedError: It is no XGBoost model.
            MissingExtraError: XGBoost is not installed.
        """
        self.inspect(files, policy)
        placement.on_gpu(never, self.name)
        library = require("xgboost", extra=self.extra, feature="flavor `xgboost`")
        try:
            booster = library.Booster({"nthread": placement.threads or 1})
            booster.load_model(bytearray(only_file(files, self.name)))
            return Boosted(booster)
        except (library.core.XGBoostError, KeyError, TypeError, ValueError) as error:
            raise LoadFailedError(ref=self.name, problem=f"XGBoost refuses it ({in_words(error)})") from error


class Boosted:
    """A booster, asked in place (no `DMatrix`), as its objective says."""

    inputs: tuple[TensorSpec, ...] = ()
    matrix = True

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        learner = json.loads(booster.save_config())["learner"]
        parameters = learner["learner_model_param"]
        self._targets = int(parameters["num_target"])
        self._objective = learner["objective"]["name"]
        self._linear = learner["gradient_booster"]["name"] == "gblinear"
        self.columns: tuple[str, ...] = tuple(booster.feature_names or ())
        self.classes: tuple[Label, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(LABELS, "FP32", (-1,)),)
        if self._objective == "multi:softprob" or (self._objective == "binary:logistic" and self._targets == 1):
            self.classes = tuple(range(max(2, int(parameters["num_class"]))))
            self.outputs = classifier_outputs(self.classes, labels="INT64", width="FP32")
        elif self._objective == "binary:logistic":
            shape = (-1, self._targets)
            self.outputs = (TensorSpec(LABELS, "INT64", shape), TensorSpec(PROBABILITIES, "FP32", shape))
        elif self._objective in {"multi:softmax", "binary:hinge"}:
            self.outputs = (TensorSpec(LABELS, "INT64", (-1,)),)
        elif self._targets > 1:
            self.outputs = (TensorSpec(LABELS, "FP32", (-1, self._targets)),)
        missing = booster.attr(_MISSING)
        best = booster.attr("best_iteration") if booster.attr("scikit_learn") else None
        self._options = {
            "missing": float(missing) if missing else math.nan,
            "iteration_range": (0, int(best) + 1 if best else 0),
        }

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return labels, probabilities or values; probabilities are computed once and give the labels."""
        raw = self._ask(single(inputs))
        if len(self.outputs) == 1:
            return {LABELS: raw.astype(np.int64) if self.outputs[0].datatype == "INT64" else raw}
        answers: Tensors = {}
        if self._objective == "multi:softprob":
            labels, probabilities = raw.argmax(axis=1), raw
        else:
            labels = (raw > 0.5).astype(np.int64)
            probabilities = raw if self._targets > 1 else np.stack((1.0 - raw, raw), axis=1)
        if LABELS in wanted:
            answers[LABELS] = labels
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = probabilities
        return answers

    def _ask(self, rows: Any) -> Any:
        if not self._linear:
            return self._booster.inplace_predict(rows, **self._options)
        from xgboost import DMatrix  # linear boosters cannot predict in place

        return self._booster.predict(DMatrix(rows, missing=self._options["missing"]), validate_features=False)


class _Wrapped(Estimator):
    """A model of the scikit-learn interface; several binary targets come back from it as floats."""

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        answers = super().predict(inputs, wanted)
        if LABELS in answers and hasattr(self.estimator, "predict_proba"):
            answers[LABELS] = tidy(answers[LABELS]).astype(np.int64)
        return answers


def _standalone(model: Any) -> Any:
    """Return the booster of a model, with what the model adds to it: the best iteration and its missing value."""
    booster = model.get_booster()
    rounds, best = booster.num_boosted_rounds(), getattr(model, "best_iteration", None) if _stopped(model) else None
    if best is not None and best + 1 < rounds:
        booster = booster[: best + 1]
    if not math.isnan(model.missing):
        booster = booster.copy()
        booster.set_attr(**{_MISSING: repr(float(model.missing))})
    return booster


def _stopped(model: Any) -> bool:
    return model.early_stopping_rounds is not None
