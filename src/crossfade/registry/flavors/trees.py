"""Decision trees of scikit-learn: whether what a file says about them is sound.

skops decides by type whether an object may be built. It cannot tell whether a trusted type has sound content, and
scikit-learn walks trees in C without bounds checks: a crafted index would read foreign memory or never end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ROWS_PASSED_ON = frozenset(
    {
        "sklearn.ensemble._forest",
        "sklearn.ensemble._gb",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting",
        "sklearn.ensemble._iforest",
    }
)
"""Ensembles that hand their rows to their trees unchecked, so that their own number of features is what counts."""


def check_trees(estimator: object) -> None:
    """Check that every tree inside an estimator stays within its nodes and within the features it is given.

    Raises:
        ValueError: One does not.
    """
    stack: list[tuple[Any, int, bool]] = [(estimator, 0, False)]
    seen: set[tuple[int, int]] = set()
    while stack:
        item, features, settled = stack.pop()
        if isinstance(item, (str, bytes, int, float, type(None))) or (id(item), features) in seen:
            continue
        seen.add((id(item), features))
        kind = type(item)
        if kind.__name__ == "Tree" and kind.__module__ == "sklearn.tree._tree":
            _check_tree(item, features)
        elif kind.__name__ == "TreePredictor" and kind.__module__.startswith("sklearn."):
            _check_predictor(item, features)
        elif kind.__name__ in {"KDTree", "BallTree"} and kind.__module__.startswith("sklearn.neighbors."):
            _check_neighbours(item)
        elif kind.__module__.startswith("sklearn.") and hasattr(item, "__dict__"):
            if not settled and "n_features_in_" in item.__dict__:
                features = min(int(item.n_features_in_), int(getattr(item, "_max_features", item.n_features_in_)))
            settled = settled or kind.__module__ in _ROWS_PASSED_ON
            stack.extend((value, features, settled) for value in item.__dict__.values())
        else:
            stack.extend((value, features, settled) for value in _elements(item))


def check_children(children: Any, count: int, *, root: bool = True) -> None:
    """Check that every child is one of `count` nodes and has one parent, so that no walk from the root meets a cycle.

    Args:
        children: The indices of all children.
        count: How many nodes there are.
        root: Whether node 0 is the root, which is nobody's child.

    Raises:
        ValueError: One is outside, or has two parents.
    """
    if np.any(children < int(root)) or np.any(children >= count):
        raise ValueError("a tree points outside of its nodes")
    if len(np.unique(children)) != len(children):
        raise ValueError("a node of a tree has two parents")


def _elements(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, (list, tuple, set)):
        return list(item)
    return list(item.flat) if isinstance(item, np.ndarray) and item.dtype == object else []


def _check_tree(tree: Any, features: int) -> None:
    count = int(tree.node_count)
    if not 0 < count <= int(tree.capacity):  # its arrays are views of `count` nodes of memory, whatever there is
        raise ValueError("a decision tree has another number of nodes than it says")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = (left != -1) | (right != -1)
    _check_nodes(np.flatnonzero(inner), left[inner], right[inner], feature[inner], (count, features))


def _check_predictor(predictor: Any, features: int) -> None:
    nodes = predictor.nodes
    if len(nodes) == 0:
        raise ValueError("a decision tree has no nodes")
    inner = nodes["is_leaf"] == 0
    split = nodes[inner]
    _check_nodes(np.flatnonzero(inner), split["left"], split["right"], split["feature_idx"], (len(nodes), features))
    categorical = split[split["is_categorical"] != 0]
    if np.any(categorical["bitset_idx"] >= len(predictor.raw_left_cat_bitsets)):
        raise ValueError("a decision tree refers to categories that it does not have")


def _check_neighbours(tree: Any) -> None:
    """A binary heap of nodes, each a range of the indices of rows; a node without room for children is a leaf."""
    data, indices, nodes, bounds = (np.asarray(array) for array in tree.get_arrays())
    count = len(nodes)
    if not np.array_equal(np.sort(indices), np.arange(len(data))):
        raise ValueError("a search tree does not hold every row once")
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    if np.any(starts < 0) or np.any(starts > ends) or np.any(ends > len(data)):
        raise ValueError("a search tree points outside of its rows")
    childless = 2 * np.arange(count) + 2 >= count
    if count == 0 or np.any(nodes["is_leaf"][childless] == 0):
        raise ValueError("a search tree points outside of its nodes")
    if bounds.shape[1:] != (count, data.shape[1]):
        raise ValueError("a search tree has other bounds than nodes")


def _check_nodes(parent: Any, left: Any, right: Any, feature: Any, limits: tuple[int, int]) -> None:
    """A child comes after its parent in every tree that scikit-learn grows, so an accepted tree has no cycle."""
    count, features = limits
    for child in (left, right):
        # unsigned children are compared as they are: a huge index must not become a negative one
        if np.any(child <= parent) or np.any(child >= count):
            raise ValueError("a decision tree points outside of its nodes")
    if np.any(feature < 0) or np.any(feature >= features):
        raise ValueError("a decision tree uses a feature that it is not given")
