"""Own models and pickles: only with permission, and complete when they are saved."""

import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crossfade.core.tensors import TensorSpec
from crossfade.errors import CodeNotAllowedError, LoadFailedError, SignatureMismatchError
from crossfade.registry.flavors.code import Code
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.model import Model
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import BINARY, EIGHT, X

CODE = Code()
TRUSTING = TrustPolicy(allow_code=True)


class Total(Model):
    def __init__(self, weight):
        self.weight = weight

    def predict(self, inputs):
        total = inputs["x"].sum(axis=1) * self.weight
        return {"total": total, "sign": np.where(total > 0, "up", "down")}

    def required_inputs(self):
        return (TensorSpec("x", "FP64", (-1, 4)),)


class Plain:
    def predict(self, rows):
        return rows[:, 0]


class Bare(Model):
    def predict(self, inputs):
        return np.ones(3)

    def required_inputs(self):
        return (TensorSpec("x", "FP64", (-1,)),)


class TestPlain(FlavorContract):
    flavor = "code"
    package = "cloudpickle"

    @pytest.fixture
    def model(self):
        return Plain()

    @pytest.fixture
    def inputs(self):
        return EIGHT

    def test_a_missing_package_is_named(self, subject, model, monkeypatch):
        from crossfade.errors import MissingExtraError

        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        with pytest.raises(MissingExtraError, match="cloudpickle"):
            subject.save(model)


def test_a_model_answers_what_it_likes():
    loaded = CODE.load(CODE.save(Total(2.0)), TRUSTING)
    assert loaded.inputs == (TensorSpec("x", "FP64", (-1, 4)),)
    answers = loaded.predict(EIGHT, frozenset({"total"}))
    np.testing.assert_allclose(answers["total"], X[:8].sum(axis=1) * 2)
    assert answers["sign"].dtype == object


def test_one_array_is_the_output_predict():
    assert CODE.wrap(Bare()).predict({"x": np.ones(3)}, frozenset())["predict"].tolist() == [1, 1, 1]


def test_a_model_validates_its_inputs():
    with pytest.raises(SignatureMismatchError, match="shape"):
        CODE.wrap(Total(1.0)).predict({"x": np.ones((3, 5))}, frozenset())
    assert Total(1.0).info() == {}


def test_the_code_travels_with_the_model(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from crossfade.registry.model import Model\n"
        "from crossfade.core.tensors import TensorSpec\n"
        "def double(x): return 2 * x\n"
        "class Mine(Model):\n"
        "    def predict(self, inputs): return double(inputs['x'])\n"
        "    def required_inputs(self): return (TensorSpec('x', 'FP64', (-1,)),)\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mine\n"
        "from crossfade.registry.flavors.code import Code\n"
        "sys.stdout.buffer.write(Code().save(mine.Mine())['model.pkl'])"
    )
    saved = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, stdout=subprocess.PIPE).stdout
    loaded = CODE.load({"model.pkl": saved}, TRUSTING)  # there is no module `mine` in this process
    assert loaded.predict({"x": np.ones(2)}, frozenset({"predict"}))["predict"].tolist() == [2, 2]


@pytest.mark.parametrize("compress", [0, 3])
def test_joblib_files_are_loaded_when_allowed(compress):
    buffer = io.BytesIO()
    joblib.dump(LogisticRegression().fit(X, BINARY), buffer, compress=compress)
    files = {"model.joblib": buffer.getvalue()}
    with pytest.raises(CodeNotAllowedError):
        CODE.load(files, TrustPolicy())
    answers = CODE.load(files, TRUSTING).predict(EIGHT, frozenset({"predict", "predict_proba"}))
    assert answers["predict_proba"].shape == (8, 2)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_are_detected_by_content(protocol):
    head = pickle.dumps({"a": 1}, protocol=protocol)[:4096]
    assert CODE.detects("model.bin", head)
    assert CODE.detects("model.pkl", b"")


def test_something_else_in_a_pickle_is_refused():
    with pytest.raises(LoadFailedError, match="holds a dict"):
        CODE.load({"model.pkl": pickle.dumps({"a": 1})}, TRUSTING)


def test_nothing_is_unpickled_without_permission(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    files = {"model.pkl": pickle.dumps(Bomb())}
    for refuse in (CODE.inspect, CODE.load):
        with pytest.raises(CodeNotAllowedError):
            refuse(files, TrustPolicy())
    assert not (tmp_path / "ran").exists()
