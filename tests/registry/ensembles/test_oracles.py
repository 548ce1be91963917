"""The same fitted parts give the same answers as in scikit-learn's own ensembles."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.registry import Registry

NAMES = ("one", "two", "three")
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
TEXT = np.array(["setosa", "versicolor", "virginica"], dtype=object)


def classifiers():
    logistic = make_pipeline(StandardScaler(), LogisticRegression())
    return list(zip(NAMES, (logistic, DecisionTreeClassifier(max_depth=1, random_state=0), GaussianNB()), strict=True))


def regressors():
    return list(zip(NAMES, (LinearRegression(), DecisionTreeRegressor(max_depth=3), Ridge(5.0)), strict=True))


@pytest.fixture
def registry(backend):
    return Registry(backend)


def answers(registry, oracle, rows, method, weights=None, stacker="", outputs=("predict",)):
    """Register the fitted parts of an ensemble of scikit-learn, and ask ours."""
    for name, part in zip(NAMES, oracle.estimators_, strict=True):
        registry.register(name, part, example=rows)
    members = tuple(Member(name, weight=w) for name, w in zip(NAMES, weights or (1.0, 1.0, 1.0), strict=True))
    members = tuple(Member(f"{member.ref}:1.0.0", member.weight) for member in members)
    registered = registry.register_ensemble("ours", EnsembleSpec(method, members, stacker))
    assert registry.verify(registered.ref).golden_rows == 8
    return registry.load(registered.ref).predict({"x": rows}, frozenset(outputs))


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0), (0.1, 0.7, 0.2)])
def test_an_average(registry, weights):
    rows, target = DIABETES
    oracle = VotingRegressor(regressors(), weights=weights).fit(rows, target)
    found = answers(registry, oracle, rows, "average", weights)
    assert found["predict"] == pytest.approx(oracle.predict(rows), rel=1e-12)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0), (0.1, 0.7, 0.2)])
def test_a_soft_vote(registry, weights):
    rows, target = IRIS
    oracle = VotingClassifier(classifiers(), voting="soft", weights=weights).fit(rows, target)
    found = answers(registry, oracle, rows, "soft_vote", weights, outputs=("predict", "predict_proba"))
    assert found["predict_proba"] == pytest.approx(oracle.predict_proba(rows), rel=1e-12)
    assert found["predict"].tolist() == oracle.predict(rows).tolist()


@pytest.mark.parametrize("weights", [None, (1.0, 1.0, 2.0), (0.1, 0.2, 0.3), (5.0, 1.0, 1.0)])
def test_a_hard_vote_draws_included(registry, weights):
    rows, target = IRIS
    parts = classifiers()
    oracle = VotingClassifier(parts, voting="hard", weights=weights).fit(rows, target)
    found = answers(registry, oracle, rows, "hard_vote", weights)
    assert found["predict"].tolist() == oracle.predict(rows).tolist()
    ballots = np.array([part.predict(rows) for part in oracle.estimators_])
    assert (ballots != ballots[0]).any()  # they do not agree everywhere, so there was something to count


def test_labels_that_are_text(registry):
    rows, target = IRIS
    for name, part in classifiers():
        registry.register(name, part.fit(rows, TEXT[target]), example=rows)
    spec = EnsembleSpec("hard_vote", tuple(Member(f"{name}:1.0.0") for name in NAMES))
    found = registry.load(registry.register_ensemble("ours", spec).ref).predict({"x": rows}, frozenset({"predict"}))
    oracle = VotingClassifier(classifiers(), voting="hard").fit(rows, TEXT[target])
    assert found["predict"].tolist() == oracle.predict(rows).tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_a_stack_of_classifiers(registry, classes):
    rows, target = IRIS[0][: 50 * classes], IRIS[1][: 50 * classes]
    oracle = StackingClassifier(classifiers(), LogisticRegression(), cv=3).fit(rows, target)
    registry.register("final", oracle.final_estimator_, example=oracle.transform(rows))
    found = answers(registry, oracle, rows, "stack", None, "final:1.0.0", ("predict", "predict_proba"))
    assert found["predict"].tolist() == oracle.predict(rows).tolist()
    assert found["predict_proba"] == pytest.approx(oracle.predict_proba(rows), rel=1e-12)


def test_a_stack_of_regressors(registry):
    rows, target = DIABETES
    oracle = StackingRegressor(regressors(), Ridge(), cv=3).fit(rows, target)
    registry.register("final", oracle.final_estimator_, example=oracle.transform(rows))
    found = answers(registry, oracle, rows, "stack", None, "final:1.0.0")
    assert found["predict"] == pytest.approx(oracle.predict(rows), rel=1e-12)


def test_a_stacker_with_columns_of_its_own_gets_them_in_the_order_of_the_members(registry):
    import pandas as pd

    rows, target = DIABETES
    oracle = StackingRegressor(regressors(), Ridge(), cv=3).fit(rows, target)
    frame = pd.DataFrame(oracle.transform(rows), columns=list(NAMES))
    registry.register("final", Ridge().fit(frame, target), example=frame)
    found = answers(registry, oracle, rows, "stack", None, "final:1.0.0")
    assert found["predict"] == pytest.approx(Ridge().fit(frame, target).predict(frame), rel=1e-12)
