"""Estimators that were fitted on a frame and are asked with arrays."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from crossfade.registry.flavors.columns import forget_columns
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.sklearn import Sklearn
from tests.registry.flavors.rows import BINARY, FRAME, NUMBER, X

SKLEARN = Sklearn()
WANTED = frozenset({"predict"})


class Own(LinearRegression):
    """Not scikit-learn's, so nobody knows what it does with names."""


FORGETTING = {
    "model": LinearRegression,
    "pipeline": lambda: make_pipeline(StandardScaler(), Ridge()),
    "ensemble": lambda: StackingRegressor([("a", Ridge()), ("b", BaggingRegressor(n_estimators=2))], cv=2),
}
REMEMBERING = {
    "by name": lambda: make_pipeline(make_column_transformer((StandardScaler(), ["b", "a"])), LinearRegression()),
    "function": lambda: make_pipeline(FunctionTransformer(lambda frame: frame[["a"]]), LinearRegression()),
    "frames between steps": lambda: make_pipeline(StandardScaler(), Ridge()).set_output(transform="pandas"),
    "own": Own,
}


@pytest.mark.parametrize("build", FORGETTING.values(), ids=FORGETTING)
def test_names_are_forgotten_everywhere_inside(build):
    model = build().fit(FRAME, NUMBER)
    expected = model.predict(FRAME)
    assert forget_columns(model)
    np.testing.assert_allclose(model.predict(X), expected)  # a warning about names would fail this test


@pytest.mark.parametrize("build", REMEMBERING.values(), ids=REMEMBERING)
def test_what_may_need_names_keeps_them(build):
    model = build().fit(FRAME, NUMBER)
    expected = model.predict(FRAME)
    assert not forget_columns(model)
    assert list(model.feature_names_in_) == list(FRAME.columns)
    np.testing.assert_array_equal(model.predict(FRAME), expected)


def test_a_loaded_model_takes_frames_and_arrays_alike():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, BINARY)
    loaded = SKLEARN.load(SKLEARN.save(model), TrustPolicy())
    assert loaded.matrix
    assert loaded.columns == ("a", "b", "c", "d")
    expected = model.predict(FRAME).tolist()
    turned = FRAME[["d", "b", "a", "c"]]
    for rows in (X, {"x": X}, FRAME, turned, pl.DataFrame(turned)):
        assert loaded.predict(rows, WANTED)["predict"].tolist() == expected


def test_the_users_own_object_is_not_changed():
    model = LinearRegression().fit(FRAME, NUMBER)
    wrapped = SKLEARN.wrap(model)
    assert not wrapped.matrix
    np.testing.assert_allclose(wrapped.predict(X, WANTED)["predict"], model.predict(FRAME))
    assert list(model.feature_names_in_) == list(FRAME.columns)


def test_a_transformer_takes_arrays_too():
    scaler = StandardScaler().fit(FRAME)
    loaded = SKLEARN.load(SKLEARN.save(scaler), TrustPolicy())
    np.testing.assert_allclose(loaded.transform(X), scaler.transform(FRAME))
    framed = StandardScaler().set_output(transform="pandas").fit(FRAME)
    loaded = SKLEARN.load(SKLEARN.save(framed), TrustPolicy())
    pd.testing.assert_frame_equal(loaded.transform(X[:3]), framed.transform(FRAME[:3]))
