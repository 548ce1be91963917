"""Plain predictions in binary formats, over HTTP."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossfade.serving.protocol.columnar import STREAM, write_table
from tests.web.dataplane.requests import ROW, assert_problem

NPY = "application/x-npy"
PARQUET = "application/vnd.apache.parquet"
RAW = "application/octet-stream"


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


async def post(client, model, content, kind, **headers):
    return await client.post(f"/api/v1/predict/{model}", content=content, headers={"content-type": kind, **headers})


async def test_npy_in_and_json_out(client):
    answer = (await post(client, "lr", saved(np.array([ROW, [-1.0] * 30])), NPY)).json()
    assert answer["predictions"] == [1, 0]
    assert (answer["model"], answer["version"]) == ("lr", "1.2.0")


async def test_npy_both_ways(client):
    response = await post(client, "lr", saved(np.array([ROW], dtype=np.float32)), NPY, accept=NPY)
    assert response.headers["content-type"] == NPY
    assert response.headers["x-crossfade-model"] == "lr"
    assert response.headers["x-crossfade-version"] == "1.2.0"
    assert "x-crossfade-fallback" not in response.headers
    assert np.load(io.BytesIO(response.content)).tolist() == [1]
    response = await post(client, "lr@fallback?probabilities=true", saved(np.array([ROW])), NPY, accept=f"{NPY}, */*")
    assert response.headers["x-crossfade-fallback"] == "true"
    assert np.load(io.BytesIO(response.content)).sum() == pytest.approx(1)


async def test_arrow_both_ways(client):
    body = write_table(STREAM, {"city": np.array(["Bern", "Basel"], dtype=object), "age": np.array([41.0, np.nan])})
    response = await post(client, "people", body, STREAM, accept=STREAM)
    assert pa.ipc.open_stream(response.content).read_all().to_pydict() == {"predict": ["Bern!", "Basel!"]}
    assert (await post(client, "people", body, STREAM)).json()["predictions"] == ["Bern!", "Basel!"]


async def test_json_in_and_arrow_out(client):
    response = await client.post("/api/v1/predict/lr?probabilities=true", json=[ROW], headers={"accept": STREAM})
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.column_names == ["predict", "predict_proba"]


async def test_raw_bytes_are_the_single_input(client):
    assert (await post(client, "echo_bytes", b"caf\xc3\xa9", RAW)).json()["predictions"] == [["café"]]
    assert (await post(client, "raw_bytes", b"RIFF", RAW)).json()["predictions"] == [["RIFF"]]
    assert (await post(client, "lr", np.ones(60).tobytes(), RAW)).json()["predictions"] == [1, 1]
    assert_problem(await post(client, "echo_bytes", b"\xff", RAW), 422, "signature_mismatch")
    assert_problem(await post(client, "people", b"RIFF", RAW), 422, "signature_mismatch")
    assert_problem(await post(client, "lr", b"RIFF", RAW), 422, "malformed_request")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"])
async def test_what_clients_say_about_json(client, kind):
    assert (await post(client, "people", b'[{"age": 1, "city": "a"}]', kind)).json()["predictions"] == ["a!"]


@pytest.mark.parametrize("kind", ["text/xml", "application/vnd.apache.avro", "application/x-pickle", "\xff"])
async def test_other_types_are_refused(client, kind):
    response = await post(client, "lr", b"", kind.encode("latin-1"))
    assert NPY in assert_problem(response, 415, "unsupported_media_type")["hint"]


async def test_answers_that_a_format_cannot_hold(client):
    rows = [{"age": 1, "city": "a"}]
    response = await client.post("/api/v1/predict/people", json=rows, headers={"accept": NPY})
    assert_problem(response, 406, "not_acceptable")
    response = await client.post("/api/v1/predict/people", json=rows, headers={"accept": "text/csv"})
    assert response.json()["predictions"] == ["a!"]


@pytest.mark.parametrize("kind", [NPY, STREAM, "application/vnd.apache.arrow.file"])
async def test_hostile_bodies_are_refused(client, kind):
    for body in (b"", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", b"ARROW1\0\0" + b"\xff" * 90, bytes(1000)):
        assert_problem(await post(client, "lr", body, kind), 422, "malformed_request")


# --- Parquet: read in another process --------------------------------------------------------------------------------


def packed(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


PEOPLE = pa.table({"city": ["Bern", "Basel"], "age": [41.0, None]})


async def test_parquet_both_ways(client):
    response = await post(client, "people", packed(PEOPLE), PARQUET, accept=PARQUET)
    assert response.headers["content-type"] == PARQUET
    assert response.headers["x-crossfade-version"]
    assert pq.read_table(io.BytesIO(response.content)).to_pydict() == {"predict": ["Bern!", "Basel!"]}


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd"])
async def test_parquet_may_be_compressed(client, codec):
    answer = await post(client, "people", packed(PEOPLE, compression=codec, row_group_size=1), f"{PARQUET}; v=1")
    assert answer.json()["predictions"] == ["Bern!", "Basel!"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a sound Parquet file"),
        (b"PAR1PAR1", "not a sound Parquet file"),
        (packed(PEOPLE)[:-9], "not a sound Parquet file"),
        (packed(pa.table({"city": ["Bern"] * 51, "age": [1.0] * 51})), "51 rows, at most 50"),
        (packed(pa.table({"city": ["x" * 90_000], "age": [1.0]}), use_dictionary=False), "more than 100000 bytes"),
        (packed(pa.table([[1.0], ["a"], ["b"]], names=["age", "city", "city"])), "two columns have the same name"),
    ],
    ids=["empty", "no footer", "cut", "rows", "size", "twice"],
)
async def test_parquet_that_cannot_be_used_is_refused(client, body, words):
    if words.startswith("more"):
        body = packed(pa.table({"city": ["x" * 90_000] * 3, "age": [1.0] * 3}))
        assert len(body) < 100_000, "unpacked it is what is too large"
    response = await post(client, "people", body, PARQUET)
    assert words in assert_problem(response, 422, "malformed_request")["detail"]


async def test_parquet_of_other_types_is_refused_by_the_signature(client):
    times = pa.table({"city": ["Bern"], "age": pa.array([1], pa.timestamp("us"))})
    response = await post(client, "people", packed(times), PARQUET)
    assert "age" in assert_problem(response, 422, "signature_mismatch")["detail"]


async def test_parquet_waits_for_its_turn_and_not_for_ever(client, monkeypatch):
    monkeypatch.setattr("crossfade.web.calls._PATIENCE_SECONDS", 0.01)
    answers = await asyncio.gather(*(post(client, "people", packed(PEOPLE), PARQUET) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 504, 504]
