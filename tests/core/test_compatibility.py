"""Which part of the version a change of the signature needs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.compatibility import compare_signatures
from crossfade.core.tensors import DTYPES, Signature, TensorSpec

X = TensorSpec("x", "FP32", (-1, 3))
LABEL = TensorSpec("predict", "INT64", (-1,))
PROBABILITIES = TensorSpec("predict_proba", "FP64", (-1, 2))
OLD = Signature((X,), (LABEL,))


def new(inputs=(X,), outputs=(LABEL,), **more):
    return Signature(tuple(inputs), tuple(outputs), **more)


@pytest.mark.parametrize(
    ("signature", "required", "sentence"),
    [
        (new(), "patch", ""),
        (new(layout="matrix"), "patch", ""),
        (new(outputs=(LABEL, PROBABILITIES)), "minor", "output `predict_proba` is new"),
        (new([TensorSpec("x", "FP64", (-1, 3))]), "minor", "input `x` widens from FP32 to FP64"),
        (new([TensorSpec("x", "FP32", (-1, -1))]), "minor", "input `x` changes shape from [-1, 3] to [-1, -1]"),
        (new([TensorSpec("x", "FP32", (-1, 3), missing=True)]), "minor", "input `x` now accepts missing values"),
        (new([TensorSpec("x", "FP16", (-1, 3))]), "major", "input `x` changes from FP32 to FP16"),
        (new([TensorSpec("x", "BYTES", (-1, 3))]), "major", "input `x` changes from FP32 to BYTES"),
        (new([TensorSpec("x", "FP32", (-1, 4))]), "major", "input `x` changes shape from [-1, 3] to [-1, 4]"),
        (new([TensorSpec("x", "FP32", (-1,))]), "major", "input `x` changes shape from [-1, 3] to [-1]"),
        (new([TensorSpec("y", "FP32", (-1, 3))]), "major", "input `x` is gone"),
        (new([X, TensorSpec("y", "FP32", (-1,))]), "major", "input `y` is new and required"),
        (new(outputs=()), "major", "output `predict` is gone"),
        (
            new(outputs=[TensorSpec("predict", "FP64", (-1,), missing=True)]),
            "major",
            "output `predict` changes from INT64 [-1] to FP64 [-1] or missing",
        ),
    ],
)
def test_each_change_has_a_sentence_and_a_part(signature, required, sentence):
    diff = compare_signatures(OLD, signature)
    assert diff.required == required
    assert diff.changes[0] == sentence if sentence else diff.changes == ()


def test_values_that_may_no_longer_be_missing_and_raw_bytes_break():
    old = new([TensorSpec("a", "BYTES", (-1,), missing=True)])
    diff = compare_signatures(old, new([TensorSpec("a", "BYTES", (-1,), text=False)]))
    assert diff.changes == (
        "input `a` no longer accepts missing values",
        "input `a` changes between text and raw bytes",
    )
    raw = compare_signatures(
        new(outputs=[TensorSpec("a", "BYTES", (-1,))]), new(outputs=[TensorSpec("a", "BYTES", (-1,), text=False)])
    ).changes
    assert raw == ("output `a` changes from BYTES [-1] to BYTES [-1] of raw bytes",)


def test_other_labels_break_and_new_labels_do_not():
    old = new(outputs=(LABEL, PROBABILITIES), classes=(0, 1))
    assert compare_signatures(old, new(outputs=(LABEL, PROBABILITIES), classes=(1, 0))).required == "major"
    assert compare_signatures(new(outputs=(LABEL, PROBABILITIES)), old).required == "patch"


def test_breaking_changes_come_first():
    diff = compare_signatures(OLD, new([TensorSpec("x", "FP64", (-1, 4))], (LABEL, PROBABILITIES)))
    assert diff.required == "major"
    assert [change.split()[0] for change in diff.changes] == ["input", "input", "output"]
    assert "shape" in diff.changes[0]


SPEC = st.builds(
    TensorSpec,
    st.sampled_from("abc"),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from([(-1,), (-1, 2), (-1, 3), (-1, -1)]),
    missing=st.booleans(),
    text=st.booleans(),
)
SPECS = st.lists(SPEC, max_size=3, unique_by=lambda spec: spec.name).map(tuple)
SIGNATURES = st.builds(Signature, SPECS, SPECS, classes=st.sampled_from([(), (0, 1), ("a", "b")]))


@given(SIGNATURES)
def test_nothing_changes_from_a_signature_to_itself(signature):
    diff = compare_signatures(signature, signature)
    assert (diff.changes, diff.required) == ((), "patch")


@given(SIGNATURES, SIGNATURES)
def test_the_order_of_names_does_not_matter(old, signature):
    turned = Signature(signature.inputs[::-1], signature.outputs[::-1], classes=signature.classes)
    assert set(compare_signatures(old, turned).changes) == set(compare_signatures(old, signature).changes)


WIDER = {"INT8": "INT32", "INT32": "FP64", "FP16": "FP32", "FP32": "FP64", "UINT8": "INT16", "BOOL": "UINT8"}


@st.composite
def loosened(draw, old):
    """A signature that takes and gives more than another, in some ways."""
    inputs = []
    for spec in old.inputs:
        datatype = draw(st.sampled_from([spec.datatype, WIDER.get(spec.datatype, spec.datatype)]))
        shape = tuple(draw(st.sampled_from([size, -1])) for size in spec.shape)
        missing = spec.missing or draw(st.booleans())
        inputs.append(TensorSpec(spec.name, datatype, shape, missing=missing, text=spec.text))
    more = draw(st.lists(st.just(TensorSpec("more", "FP64", (-1,))), max_size=1)) if len(old.outputs) < 3 else []
    return Signature(tuple(inputs), (*old.outputs, *more), classes=old.classes)


@given(SIGNATURES.flatmap(lambda old: st.tuples(st.just(old), loosened(old))))
def test_what_loosens_one_way_breaks_the_other_way(pair):
    old, wide = pair
    forth, back = compare_signatures(old, wide), compare_signatures(wide, old)
    assert forth.required == ("patch" if old == wide else "minor")
    assert back.required == ("patch" if old == wide else "major")
    assert len(forth.changes) == len(back.changes)


@given(SIGNATURES.flatmap(lambda old: st.tuples(st.just(old), loosened(old).flatmap(loosened))))
def test_steps_that_break_nothing_break_nothing_together(pair):
    assert compare_signatures(*pair).required != "major"


@given(SPEC.flatmap(lambda spec: st.tuples(st.just(spec), loosened(Signature((spec,), ())))))
def test_a_looser_signature_accepts_what_the_old_one_accepted(pair):
    was, wide = pair
    dtype = DTYPES[was.datatype]
    shape = [2 if size == -1 else size for size in was.shape]
    value = np.full(shape, ("" if was.text else b"") if was.datatype == "BYTES" else 1, dtype)
    Signature((was,), ()).check({was.name: value})
    assert wide.check({was.name: value})
