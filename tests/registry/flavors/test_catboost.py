"""CatBoost: labels, categorical text columns, and the prediction type of each loss."""

import catboost
import numpy as np
import pytest

from crossfade.registry.flavors.catboost import CatBoost
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import BINARY, EIGHT, FRAME, MIXED, NUMBER, TEXT, TWO_NUMBERS, X

POLICY = TrustPolicy()
CATBOOST = CatBoost()
SMALL = {"iterations": 3, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
EVERYTHING = frozenset({"predict", "predict_proba"})


class TestClassifier(FlavorContract):
    flavor = "catboost"
    package = "catboost"

    @pytest.fixture
    def model(self):
        return catboost.CatBoostClassifier(**SMALL).fit(X, TEXT.astype(str))

    @pytest.fixture
    def inputs(self):
        return EIGHT


@pytest.mark.parametrize("labels", [BINARY, TEXT.astype(str), X[:, 0] > 0], ids=["numbers", "text", "booleans"])
def test_labels_are_those_of_the_model(labels):
    model = catboost.CatBoostClassifier(**SMALL).fit(X, labels)
    loaded = CATBOOST.load(CATBOOST.save(model), POLICY)
    answers = loaded.predict(EIGHT, EVERYTHING)
    assert answers["predict"].tolist() == [type(loaded.classes[0])(v) for v in np.ravel(model.predict(X[:8]))]
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(X[:8]), rtol=1e-9)


@pytest.mark.parametrize(
    ("loss", "target"),
    [("RMSE", NUMBER), ("Poisson", np.abs(NUMBER)), ("MultiRMSE", TWO_NUMBERS), ("RMSEWithUncertainty", NUMBER)],
)
def test_losses_answer_like_the_model(loss, target):
    model = catboost.CatBoostRegressor(loss_function=loss, **SMALL).fit(X, target)
    answers = CATBOOST.load(CATBOOST.save(model), POLICY).predict(EIGHT, EVERYTHING)
    np.testing.assert_allclose(answers["predict"], model.predict(X[:8]), rtol=1e-9)


def test_text_columns_are_taken_as_they_are():
    model = catboost.CatBoostClassifier(cat_features=["carrier"], **SMALL).fit(MIXED, BINARY)
    loaded = CATBOOST.load(CATBOOST.save(model), POLICY)
    assert loaded.columns == tuple(MIXED.columns)
    answers = loaded.predict(MIXED[:8], EVERYTHING)
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(MIXED[:8]), rtol=1e-9)


def test_columns_without_names_have_none():
    assert CATBOOST.wrap(catboost.CatBoostRegressor(**SMALL).fit(X, NUMBER)).columns == ()
    assert CATBOOST.wrap(catboost.CatBoostRegressor(**SMALL).fit(FRAME, NUMBER)).columns == ("a", "b", "c", "d")
