"""LightGBM's text format: boosters, and the models of its scikit-learn interface with their labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import orjson

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.answers import (
    LABELS,
    PROBABILITIES,
    Estimator,
    classifier_outputs,
    in_words,
    label_datatype,
    labels_of,
    require,
    single,
)
from crossfade.registry.flavors.lightgbm_file import check_file
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.placement import ANYWHERE, Placement, never

_LABELS_FILE = "classes.json"
_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)


class LightGBM:
    """`lightgbm.Booster` and `lightgbm.LGBM*`; a classification objective gives labels and probabilities."""

    name: ClassVar[str] = "lightgbm"
    extra: ClassVar[str] = "lightgbm"
    packages: ClassVar[tuple[str, ...]] = ("lightgbm", "numpy")
    trust: ClassVar[Trust] = Trust.DATA

    def recognises(self, model: object) -> bool:
        """Tell whether it is a booster or a model of the scikit-learn interface, by their class names."""
        names = {(kind.__module__, kind.__name__) for kind in type(model).__mro__}
        return bool(names & {("lightgbm.basic", "Booster"), ("lightgbm.sklearn", "LGBMModel")})

    def detects(self, path: str, head: bytes) -> bool:
        """Tell by the first two lines."""
        return head.startswith(b"tree\nversion=") and path.endswith((".txt", ".lgb", ".model"))

    def wrap(self, model: object) -> Runnable:
        """Return the model as it is."""
        return Boosted(model, ()) if type(model).__name__ == "Booster" else Estimator(model)

    def save(self, model: object) -> dict[str, bytes]:
        """Return the text of the booster, and the labels of a classifier, which the text does not hold."""
        item: Any = model
        if type(model).__name__ == "Booster":
            return {"model.txt": item.model_to_string().encode()}
        files = {"model.txt": item.booster_.model_to_string().encode()}
        if hasattr(item, "predict_proba"):
            files[_LABELS_FILE] = orjson.dumps(labels_of(item.classes_))
        return files

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:  # noqa: ARG002 - nothing to trust in data
        """Check that the text is whole and that every tree in it stays within itself.

        Raises:
            LoadFailedError: It is not.
        """
        _parts(files)

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:  # noqa: ARG002
        """Parse the booster.

        Raises:
            LoadFailedError: It is no LightGBM model.
            MissingExtraError: LightGBM is not installed.
        """
        text, labels = _parts(files)
        placement.on_gpu(never, self.name)
        library = require("lightgbm", extra=self.extra, feature="flavor `lightgbm`")
        try:
            return Boosted(library.Booster(model_str=text), labels, placement.threads or 1)
        except (library.basic.LightGBMError, ValueError) as error:
            raise LoadFailedError(ref=self.name, problem=f"LightGBM refuses it ({in_words(error)})") from error


class Boosted:
    """A booster, asked as its objective says."""

    inputs: tuple[TensorSpec, ...] = ()
    matrix = True

    def __init__(self, booster: Any, labels: tuple[Label, ...], threads: int = 1) -> None:
        self._booster = booster
        self._threads = threads
        names = booster.feature_name()
        self.columns: tuple[str, ...] = () if names == [f"Column_{i}" for i in range(len(names))] else tuple(names)
        objective = _OBJECTIVE.search(booster.model_to_string(num_iteration=1))
        width = booster.num_model_per_iteration()
        classifies = objective is not None and objective[1] in {"binary", "multiclass", "multiclassova"}
        if classifies and len(labels) not in {0, max(2, width)}:
            raise ValueError(f"{len(labels)} labels for {max(2, width)} classes")
        self.classes = (labels or tuple(range(max(2, width)))) if classifies else ()
        self._labels = np.asarray(self.classes, dtype=object if isinstance((*self.classes, 0)[0], str) else None)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(LABELS, "FP64", (-1,) if width == 1 else (-1, width)),)
        if classifies:
            self.outputs = classifier_outputs(self.classes, labels=label_datatype(self.classes))

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return labels, probabilities or values; probabilities are computed once and give the labels."""
        raw = self._booster.predict(single(inputs), num_threads=self._threads)
        if not self.classes:
            return {LABELS: raw}
        probabilities = raw if raw.ndim == 2 else np.stack((1.0 - raw, raw), axis=1)
        answers: Tensors = {}
        if LABELS in wanted:
            answers[LABELS] = self._labels[probabilities.argmax(axis=1)]
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = probabilities
        return answers


def _parts(files: Mapping[str, bytes]) -> tuple[str, tuple[Label, ...]]:
    models = [data for path, data in files.items() if path != _LABELS_FILE]
    if len(models) != 1:
        raise LoadFailedError(ref="lightgbm", problem=f"a model in this format is one text file, not {len(models)}")
    try:
        text = models[0].decode()
        labels = orjson.loads(files.get(_LABELS_FILE, b"[]"))
    except ValueError as error:
        raise LoadFailedError(ref="lightgbm", problem=f"it is no text ({in_words(error)})") from error
    if (
        not isinstance(labels, list)
        or bool(labels) != (_LABELS_FILE in files)
        or not all(isinstance(label, (bool, int, float, str)) for label in labels)
    ):
        raise LoadFailedError(ref="lightgbm", problem="its labels are neither numbers nor text")
    check_file(text)
    return text, tuple(labels)
