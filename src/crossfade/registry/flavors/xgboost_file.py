"""Whether an XGBoost file is whole and sound.

XGBoost trusts its files: a truncated one ends the process, and a wrong index in a tree reads foreign memory or never
ends. So the document is read here first, and every tree in it is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from crossfade.errors import LoadFailedError
from crossfade.registry.flavors import ubjson
from crossfade.registry.flavors.answers import in_words
from crossfade.registry.flavors.trees import check_children

MAX_CATEGORY = 2**24
"""Categories are bits of a set, so a large one would need a large set."""

_NO_PARENT = (-1, 2**31 - 1)
_PER_NODE = (
    "right_children",
    "split_indices",
    "split_conditions",
    "default_left",
    "parents",
    "loss_changes",
    "sum_hessian",
)
_TYPES = {
    "base_weights": ">f4",
    "categories": ">i4",
    "categories_nodes": ">i4",
    "categories_segments": ">i8",
    "categories_sizes": ">i8",
    "default_left": "|u1",
    "leaf_weights": ">f4",
    "left_children": ">i4",
    "loss_changes": ">f4",
    "parents": ">i4",
    "right_children": ">i4",
    "split_conditions": ">f4",
    "split_indices": ">i4",
    "split_type": "|u1",
    "sum_hessian": ">f4",
}
"""XGBoost takes a block of numbers for what it expects, whatever its type says."""


def check_file(data: bytes) -> None:
    """Check a model file (UBJSON or JSON).

    Raises:
        LoadFailedError: It is damaged.
    """
    try:
        # XGBoost decides in the same way which of the two it is
        document = orjson.loads(data) if data[:2] == b'{"' else ubjson.loads(data)
        learner = document["learner"]
        _check_booster(learner["gradient_booster"], int(learner["learner_model_param"]["num_feature"]))
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise LoadFailedError(ref="xgboost", problem=f"it is no intact file ({in_words(error)})") from error


def _check_booster(booster: dict[str, Any], features: int) -> None:
    if booster["name"] == "gblinear":
        weights = booster["model"]["weights"]
        typed = isinstance(weights, np.ndarray)
        if len(weights) % (features + 1) or (typed and weights.dtype.str != ">f4"):
            raise ValueError("the number of weights does not fit the number of features")
        return
    model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    trees = model["trees"]
    if booster["name"] == "dart" and len(booster["weight_drop"]) != len(trees):
        raise ValueError("not every tree has a weight")
    if len(model["tree_info"]) != len(trees) or int(model["gbtree_model_param"]["num_trees"]) != len(trees):
        raise ValueError("the file has another number of trees than it says")
    borders = _integers(model.get("iteration_indptr", []))
    if len(borders) and (borders[0] != 0 or borders[-1] != len(trees) or np.any(np.diff(borders) < 0)):
        raise ValueError("the iterations do not divide the trees")
    for position, tree in enumerate(trees):
        if int(tree.get("id", position)) != position:
            raise ValueError("a tree is not in its place")
        _check_tree(tree, features)


def _check_tree(tree: dict[str, Any], features: int) -> None:
    for name, values in tree.items():
        if isinstance(values, np.ndarray) and values.dtype.str != _TYPES.get(name):
            raise ValueError(f"`{name[:80]}` of a tree is of another type")
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    count = len(left)
    if not count == int(tree["tree_param"]["num_nodes"]) > 0 or any(len(tree[name]) != count for name in _PER_NODE):
        raise ValueError("the nodes of a tree are incomplete")
    inner = left != -1
    children = np.concatenate((left[inner], right[inner]))
    check_children(children, count)
    parents = _integers(tree["parents"])
    if not np.array_equal(parents[children], np.tile(np.flatnonzero(inner), 2)) or parents[0] not in _NO_PARENT:
        raise ValueError("a node of a tree does not know its parent")
    _check_leaves(tree, right[~inner])
    indices = _integers(tree["split_indices"])[inner]
    if np.any(indices < 0) or np.any(indices >= features):
        raise ValueError("a tree uses a feature that the model does not have")
    _check_categories(tree, inner)


def _check_leaves(tree: dict[str, Any], right: Any) -> None:
    """A leaf's value is its split condition; with several targets its right child is the row of its weights."""
    count, width = len(tree["left_children"]), int(tree["tree_param"]["size_leaf_vector"])
    if width <= 1:
        complete = len(tree["base_weights"]) == count and bool(np.all(right == -1))
    else:
        rows = len(tree["leaf_weights"]) // width if "leaf_weights" in tree else count
        complete = len(tree["base_weights"]) == count * width and bool(np.all((right >= -1) & (right < rows)))
    if not complete:
        raise ValueError("the leaves of a tree are incomplete")


def _check_categories(tree: dict[str, Any], inner: Any) -> None:
    nodes, values = _integers(tree.get("categories_nodes", [])), _integers(tree.get("categories", []))
    starts, sizes = _integers(tree.get("categories_segments", [])), _integers(tree.get("categories_sizes", []))
    categorical = np.flatnonzero(inner & (_integers(tree.get("split_type", np.zeros(len(inner)))) != 0))
    if not len(nodes) == len(starts) == len(sizes) or not np.array_equal(np.sort(nodes), categorical):
        raise ValueError("the categories of a tree do not fit its nodes")
    if np.any(starts < 0) or np.any(sizes < 0) or np.any(starts + sizes > len(values)):
        raise ValueError("a tree refers to categories that it does not have")
    if np.any(values < 0) or np.any(values >= MAX_CATEGORY):
        raise ValueError("a category of a tree is out of range")


def _integers(values: Any) -> Any:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iufb"):
        raise ValueError("the nodes of a tree are no numbers")
    whole = array.astype(np.int64)
    if np.any(whole != array):
        raise ValueError("the nodes of a tree are no whole numbers")
    return whole
