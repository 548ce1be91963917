"""skops files: the types that this server trusts in them, and their canonical form."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

_DISTANCES = ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")
_KERNELS = (
    "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern", "PairwiseKernel",
    "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel",
)  # fmt: skip
_METRICS = ("accuracy_score", "balanced_accuracy_score", "brier_score_loss", "f1_score", "log_loss")
_SPLITS = (
    "GroupKFold",
    "KFold",
    "RepeatedStratifiedKFold",
    "StratifiedKFold",
    "StratifiedGroupKFold",
    "TimeSeriesSplit",
)
_SCORES = ("chi2", "f_classif", "f_regression", "r_regression")

TRUSTED_TYPES: frozenset[str] = frozenset(
    {
        *(f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _DISTANCES for bits in (32, 64)),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
        *(f"sklearn.feature_selection._univariate_selection.{name}" for name in _SCORES),
        *(f"scipy.sparse._{kind}.{kind}_{form}" for kind in ("csr", "csc", "coo") for form in ("matrix", "array")),
        *(f"sklearn.metrics._classification.{name}" for name in _METRICS),
        *(f"sklearn.model_selection._split.{name}" for name in _SPLITS),
        "collections.OrderedDict",
        "functools.partial",
        "numpy.dtype",
        "numpy.mean",
        "numpy.median",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._interpolate.interp1d",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        "sklearn.utils.validation.check_array",
    }
)
"""Trusted besides skops' own list, which has every public scikit-learn estimator. Found by saving each of them, fitted.
Their trees are checked in `trees`, because their code trusts them."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"

Node = dict[str, Any]


def canonical(data: bytes) -> bytes:
    """Return an equivalent skops file that depends on the model only.

    skops names arrays and marks shared objects by memory address, and stamps the time. Here an id stays only where an
    object is shared, ids and files are numbered by first appearance, sets are sorted, times are fixed, and what a
    search tree has counted since it was built is forgotten.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        schema = json.loads(source.read(_SCHEMA))
        for node in _nodes(schema):
            _normalise(node)
        files = _renumber(schema)
        members = {new: _without_padding(source.read(old)) for old, new in files.items()}
    members[_SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])
    return target.getvalue()


def _normalise(node: Node) -> None:
    if node.get("__loader__") == "SetNode":
        node["content"].sort(key=_content)
    elif node.get("__class__") in {"KDTree", "BallTree"}:
        for counter in node["content"]["content"][7:11]:  # trims, leaves, splits, calls
            counter["content"] = "0"


def _without_padding(data: bytes) -> bytes:
    """Zero the bytes between the fields of a structured array (the nodes of trees), which hold whatever was there."""
    if not data.startswith(b"\x93NUMPY") or b"'descr': [(" not in data[:128]:
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    clean = np.zeros(array.shape, array.dtype)  # `zeros_like` and `np.save` copy field by field and leave the rest
    for name in array.dtype.names or ():
        clean[name] = array[name]
    return data[: len(data) - array.nbytes] + clean.tobytes()


def _renumber(schema: Node) -> dict[str, str]:
    """Rewrite ids and file names in place; return the old file names with their new ones."""
    uses = Counter(node["__id__"] for node in _nodes(schema) if "__id__" in node)
    ids: dict[int, int] = {}
    files: dict[str, str] = {}
    for node in _nodes(schema):
        if "__id__" in node:
            old = node.pop("__id__")
            if uses[old] > 1 and node.get("__loader__") != "JsonNode":
                node["__id__"] = ids.setdefault(old, len(ids) + 1)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            suffix = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files):06d}.{suffix}")
    return files


def _nodes(value: Any) -> Iterator[Node]:
    """Yield every JSON object, in document order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _content(node: Node) -> str:
    return json.dumps({key: value for key, value in node.items() if key != "__id__"})
