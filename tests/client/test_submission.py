"""Submitting from afar: what is sent, in which order, without a server."""

import hashlib

import pytest

from crossfade.client.submission import SUFFIXES, job_request, rehearsal, submission
from crossfade.errors import MalformedRequestError
from crossfade.jobs.records import JobRequest
from crossfade.registry.requests import Upload

CONTENT = b"a,b\n1,2\n"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.CSV"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("missing", [True, False])
def test_a_file_is_sent_only_when_it_is_missing(rows, missing):
    digest, told = hashlib.sha256(CONTENT).hexdigest(), []
    steps = submission("churn", rows, lambda done, total: told.append((done, total)), {})
    upload = next(steps)
    assert (upload.path, upload.body.digests) == ("/api/v1/uploads", (digest,))
    call = steps.send(Upload(upload.body.holder, (digest,) if missing else ()))
    if missing:
        assert (call.method, call.path) == ("PUT", f"/api/v1/blobs/{digest}")
        assert call.params == {"holder": upload.body.holder}
        assert b"".join(call.pieces()) == CONTENT
        call = steps.send(None)
    assert told == ([(8, 8)] if missing else [])
    assert call.path == "/api/v1/jobs"
    assert call.body.holder == upload.body.holder
    assert call.repeatable, "its id makes that safe"
    with pytest.raises(StopIteration) as end:
        steps.send("the job")
    assert end.value.value == "the job"


def test_options_have_defaults(rows):
    request = job_request("churn", rows, {})
    assert isinstance(request, JobRequest)
    assert (request.format, request.output, request.probabilities) == ("csv", "jsonl", False)
    assert (request.keep, request.chunk_rows, request.holder) == ((), 0, "")
    assert request.id != job_request("churn", rows, {}).id


def test_options_are_handed_on(rows):
    options = {
        "format": "jsonl",
        "output": "csv",
        "probabilities": True,
        "keep": ["a"],
        "chunk_rows": 7,
        "id": "my-job-1",
    }
    request = job_request("churn", rows, options)
    assert (request.id, request.format, request.output, request.keep) == ("my-job-1", "jsonl", "csv", ("a",))
    assert (request.probabilities, request.chunk_rows) == (True, 7)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_tell_formats(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.touch()
    assert job_request("churn", path, {}).format == SUFFIXES[suffix]


def test_a_name_that_tells_nothing(tmp_path):
    path = tmp_path / "rows"
    path.touch()
    with pytest.raises(MalformedRequestError, match="does not tell its format"):
        job_request("churn", path, {})
    assert job_request("churn", path, {"format": "arrow"}).format == "arrow"


def test_a_rehearsal_sends_no_file(rows):
    call = rehearsal("churn", rows, {})
    assert (call.path, call.params) == ("/api/v1/jobs", {"dry_run": True})
