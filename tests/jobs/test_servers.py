"""Jobs on real servers: killed, restarted, two at a time, with hostile files."""

from __future__ import annotations

import json
import signal
import time

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossfade.client import AsyncClient, Client
from crossfade.errors import JobConflictError, JobNotFoundError, MalformedRequestError
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control

QUICK = {"CROSSFADE_JOBS__LEASE_SECONDS": "1", "CROSSFADE_JOBS__POLL_SECONDS": "0.05"}
ROWS = 1200


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry whose model `tiny` answers the sum of two numbers."""
    return control.registered_home(tmp_path_factory.mktemp("jobs"), "1.0.0")


@pytest.fixture(scope="module")
def server(home):
    with control.running_server(home, **QUICK) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"x": [{row}, 1], "id": "u{row}"}}\n' for row in range(ROWS)))
    return path


def until(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
    return found


def ended(client, job):
    return until(lambda: (found := client.job(job)).finished and found)


def killed_after(home, job, rows_done):
    """Run a server until the job has more rows than that, kill it, and return what is left of it."""
    with control.running_server(home, **QUICK) as server, Client(server.url) as client:
        until(lambda: client.job(job).rows_done > rows_done)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with open_platform(Settings(home=home)) as platform:
        return platform.jobs.find(job)


@pytest.mark.slow
def test_a_killed_server_goes_on_after_its_last_chunk_and_ends_with_the_same_bytes(home, rows, tmp_path):
    options = {"keep": ("id",), "chunk_rows": 20, "output": "parquet"}
    with open_platform(Settings(home=home)) as platform, control.local_client(platform) as client:
        job = client.submit_job("tiny", rows, **options).id
    progress = [0]
    for _ in range(2):
        found = killed_after(home, job, progress[-1])
        assert found.state == "running", "it was killed in the middle"
        assert found.rows_done % 20 == 0
        progress.append(found.rows_done)
    with control.running_server(home, **QUICK) as server, Client(server.url) as client:
        result = ended(client, job)
        expected = ended(client, client.submit_job("tiny", rows, **options).id)
        client.download_result(job, tmp_path / "result")
    assert progress == sorted(set(progress))
    assert (result.state, result.rows_done, result.rows_failed) == ("succeeded", ROWS, 0)
    assert result.result == expected.result, "digest and size are the same"
    table = pq.read_table(tmp_path / "result")
    assert table.column("row").to_pylist() == list(range(ROWS))
    assert table.column("id").to_pylist() == [f"u{row}" for row in range(ROWS)]


@pytest.mark.slow
def test_two_servers_share_jobs_and_one_takes_over_what_the_other_gives_back(home, rows):
    slow = QUICK | {"CROSSFADE_JOBS__LEASE_SECONDS": "600"}
    with control.running_server(home, **slow) as one, control.running_server(home, **slow) as two:
        with Client(one.url) as client, Client(two.url) as other:
            jobs = [client.submit_job("tiny", rows, chunk_rows=15).id for _ in range(3)]
            until(lambda: sum(client.job(job).state == "running" for job in jobs) == 2)
            assert one.stop() == 0
            results = [ended(other, job) for job in jobs]
        assert {result.state for result in results} == {"succeeded"}
        assert len({result.result.digest for result in results}) == 1
        assert {result.rows_done for result in results} == {ROWS}


# --- over the wire ---------------------------------------------------------------------------------------------------


def test_submit_watch_and_take_the_result(client, rows, tmp_path):
    sent = []
    rows.write_text(rows.read_text() + "\n")  # as no other test sends it
    job = client.submit_job(
        "tiny@champion", rows, keep=("id",), progress=lambda done, total: sent.append((done, total))
    )
    assert sent[-1][0] == sent[-1][1] == rows.stat().st_size
    found = ended(client, job.id)
    assert (found.state, found.version, found.ref) == ("succeeded", "1.0.0", "tiny@champion")
    assert found.rows_per_second > 0
    path = client.download_result(job.id, tmp_path / "out" / "result.jsonl")
    lines = path.read_text().splitlines()
    assert len(lines) == ROWS
    assert json.loads(lines[41]) == {"row": 41, "id": "u41", "prediction": [42.0]}
    assert client.job_result(job.id) == path.read_bytes()
    sent.clear()
    client.submit_job("tiny", rows, progress=lambda done, total: sent.append((done, total)))
    assert sent == [], "the server has the file"


async def test_the_asynchronous_client_does_the_same(server, rows, tmp_path):
    async with AsyncClient(server.url) as client:
        job = await client.submit_job("tiny", rows, output="csv")
        while not (await client.job(job.id)).finished:
            pass
        path = await client.download_result(job.id, tmp_path / "result.csv")
    assert path.read_text().splitlines()[1] == "0,[1.0],"


def test_the_result_says_what_it_is(client, server, rows):
    job = client.submit_job("tiny", rows, output="csv")
    found = ended(client, job.id)
    answer = httpx.get(f"{server.url}/api/v1/jobs/{job.id}/result")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["etag"] == f'"{found.result.digest}"'
    assert answer.headers["content-disposition"] == f'attachment; filename="{job.id}.csv"'
    assert int(answer.headers["content-length"]) == found.result.size_bytes == len(answer.content)


def test_submitting_twice_is_submitting_once(client, server, rows):
    first = client.submit_job("tiny", rows, id="idempotent-1")
    second = client.submit_job("tiny", rows, id="idempotent-1")
    assert (first.id, first.created_at) == (second.id, second.created_at)
    with pytest.raises(JobConflictError, match="was asked for something else"):
        client.submit_job("tiny", rows, id="idempotent-1", output="csv")
    body = {"id": "idempotent-2", "ref": "tiny", "input_digest": first.input_digest, "format": "jsonl"}
    answers = [httpx.post(f"{server.url}/api/v1/jobs", json=body).status_code for _ in range(3)]
    assert answers == [201, 200, 200]


def test_cancelling_over_the_wire(client, rows):
    job = client.submit_job("tiny", rows, chunk_rows=1)
    done = client.cancel_job(job.id, reason="the wrong file")
    assert (done.state, done.problem) == ("cancelled", "the wrong file")
    with pytest.raises(JobConflictError, match="it is cancelled"):
        client.job_result(job.id)
    with pytest.raises(JobNotFoundError):
        client.cancel_job("no-such-job")


def test_the_name_of_a_file_tells_its_format(client, tmp_path):
    odd = tmp_path / "rows.txt"
    odd.write_text("a,b\n1,2\n")
    with pytest.raises(MalformedRequestError, match="say `format`"):
        client.submit_job("tiny", odd)
    assert ended(client, client.submit_job("tiny", odd, format="csv").id).rows_done == 1


@pytest.mark.parametrize(
    "change",
    [
        {"format": "xml"},
        {"output": "xml"},
        {"keep": "id"},
        {"chunk_rows": "many"},
        {"id": "../../etc"},
        {"id": "\0" * 10},
        {"ref": "\0"},
        {"input_digest": "A" * 64},
        {"input_digest": "0" * 64},
        {"surplus": 1},
    ],
    ids=str,
)
def test_requests_that_make_no_sense(server, change):
    body = {"id": "some-new-job", "ref": "tiny", "input_digest": "0" * 64, "format": "csv"} | change
    answer = httpx.post(f"{server.url}/api/v1/jobs", json=body)
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{server.url}/api/v1/jobs/some-new-job").status_code == 404


@pytest.mark.parametrize(
    "path", ["jobs?state=lost", "jobs?cursor=x", "jobs?limit=0", "jobs?model=%00", "jobs/%00", "jobs/x/result"]
)
def test_questions_that_make_no_sense(server, path):
    answer = httpx.get(f"{server.url}/api/v1/{path}")
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"


# --- hostile files ---------------------------------------------------------------------------------------------------


def write_bomb(path):
    """A small file that stands for four billion numbers."""
    column = pa.array([1.0] * 2**20)
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(column, 2)})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(table)


def hostile(path, kind):
    sound = path.with_suffix(".sound")
    pq.write_table(pa.table({"x": [[1.0, 2.0]] * 1000, "id": ["x"] * 1000}), sound)
    data = bytearray(sound.read_bytes())
    if kind == "cut":
        data = data[: len(data) // 2]
    elif kind == "flipped footer":
        for position in range(len(data) - 300, len(data) - 8, 7):
            data[position] ^= 0xFF
    elif kind == "flipped pages":
        data[4:300] = bytes(byte ^ 0x55 for byte in data[4:300])
    elif kind == "huge footer":
        data[-8:-4] = b"\xff\xff\xff\x7f"
    elif kind == "text":
        data = bytearray(b"this is no Parquet file")
    elif kind == "empty":
        data = bytearray()
    elif kind == "huge text":
        text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int8()), ["y" * 2**20])
        pq.write_table(pa.table({"x": text}), path, store_schema=False)
        return
    path.write_bytes(data)


KINDS = ["cut", "flipped footer", "flipped pages", "huge footer", "text", "empty", "huge text"]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_parquet_fails_its_job_and_nothing_else(client, server, tmp_path, kind):
    path = tmp_path / "hostile.parquet"
    hostile(path, kind)
    found = ended(client, client.submit_job("tiny", path).id)
    # flipped numbers may still be a table, of rows that the model answers or refuses
    assert found.state == "failed" or kind.startswith("flipped") or found.rows_failed == found.rows_done
    if found.state == "failed":
        assert found.problem.startswith("the file cannot be read: ")
    if kind == "huge text":
        assert found.problem.endswith("it takes more than 1024 MiB of memory to read")
    body = path.read_bytes()[: 10 * 2**20]
    answer = httpx.post(
        f"{server.url}/api/v1/predict/tiny",
        content=body,
        headers={"content-type": "application/vnd.apache.parquet"},
        timeout=60,
    )
    assert answer.status_code in {200, 422}
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_row_group_that_unpacks_to_far_more_is_read_in_pieces(client, server, tmp_path):
    path = tmp_path / "bomb.parquet"
    write_bomb(path)
    assert path.stat().st_size < 2**20
    job = client.submit_job("tiny", path).id
    until(lambda: client.job(job).rows_done >= 20_000)
    client.cancel_job(job)
    answer = httpx.post(
        f"{server.url}/api/v1/predict/tiny",
        content=path.read_bytes(),
        headers={"content-type": "application/vnd.apache.parquet"},
    )
    assert "rows, at most 100000" in answer.json()["detail"]


def test_hostile_lines_fail_alone(client, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,2\n"x\n\n\xff,1\n1,nan\n\0,1\n,\n1,2,3\n"3",4\n')
    found = ended(client, client.submit_job("tiny", path).id)
    assert found.state == "succeeded"
    good = [json.loads(line) for line in client.job_result(found.id).splitlines() if b"error" not in line]
    assert good[0] == {"row": 0, "prediction": [3.0]}
    assert found.rows_failed == found.rows_done - len(good)
