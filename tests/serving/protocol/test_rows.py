from __future__ import annotations

import json

import numpy as np
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import MalformedRequestError, SignatureMismatchError
from crossfade.serving.protocol.rows import decode_rows, encode_rows

CLASSIFIER = (TensorSpec("predict", "BYTES", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2)))
COLUMNS = Signature(
    (TensorSpec("age", "FP64", (-1,), missing=True), TensorSpec("city", "BYTES", (-1,))),
    CLASSIFIER,
    layout="pandas",
    classes=("no", "yes"),
)
TENSOR = Signature(
    (TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("y", "FP64", (-1,)), TensorSpec("z", "FP64", (-1, 2)))
)
ROWS = [{"age": 41, "city": "Bern"}, {"city": "Basel", "age": None}]


def decode(document, signature=COLUMNS, max_rows=100, **options):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_rows(body, signature, max_rows, **options)


@pytest.mark.parametrize("document", [ROWS, {"rows": ROWS}, b"\n " + json.dumps(ROWS).encode() + b" \n"])
def test_rows_as_objects(document):
    request = decode(document)
    assert request.tensors["city"].tolist() == ["Bern", "Basel"]
    assert np.array_equal(request.tensors["age"], [41.0, np.nan], equal_nan=True)
    assert request.wanted == ("predict",)


@pytest.mark.parametrize(
    "document", [[[1, 2, 3], [4, 5.5, 6]], {"rows": [[1, 2, 3], [4, 5.5, 6]]}, [{"x": [1, 2, 3]}, {"x": [4, 5.5, 6]}]]
)
def test_rows_of_a_tensor(document):
    request = decode(document, TENSOR)
    assert request.tensors["x"].tolist() == [[1, 2, 3], [4, 5.5, 6]]
    assert request.wanted == ("y",)


def test_probabilities_are_asked_for_in_the_body_or_beside_it():
    assert decode({"rows": ROWS, "probabilities": True}).wanted == ("predict", "predict_proba")
    assert decode(ROWS, probabilities=True).wanted == ("predict", "predict_proba")
    assert decode({"rows": ROWS, "probabilities": False}).wanted == ("predict",)


def test_probabilities_of_a_version_without_them_are_refused():
    with pytest.raises(SignatureMismatchError, match="one of the outputs y, z"):
        decode({"rows": [[1, 2, 3]], "probabilities": True}, TENSOR)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "truncated|malformed"),
        (b"{", "truncated|malformed"),
        (b"[", "at least one row"),
        ([], "at least one row"),
        ({"rows": []}, "at least one row"),
        ({}, "rows"),
        ({"rows": {}}, "must be an array"),
        ({"rows": "x"}, "must be an array"),
        ({"row": ROWS}, "unknown field `row`|rows"),
        ({"rows": ROWS, "later": 1}, "later"),
        ({"rows": ROWS, "probabilities": "yes"}, "probabilities"),
        ({"rows": ROWS, "probabilities": 1}, "probabilities"),
        (b'[{"age": NaN}]', "malformed"),
        (b'[{"age": 1e999}]', "out of range"),
        (b'[{"age": "\xff"}]', "UTF-8|malformed"),
        ([[1, 2]], "object with the inputs age, city"),
        (["a"], "object with the inputs age, city"),
        ([ROWS[0], [1, 2]], "Expected `object`"),
        ([ROWS[0], None], "Expected `object`"),
        (b"[" * 100_000, "object with the inputs"),
        (b'[{"age":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "deep"),
    ],
)
def test_malformed_rows_are_refused_with_a_reason(document, words):
    with pytest.raises(MalformedRequestError, match=words):
        decode(document)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"age": 1}, "city"),
        ({"age": 1, "city": "a", "extra": 1}, "extra"),
        ({"age": "1", "city": "a"}, "age"),
        ({"age": True, "city": "a"}, "age"),
        ({"age": 1, "city": 5}, "city"),
        ({"age": 1, "city": None}, "city"),
        ({"age": [1], "city": "a"}, "age"),
    ],
)
def test_rows_that_do_not_fit_the_signature_name_the_field(row, field):
    with pytest.raises(SignatureMismatchError) as caught:
        decode([row])
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize("number", ["18446744073709551616", "1" + "0" * 400, "-9223372036854775809"])
def test_integers_of_any_size_are_numbers_or_refused(number):
    signature = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("y", "FP64", (-1,)),))
    body = b'[{"x": [1, %b]}]' % number.encode()
    if len(number) > 400:
        with pytest.raises(SignatureMismatchError):
            decode_rows(body, signature, 10)
    else:
        assert decode_rows(body, signature, 10).tensors["x"].tolist() == [[1.0, float(number)]]


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [1, 2, 3], [[1, 2, True]], [["1", 2, 3]], [[1, 2, 3], 4]])
def test_rows_of_a_tensor_that_do_not_fit_are_refused(rows):
    with pytest.raises(MalformedRequestError):
        decode(rows, TENSOR)


def test_the_number_of_rows_is_limited():
    assert len(decode(ROWS, max_rows=2).tensors["age"]) == 2
    assert len(decode([[1, 2, 3]], TENSOR, max_rows=1).tensors["x"]) == 1
    for document, signature in ((ROWS * 2, COLUMNS), ([[1, 2, 3]] * 4, TENSOR)):
        with pytest.raises(MalformedRequestError, match="4 rows, at most 3"):
            decode(document, signature, max_rows=3)


def test_braces_inside_text_are_no_rows():
    row = {"age": 1, "city": "{" * 50}
    assert decode([row], max_rows=10).tensors["city"].tolist() == ["{" * 50]


def test_the_answer():
    request = decode({"rows": ROWS, "probabilities": True})
    outputs = {"predict": np.array(["no", "yes"], dtype=object), "predict_proba": np.array([[0.75, 0.25], [0.5, 0.5]])}
    identity = {"model": "m", "version": "1.0.0", "alias": "champion", "request_id": "r"}
    assert json.loads(encode_rows(identity, outputs, request, COLUMNS)) == {
        "model": "m",
        "version": "1.0.0",
        "alias": "champion",
        "request_id": "r",
        "predictions": ["no", "yes"],
        "classes": ["no", "yes"],
        "probabilities": [[0.75, 0.25], [0.5, 0.5]],
    }


def test_the_answer_without_probabilities_and_with_what_is_not_finite():
    request = decode([[1, 2, 3]], TENSOR)
    document = json.loads(encode_rows({"model": "m"}, {"y": np.array([np.inf])}, request, TENSOR))
    assert document == {"model": "m", "predictions": [None], "non_finite": True}
