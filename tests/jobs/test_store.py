"""What people do with jobs: submit, look, cancel, take the result."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from crossfade.errors import (
    AliasNotFoundError,
    BlobNotFoundError,
    InvalidJobError,
    InvalidNameError,
    InvalidPageError,
    JobConflictError,
    JobNotFoundError,
    MalformedRequestError,
    MissingExtraError,
    ModelNotFoundError,
    SignatureMismatchError,
    StillReferencedError,
    VersionNotFoundError,
)
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, job_parts, jobs
from tests.jobs.support import commit, put, request_for, submitted
from tests.traffic.support import move


@pytest.fixture
def database_url(sqlite_url):
    """The other database is what `test_claims.py` is about."""
    return sqlite_url


def actions(database):
    with database.read() as connection:
        verify_audit(connection)
        rows = connection.execute(select(audit).where(audit.c.action.startswith("job.")).order_by(audit.c.seq))
        return [(row.action, row.principal) for row in rows]


def test_a_job_is_pinned_to_the_version_of_its_moment(store, registry):
    job = submitted(store, registry)
    assert (job.model, job.version, job.ref, job.state) == ("churn", "1.0.0", "churn", "queued")
    move(registry, "churn", "1.0.1")
    assert store.find(job.id).version == "1.0.0"
    assert submitted(store, registry).version == "1.0.1"
    assert submitted(store, registry, ref="churn:1.0.0").version == "1.0.0"


def test_a_new_job_says_what_was_asked(store, registry, clock):
    job = submitted(store, registry, output="parquet", keep=("x",))
    assert job == store.find(job.id)
    assert (job.format, job.output, job.input_bytes) == ("csv", "parquet", 8)
    assert (job.rows_done, job.rows_failed, job.rows_per_second, job.bytes_done, job.problem) == (0, 0, 0.0, 0, "")
    assert (job.created_at, job.started_at, job.finished_at, job.kept_until) == (clock.now, None, None, None)
    assert (job.result, job.finished) == (None, False)


def test_asking_again_changes_nothing(store, registry, database):
    request = request_for(registry)
    first, new = store.submit(request, principal="ada")
    move(registry, "churn", "1.0.1")
    again, new_again = store.submit(request, principal="bob")
    assert (new, new_again) == (True, False)
    assert again == first, "it stays with the version that it was accepted with"
    assert actions(database) == [("job.submit", "ada")]


@pytest.mark.parametrize("change", [{"output": "parquet"}, {"format": "arrow"}])
def test_what_cannot_be_done_here_is_refused_at_once(store, registry, monkeypatch, change):
    monkeypatch.setattr("crossfade.serving.protocol.parquet.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        store.submit(request_for(registry, **change))
    assert store.submit(request_for(registry))[1]


def test_the_upload_is_not_part_of_what_was_asked(store, registry):
    request = request_for(registry, holder="a" * 20)
    job, _ = store.submit(request)
    again, new = store.submit(request_for(registry, id=request.id, holder="b" * 20))
    assert (again.id, new) == (job.id, False)


@pytest.mark.parametrize("change", [{"output": "csv"}, {"keep": ("x",)}, {"ref": "churn:1.0.0"}, {"chunk_rows": 7}])
def test_an_id_is_taken_by_what_was_asked_first(store, registry, change):
    job = submitted(store, registry)
    with pytest.raises(JobConflictError, match="was asked for something else"):
        submitted(store, registry, id=job.id, **change)


@dataclass
class Refused:
    change: dict
    error: type


@pytest.mark.parametrize(
    "case",
    [
        Refused({"id": "short"}, InvalidJobError),
        Refused({"id": "a/b/c/d/e"}, InvalidJobError),
        Refused({"id": "a" * 65}, InvalidJobError),
        Refused({"input_digest": "nonsense"}, InvalidJobError),
        Refused({"input_digest": "0" * 64}, BlobNotFoundError),
        Refused({"chunk_rows": -1}, InvalidJobError),
        Refused({"chunk_rows": 100_001}, InvalidJobError),
        Refused({"keep": ("a", "a")}, InvalidJobError),
        Refused({"keep": ("a", "row")}, InvalidJobError),
        Refused({"keep": ("error",)}, InvalidJobError),
        Refused({"keep": tuple(map(str, range(101)))}, InvalidJobError),
        Refused({"ref": "nothing"}, ModelNotFoundError),
        Refused({"ref": "churn:9.9.9"}, VersionNotFoundError),
        Refused({"ref": "churn@nobody"}, AliasNotFoundError),
        Refused({"probabilities": True}, SignatureMismatchError),
    ],
    ids=lambda case: str(case.change)[:40],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(store, registry, database, case):
    with pytest.raises(case.error):
        submitted(store, registry, **case.change)
    assert store.list().items == ()
    assert actions(database) == []


def test_a_rehearsal_leaves_nothing(store, registry, database):
    job, new = store.submit(request_for(registry, input_digest="0" * 64), dry_run=True)
    assert (job.version, new) == ("1.0.0", True)
    with pytest.raises(ModelNotFoundError):
        store.submit(request_for(registry, ref="nothing"), dry_run=True)
    assert store.list().items == ()
    assert actions(database) == []


@pytest.mark.parametrize("job", ["0" * 20, "", "\0" * 20, "x" * 1000, "../../etc/passwd", "²" * 20])
def test_a_job_that_does_not_exist(store, job):
    for ask in (store.find, store.cancel, store.open_result):
        with pytest.raises(JobNotFoundError):
            ask(job)


# --- lists -----------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_in_pages(store, registry):
    made = [submitted(store, registry).id for _ in range(5)]
    first = store.list(limit=2)
    second = store.list(limit=2, cursor=first.next_cursor)
    third = store.list(limit=2, cursor=second.next_cursor)
    listed = [job.id for page in (first, second, third) for job in page.items]
    assert listed == made[::-1]
    assert third.next_cursor == ""


def test_jobs_are_listed_by_model_and_state(store, registry):
    kept, cancelled = submitted(store, registry).id, submitted(store, registry).id
    store.cancel(cancelled)
    assert [job.id for job in store.list(state="cancelled").items] == [cancelled]
    assert [job.id for job in store.list(model="churn", state="queued").items] == [kept]
    assert store.list(model="another").items == ()


def test_pages_that_make_no_sense(store):
    for wrong in ({"limit": 0}, {"limit": 1001}, {"cursor": "nonsense"}, {"cursor": "bW9kZWxzOmE="}):
        with pytest.raises(InvalidPageError):
            store.list(**wrong)
    with pytest.raises(InvalidNameError):
        store.list(model="\0")


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_is_final_and_recorded(store, registry, database, claims, clock):
    job = submitted(store, registry)
    claim = claims.take()
    commit(claims, registry, claim)
    clock.advance(5)
    done = store.cancel(job.id, reason="the wrong file", principal="ada")
    assert (done.state, done.problem, done.finished_at) == ("cancelled", "the wrong file", clock.now)
    assert store.cancel(job.id, reason="again", principal="bob") == done
    assert actions(database) == [("job.submit", "local"), ("job.cancelled", "ada")]
    with database.read() as connection:
        assert connection.execute(select(job_parts)).all() == []


def test_rehearsing_a_cancellation_changes_nothing(store, registry):
    job = submitted(store, registry)
    assert store.cancel(job.id, dry_run=True).state == "queued"
    assert store.find(job.id).state == "queued"


def test_what_has_ended_cannot_be_cancelled(store, registry, claims):
    job = submitted(store, registry)
    claims.fail(claims.take(), "no")
    with pytest.raises(JobConflictError, match="has failed already"):
        store.cancel(job.id)
    with pytest.raises(JobConflictError, match="has failed already"):
        store.cancel(job.id, dry_run=True)


def test_reasons_that_cannot_be_kept_are_refused(store, registry):
    job = submitted(store, registry)
    for reason in ("\0", "x" * 100_000, "\ud800"):
        with pytest.raises(MalformedRequestError):
            store.cancel(job.id, reason=reason)
    assert store.find(job.id).state == "queued"


# --- results ---------------------------------------------------------------------------------------------------------


def test_a_result_is_there_when_the_job_has_succeeded(store, registry, claims, clock):
    job = submitted(store, registry, output="csv")
    with pytest.raises(JobConflictError, match="it is queued"):
        store.open_result(job.id)
    claim = claims.take()
    commit(claims, registry, claim, rows=3, failed=1)
    digest = put(registry, b"the result")
    claims.succeed(claim, digest, 10)
    found, result, stream = store.open_result(job.id)
    with stream:
        assert stream.read() == b"the result"
    assert (result.digest, result.size_bytes, result.media_type) == (digest, 10, "text/csv")
    assert (found.state, found.rows_done, found.rows_failed, found.rows_per_second) == ("succeeded", 3, 1, 6.0)
    assert found.bytes_done == found.input_bytes
    assert (found.kept_until - found.finished_at).total_seconds() == 1000


def test_a_result_that_was_let_go_of_is_explained(store, registry, claims, clock):
    job = submitted(store, registry)
    claims.succeed(claims.take(), put(registry, b"r"), 1)
    clock.advance(1001)
    assert claims.sweep() == 1
    assert store.find(job.id).result is None
    with pytest.raises(JobConflictError, match="its time is over"):
        store.open_result(job.id)
    assert claims.sweep() == 0


def test_a_result_whose_file_is_gone_is_explained(store, registry, claims):
    job = submitted(store, registry)
    digest = put(registry, b"r")
    claims.succeed(claims.take(), digest, 1)
    registry.backend.blobs.delete(digest)
    with pytest.raises(JobConflictError, match="the file is missing"):
        store.open_result(job.id)


# --- what a job holds on to ------------------------------------------------------------------------------------------


def test_a_version_with_an_unfinished_job_cannot_be_deleted(store, registry):
    job = submitted(store, registry, ref="churn:1.0.1")
    with pytest.raises(StillReferencedError, match=job.id):
        registry.delete("churn:1.0.1")
    store.cancel(job.id)
    registry.delete("churn:1.0.1")
    assert store.find(job.id).version == "1.0.1", "the record stays"


def test_garbage_collection_spares_what_jobs_need(store, registry, claims, clock, database):
    collect = registry.backend.collect_garbage
    job = submitted(store, registry, b"x\n1\n")
    lonely = put(registry, b"nobody needs this")
    blobs = registry.backend.blobs
    claim = claims.take()
    part = commit(claims, registry, claim)
    clock.advance(10)

    def collected():
        collect(grace_seconds=0.000001)
        clock.advance(10)
        collect(grace_seconds=0.000001)

    with database.write() as connection:  # the clock of the file system is the real one
        connection.execute(jobs.update().values(lease_until="9999-01-01T00:00:00.000000Z"))
    clock.now = clock.now.replace(year=2100)
    collected()
    assert blobs.find(job.input_digest)
    assert blobs.find(part)
    assert blobs.find(lonely) is None
    result = put(registry, b"result")
    claims.succeed(claim, result, 6)
    collected()
    assert blobs.find(result)
    assert blobs.find(job.input_digest)
    assert blobs.find(part) is None, "the result has it all"
    clock.advance(2000)
    claims.sweep()
    collected()
    assert blobs.find(result) is None
    assert blobs.find(job.input_digest) is None
