"""XGBoost: every kind of objective, and files that would end the process."""

import json
from contextlib import suppress

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import LoadFailedError
from crossfade.registry.flavors import ubjson
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.xgboost import XGBoost
from crossfade.registry.flavors.xgboost_file import check_file
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import BINARY, EIGHT, FRAME, NUMBER, THREE, TWO_NUMBERS, X

POLICY = TrustPolicy()
XGBOOST = XGBoost()
SMALL = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
EVERYTHING = frozenset({"predict", "predict_proba"})


class TestClassifier(FlavorContract):
    flavor = "xgboost"
    package = "xgboost"
    flips = 200

    @pytest.fixture
    def model(self):
        return xgboost.XGBClassifier(**SMALL).fit(X, THREE)

    @pytest.fixture
    def inputs(self):
        return EIGHT


class TestBooster(FlavorContract):
    flavor = "xgboost"
    package = "xgboost"

    @pytest.fixture
    def model(self):
        return xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(FRAME, NUMBER), 3)

    @pytest.fixture
    def inputs(self):
        return EIGHT


def both(model):
    """The answers of the model itself and of the saved one."""
    loaded = XGBOOST.load(XGBOOST.save(model), POLICY)
    wanted = frozenset(spec.name for spec in loaded.outputs)
    return XGBOOST.wrap(model).predict(EIGHT, wanted), loaded.predict(EIGHT, wanted)


def stopped_early():
    model = xgboost.XGBClassifier(n_estimators=30, n_jobs=1, early_stopping_rounds=2)
    return model.fit(X, BINARY, eval_set=[(X[:50], 1 - BINARY[:50])], verbose=False)


MODELS = {
    "binary": lambda: xgboost.XGBClassifier(**SMALL).fit(X, BINARY),
    "hinge": lambda: xgboost.XGBClassifier(objective="binary:hinge", **SMALL).fit(X, BINARY),
    "several labels": lambda: xgboost.XGBClassifier(**SMALL).fit(X, (X[:, :3] > 0).astype(int)),
    "forest": lambda: xgboost.XGBRFRegressor(**SMALL).fit(X, NUMBER),
    "dart": lambda: xgboost.XGBRegressor(booster="dart", **SMALL).fit(X, NUMBER),
    "linear": lambda: xgboost.XGBRegressor(booster="gblinear", n_estimators=4, n_jobs=1).fit(X, NUMBER),
    "two numbers": lambda: xgboost.XGBRegressor(**SMALL).fit(X, TWO_NUMBERS),
    "vector leaves": lambda: xgboost.XGBRegressor(multi_strategy="multi_output_tree", **SMALL).fit(X, TWO_NUMBERS),
    "ranking": lambda: xgboost.XGBRanker(**SMALL).fit(X, BINARY, group=[60, 60]),
    "stopped early": stopped_early,
    "own missing value": lambda: xgboost.XGBRegressor(missing=-1.0, **SMALL).fit(X.round(), NUMBER),
}


@pytest.mark.parametrize("fitted", MODELS.values(), ids=MODELS)
def test_every_objective_answers_like_the_model(fitted):
    expected, answers = both(fitted())
    assert answers
    for name, value in answers.items():
        assert value.shape == expected[name].shape
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


def test_labels_are_integers_and_probabilities_float32():
    loaded = XGBOOST.load(XGBOOST.save(xgboost.XGBClassifier(**SMALL).fit(X, BINARY)), POLICY)
    assert loaded.classes == (0, 1)
    answers = loaded.predict(EIGHT, EVERYTHING)
    assert answers["predict"].dtype == np.int64
    assert answers["predict_proba"].dtype == np.float32
    np.testing.assert_allclose(answers["predict_proba"].sum(axis=1), 1.0, rtol=1e-6)


def test_softmax_gives_labels_only():
    booster = xgboost.train(
        {"objective": "multi:softmax", "num_class": 3, "nthread": 1}, xgboost.DMatrix(X, THREE), num_boost_round=2
    )
    loaded = XGBOOST.load(XGBOOST.save(booster), POLICY)
    assert [spec.describe() for spec in loaded.outputs] == ["INT64 [-1]"]
    assert loaded.predict(EIGHT, EVERYTHING)["predict"].dtype == np.int64


def test_trees_after_the_best_iteration_are_cut():
    model = stopped_early()
    assert model.get_booster().num_boosted_rounds() > model.best_iteration + 1
    document = ubjson.loads(XGBOOST.save(model)["model.ubj"])
    assert len(document["learner"]["gradient_booster"]["model"]["trees"]) == model.best_iteration + 1


def test_a_file_of_the_library_is_honoured(tmp_path):
    model = stopped_early()
    for name in ("model.ubj", "model.json"):
        model.save_model(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        assert XGBOOST.detects(name, data[:4096])
        answers = XGBOOST.load({name: data}, POLICY).predict(EIGHT, EVERYTHING)
        np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(X[:8]), rtol=1e-5)


def test_columns_keep_their_order():
    loaded = XGBOOST.load(XGBOOST.save(xgboost.XGBRegressor(**SMALL).fit(FRAME, NUMBER)), POLICY)
    assert loaded.columns == ("a", "b", "c", "d")
    assert loaded.matrix


def test_categories_survive():
    rows = np.c_[np.arange(120) % 5, X[:, 0]]
    model = xgboost.XGBRegressor(feature_types=["c", "q"], enable_categorical=True, max_cat_to_onehot=1, **SMALL)
    model.fit(rows, np.sin(rows[:, 0]))
    loaded = XGBOOST.load(XGBOOST.save(model), POLICY)
    answers = loaded.predict({"x": rows[:8]}, frozenset({"predict"}))["predict"]
    np.testing.assert_allclose(answers, model.predict(rows[:8]), rtol=1e-6)


# --- damaged files -------------------------------------------------------------------------------------------------


def document(booster="gbtree"):
    depth = {} if booster == "gblinear" else {"max_depth": 2}
    model = xgboost.XGBRegressor(booster=booster, n_estimators=2, n_jobs=1, **depth).fit(X, NUMBER)
    return json.loads(bytes(model.get_booster().save_raw("json")))


def trees(found):
    booster = found["learner"]["gradient_booster"]
    return booster.get("gbtree", booster)["model"]["trees"]


DAMAGES = {
    "child outside": lambda d: trees(d)[0]["left_children"].__setitem__(0, 99),
    "cycle": lambda d: trees(d)[0]["left_children"].__setitem__(1, 0),
    "one child": lambda d: trees(d)[0]["right_children"].__setitem__(0, -1),
    "foreign parent": lambda d: trees(d)[0]["parents"].__setitem__(1, 5),
    "feature outside": lambda d: trees(d)[0]["split_indices"].__setitem__(0, 4),
    "negative feature": lambda d: trees(d)[0]["split_indices"].__setitem__(0, -1),
    "fraction": lambda d: trees(d)[0]["split_indices"].__setitem__(0, 0.5),
    "text": lambda d: trees(d)[0].__setitem__("left_children", ["a", "b"]),
    "nested": lambda d: trees(d)[0].__setitem__("left_children", [[1], [2]]),
    "fewer nodes": lambda d: trees(d)[0]["split_conditions"].pop(),
    "no nodes": lambda d: trees(d)[0]["tree_param"].__setitem__("num_nodes", "0"),
    "fewer leaves": lambda d: trees(d)[0]["base_weights"].pop(),
    "leaf with a child": lambda d: trees(d)[0]["right_children"].__setitem__(-1, 1),
    "fewer trees": lambda d: trees(d).pop(),
    "misplaced": lambda d: trees(d)[1].__setitem__("id", 7),
    "iterations": lambda d: d["learner"]["gradient_booster"]["model"]["iteration_indptr"].__setitem__(1, 50),
    "no learner": lambda d: d.pop("learner"),
    "huge category": lambda d: trees(d)[0].update(
        split_type=[1, *trees(d)[0]["split_type"][1:]],
        categories=[2**30],
        categories_nodes=[0],
        categories_segments=[0],
        categories_sizes=[1],
    ),
    "category outside": lambda d: trees(d)[0].update(
        split_type=[1, *trees(d)[0]["split_type"][1:]],
        categories=[1],
        categories_nodes=[0],
        categories_segments=[0],
        categories_sizes=[7],
    ),
    "categorical without categories": lambda d: trees(d)[0]["split_type"].__setitem__(0, 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_would_end_the_process_is_refused(damage):
    found = document()
    check_file(json.dumps(found, separators=(",", ":")).encode())
    damage(found)
    with pytest.raises(LoadFailedError):
        check_file(json.dumps(found, separators=(",", ":")).encode())


def test_weights_of_a_linear_booster_are_counted():
    found = document("gblinear")
    found["learner"]["gradient_booster"]["model"]["weights"].pop()
    with pytest.raises(LoadFailedError, match="weights"):
        check_file(json.dumps(found, separators=(",", ":")).encode())


def test_every_dropped_tree_has_a_weight():
    found = document("dart")
    check_file(json.dumps(found, separators=(",", ":")).encode())
    found["learner"]["gradient_booster"]["weight_drop"].pop()
    with pytest.raises(LoadFailedError, match="weight"):
        check_file(json.dumps(found, separators=(",", ":")).encode())


def test_blocks_of_another_type_are_refused():
    data = XGBOOST.save(xgboost.XGBRegressor(**SMALL).fit(X, NUMBER))["model.ubj"]
    wrong = data.replace(b"parents[$l#", b"parents[$d#")
    assert wrong != data
    with pytest.raises(LoadFailedError, match="another type"):
        XGBOOST.load({"model.ubj": wrong}, POLICY)


def test_a_model_that_the_library_refuses_is_named():
    found = document()
    found["learner"]["objective"]["name"] = "no:such"
    with pytest.raises(LoadFailedError, match="XGBoost refuses"):
        XGBOOST.load({"model.json": json.dumps(found, separators=(",", ":")).encode()}, POLICY)


# --- the reader ----------------------------------------------------------------------------------------------------


def write(value):
    """Write UBJSON as XGBoost does."""
    match value:
        case dict():
            return b"{" + b"".join(b"L" + size(k) + k.encode() + write(v) for k, v in value.items()) + b"}"
        case list():
            return b"[" + b"".join(map(write, value)) + b"]"
        case bool() | None:
            return {True: b"T", False: b"F", None: b"Z"}[value]
        case int():
            return b"L" + value.to_bytes(8, "big", signed=True)
        case float():
            return b"D" + np.array(value, ">f8").tobytes()
        case _:
            return b"SL" + size(value) + value.encode()


def size(text):
    return len(text.encode()).to_bytes(8, "big")


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(DOCUMENTS)
def test_what_was_written_is_read(value):
    assert ubjson.loads(write(value)) == value


@given(
    st.dictionaries(st.text("abcdef", max_size=3), DOCUMENTS, min_size=1, max_size=2), st.floats(0, 1, exclude_max=True)
)
def test_a_truncated_document_is_refused(value, fraction):
    written = write(value)
    with pytest.raises(ValueError, match=r"early|length|type|twice"):
        ubjson.loads(written[: int(fraction * len(written))])


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_or_a_value_error(data):
    with suppress(ValueError):
        ubjson.loads(data)


def test_blocks_and_padding_are_read():
    block = ubjson.loads(b"[$l#L" + (2).to_bytes(8, "big") + b"\x00\x00\x00\x01\xff\xff\xff\xff")
    assert block.tolist() == [1, -1]
    assert ubjson.loads(b"N[#i\x02TF") == [True, False]
    assert ubjson.loads(b"Cx") == "x"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[$S#i\x01", "something other than numbers"),
        (b"[$l#L" + (2**62).to_bytes(8, "big"), "early"),
        (b"[$l#L" + (-1).to_bytes(8, "big", signed=True), "early"),
        (b"Si\x7fa", "early"),
        (b"SD" + b"\x00" * 8, "length"),
        (b"x", "no type"),
        (b"TT", "follows"),
        (b"[" * 100, "deeply"),
        (b"{i\x01aTi\x01aT}", "twice"),
    ],
)
def test_hostile_documents_are_refused(data, problem):
    with pytest.raises(ValueError, match=problem):
        ubjson.loads(data)
