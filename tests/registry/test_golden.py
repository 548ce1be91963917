"""Golden requests: exact storage, tolerant comparison."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DTYPES
from crossfade.errors import GoldenMismatchError, LoadFailedError
from crossfade.registry.golden import TOLERANCE, GoldenRequests, verify

INPUTS = {"x": np.array([[1.0, 2.0]])}


class Answering:
    def __init__(self, answers):
        self.answers = answers

    def predict(self, tensors, wanted):
        return {name: value for name, value in self.answers.items() if name in wanted}


def compare(answer, expected, **more):
    return verify(
        Answering({"y": np.asarray(answer)}), GoldenRequests(INPUTS, {"y": np.asarray(expected)}, **more), "m:1"
    )


def difference(answer, expected, **more):
    with pytest.raises(GoldenMismatchError) as caught:
        compare(answer, expected, **more)
    assert caught.value.facts["ref"] == "m:1"
    assert caught.value.facts["output"] == "y"
    return caught.value.facts["difference"]


# --- storage -------------------------------------------------------------------------------------------------------

ELEMENTS = {"BYTES": st.none() | st.text()}
TENSORS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(DTYPES[name], hnp.array_shapes(max_dims=3, min_side=0), elements=ELEMENTS.get(name))
)


@given(st.dictionaries(st.text(max_size=5), TENSORS, max_size=3), TENSORS)
def test_every_tensor_survives_exactly(inputs, output):
    golden = GoldenRequests(inputs, {"y": output})
    decoded = GoldenRequests.decode(golden.encode())
    for name, value in {**inputs, "y": output}.items():
        again = {**decoded.inputs, **decoded.outputs}[name] if name != "y" else decoded.outputs["y"]
        assert again.dtype == value.dtype
        assert again.shape == value.shape
        np.testing.assert_array_equal(again, value)
    assert decoded.encode() == golden.encode()
    assert verify(Answering({"y": output}), decoded, "m") == 0


def test_raw_bytes_survive():
    clip = np.array([b"\x00\xff", None, b""], dtype=object)
    assert GoldenRequests.decode(GoldenRequests({"clip": clip}, {}).encode()).inputs["clip"].tolist() == clip.tolist()


def test_the_file_is_readable_json():
    golden = GoldenRequests({"x": np.array([1.5, np.nan])}, {"y": np.array([np.inf, 1.0], np.float32)}, 0.5)
    assert orjson.loads(golden.encode()) == {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, None]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": ["inf", 1.0]}],
        "tolerance": 0.5,
    }


def first(**changes):
    return {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0], **changes}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"inputs": [], "outputs": []},
        {"inputs": [], "outputs": [], "tolerance": "wide"},
        {"inputs": {"x": 1}, "outputs": [], "tolerance": 1},
        {"inputs": [first(datatype="FP128")], "outputs": [], "tolerance": 1},
        {"inputs": [first(shape=[2])], "outputs": [], "tolerance": 1},
        {"inputs": [first(shape=[-3])], "outputs": [], "tolerance": 1},
        {"inputs": [first(shape="ab")], "outputs": [], "tolerance": 1},
        {"inputs": [first(data=["x"])], "outputs": [], "tolerance": 1},
        {"inputs": [first(data=5)], "outputs": [], "tolerance": 1},
        {"inputs": [first(datatype="INT8", data=[300])], "outputs": [], "tolerance": 1},
        {"inputs": [first(datatype="BYTES", data=["!"], base64=True)], "outputs": [], "tolerance": 1},
    ],
)
def test_anything_else_is_refused(document):
    with pytest.raises(LoadFailedError, match="no golden requests"):
        GoldenRequests.decode(orjson.dumps(document))


def test_no_json_is_refused():
    with pytest.raises(LoadFailedError):
        GoldenRequests.decode(b"\xff")


# --- comparison ----------------------------------------------------------------------------------------------------


def test_the_tolerance_is_relative_for_large_and_absolute_for_small_numbers():
    assert compare([1e6 + 1], [1e6]) == pytest.approx(1e-6)
    assert compare([1e-6], [0.0]) == pytest.approx(1e-6)
    assert difference([1e-3], [0.0]) == f"0.001 (tolerance {TOLERANCE:g})"
    assert difference([1e6 + 100], [1e6]).startswith("0.0001 ")
    assert compare([1.1], [1.0], tolerance=0.1) == pytest.approx(0.05)


def test_the_largest_difference_is_returned():
    golden = GoldenRequests(INPUTS, {"a": np.array([1.0, 2.0]), "b": np.array([0.0])})
    answers = {"a": np.array([1.0, 2.0 + 3e-6]), "b": np.array([4e-6])}
    assert verify(Answering(answers), golden, "m") == pytest.approx(4e-6)


def test_missing_and_infinite_numbers_must_be_the_same():
    assert compare([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf]) == 0
    assert difference([np.nan], [1.0]).startswith("inf")
    assert difference([1.0], [np.nan]).startswith("inf")
    assert difference([np.inf], [-np.inf]).startswith("inf")
    assert difference([np.inf], [1.0]).startswith("inf")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(["a", "b"], ["a", "c"]), ([True, False], [True, True]), ([1, 2], [1, 3])],
)
def test_everything_else_must_be_equal(answer, expected):
    answer, expected = (
        np.array(values, dtype=object if isinstance(values[0], str) else None) for values in (answer, expected)
    )
    assert compare(expected, expected) == 0
    assert difference(answer, expected) == "1 of 2 values"


def test_form_must_be_the_same():
    assert difference(np.zeros((2, 1)), np.zeros(2)) == "its form: float64 [2, 1] instead of float64 [2]"
    assert difference(np.zeros(2, np.float32), np.zeros(2)) == "its form: float32 [2] instead of float64 [2]"


def test_nothing_to_compare_is_no_difference():
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert verify(Answering({}), GoldenRequests(INPUTS, {}), "m") == 0
