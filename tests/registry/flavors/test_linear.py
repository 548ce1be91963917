"""Linear models as arithmetic: the same answers as scikit-learn's own, to the last bit, or none at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskLasso,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

from crossfade.errors import CrossfadeError
from crossfade.registry.flavors.linear import compile_linear
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.sklearn import Sklearn
from tests.registry.flavors.rows import BINARY, NUMBER, TEXT, THREE, TWO_NUMBERS, X

BOTH = frozenset({"predict", "predict_proba"})

COMPILED = {
    "two classes": lambda: LogisticRegression().fit(X, BINARY),
    "three classes": lambda: LogisticRegression().fit(X, THREE),
    "text": lambda: LogisticRegression().fit(X, TEXT),
    "truth values": lambda: LogisticRegression(fit_intercept=False).fit(X, X[:, 0] > 0),
    "cross-validated": lambda: LogisticRegressionCV(
        l1_ratios=(0,), use_legacy_attributes=False, scoring="neg_log_loss"
    ).fit(X, BINARY),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE),
    "scaled twice": lambda: make_pipeline(StandardScaler(with_mean=False), StandardScaler(with_std=False), Ridge()).fit(
        X, NUMBER
    ),
    "in single precision": lambda: LogisticRegression().fit(X.astype(np.float32), BINARY),
    "support vectors": lambda: LinearSVC().fit(X, THREE),
    "perceptron": lambda: Perceptron().fit(X, BINARY),
    "least squares": lambda: LinearRegression().fit(X, NUMBER),
    "two numbers": lambda: LinearRegression().fit(X, TWO_NUMBERS),
    "ridge": lambda: Ridge().fit(X, NUMBER),
    "elastic net": lambda: ElasticNet(alpha=0.1).fit(X, NUMBER),
    "several tasks": lambda: MultiTaskLasso(alpha=0.1).fit(X, TWO_NUMBERS),
    "huber": lambda: HuberRegressor().fit(X, NUMBER),
    "bayesian": lambda: BayesianRidge().fit(X, NUMBER),
}


class Doubtful(LogisticRegression):
    """Would be compiled if only names counted."""

    def decision_function(self, rows):
        return super().decision_function(rows) - 1


def changed_later():
    model = LogisticRegression().fit(X, BINARY)
    model.predict_proba = lambda rows: np.full((len(rows), 2), 0.5)
    return model


NOT_COMPILED = {
    "probabilities of its own": lambda: SGDClassifier(loss="log_loss", random_state=0).fit(X, BINARY),
    "labels of its own": lambda: RidgeClassifier().fit(X, BINARY),
    "another scaler": lambda: make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, BINARY),
    "nothing between": lambda: make_pipeline("passthrough", LogisticRegression()).fit(X, BINARY),
    "another class": lambda: Doubtful().fit(X, BINARY),
    "another method": changed_later,
    "sparse coefficients": lambda: LogisticRegression().fit(X, BINARY).sparsify(),
    "not fitted": LogisticRegression,
    "damaged": lambda: vars(model := LogisticRegression().fit(X, BINARY)).update(coef_=np.zeros((1, 3))) or model,
    "not finite": lambda: vars(model := Ridge().fit(X, NUMBER)).update(coef_=np.full(4, np.nan)) or model,
    "wide": lambda: LinearRegression().fit(np.zeros((2, 5_000)), [0.0, 1.0]),
}


@pytest.mark.parametrize("fitted", COMPILED.values(), ids=COMPILED)
def test_answers_are_those_of_scikit_learn_to_the_last_bit(fitted):
    model = fitted()
    compiled = compile_linear(model)
    assert compiled is not None
    wanted = frozenset(name for name in BOTH if hasattr(model, name))

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 70),
        st.integers(0, 2**32 - 1),
        st.floats(1e-9, 1e9),
        st.sampled_from([np.float64, np.float32]),
        st.booleans(),
    )
    def agree(rows, seed, scale, dtype, fortran):
        inputs = (np.random.default_rng(seed).normal(size=(rows, 4)) * scale).astype(dtype)
        inputs = np.asfortranarray(inputs) if fortran else inputs
        before = inputs.copy()
        answers = compiled.predict(inputs, wanted)
        np.testing.assert_array_equal(inputs, before)
        assert set(answers) == wanted
        for name, answer in answers.items():
            expected = getattr(model, name)(inputs)
            assert answer.tolist() == expected.tolist()
            assert answer.dtype.kind == ("O" if expected.dtype.kind in "OU" else expected.dtype.kind)

    agree()


@pytest.mark.parametrize("fitted", NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_what_differs_in_anything_is_left_to_scikit_learn(fitted):
    assert compile_linear(fitted()) is None


def test_only_what_is_wanted_is_computed():
    compiled = compile_linear(LogisticRegression().fit(X, BINARY))
    for name in BOTH:
        assert set(compiled.predict(X[:3], frozenset({name}))) == {name}


@pytest.mark.parametrize(
    "rows",
    [np.zeros((0, 4)), np.zeros((2, 3)), np.zeros(4), np.zeros((1, 4), object), [[0.0] * 4]],
    ids=["none", "narrow", "flat", "objects", "a list"],
)
def test_odd_rows_are_not_taken(rows):
    assert not compile_linear(LogisticRegression().fit(X, BINARY)).takes(rows)


def test_a_loaded_model_says_what_scikit_learn_says():
    sklearn, model = Sklearn(), make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TEXT)
    loaded = sklearn.load(sklearn.save(model), TrustPolicy())
    answers = loaded.predict({"x": X[:9]}, BOTH)
    assert answers["predict"].tolist() == model.predict(X[:9]).tolist()
    assert answers["predict_proba"].tolist() == model.predict_proba(X[:9]).tolist()
    with pytest.raises((ValueError, CrossfadeError), match="3 features"):
        loaded.predict({"x": X[:2, :3]}, BOTH)
    whole = loaded.predict({"x": np.ones((2, 4), np.int64)}, BOTH)
    assert whole["predict_proba"].tolist() == model.predict_proba(np.ones((2, 4))).tolist()
