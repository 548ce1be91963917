"""MLflow's scoring protocol. The accepted cases and their values are what MLflow 3.17.2 made of the same bodies."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import InvalidInputError, MalformedRequestError, SignatureMismatchError, UnsupportedMediaTypeError
from crossfade.serving.protocol.invocations import decode_invocation, encode_predictions
from crossfade.serving.protocol.rows import RowsRequest

PREDICT = (TensorSpec("predict", "FP64", (-1,)),)
MIXED = Signature(
    (
        TensorSpec("a", "FP64", (-1,)),
        TensorSpec("n", "INT64", (-1,)),
        TensorSpec("flag", "BOOL", (-1,)),
        TensorSpec("city", "BYTES", (-1,)),
    ),
    PREDICT,
)
GAPS = Signature((TensorSpec("a", "FP64", (-1,), missing=True), TensorSpec("b", "BYTES", (-1,), missing=True)), PREDICT)
TENSOR = Signature((TensorSpec("x", "FP64", (-1, 3)),), PREDICT)

NAMES = ["a", "n", "flag", "city"]
DATA = [[0.5, 2, True, "x"], [-1.0, 8, False, "z"]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in DATA]
COLUMNS = {name: [row[name] for row in RECORDS] for name in NAMES}


def decode(document, signature=MIXED, kind="application/json", max_rows=100):
    body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    tensors = decode_invocation(kind.encode(), body, signature, max_rows).tensors
    return signature.check(tensors)


def values(tensors):
    return [list(row) for row in zip(*(tensors[name].tolist() for name in NAMES), strict=True)]


def one(**changes):
    return {"dataframe_records": [RECORDS[0] | changes]}


# --- formats ---


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_records": RECORDS},
        {"dataframe_records": [dict(reversed(row.items())) for row in RECORDS]},
        {"dataframe_records": [row | {"extra": [1]} for row in RECORDS]},
        {"dataframe_split": {"columns": NAMES, "data": DATA}},
        {"dataframe_split": {"columns": NAMES, "data": DATA, "index": [5, 7]}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in DATA]}},
        {"dataframe_split": {"columns": [*NAMES, "q"], "data": [[*row, 1] for row in DATA]}},
        {"instances": RECORDS},
        {"instances": COLUMNS},
        {"inputs": COLUMNS},
        {"inputs": COLUMNS | {"q": [1, 2]}},
        {"inputs": RECORDS},
        {"inputs": RECORDS, "params": {"temperature": 1}},
        {"inputs": RECORDS, "params": 3},
        {"dataframe_records": RECORDS, "other": 1},
        {"inputs": RECORDS, "signature_name": "x"},
    ],
)
def test_every_format_of_the_same_rows(document):
    assert values(decode(document)) == DATA


@pytest.mark.parametrize(
    "text",
    [
        "a,n,flag,city\n0.5,2,True,x\n-1.0,8,False,z\n",
        ",a,n,flag,city\n0,0.5,2,True,x\n1,-1.0,8,False,z\n",
        "a,n,flag,city\r\n0.5,2,true,x\r\n-1.0,8,FALSE,z",
        "city,flag,n,a\nx,TRUE,2,0.5\nz,false,8,-1\n",
        "a,n,flag,city,q\n0.5,2,1,x,9\n-1,8.0,0,z,\n",
        "a,n,flag,city\n\n0.5,2,True,x\n\n-1,8,False,z\n\n",
        '"a","n","flag","city"\n"0.5","2","True","x"\n" -1 "," 8 ","False","z"\n',
        "\ufeffa,n,flag,city\n0.5,2,True,x\n-1,8,False,z\n",
        "a,a,n,flag,city\n0.5,9,2,True,x\n-1,9,8,False,z\n",
    ],
)
def test_every_spelling_of_the_same_csv(text):
    assert values(decode(text, kind="text/csv")) == DATA


def test_one_row_of_scalars():
    assert values(decode({"inputs": RECORDS[0]})) == DATA[:1]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [[1, 2, 3], [4, 5, 6]]},
        {"instances": [[1, 2, 3], [4, 5, 6]]},
        {"inputs": [["1", "2", "3"], [4, 5, 6]]},
        {"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}},
        {"instances": [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]},
        {"dataframe_split": {"data": [[1, 2, 3], [4, 5, 6]]}},
        {"dataframe_split": {"columns": ["p", "q", "r"], "data": [[1, 2, 3], [4, 5, 6]]}},
        {"dataframe_records": [{"r": 1, "p": 2, "q": 3}, {"r": 4, "p": 5, "q": 6}]},
    ],
)
def test_a_tensor_takes_rows_and_frames_in_their_own_order(document):
    assert decode(document, TENSOR)["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


# --- values ---


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a", 1, 1.0),
        ("a", 2**60, float(2**60)),
        ("a", "1.5", 1.5),
        ("a", True, 1.0),
        ("n", 2.0, 2),
        ("n", "3", 3),
        ("n", True, 1),
        ("flag", 1, True),
        ("flag", 0.0, False),
    ],
)
def test_values_are_converted_where_nothing_is_lost(name, given, expected):
    value = decode(one(**{name: given}))[name].tolist()[0]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a", "abc"),
        ("a", "1_000"),
        ("a", None),
        ("a", [1.0]),
        ("a", {}),
        ("a", 10**400),
        ("n", 2.7),
        ("n", "2.7"),
        ("n", "x"),
        ("n", None),
        ("n", 2**70),
        ("n", [1]),
        ("flag", 2),
        ("flag", "False"),
        ("flag", "true"),
        ("flag", None),
        ("city", 5),
        ("city", True),
        ("city", None),
    ],
)
def test_values_that_would_lose_something_are_refused(name, given):
    with pytest.raises(SignatureMismatchError) as caught:
        decode(one(**{name: given}))
    assert caught.value.facts["field"] == name


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_that_are_no_json_are_read_and_then_held_to_the_signature(word):
    body = f'{{"dataframe_records": [{{"a": {word}, "n": 2, "flag": true, "city": "x"}}]}}'
    with pytest.raises(SignatureMismatchError, match="finite"):
        decode(body)
    gaps = decode(f'{{"inputs": {{"a": [NaN], "b": ["{word}"]}}}}', GAPS)
    assert np.isnan(gaps["a"]).all()
    assert gaps["b"].tolist() == [word]


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"dataframe_records": [{"a": None, "b": "x"}, {"a": 1, "b": None}]}, "application/json"),
        ({"dataframe_records": [{"b": "x"}, {"a": 1}]}, "application/json"),
        ({"dataframe_split": {"columns": ["b", "a"], "data": [["x"], [None, 1]]}}, "application/json"),
        ({"inputs": {"a": [None, 1], "b": ["x", None]}}, "application/json"),
        ("a,b\n,x\n1,\n", "text/csv"),
        ("a,b\nNA,x\n1,null\n", "text/csv"),
        ("a,b\nnan,x\n1,n/a\n", "text/csv"),
        ("b,a\nx\nNone,1\n", "text/csv"),
    ],
)
def test_missing_values(document, kind):
    tensors = decode(document, GAPS, kind)
    assert np.array_equal(tensors["a"], [np.nan, 1.0], equal_nan=True)
    assert tensors["b"].tolist() == ["x", None]


def test_raw_bytes_come_in_base64():
    signature = Signature((TensorSpec("audio", "BYTES", (-1,), text=False),), PREDICT)
    assert decode({"inputs": {"audio": [b64encode(b"RIFF").decode()]}}, signature)["audio"].tolist() == [b"RIFF"]
    with pytest.raises(SignatureMismatchError):
        decode({"inputs": {"audio": ["!"]}}, signature)


def test_integers_of_fewer_bits_keep_to_their_range():
    signature = Signature((TensorSpec("n", "INT8", (-1,)),), PREDICT)
    assert decode({"inputs": {"n": [127, "-128"]}}, signature)["n"].tolist() == [127, -128]
    with pytest.raises(SignatureMismatchError, match="range"):
        decode({"inputs": {"n": [128]}}, signature)


# --- refusals ---


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "malformed|truncated"),
        ("{", "malformed|truncated"),
        ("{NaN", "property name"),
        ("[1]", "exactly one"),
        ("3", "exactly one"),
        ({}, "exactly one"),
        ({"messages": [1]}, "exactly one"),
        ({"dataframe_records": RECORDS, "inputs": RECORDS}, "exactly one"),
        ({"dataframe_records": RECORDS[0]}, "array of objects"),
        ({"dataframe_records": DATA}, "array of objects"),
        ({"dataframe_records": 3}, "array of objects"),
        ({"dataframe_records": []}, "no row"),
        ({"instances": [RECORDS[0], {"n": 1}]}, "not all the same names"),
        ({"instances": []}, "no row"),
        ({"inputs": 3}, "array or an object"),
        ({"inputs": None}, "array or an object"),
        ({"inputs": COLUMNS | {"a": [1.0]}}, "same number of values"),
        ({"inputs": COLUMNS | {"a": 1.0}}, "same number of values"),
        ({"dataframe_split": DATA}, "must be an object with `data`"),
        ({"dataframe_split": {"columns": NAMES}}, "must be an object with `data`"),
        ({"dataframe_split": {"columns": NAMES, "data": DATA, "z": 1}}, "must be an object with `data`"),
        ({"dataframe_split": {"columns": NAMES, "data": {}}}, "array of rows"),
        ({"dataframe_split": {"columns": NAMES, "data": []}}, "no row"),
        ({"dataframe_split": {"columns": "abcd", "data": DATA}}, "different names"),
        ({"dataframe_split": {"columns": ["a", "a", "flag", "city"], "data": DATA}}, "different names"),
        ({"dataframe_split": {"columns": NAMES, "data": [[*DATA[0], 1]]}}, "more than 4 values"),
        ({"dataframe_split": {"columns": NAMES, "data": DATA, "index": [1]}}, "one entry per row"),
        ("[" * 100_000, "deep|malformed|truncated"),
        ('{"inputs":' + "[" * 100_000 + "]" * 100_000 + "}", "deep"),
        ('{"inputs":NaN' + "[" * 100_000, "deep|Expecting"),
    ],
)
def test_what_is_in_no_format_is_refused(document, words):
    with pytest.raises(MalformedRequestError, match=words):
        decode(document)


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": DATA},
        {"instances": DATA},
        {"dataframe_split": {"data": DATA}},
        {"dataframe_split": {"columns": [1, 2, 3, 4], "data": DATA}},
        {"inputs": {name: COLUMNS[name] for name in NAMES[1:]}},
        {"dataframe_records": [{"n": 1, "flag": True, "city": "x"}]},
    ],
)
def test_columns_are_known_by_their_names_alone(document):
    with pytest.raises(SignatureMismatchError) as caught:
        decode(document)
    assert caught.value.facts["field"] == "a"


@pytest.mark.parametrize("rows", [[1, 2, 3], [[1, 2, 3, 4]], [[1, 2, 3], [1]], [[1, None, 3]], [["a", 1, 2]], [{}]])
def test_rows_that_are_not_the_tensor_are_refused(rows):
    with pytest.raises(InvalidInputError):
        decode({"inputs": rows}, TENSOR)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a,n,flag,city\n", "no row"),
        ("a,n,flag\n0.5,2,True\n", "`city`"),
        ("a, n,flag,city\n0.5,2,True,x\n", "`n`"),
        ("a,n,flag,city\n0.5,2,True,x,9\n", "more than 4 values"),
        ("a,n,flag,city\n0.5,2,True\n", "`city`"),
        ("a,n,flag,city\nNA,2,True,x\n", "finite"),
        ("a,n,flag,city\ninf,2,True,x\n", "finite"),
        ("a,n,flag,city\n1,,True,x\n", "`n`"),
        ("a,n,flag,city\n1,2.5,True,x\n", "`n`"),
        ("a,n,flag,city\n1,2,yes,x\n", "`flag`"),
        ("a,n,flag,city\n1,2,,x\n", "`flag`"),
        ('a,n,flag,city\n0.5,2,True,"x\n', "CSV cannot be read"),
        ("a,n,flag,city\n" + "x" * 200_000, "CSV cannot be read"),
    ],
)
def test_csv_that_does_not_fit_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        decode(text, kind="text/csv")


def test_a_million_columns_cost_no_more_than_their_bytes():
    names = ",".join(f"c{number}" for number in range(10**6))
    with pytest.raises(SignatureMismatchError):
        decode(f"{names}\n{',' * (10**6 - 1)}\n", kind="text/csv")
    with pytest.raises(MalformedRequestError, match="most rows have no value"):
        decode(names + "\n1" * 1000, kind="text/csv", max_rows=10_000)
    sparse = [{f"c{number}": 1} for number in range(10_000)]
    with pytest.raises(MalformedRequestError, match="few names in common"):
        decode({"dataframe_records": sparse}, max_rows=100_000)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"dataframe_records": RECORDS}, "application/json"),
        ({"inputs": COLUMNS}, "application/json"),
        ("a,n,flag,city\n0.5,2,True,x\n0.5,2,True,x\n", "text/csv"),
    ],
)
def test_the_number_of_rows_is_limited(document, kind):
    assert len(decode(document, kind=kind, max_rows=2)["a"]) == 2
    with pytest.raises(MalformedRequestError, match=r"at most 1|more than 1"):
        decode(document, kind=kind, max_rows=1)


@pytest.mark.parametrize("kind", ["", "application/json", "Application/JSON", "application/json; charset=UTF-8"])
def test_content_types_of_json(kind):
    assert values(decode({"inputs": COLUMNS}, kind=kind)) == DATA


@pytest.mark.parametrize(
    "kind",
    [
        "text/xml",
        "application/json; charset=latin-1",
        "application/json; format=pandas-split",
        "text/csv; header=present",
    ],
)
def test_other_content_types_are_refused(kind):
    with pytest.raises(UnsupportedMediaTypeError):
        decode({"inputs": COLUMNS}, kind=kind)


def test_bytes_that_are_not_text_are_refused():
    for kind in (b"application/json", b"text/csv"):
        with pytest.raises(MalformedRequestError):
            decode_invocation(kind, b'{"inputs": NaN "\xff"}', MIXED, 10)


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800", "a\\uD83D"])
def test_half_a_surrogate_pair_is_no_text_beside_nan_either(text):
    signature = Signature((TensorSpec("x", "BYTES", (-1,)),), MIXED.outputs)
    for more in ("1", "NaN"):
        body = b'{"dataframe_records": [{"x": "%b", "more": %b}]}' % (text.encode(), more.encode())
        with pytest.raises(MalformedRequestError):
            decode_invocation(b"", body, signature, 10)
    whole = b'{"dataframe_records": [{"x": "\\ud83d\\ude00", "more": NaN}]}'
    assert decode_invocation(b"", whole, signature, 10).tensors["x"].tolist() == ["\U0001f600"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*NAMES, "data", "columns"]), inner),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records"]), JSON, max_size=2)
)
@settings(max_examples=150, deadline=None)
def test_any_json_is_read_or_refused_and_nothing_else(document):
    for signature in (MIXED, GAPS, TENSOR):
        with contextlib.suppress(InvalidInputError):
            decode(document, signature)


@given(st.text(alphabet=',"\n\r anflgcityb.10', max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_csv_is_read_or_refused_and_nothing_else(text):
    for signature in (MIXED, GAPS, TENSOR):
        with contextlib.suppress(InvalidInputError):
            decode(text, signature, "text/csv")


# --- answers ---


def test_answers():
    request = RowsRequest({}, "predict", False)
    assert json.loads(encode_predictions({"predict": np.array([1.5, np.nan])}, request)) == {"predictions": [1.5, None]}
    texts = np.array(["yes", "no"], dtype=object)
    assert json.loads(encode_predictions({"predict": texts}, request)) == {"predictions": ["yes", "no"]}
    nested = np.array([[1, 2], [3, 4]])
    assert json.loads(encode_predictions({"predict": nested}, request)) == {"predictions": [[1, 2], [3, 4]]}
