"""Equal questions have equal fingerprints, and no two different ones have the same, however they were built."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.serving.fingerprints import Fingerprints

SECRET = b"s" * 32
Y = TensorSpec("y", "FP64", (-1,))
ALL = frozenset({"y"})


def fingerprints(*specs, outputs=(Y,), secret=SECRET, digest="d", generation=0):
    return Fingerprints(secret, digest, generation, Signature(specs, outputs))


def of(specs, tensors, wanted=ALL, **options):
    signature = Signature(specs, options.get("outputs", (Y,)))
    return fingerprints(*specs, **options).of(signature.check(tensors), wanted)


def texts(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


X = TensorSpec("x", "FP64", (-1, 2))
ROW = {"x": np.array([[1.0, 2.0]])}

# --- the same question ---


def test_the_same_question_has_the_same_fingerprint():
    assert of((X,), ROW) == of((X,), {"x": np.array([[1.0, 2.0]])})


def test_a_zero_with_a_sign_is_another_question():
    """They are equal, and a model may tell them apart all the same, as `copysign` does."""
    assert of((X,), {"x": np.array([[0.0, 2.0]])}) != of((X,), {"x": np.array([[-0.0, 2.0]])})


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_nans_have_one_spelling(datatype):
    spec = (TensorSpec("x", datatype, (-1,), missing=True),)
    dtype = DTYPES[datatype]
    quiet = np.array([np.nan, 0.0], dtype)
    bits = quiet.view(f"u{dtype.itemsize}").copy()
    bits[0] ^= 1  # another NaN
    other = bits.view(dtype)
    assert np.isnan(other[0])
    assert other.tobytes() != quiet.tobytes()
    assert of(spec, {"x": quiet}) == of(spec, {"x": other})
    assert of(spec, {"x": quiet}) != of(spec, {"x": np.array([1.0, 0.0], dtype)})


def test_how_an_array_lies_in_memory_does_not_matter():
    array = np.arange(6.0).reshape(3, 2)
    for same in (np.asfortranarray(array), np.repeat(array, 2, axis=0)[::2], array.astype(">f8")):
        assert of((X,), {"x": same}) == of((X,), {"x": array})


def test_every_process_comes_to_the_same():
    program = "import numpy as np; from tests.serving.test_fingerprints import of, X, ROW;print(of((X,), ROW))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == of((X,), ROW)


# --- another question ---


@pytest.mark.parametrize(
    "other",
    [{"digest": "e"}, {"generation": 1}, {"secret": b"t" * 32}, {"digest": "d0"}],
    ids=["version", "generation", "deployment", "digest and generation"],
)
def test_another_version_generation_or_deployment_is_another_question(other):
    assert of((X,), ROW, **other) != of((X,), ROW)


def test_digest_and_generation_do_not_run_into_each_other():
    assert of((X,), ROW, digest="d1", generation=2) != of((X,), ROW, digest="d", generation=12)


def test_other_wanted_outputs_are_another_question():
    outputs = tuple(TensorSpec(name, "FP64", (-1,)) for name in "abc")
    wanted = [frozenset(names) for names in ("a", "b", "c", "ab", "bc", "ac", "abc")]
    assert len({of((X,), ROW, names, outputs=outputs) for names in wanted}) == len(wanted)


def test_the_same_bytes_in_another_shape_datatype_or_name_are_another_question():
    bits = np.arange(8, dtype=np.uint8)
    found = {
        of((TensorSpec("x", "UINT8", (-1, -1)),), {"x": bits.reshape(shape)})
        for shape in ((1, 8), (8, 1), (2, 4), (4, 2))
    }
    for datatype in ("UINT8", "INT8", "UINT16", "INT16", "FP16", "UINT32", "INT32", "FP32", "UINT64", "INT64", "FP64"):
        spec = TensorSpec("x", datatype, (-1,))
        found.add(fingerprints(spec).of({"x": bits.view(DTYPES[datatype])}, ALL))
    found.add(of((TensorSpec("z", "UINT8", (-1,)),), {"z": bits}))
    assert len(found) == 4 + 11 + 1


COLLIDING = [
    ("ab", "c"),
    ("a", "bc"),
    ("abc", ""),
    ("", "abc"),
    ("a\x00", "bc"),
    ("ab", "\x00c"),
    (b"ab", b"c"),
    (b"ab", "c"),
    (None, "abc"),
    ("n", "abc"),
    ("t\x01\x00\x00\x00\x00\x00\x00\x00a", "bc"),
]


def test_elements_cannot_be_moved_over_their_borders():
    found = [fingerprints(TensorSpec("x", "BYTES", (-1,))).of({"x": texts(*items)}, ALL) for items in COLLIDING]
    assert len(set(found)) == len(COLLIDING)


def test_elements_cannot_be_moved_from_one_tensor_to_the_next():
    specs = tuple(TensorSpec(name, "BYTES", (-1,), missing=True) for name in ("a", "b"))
    found = [of(specs, {"a": texts(a), "b": texts(b)}) for a, b in COLLIDING if not isinstance(a, bytes)]
    assert len(set(found)) == len(found)


def test_text_that_is_no_unicode_has_a_fingerprint_of_its_own():
    spec = (TensorSpec("x", "BYTES", (-1,)),)
    assert len({of(spec, {"x": texts(item)}) for item in ("\ud800", "\ud801", "?", "\ufffd")}) == 4


NUMBERS = st.sampled_from(["BOOL", "INT8", "INT64", "UINT16", "FP16", "FP32", "FP64"])
VALUES = {
    name: npst.arrays(DTYPES[name], npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=3))
    for name in DTYPES
} | {
    "BYTES": npst.arrays(
        object,
        npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=3),
        elements=st.one_of(st.none(), st.sampled_from(["", "n", "t", "a", "ab", "b"]), st.binary(max_size=2)),
    )
}


@st.composite
def questions(draw):
    """Inputs of one to three tensors whose names, datatypes and bytes are likely to collide."""
    names = draw(st.lists(st.sampled_from(["a", "b", "ab", "a b", ""]), min_size=1, max_size=3, unique=True))
    datatypes = [draw(st.sampled_from(sorted(VALUES))) for _ in names]
    specs = tuple(
        TensorSpec(name, datatype, (-1, -1), missing=True) for name, datatype in zip(names, datatypes, strict=True)
    )
    return specs, {spec.name: draw(VALUES[spec.datatype]) for spec in specs}


def meaning(question):
    """What a question says, in Python's own words: equal exactly when the questions are."""
    specs, tensors = question
    return [
        (spec.name, spec.datatype, tensors[spec.name].shape, [_item(x) for x in tensors[spec.name].ravel().tolist()])
        for spec in specs
    ]


def _item(value):
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else ("float", repr(value))
    return type(value).__name__, value


@given(questions(), questions())
def test_fingerprints_are_equal_exactly_when_the_questions_are(one, two):
    same = fingerprints(*one[0]).of(one[1], ALL) == fingerprints(*two[0]).of(two[1], ALL)
    assert same == (meaning(one) == meaning(two))


@given(NUMBERS.flatmap(lambda name: st.tuples(st.just(name), VALUES[name])), st.data())
def test_a_single_other_element_is_another_question(chosen, data):
    datatype, array = chosen
    assume(array.size)
    spec = (TensorSpec("x", datatype, (-1, -1), missing=True),)
    other = array.copy()
    other.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(
        st.sampled_from([0, 1]) if datatype == "BOOL" else st.sampled_from([0, 1, 7])
    )
    same = fingerprints(*spec).of({"x": array}, ALL) == fingerprints(*spec).of({"x": other}, ALL)
    assert same == ([*map(_item, array.ravel().tolist())] == [*map(_item, other.ravel().tolist())])
