"""scikit-learn through skops: which estimators are trusted, canonical bytes, hostile files."""

import io
import json
import zipfile

import numpy as np
import pytest
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from crossfade.errors import CodeNotAllowedError, LoadFailedError, UntrustedTypesError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.sklearn import MAX_EXPANSION, Sklearn
from crossfade.registry.flavors.skops import canonical
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import BINARY, EIGHT, FRAME, MIXED, NUMBER, TEXT, THREE, TWO_NUMBERS, X

POLICY = TrustPolicy()
SKLEARN = Sklearn()


class TestPipeline(FlavorContract):
    flavor = "sklearn"
    package = "skops"

    @pytest.fixture
    def model(self):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TEXT)

    @pytest.fixture
    def inputs(self):
        return EIGHT


class TestForest(FlavorContract):
    flavor = "sklearn"
    package = "skops"

    @pytest.fixture
    def model(self):
        return RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, BINARY)

    @pytest.fixture
    def inputs(self):
        return EIGHT


class TestNeighbours(FlavorContract):
    flavor = "sklearn"
    package = "skops"

    @pytest.fixture
    def model(self):
        return KNeighborsClassifier(algorithm="ball_tree").fit(X, BINARY)

    @pytest.fixture
    def inputs(self):
        return EIGHT


def columns():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
        (OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
        (OrdinalEncoder(), ["hour"]),
        (FunctionTransformer(np.abs), ["c"]),
        remainder="drop",
    )


TRUSTED = {
    "stacking": lambda: StackingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], cv=2).fit(X, TEXT),
    "voting": lambda: VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft").fit(X, TEXT),
    "gradient boosting": lambda: GradientBoostingClassifier(n_estimators=3).fit(X, THREE),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=3).fit(X, TEXT),
    "histogram regression": lambda: HistGradientBoostingRegressor(max_iter=3, loss="absolute_error").fit(X, NUMBER),
    "extra trees": lambda: ExtraTreesClassifier(3).fit(X, BINARY),
    "forest of two numbers": lambda: RandomForestRegressor(3).fit(X, TWO_NUMBERS),
    "isolation": lambda: IsolationForest(n_estimators=3, max_features=2).fit(X),
    "calibrated": lambda: CalibratedClassifierCV(GaussianNB(), cv=2).fit(X, BINARY),
    "grid": lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, BINARY),
    "support vectors": lambda: SVC().fit(X, BINARY),
    "selection": lambda: make_pipeline(SelectKBest(k=2), SGDClassifier(random_state=0)).fit(X, BINARY),
    "gaussian process": lambda: GaussianProcessRegressor().fit(X, NUMBER),
    "network": lambda: MLPRegressor(hidden_layer_sizes=(4,), max_iter=2000, tol=0.1, random_state=0).fit(X, NUMBER),
    "clusters": lambda: KMeans(3, random_state=0).fit(X),
    "several targets": lambda: MultiOutputRegressor(Ridge()).fit(X, TWO_NUMBERS),
}


@pytest.mark.parametrize("fitted", TRUSTED.values(), ids=TRUSTED)
def test_common_estimators_are_trusted_and_canonical(fitted):
    model = fitted()
    files = SKLEARN.save(model)
    loaded = SKLEARN.load(files, POLICY)
    answers = loaded.predict(EIGHT, frozenset({"predict"}))["predict"]
    expected = model.predict(X[:8])
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answers, expected, rtol=1e-12)
    else:
        assert answers.tolist() == expected.tolist()
    assert SKLEARN.save(loaded.estimator) == files


def test_frames_of_mixed_columns_and_text_are_served():
    model = make_pipeline(columns(), LogisticRegression()).fit(MIXED, TEXT)
    loaded = SKLEARN.load(SKLEARN.save(model), POLICY)
    assert loaded.columns == tuple(MIXED.columns)
    assert not loaded.matrix
    answers = loaded.predict(MIXED[:5], frozenset({"predict", "predict_proba"}))
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(MIXED[:5]))
    assert answers["predict"].tolist() == model.predict(MIXED[:5]).tolist()
    reader = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(["good day", "bad day"] * 5, [1, 0] * 5)
    loaded = SKLEARN.load(SKLEARN.save(reader), POLICY)
    assert loaded.predict(np.array(["good", "bad"], object), frozenset({"predict"}))["predict"].tolist() == [1, 0]


def test_a_transformer_transforms():
    transformer = columns().fit(MIXED)
    loaded = SKLEARN.load(SKLEARN.save(transformer), POLICY)
    np.testing.assert_allclose(loaded.transform(MIXED[:4]), transformer.transform(MIXED[:4]))
    assert loaded.columns == tuple(MIXED.columns)


def test_a_pipeline_transforms_once_for_both_outputs():
    calls = []
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, BINARY)
    loaded = SKLEARN.wrap(model)
    transform = model[0].transform
    model[0].transform = lambda rows: calls.append(len(rows)) or transform(rows)
    both = loaded.predict(EIGHT, frozenset({"predict", "predict_proba"}))
    assert calls == [8]
    assert both["predict"].tolist() == model.predict(X[:8]).tolist()
    np.testing.assert_array_equal(both["predict_proba"], model.predict_proba(X[:8]))


def test_probabilities_are_not_computed_when_only_labels_are_wanted():
    class Counting(LogisticRegression):
        def predict_proba(self, rows):
            raise AssertionError

    loaded = SKLEARN.wrap(Counting().fit(X, BINARY))
    assert set(loaded.predict(EIGHT, frozenset({"predict"}))) == {"predict"}


def test_the_configuration_of_the_thread_is_left_as_it_was():
    seen = {}

    class Watching(LogisticRegression):
        def predict(self, rows):
            seen.update(get_config())
            return super().predict(rows)

    before = get_config()
    SKLEARN.wrap(Watching().fit(X, BINARY)).predict(EIGHT, frozenset({"predict"}))
    assert seen["assume_finite"]
    assert seen["skip_parameter_validation"]
    assert get_config() == before


def test_one_set_of_labels_per_target_is_no_classifier():
    loaded = SKLEARN.wrap(MultiOutputClassifier(LogisticRegression()).fit(X, np.stack((BINARY, THREE), axis=1)))
    assert loaded.classes == ()
    assert [spec.name for spec in loaded.outputs] == ["predict"]
    assert loaded.predict(EIGHT, frozenset({"predict"}))["predict"].shape == (8, 2)


def test_boolean_labels_stay_boolean():
    loaded = SKLEARN.load(SKLEARN.save(LogisticRegression().fit(X, X[:, 0] > 0)), POLICY)
    assert loaded.classes == (False, True)
    assert loaded.outputs[0].datatype == "BOOL"
    assert loaded.predict(EIGHT, frozenset({"predict"}))["predict"].dtype == np.bool_


# --- what is refused -----------------------------------------------------------------------------------------------


class Shift(BaseEstimator, TransformerMixin):
    def fit(self, rows, labels=None):
        self.shift_ = 1.0
        return self

    def transform(self, rows):
        return rows + self.shift_


def test_own_types_are_named_until_the_policy_trusts_them():
    files = SKLEARN.save(make_pipeline(Shift(), LogisticRegression()).fit(X, BINARY))
    with pytest.raises(UntrustedTypesError) as caught:
        SKLEARN.inspect(files, POLICY)
    name = f"{Shift.__module__}.Shift"
    assert caught.value.facts["types"] == name
    with pytest.raises(UntrustedTypesError):
        SKLEARN.load(files, POLICY)
    trusting = TrustPolicy(trusted_types=frozenset({name}))
    SKLEARN.inspect(files, trusting)
    assert len(SKLEARN.load(files, trusting).predict(EIGHT, frozenset({"predict"}))["predict"]) == 8


def test_what_skops_cannot_save_is_refused_before_any_pickle():
    with pytest.raises(CodeNotAllowedError, match="Birch"):
        SKLEARN.save(Birch().fit(X))


def rewritten(model, change):
    """Save a model, change its schema, return the file."""
    source = zipfile.ZipFile(io.BytesIO(SKLEARN.save(model)["model.skops"]))
    schema = json.loads(source.read("schema.json"))
    change(schema)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, json.dumps(schema) if name == "schema.json" else source.read(name))
    return {"model.skops": buffer.getvalue()}


@pytest.mark.parametrize(
    ("module", "kind"), [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("pickle", "loads")]
)
def test_a_crafted_type_is_refused_without_importing_it(module, kind):
    def change(schema):
        schema["content"]["content"]["C"] = {
            "__class__": kind,
            "__module__": module,
            "__loader__": "ConstructorFromReduceNode",
            "content": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []},
        }

    files = rewritten(LogisticRegression().fit(X, BINARY), change)
    with pytest.raises(UntrustedTypesError, match=f"{module}.{kind}"):
        SKLEARN.load(files, POLICY)


def test_a_bomb_is_refused_before_it_is_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 2_000_000)
    with pytest.raises(LoadFailedError, match=f"over {MAX_EXPANSION} times"):
        SKLEARN.inspect({"model.skops": buffer.getvalue()}, POLICY)


def test_a_crafted_tree_is_refused_when_it_is_loaded():
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, BINARY)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 1_000_000
    model.tree_.__setstate__(state)
    with pytest.raises(LoadFailedError, match="outside of its nodes"):
        SKLEARN.load(SKLEARN.save(model), POLICY)


def test_sparse_answers_and_answers_without_a_datatype():
    import scipy.sparse

    class Odd(BaseEstimator):
        def __init__(self, answer=None):
            self.answer = answer

        def predict(self, rows):
            return self.answer

    sparse = SKLEARN.wrap(Odd(scipy.sparse.csr_array(np.eye(8)))).predict(EIGHT, frozenset({"predict"}))
    np.testing.assert_array_equal(sparse["predict"], np.eye(8))
    with pytest.raises(TypeError, match="complex128"):
        SKLEARN.wrap(Odd(np.ones(8, complex))).predict(EIGHT, frozenset({"predict"}))


def test_several_files_are_refused():
    with pytest.raises(LoadFailedError, match="one file, not 2"):
        SKLEARN.inspect({"a": b"", "b": b""}, POLICY)


def test_a_path_inside_the_archive_cannot_leave_it():
    def change(schema):
        schema["content"]["content"]["coef_"]["file"] = "../../../etc/passwd"

    with pytest.raises(LoadFailedError):
        SKLEARN.load(rewritten(LogisticRegression().fit(X, BINARY), change), POLICY)


def test_canonical_bytes_do_not_depend_on_the_order_of_sets():
    import skops.io

    one, other = {"a", "b", "c", "d"}, {"d", "c", "b", "a"}
    assert canonical(skops.io.dumps(one)) == canonical(skops.io.dumps(other))


def test_shared_objects_stay_shared():
    import skops.io

    inner = DecisionTreeClassifier()
    loaded = skops.io.loads(canonical(skops.io.dumps([inner, inner, DecisionTreeClassifier()])))
    assert loaded[0] is loaded[1]
    assert loaded[0] is not loaded[2]


def test_refitting_with_the_same_seed_gives_the_same_bytes():
    first, second = (RandomForestClassifier(3, random_state=1).fit(FRAME, BINARY) for _ in range(2))
    assert SKLEARN.save(first) == SKLEARN.save(second)


CLASSIFIERS = (
    LogisticRegression(),
    SGDClassifier(loss="log_loss", random_state=0),
    GaussianNB(),
    KNeighborsClassifier(),
    DecisionTreeClassifier(random_state=0),
    RandomForestClassifier(5, random_state=0),
    GradientBoostingClassifier(n_estimators=3, random_state=0),
    HistGradientBoostingClassifier(max_iter=3),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    StackingClassifier([("a", LogisticRegression())], cv=2),
    make_pipeline(StandardScaler(), LogisticRegression()),
)


@pytest.mark.parametrize("labels", [BINARY, THREE, TEXT], ids=["binary", "three", "text"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda estimator: type(estimator).__name__)
def test_labels_and_probabilities_together_are_those_that_scikit_learn_gives_one_by_one(estimator, labels):
    fitted = estimator.fit(X, labels)
    loaded = SKLEARN.load(SKLEARN.save(fitted), POLICY)
    both = frozenset({"predict", "predict_proba"})
    for rows in (X[:1], X[:7], X):  # the same array again must not find what was kept of it
        for _ in range(2):
            answer = loaded.predict(rows, both)
            assert answer["predict"].tolist() == fitted.predict(rows).tolist()
            np.testing.assert_array_equal(answer["predict_proba"], fitted.predict_proba(rows))
    rows = X[:7].copy()
    before = loaded.predict(rows, both)["predict_proba"].copy()
    rows[:] = X[7:14]
    np.testing.assert_array_equal(loaded.predict(rows, both)["predict_proba"], fitted.predict_proba(X[7:14]))
    np.testing.assert_array_equal(before, fitted.predict_proba(X[:7]))


def test_what_both_need_is_computed_once(monkeypatch):
    calls = []
    compute = LogisticRegression.decision_function

    def counted(self, rows):
        calls.append(len(rows))
        return compute(self, rows)

    monkeypatch.setattr(LogisticRegression, "decision_function", counted)
    loaded = SKLEARN.load(SKLEARN.save(LogisticRegression().fit(X, BINARY)), POLICY)
    loaded.predict(X[:5], frozenset({"predict", "predict_proba"}))
    assert calls == [5]
    loaded.predict(X[:5], frozenset({"predict"}))
    assert calls == [5, 5]
