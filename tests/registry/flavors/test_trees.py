"""Trees in files are checked, because what walks them trusts them."""

import io

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from crossfade.registry.flavors.trees import check_children, check_trees
from tests.registry.flavors.rows import BINARY, NUMBER, X


def tree():
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, BINARY)


def rebuilt(fitted, **changes):
    """Give the tree of a fitted estimator other nodes, as a crafted file would."""
    state = fitted.tree_.__getstate__()
    nodes = state["nodes"].copy()
    for field, (row, value) in changes.items():
        nodes[field][row] = value
    fitted.tree_.__setstate__({**state, "nodes": nodes})
    return fitted


def test_sound_estimators_pass():
    check_trees(tree())
    check_trees(RandomForestClassifier(3).fit(X, BINARY))
    check_trees(BaggingClassifier(DecisionTreeClassifier(), 3, max_features=2).fit(X, BINARY))
    check_trees(IsolationForest(n_estimators=3, max_features=2).fit(X))
    check_trees(HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(np.abs(X).round(), BINARY))
    check_trees([1, "text", None, {"a": (tree(),)}, np.array([tree()], dtype=object)])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"left_child": (0, 10_000)}, "outside of its nodes"),
        ({"right_child": (0, -7)}, "outside of its nodes"),
        ({"left_child": (1, 0)}, "outside of its nodes"),
        ({"feature": (0, 4)}, "not given"),
        ({"feature": (0, -9)}, "not given"),
    ],
)
def test_indices_outside_are_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        check_trees(rebuilt(tree(), **changes))


def test_a_tree_with_fewer_nodes_than_it_says_is_refused():
    fitted = tree()
    state = fitted.tree_.__getstate__()
    fitted.tree_.__setstate__({**state, "node_count": state["node_count"] + 5})
    with pytest.raises(ValueError, match="number of nodes"):
        check_trees(fitted)


def test_a_tree_of_an_ensemble_is_held_to_the_features_of_the_ensemble():
    forest = RandomForestClassifier(2, random_state=0).fit(X, BINARY)
    wide = DecisionTreeClassifier(random_state=0).fit(np.c_[np.zeros((120, 4)), X], BINARY)
    forest.estimators_[1] = wide
    with pytest.raises(ValueError, match="not given"):
        check_trees(forest)
    boosting = GradientBoostingRegressor(n_estimators=2).fit(X, NUMBER)
    boosting.estimators_[1, 0] = wide
    with pytest.raises(ValueError, match="not given"):
        check_trees(boosting)


def histogram():
    return HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(np.abs(X).round(), BINARY)


@pytest.mark.parametrize(("field", "value"), [("left", 4_000_000_000), ("right", 0), ("feature_idx", 99)])
def test_indices_of_histogram_trees_are_checked(field, value):
    model = histogram()
    model._predictors[0][0].nodes[field][0] = value
    with pytest.raises(ValueError, match="a decision tree"):
        check_trees(model)


def test_categories_of_histogram_trees_are_checked():
    model = histogram()
    nodes = model._predictors[0][0].nodes
    nodes["is_categorical"][0] = 1
    nodes["bitset_idx"][0] = 1000
    with pytest.raises(ValueError, match="categories"):
        check_trees(model)


def test_a_histogram_tree_without_nodes_is_refused():
    model = histogram()
    model._predictors[0][0].nodes = model._predictors[0][0].nodes[:0]
    with pytest.raises(ValueError, match="no nodes"):
        check_trees(model)


@pytest.mark.parametrize(
    ("position", "change", "problem"),
    [
        (1, lambda indices: indices.__setitem__(0, 10**9), "every row once"),
        (2, lambda nodes: nodes["idx_end"].__setitem__(0, 10**9), "outside of its rows"),
        (2, lambda nodes: nodes["idx_start"].__setitem__(0, -5), "outside of its rows"),
        (2, lambda nodes: nodes["is_leaf"].__setitem__(-1, 0), "outside of its nodes"),
    ],
)
def test_search_trees_are_checked(position, change, problem):
    model = KNeighborsClassifier(algorithm="kd_tree", leaf_size=5).fit(X, BINARY)
    check_trees(model)
    state = list(model._tree.__getstate__())
    array = np.array(state[position])
    change(array)
    state[position] = array
    model._tree.__setstate__(tuple(state))
    with pytest.raises(ValueError, match=problem):
        check_trees(model)


def test_bounds_of_search_trees_are_checked():
    model = KNeighborsClassifier(algorithm="kd_tree", leaf_size=5).fit(X, BINARY)
    state = list(model._tree.__getstate__())
    state[3] = np.ascontiguousarray(np.array(state[3])[:, :1])
    model._tree.__setstate__(tuple(state))
    with pytest.raises(ValueError, match="bounds"):
        check_trees(model)


def test_children_have_one_parent_and_stay_inside():
    check_children(np.array([1, 2]), 3)
    check_children(np.array([0, 1]), 2, root=False)
    for children, problem in ([[1, 1], "two parents"], [[0, 1], "outside"], [[1, 3], "outside"], [[-1, 1], "outside"]):
        with pytest.raises(ValueError, match=problem):
            check_children(np.array(children), 3)


def test_padding_of_nodes_is_cleared():
    from crossfade.registry.flavors.skops import _without_padding

    buffer = io.BytesIO()
    nodes = tree().tree_.__getstate__()["nodes"]
    np.save(buffer, nodes)
    clean = np.load(io.BytesIO(_without_padding(buffer.getvalue())))
    assert clean.dtype == nodes.dtype
    np.testing.assert_array_equal(clean, nodes)
    gaps = np.ones(nodes.dtype.itemsize, bool)
    for dtype, offset in (field[:2] for field in nodes.dtype.fields.values()):
        gaps[offset : offset + dtype.itemsize] = False
    assert gaps.any()
    assert not clean.view(np.uint8).reshape(len(clean), -1)[:, gaps].any()
    assert _without_padding(b"other") == b"other"
