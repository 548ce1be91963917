"""LightGBM: every kind of objective, labels of classifiers, and texts that would end the process."""

import re

import lightgbm
import numpy as np
import pytest

from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.lightgbm import LightGBM
from crossfade.registry.flavors.lightgbm_file import check_file
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import BINARY, EIGHT, FRAME, NUMBER, TEXT, THREE, X

POLICY = TrustPolicy()
LIGHTGBM = LightGBM()
SMALL = {"n_estimators": 4, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
CATEGORICAL = {"min_data_per_group": 1, "cat_smooth": 1.0, "max_cat_to_onehot": 2}
EVERYTHING = frozenset({"predict", "predict_proba"})


class TestClassifier(FlavorContract):
    flavor = "lightgbm"
    package = "lightgbm"
    flips = 200

    @pytest.fixture
    def model(self):
        return lightgbm.LGBMClassifier(**SMALL).fit(X, TEXT)

    @pytest.fixture
    def inputs(self):
        return EIGHT


class TestBooster(FlavorContract):
    flavor = "lightgbm"
    package = "lightgbm"

    @pytest.fixture
    def model(self):
        return lightgbm.LGBMRegressor(**SMALL).fit(FRAME, NUMBER).booster_

    @pytest.fixture
    def inputs(self):
        return EIGHT


@pytest.mark.parametrize("labels", [BINARY, THREE, TEXT, BINARY == 1, BINARY * 2.0 + 5], ids=lambda y: str(y[:2]))
def test_labels_are_those_of_the_model(labels):
    model = lightgbm.LGBMClassifier(**SMALL).fit(X, labels)
    loaded = LIGHTGBM.load(LIGHTGBM.save(model), POLICY)
    answers = loaded.predict(EIGHT, EVERYTHING)
    assert answers["predict"].tolist() == model.predict(X[:8]).tolist()
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(X[:8]), rtol=1e-12)
    assert loaded.classes == tuple(model.classes_.tolist())


def test_a_text_without_labels_counts_them():
    model = lightgbm.LGBMClassifier(**SMALL).fit(X, TEXT)
    loaded = LIGHTGBM.load({"model.txt": model.booster_.model_to_string().encode()}, POLICY)
    assert loaded.classes == (0, 1, 2)
    assert loaded.predict(EIGHT, EVERYTHING)["predict"].tolist() == model.predict_proba(X[:8]).argmax(axis=1).tolist()


@pytest.mark.parametrize("labels", [b'["a"]', b"[[1],[2],[3]]", b"{}", b"nonsense", b""])
def test_labels_that_do_not_fit_are_refused(labels):
    files = LIGHTGBM.save(lightgbm.LGBMClassifier(**SMALL).fit(X, TEXT))
    with pytest.raises(LoadFailedError):
        LIGHTGBM.load({**files, "classes.json": labels}, POLICY)


def test_columns_keep_their_order():
    assert LIGHTGBM.wrap(lightgbm.LGBMRegressor(**SMALL).fit(FRAME, NUMBER).booster_).columns == ("a", "b", "c", "d")
    assert LIGHTGBM.wrap(lightgbm.LGBMRegressor(**SMALL).fit(X, NUMBER).booster_).columns == ()


def test_categories_and_stumps_survive():
    rows = np.c_[np.arange(120) % 7, X[:, 0]]
    model = lightgbm.LGBMRegressor(**SMALL, **CATEGORICAL)
    model.fit(rows, np.sin(rows[:, 0]), categorical_feature=[0])
    assert re.search("num_cat=[1-9]", model.booster_.model_to_string())
    loaded = LIGHTGBM.load(LIGHTGBM.save(model), POLICY)
    answers = loaded.predict({"x": rows[:8]}, frozenset({"predict"}))["predict"]
    np.testing.assert_allclose(answers, model.predict(rows[:8]))
    constant = lightgbm.LGBMRegressor(**SMALL).fit(X, np.ones(120))
    LIGHTGBM.load(LIGHTGBM.save(constant), POLICY)


# --- damaged texts -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    rows = np.c_[np.arange(120) % 7, X[:, 0]]
    model = lightgbm.LGBMRegressor(**{**SMALL, "n_estimators": 2}, **CATEGORICAL)
    return model.fit(rows, np.sin(rows[:, 0]), categorical_feature=[0]).booster_.model_to_string()


def replaced(text, key, change):
    """Change the value of a key where it appears first, keeping the length of the tree."""
    line = next(line for line in text.splitlines() if line.startswith(f"{key}="))
    value = line.partition("=")[2]
    changed = change(value)
    return text.replace(line, f"{key}={changed.ljust(len(value))}", 1)


def first(number):
    return lambda value: " ".join([str(number), *value.split()[1:]])


DAMAGES = {
    "feature outside": ("split_feature", first(7)),
    "cycle": ("left_child", first(0)),
    "leaf twice": ("right_child", lambda value: value.replace(value.split()[0], value.split()[1], 1)),
    "no number": ("leaf_value", lambda value: "x" + value[1:]),
    "category outside": ("threshold", first(9)),
    "more leaves": ("num_leaves", lambda value: "9" * len(value)),
    "boundaries": ("cat_boundaries", lambda value: "1" + value[1:]),
    "sizes": ("tree_sizes", lambda value: "2" + value[1:]),
    "more features": ("max_feature_idx", lambda value: "5"),
    "no classes": ("num_class", lambda value: "0"),
}


@pytest.mark.parametrize(("key", "change"), DAMAGES.values(), ids=DAMAGES)
def test_what_would_end_the_process_is_refused(text, key, change):
    check_file(text)
    damaged = replaced(text, key, change)
    assert damaged != text
    with pytest.raises(LoadFailedError, match="intact"):
        check_file(damaged)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("tree\n", "wood\n", 1),
        lambda text: text.replace("end of trees", "end of twigs"),
        lambda text: text.replace("end of parameters", "end of paragraphs"),
        lambda text: text.replace("shrinkage=", "shrinkage ", 1),
        lambda text: text.replace("leaf_count=", "leaf_value=", 1),
        lambda text: text.replace("num_leaves=", "num_leafs_=", 1),
        lambda text: text.replace("Tree=1", "Twig=1"),
        lambda text: text.replace("tree_sizes=", "linear_tree=1\ntree_sizes="),
        lambda text: text[:-1],
    ],
)
def test_texts_that_are_not_whole_are_refused(text, change):
    assert change(text) != text
    with pytest.raises(LoadFailedError):
        check_file(change(text))


def test_a_model_that_the_library_refuses_is_named(text):
    with pytest.raises(LoadFailedError, match="LightGBM refuses"):
        LIGHTGBM.load({"model.txt": text.replace("label_index=0", "label_place=0").encode()}, POLICY)


def test_two_texts_are_refused(text):
    with pytest.raises(LoadFailedError, match="one text file, not 2"):
        LIGHTGBM.inspect({"a.txt": text.encode(), "b.txt": text.encode()}, POLICY)
