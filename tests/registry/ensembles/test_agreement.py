"""Which versions can work together, and the signature that they have then."""

import msgspec
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import InvalidEnsembleError
from crossfade.registry.ensembles.agreement import agree
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from tests.registry.ensembles.support import CLASSIFIER, REGRESSOR, X, m

Y = TensorSpec("y", "FP64", (-1,))


def changed(signature, **changes):
    return msgspec.structs.replace(signature, **changes)


def outputs(*specs, classes=()):
    return Signature((X,), tuple(TensorSpec(*spec) for spec in specs), classes=classes)


def agreed(method, *signatures, stacker=None):
    names = [f"m{place}" for place in range(len(signatures))]
    spec = EnsembleSpec(method, tuple(map(m, names)), "s:1.0.0" if stacker else "")
    known = {f"{name}:1.0.0": signature for name, signature in zip(names, signatures, strict=True)}
    return agree(spec, known | ({"s:1.0.0": stacker} if stacker else {}))


def refused(method, *signatures, stacker=None):
    with pytest.raises(InvalidEnsembleError) as caught:
        agreed(method, *signatures, stacker=stacker)
    return caught.value.message


def test_inputs_are_those_of_all_members_together():
    one = changed(REGRESSOR, inputs=(X, Y), layout="matrix")
    two = changed(REGRESSOR, inputs=(Y, TensorSpec("z", "INT64", (-1, 4))))
    found = agreed("average", one, two)
    assert [spec.name for spec in found.inputs] == ["x", "y", "z"]
    assert found.layout == "tensors"


def test_a_value_may_be_missing_only_where_all_can_do_without_it():
    may = changed(REGRESSOR, inputs=(msgspec.structs.replace(X, missing=True),))
    assert agreed("average", may, may).inputs[0].missing
    assert not agreed("average", may, REGRESSOR).inputs[0].missing


@pytest.mark.parametrize("other", [TensorSpec("x", "FP32", (-1,)), TensorSpec("x", "FP64", (-1, 1))])
def test_an_input_that_several_have_is_the_same_for_all(other):
    message = refused("average", REGRESSOR, changed(REGRESSOR, inputs=(other,)))
    assert "`m1:1.0.0` wants `x` as" in message


def test_text_and_raw_bytes_are_not_the_same():
    text, raw = (changed(REGRESSOR, inputs=(TensorSpec("t", "BYTES", (-1,), text=text),)) for text in (True, False))
    assert "raw bytes" in refused("average", text, raw)


@pytest.mark.parametrize(
    ("datatypes", "expected"),
    [
        (("FP32", "FP32"), "FP32"),
        (("FP16", "FP16"), "FP16"),
        (("FP32", "FP64"), "FP64"),
        (("INT64", "INT64"), "FP64"),
        (("UINT8", "FP32"), "FP64"),
    ],
)
def test_a_mean_is_a_float_of_the_width_that_all_have(datatypes, expected):
    found = agreed("average", *(outputs(("predict", datatype, (-1, 2))) for datatype in datatypes))
    assert found.outputs == (TensorSpec("predict", expected, (-1, 2)),)


@pytest.mark.parametrize(
    ("signatures", "problem"),
    [
        ((outputs(("predict", "BYTES", (-1,))),), "gives no numbers as `predict`"),
        ((outputs(("predict", "BOOL", (-1,))),), "gives no numbers as `predict`"),
        ((REGRESSOR, outputs(("score", "FP64", (-1,)))), "answers with `score` FP64 [-1]"),
        ((REGRESSOR, outputs(("predict", "FP64", (-1, 2)))), "answers with `predict` FP64 [-1, 2]"),
        ((CLASSIFIER,), "use `soft_vote`"),
    ],
)
def test_only_equal_numbers_have_a_mean(signatures, problem):
    assert problem in refused("average", *signatures)


def test_a_soft_vote_answers_labels_and_probabilities():
    found = agreed("soft_vote", CLASSIFIER, changed(CLASSIFIER, outputs=CLASSIFIER.outputs[1:]))
    assert found.outputs == CLASSIFIER.outputs
    assert found.classes == CLASSIFIER.classes


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (REGRESSOR, "gives no `predict_proba`"),
        (changed(CLASSIFIER, classes=("yes", "no", "maybe")), "other classes"),
        (changed(CLASSIFIER, classes=("maybe", "no")), "gives no `predict_proba`"),
        (outputs(("predict_proba", "INT64", (-1, 3)), classes=CLASSIFIER.classes), "gives no `predict_proba`"),
    ],
)
def test_a_soft_vote_needs_probabilities_of_the_same_classes(other, problem):
    assert problem in refused("soft_vote", CLASSIFIER, other)


def test_one_and_true_are_different_classes():
    numbers, truths = (
        outputs(("predict_proba", "FP64", (-1, 2)), classes=classes) for classes in ((0, 1), (False, True))
    )
    assert "other classes" in refused("soft_vote", numbers, truths)


def test_a_hard_vote_answers_labels_alone():
    found = agreed("hard_vote", CLASSIFIER, CLASSIFIER)
    assert (found.outputs, found.classes) == (CLASSIFIER.outputs[:1], CLASSIFIER.classes)
    assert agreed("hard_vote", CLASSIFIER, changed(CLASSIFIER, classes=("no", "yes"))).classes == ()


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (REGRESSOR, "gives no labels"),
        (outputs(("label", "BYTES", (-1,))), "gives no labels"),
        (outputs(("predict", "BYTES", (-1, 1))), "gives no labels"),
        (outputs(("predict", "INT64", (-1,))), "answers with"),
    ],
)
def test_a_hard_vote_needs_labels_of_the_same_kind(other, problem):
    assert problem in refused("hard_vote", CLASSIFIER, other)


BINARY = outputs(("predict", "INT64", (-1,)), ("predict_proba", "FP64", (-1, 2)), classes=(0, 1))


@pytest.mark.parametrize(
    "inputs",
    [
        (TensorSpec("x", "FP64", (-1, 5)),),
        (TensorSpec("x", "FP32", (-1, -1)),),
        tuple(TensorSpec(f"c{i}", "FP64", (-1,)) for i in range(5)),
    ],
)
def test_a_stacker_takes_the_columns_of_all_members(inputs):
    stacker = changed(CLASSIFIER, inputs=inputs)
    found = agreed("stack", REGRESSOR, BINARY, CLASSIFIER, stacker=stacker)  # 1 + 1 + 3 columns
    assert (found.outputs, found.classes, found.inputs) == (CLASSIFIER.outputs, CLASSIFIER.classes, (X,))


@pytest.mark.parametrize(
    "inputs",
    [
        (TensorSpec("x", "FP64", (-1, 4)),),
        (TensorSpec("x", "INT64", (-1, 1)),),
        (TensorSpec("x", "FP64", (-1, 1, 1)),),
        (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,))),
        (TensorSpec("x", "BYTES", (-1,)),),
    ],
)
def test_a_stacker_that_wants_something_else_is_refused(inputs):
    assert "the members give 1 columns" in refused("stack", REGRESSOR, stacker=changed(REGRESSOR, inputs=inputs))


def test_a_stacker_is_no_member():
    spec = EnsembleSpec("stack", (m("a"), m("b")), "a:1.0.0")
    with pytest.raises(InvalidEnsembleError, match=r"`a:1\.0\.0` cannot both answer as a member"):
        agree(spec, {"a:1.0.0": REGRESSOR, "b:1.0.0": REGRESSOR})


@pytest.mark.parametrize("shape", [(-1, 2, 2), (-1, -1)])
def test_members_of_a_stack_give_a_fixed_number_of_columns(shape):
    assert "no fixed number" in refused("stack", outputs(("predict", "FP64", shape)), stacker=REGRESSOR)


def test_whoever_may_answer_first_answers_like_the_others():
    assert agreed("first", CLASSIFIER, CLASSIFIER).outputs == CLASSIFIER.outputs
    assert "answers with" in refused("first", REGRESSOR, outputs(("predict", "FP32", (-1,))))
    assert "other classes" in refused("first", CLASSIFIER, changed(CLASSIFIER, classes=("a", "b", "c")))


def test_substitutes_have_to_fit_too():
    member = m("a", on_failure="substitute", substitute="b:1.0.0")
    with pytest.raises(InvalidEnsembleError, match=r"`b:1.0.0` answers with"):
        agree(EnsembleSpec("average", (member,)), {"a:1.0.0": REGRESSOR, "b:1.0.0": outputs(("y", "FP64", (-1,)))})
    for other in (CLASSIFIER, outputs(("y", "FP64", (-1,))), outputs(("predict", "FP64", (-1, 1)))):
        with pytest.raises(InvalidEnsembleError, match=r"`b:1.0.0` answers with"):
            agree(
                EnsembleSpec("stack", (member,), "s:1.0.0"),
                {"a:1.0.0": REGRESSOR, "b:1.0.0": other, "s:1.0.0": REGRESSOR},
            )


def constant(method, signature, value):
    return agree(
        EnsembleSpec(method, (Member("a:1.0.0", on_failure="substitute", constant=value),)), {"a:1.0.0": signature}
    )


@pytest.mark.parametrize(
    ("method", "signature", "value"),
    [
        ("average", REGRESSOR, 1),
        ("average", REGRESSOR, {"predict": -0.5}),
        ("average", outputs(("predict", "FP32", (-1, 2))), [0.1, 2]),
        ("average", outputs(("a", "FP64", (-1,)), ("b", "UINT8", (-1,))), {"a": 0.0, "b": 255}),
        ("soft_vote", CLASSIFIER, [0.2, 0.3, 0.5]),
        ("hard_vote", CLASSIFIER, "no"),
        ("first", CLASSIFIER, {"predict": "no", "predict_proba": [0, 1, 0]}),
        ("first", outputs(("flag", "BOOL", (-1,))), True),
        ("average", outputs(("predict", "FP64", (-1, -1))), [1, 2, 3]),
    ],
)
def test_a_constant_is_the_answer_for_a_row(method, signature, value):
    constant(method, signature, value)


@pytest.mark.parametrize(
    ("method", "signature", "value", "problem"),
    [
        ("average", REGRESSOR, "1", "no `predict` of a row"),
        ("average", REGRESSOR, [1.0], "no `predict` of a row"),
        ("average", REGRESSOR, True, "no `predict` of a row"),
        ("average", REGRESSOR, {"other": 1.0}, "for each of `predict`"),
        ("average", outputs(("a", "FP64", (-1,)), ("b", "FP64", (-1,))), 1.0, "for each of `a`, `b`"),
        ("average", outputs(("predict", "FP16", (-1,))), 1e9, "no `predict` of a row"),
        ("average", outputs(("predict", "UINT8", (-1,))), 256, "constant"),
        ("average", outputs(("predict", "UINT8", (-1,))), -1, "constant"),
        ("average", outputs(("predict", "INT64", (-1,))), 0.5, "no `predict` of a row"),
        ("average", outputs(("predict", "FP64", (-1, 2))), [[1.0], [2.0, 3.0]], "constant"),
        ("average", outputs(("predict", "FP64", (-1, -1))), [], "of a row"),
        ("soft_vote", CLASSIFIER, [0.2, 0.3, 0.6], "sum to one"),
        ("soft_vote", CLASSIFIER, [-0.5, 0.5, 1.0], "sum to one"),
        ("soft_vote", CLASSIFIER, [0.5, 0.5], "of a row"),
        ("hard_vote", CLASSIFIER, "perhaps", "none of its classes"),
        ("hard_vote", CLASSIFIER, 1, "no text"),
        ("first", outputs(("flag", "BOOL", (-1,))), 1, "of a row"),
    ],
)
def test_a_constant_that_is_no_such_answer_is_refused(method, signature, value, problem):
    with pytest.raises(InvalidEnsembleError) as caught:
        constant(method, signature, value)
    assert problem in caught.value.message
