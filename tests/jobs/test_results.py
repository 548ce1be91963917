"""Results: one line per row while a job runs, one file in any format at its end, always the same bytes."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import SignatureMismatchError
from crossfade.jobs.chunks import Chunk
from crossfade.jobs.results import Answers, Layout, render

X = (TensorSpec("x", "FP64", (-1,)),)
CLASSIFIER = Signature(
    X, (TensorSpec("predict", "BYTES", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))), classes=("no", "yes")
)
REGRESSOR = Signature(X, (TensorSpec("predict", "FP32", (-1,)),))
EMBEDDER = Signature(X, (TensorSpec("vector", "FP64", (-1, 2)),))


def layout(signature=REGRESSOR, keep=(), probabilities=False):
    return Layout(signature, signature.outputs[0].name, keep, probabilities)


def part_of(layout, outputs, chunk=None, first_row=0):
    answers = Answers(layout)
    answers.add(outputs)
    return answers.lines(first_row, chunk or Chunk(len(next(iter(outputs.values())))))


def rows_of(part):
    return [json.loads(line) for line in part.splitlines()]


def both(labels):
    count = len(labels)
    return {
        "predict": np.array(labels, dtype=object),
        "predict_proba": np.linspace(0.0, 1.0, 2 * count).reshape(count, 2),
    }


def test_lines_have_rows_answers_and_what_is_kept():
    chunk = Chunk(2, kept={"id": ["a", 7]})
    part = part_of(layout(keep=("id",)), {"predict": np.array([0.1, 2.0], dtype=np.float32)}, chunk, 40)
    assert part == b'{"row":40,"id":"a","prediction":0.1}\n{"row":41,"id":7,"prediction":2.0}\n'


def test_bad_rows_stand_in_their_place():
    answers = Answers(layout())
    answers.add({"predict": np.array([1.0])})
    answers.refuse("the model refuses it")
    answers.add({"predict": np.array([3.0, 4.0])})
    part = answers.lines(10, Chunk(6, bad={0: "no row", 3: "no row either"}))
    assert rows_of(part) == [
        {"row": 10, "error": "no row"},
        {"row": 11, "prediction": 1.0},
        {"row": 12, "error": "the model refuses it"},
        {"row": 13, "error": "no row either"},
        {"row": 14, "prediction": 3.0},
        {"row": 15, "prediction": 4.0},
    ]
    assert answers.failed == 3


def test_what_is_no_number_is_null():
    part = part_of(layout(), {"predict": np.array([np.nan, np.inf, 1.0])})
    assert [row["prediction"] for row in rows_of(part)] == [None, None, 1.0]


def test_probabilities_and_vectors():
    part = part_of(layout(CLASSIFIER, probabilities=True), both(["no", "yes"]))
    assert rows_of(part)[1] == {"row": 1, "prediction": "yes", "probabilities": [2 / 3, 1.0]}
    assert layout(CLASSIFIER, probabilities=True).wanted == {"predict", "predict_proba"}
    assert layout(CLASSIFIER).wanted == {"predict"}
    part = part_of(layout(EMBEDDER), {"vector": np.array([[1.0, 2.0]])})
    assert rows_of(part) == [{"row": 0, "prediction": [1.0, 2.0]}]


def test_bytes_that_are_no_text_are_refused_whole():
    answers = Answers(layout(CLASSIFIER))
    with pytest.raises(SignatureMismatchError):
        answers.add({"predict": np.array([b"ok", b"\xff"], dtype=object)})
    answers.refuse("one")
    answers.refuse("two")
    assert len(rows_of(answers.lines(0, Chunk(2)))) == 2


def test_line_separators_inside_of_text_are_no_line_ends():
    odd = "a\u2028b\x85c\nd\x0be"
    wanted = layout(CLASSIFIER, keep=("id",))
    part = part_of(wanted, {"predict": np.array([odd], dtype=object)}, Chunk(1, kept={"id": [odd]}))
    assert part.count(b"\n") == 1
    for output in ("csv", "parquet"):
        (row,) = read(output, b"".join(render(output, [part], wanted)))
        assert (row["prediction"], row["id"]) == (odd, odd), output


# --- the file --------------------------------------------------------------------------------------------------------


def read(output, data):
    if output == "jsonl":
        return rows_of(data)
    if output == "csv":
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    return pq.read_table(io.BytesIO(data)).to_pylist()


def example(probabilities=True):
    """Two parts: a good and two bad rows, and two good ones."""
    wanted = layout(CLASSIFIER, ("id", "note"), probabilities)
    answers = Answers(wanted)
    answers.add(both(["no"]))
    answers.refuse("refused, with a comma")
    first = answers.lines(0, Chunk(3, bad={0: "bad"}, kept={"id": [1, 2, "c"], "note": [None, True, 'say "hi"']}))
    second = part_of(wanted, both(["yes", "no"]), Chunk(2, kept={"id": [4.5, 5], "note": ["", "ü"]}), 3)
    return wanted, [first, second]


def test_json_lines_are_the_parts():
    wanted, parts = example()
    assert b"".join(render("jsonl", parts, wanted)) == b"".join(parts)


def test_csv_has_a_column_for_each_class():
    wanted, parts = example()
    text = b"".join(render("csv", parts, wanted)).decode()
    assert text == (
        "row,id,note,prediction,probability_no,probability_yes,error\n"
        "0,1,,,,,bad\n"
        "1,2,true,no,0.0,1.0,\n"
        '2,c,"say ""hi""",,,,"refused, with a comma"\n'
        "3,4.5,,yes,0.0,0.3333333333333333,\n"
        "4,5,ü,no,0.6666666666666666,1.0,\n"
    )


def test_csv_without_names_of_classes_has_one_column():
    signature = Signature(X, CLASSIFIER.outputs)
    wanted = layout(signature, probabilities=True)
    (row,) = read("csv", b"".join(render("csv", [part_of(wanted, both(["no"]))], wanted)))
    assert row == {"row": "0", "prediction": "no", "probabilities": "[0.0,1.0]", "error": ""}


def test_csv_of_vectors_holds_json():
    wanted = layout(EMBEDDER)
    (row,) = read("csv", b"".join(render("csv", [part_of(wanted, {"vector": np.ones((1, 2))})], wanted)))
    assert row["prediction"] == "[1.0,1.0]"


def test_parquet_has_types_and_one_row_group_per_part():
    wanted, parts = example()
    file = pq.ParquetFile(io.BytesIO(b"".join(render("parquet", parts, wanted))))
    assert file.metadata.num_row_groups == 2
    assert [str(field.type) for field in file.schema_arrow] == [
        *("int64", "string", "string", "string"),
        *("list<element: double>", "string"),
    ]
    rows = file.read().to_pylist()
    assert list(rows[0].values()) == [0, "1", None, None, None, "bad"]
    assert rows[1]["note"] == "true"
    assert rows[4]["probabilities"] == [2 / 3, 1.0]


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "kind"),
    [
        ("FP32", (-1,), [0.1, np.nan], "double"),
        ("INT64", (-1,), [2**62, -1], "int64"),
        ("UINT64", (-1,), [2**64 - 1, 0], "uint64"),
        ("INT8", (-1,), [1, -1], "int8"),
        ("BOOL", (-1,), [True, False], "bool"),
        ("FP64", (-1, 2), [[1.0, 2.0], [3.0, 4.0]], "list<element: double>"),
        ("INT32", (-1, 1, 1), [[[1]], [[2]]], "list<element: list<element: int32>>"),
    ],
)
def test_parquet_of_every_type_of_prediction(datatype, shape, values, kind):
    from crossfade.core.tensors import DTYPES

    wanted = layout(Signature(X, (TensorSpec("predict", datatype, shape),)))
    part = part_of(wanted, {"predict": np.array(values, dtype=DTYPES[datatype])})
    table = pq.read_table(io.BytesIO(b"".join(render("parquet", [part], wanted))))
    assert str(table.schema.field("prediction").type) == kind
    expected = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
    assert table.column("prediction").to_pylist() == expected


@pytest.mark.parametrize("output", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("probabilities", [True, False])
def test_making_a_result_again_gives_the_same_bytes(output, probabilities):
    wanted, parts = example(probabilities)
    first = b"".join(render(output, parts, wanted))
    assert b"".join(render(output, iter(parts), wanted)) == first
    assert len(read(output, first)) == 5


@pytest.mark.parametrize("output", ["jsonl", "csv", "parquet"])
def test_a_result_may_have_no_rows(output):
    wanted, _ = example()
    data = b"".join(render(output, [], wanted))
    assert read(output, data) == []
    assert (data == b"") == (output == "jsonl")


@pytest.mark.parametrize("output", ["csv", "parquet"])
def test_results_are_written_piece_by_piece(output):
    """One part is in memory at a time."""
    wanted, (first, second) = example()
    asked = []

    def parts():
        for part in (first, second):
            asked.append(part)
            yield part

    pieces = render(output, parts(), wanted)
    next(pieces)
    assert asked == [first]
