"""ONNX: the file's own inputs and outputs, and no file beside it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.onnx import Onnx
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import TEXT, X

POLICY = TrustPolicy()
ONNX = Onnx()
FLOATS = X.astype(np.float32)
FITTED = LogisticRegression().fit(X, TEXT)


def graph(inputs, outputs, nodes, initializers=()):
    """Make a model of a few nodes."""
    body = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def value(name, kind=TensorProto.FLOAT, shape=("n", 4)):
    return helper.make_tensor_value_info(name, kind, shape)


class TestOnnx(FlavorContract):
    flavor = "onnx"
    package = "onnxruntime"

    @pytest.fixture
    def model(self):
        return to_onnx(FITTED, FLOATS[:1], options={"zipmap": False})

    @pytest.fixture
    def inputs(self):
        return {"X": FLOATS[:8]}


def test_specs_are_read_from_the_file():
    loaded = ONNX.load(ONNX.save(to_onnx(FITTED, FLOATS[:1], options={"zipmap": False})), POLICY)
    assert [spec.describe() for spec in loaded.inputs] == ["FP32 [-1, 4]"]
    assert [(spec.name, spec.describe()) for spec in loaded.outputs] == [
        ("label", "BYTES [-1]"),
        ("probabilities", "FP32 [-1, 3]"),
    ]
    answers = loaded.predict({"X": FLOATS[:8]}, frozenset({"label"}))
    assert answers["label"].tolist() == FITTED.predict(X[:8]).tolist()


def test_dicts_of_probabilities_become_rows():
    loaded = ONNX.load(ONNX.save(to_onnx(FITTED, FLOATS[:1])), POLICY)
    answers = loaded.predict({"X": FLOATS[:8]}, frozenset({"output_probability"}))
    np.testing.assert_allclose(answers["output_probability"], FITTED.predict_proba(X[:8]), rtol=1e-4)


def test_a_bare_array_is_the_single_input():
    loaded = ONNX.load(ONNX.save(to_onnx(FITTED, FLOATS[:1])), POLICY)
    assert len(loaded.predict(X[:3], frozenset({"output_label"}))["output_label"]) == 3


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_weights_in_another_file_are_refused(location, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        np.eye(4, dtype=np.float32).tofile(folder / "weights.bin")
    monkeypatch.chdir(tmp_path / "here")
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "W")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    model = graph([value("x")], [value("y")], [helper.make_node("MatMul", ["x", "W"], ["y"])], [weights])
    with pytest.raises(LoadFailedError):
        ONNX.load({"model.onnx": model.SerializeToString()}, POLICY)


def test_a_fixed_batch_size_is_refused_with_advice():
    model = graph([value("x", shape=(1, 4))], [value("y", shape=(1, 4))], [helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(LoadFailedError, match="variable batch size"):
        ONNX.load({"model.onnx": model.SerializeToString()}, POLICY)


def test_an_output_that_is_no_tensor_is_refused():
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = graph([value("x")], [sequence], [helper.make_node("SequenceConstruct", ["x"], ["y"])])
    with pytest.raises(LoadFailedError, match="no tensor"):
        ONNX.load({"model.onnx": model.SerializeToString()}, POLICY)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.INT64, np.int64),
        (TensorProto.INT32, np.int32),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.BOOL, np.bool_),
        (TensorProto.STRING, np.object_),
        (TensorProto.FLOAT16, np.float16),
    ],
)
def test_datatypes_pass_through(kind, dtype):
    model = graph([value("x", kind)], [value("y", kind)], [helper.make_node("Identity", ["x"], ["y"])])
    given = np.array([["1", "", "2", "3"]], object) if dtype is np.object_ else np.array([[1, 0, 1, 1]], dtype)
    loaded = ONNX.load({"model.onnx": model.SerializeToString()}, POLICY)
    answers = loaded.predict(loaded.inputs[0].check(given) is not None and {"x": given}, frozenset({"y"}))
    assert answers["y"].tolist() == given.tolist()
    assert answers["y"].dtype == dtype
