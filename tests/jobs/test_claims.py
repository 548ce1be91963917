"""Claims: one process works on a job, a dead one's job goes to another, and the dead one can do nothing to it."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from crossfade.jobs.claims import MOST_ATTEMPTS, Claims, LostClaimError, holder_of
from crossfade.storage.database import open_database
from crossfade.storage.tables import audit, blob_leases, changes, job_parts
from tests.jobs.conftest import SETTINGS
from tests.jobs.support import commit, put, request_for, submitted
from tests.traffic.support import publish_all


@pytest.fixture
def another(database_url, clock):
    """The claims of another process."""
    database = open_database(database_url)
    yield Claims(database, SETTINGS, clock)
    database.close()


def test_there_may_be_nothing_to_do(claims):
    assert claims.take() is None


def test_the_oldest_job_goes_first(store, registry, claims, another):
    made = [submitted(store, registry).id for _ in range(2)]
    assert claims.take().job == made[0]
    assert another.take().job == made[1]
    assert claims.take() is None


def test_a_claim_knows_how_far_the_job_is(store, registry, claims, clock):
    job = submitted(store, registry, ref="churn:1.0.1")
    clock.advance(100)
    claim = claims.take()
    assert (claim.job, claim.epoch, str(claim.pinned)) == (job.id, 1, "churn:1.0.1")
    assert (claim.rows_done, claim.input_bytes, claim.request.format) == (0, 8, "csv")
    assert claims.waited_seconds(claim) == 0, "the time in the queue is not the job's"
    assert store.find(job.id).state == "running"
    assert store.find(job.id).started_at == clock.now


def test_a_job_of_a_silent_process_goes_to_another(store, registry, claims, another, clock):
    job = submitted(store, registry)
    old = claims.take()
    commit(claims, registry, old, rows=2)
    clock.advance(29)
    assert another.take() is None
    clock.advance(1)
    new = another.take()
    assert (new.job, new.epoch, new.rows_done) == (job.id, 2, 2)
    assert claims.take() is None


def test_renewing_keeps_a_claim(store, registry, claims, another, clock):
    submitted(store, registry)
    claim = claims.take()
    for _ in range(5):
        clock.advance(20)
        claims.renew(claim)
        assert another.take() is None


def test_progress_keeps_a_claim_too(store, registry, claims, another, clock):
    submitted(store, registry)
    claim = claims.take()
    for row in range(5):
        clock.advance(20)
        commit(claims, registry, claim, row)
        assert another.take() is None


@pytest.mark.parametrize("deed", ["renew", "commit", "succeed", "fail", "give back"])
@pytest.mark.parametrize("lost_by", ["takeover", "cancel"])
def test_an_old_claim_can_do_nothing(store, registry, database, claims, another, clock, deed, lost_by):
    job = submitted(store, registry)
    old = claims.take()
    if lost_by == "takeover":
        clock.advance(31)
        commit(another, registry, another.take(), data=b"another's")
    else:
        store.cancel(job.id)
    before = store.find(job.id), parts(database), database.revision()
    deeds = {
        "renew": lambda: claims.renew(old),
        "commit": lambda: commit(claims, registry, old),
        "succeed": lambda: claims.succeed(old, put(registry, b"result"), 6),
        "fail": lambda: claims.fail(old, "no"),
        "give back": lambda: claims.give_back(old, "no", 0),
    }
    with pytest.raises(LostClaimError):
        deeds[deed]()
    assert (store.find(job.id), parts(database), database.revision()) == before


def parts(database):
    with database.read() as connection:
        return connection.execute(select(job_parts).order_by(job_parts.c.first_row)).all()


def test_progress_and_its_part_are_one_transaction(store, registry, database, claims):
    job = submitted(store, registry)
    claim = claims.take()
    digest = commit(claims, registry, claim, rows=5, failed=2)
    assert claims.parts(claim) == [digest]
    with pytest.raises(IntegrityError):  # the same rows again
        commit(claims, registry, claim, rows=5, failed=2)
    found = store.find(job.id)
    assert (found.rows_done, found.rows_failed, found.bytes_done) == (5, 2, 3)


def test_parts_are_in_the_order_of_rows(store, registry, claims):
    submitted(store, registry)
    claim = claims.take()
    digests = [commit(claims, registry, claim, first_row, rows=5) for first_row in (0, 5, 10, 15, 100)]
    assert claims.parts(claim) == digests


def test_committing_ends_the_protection_that_the_part_had(store, registry, database, claims):
    submitted(store, registry)
    claim = claims.take()
    registry.backend.lease_blobs([put(registry, b"part0")], holder_of(claim))
    commit(claims, registry, claim)
    with database.read() as connection:
        assert connection.execute(select(blob_leases)).all() == []


def test_holders_of_long_ids_differ_and_fit(store, registry, claims):
    submitted(store, registry, id="a" * 64)
    submitted(store, registry, id="a" * 63 + "b")
    holders = {holder_of(claims.take()), holder_of(claims.take())}
    assert len(holders) == 2
    assert all(8 <= len(holder) <= 64 for holder in holders)


def test_a_job_that_was_given_back_waits_and_then_goes_to_anybody(store, registry, claims, another, clock):
    job = submitted(store, registry)
    claims.give_back(claims.take(), "the version is not ready", 5)
    assert store.find(job.id).problem == "the version is not ready"
    assert (claims.take(), another.take()) == (None, None)
    clock.advance(5)
    claim = another.take()
    assert (claim.job, another.waited_seconds(claim)) == (job.id, 5)
    commit(another, registry, claim)
    assert store.find(job.id).problem == ""


def test_a_job_that_waits_does_not_hold_up_others(store, registry, claims):
    first, second = submitted(store, registry).id, submitted(store, registry).id
    claims.give_back(claims.take(), "not now", 5)
    assert claims.take().job == second
    assert store.find(first).state == "running"


def test_a_job_that_kills_its_processes_is_given_up(store, registry, claims, clock):
    job = submitted(store, registry)
    for _ in range(MOST_ATTEMPTS):
        assert claims.take().job == job.id
        clock.advance(31)
    assert claims.take() is None
    found = store.find(job.id)
    assert (found.state, found.problem) == ("failed", "5 processes in a row died after row 0, or hung")


@pytest.mark.parametrize("step", ["progress", "giving back"])
def test_whoever_gets_on_or_says_goodbye_did_not_die(store, registry, claims, clock, step):
    job = submitted(store, registry)
    for row in range(2 * MOST_ATTEMPTS):
        claim = claims.take()
        assert claim.job == job.id
        if step == "progress":
            commit(claims, registry, claim, row)
        else:
            claims.give_back(claim, "", 0)
        clock.advance(31)


def test_ends_are_recorded_with_a_revision_that_processes_follow(store, registry, database, claims):
    failing, succeeding = submitted(store, registry).id, submitted(store, registry).id
    claims.fail(claims.take(), "it cannot be read")
    claims.succeed(claims.take(), put(registry, b"r"), 1)
    assert (store.find(failing).problem, store.find(succeeding).problem) == ("it cannot be read", "")
    with database.read() as connection:
        ends = connection.execute(select(audit).where(audit.c.principal == "batch-jobs").order_by(audit.c.seq)).all()
        kinds = connection.execute(select(changes).where(changes.c.kind == "job").order_by(changes.c.revision)).all()
    assert [(row.action, row.subject) for row in ends] == [("job.failed", failing), ("job.succeeded", succeeding)]
    assert [row.model for row in kinds] == ["churn"] * 4


def test_progress_is_no_revision(store, registry, database, claims):
    submitted(store, registry)
    claim = claims.take()
    before = database.revision()
    commit(claims, registry, claim)
    claims.renew(claim)
    assert database.revision() == before


def test_whatever_a_model_has_said_ends_its_job(store, registry, claims):
    failing = submitted(store, registry).id
    claims.give_back(claims.take(), "later\0", 0)
    claims.fail(claims.take(), "bad\0 \ud800thing")
    assert (store.find(failing).state, store.find(failing).problem) == ("failed", "bad   thing")


def test_many_processes_share_the_jobs(store, registry, claims, database_url, clock):
    publish_all(registry, "other", "1.0.0")
    made = {submitted(store, registry, ref="other:1.0.0").id for _ in range(12)}
    taken, barrier = [], threading.Barrier(4)

    def work():
        database = open_database(database_url)
        mine = Claims(database, SETTINGS, clock)
        barrier.wait()
        while (claim := mine.take()) is not None:
            taken.append(claim.job)
            mine.fail(claim, "done")
        database.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 12
    assert set(taken) == made


def test_one_id_at_the_same_moment_makes_one_job(store, registry, database):
    request = request_for(registry)
    answers = []
    barrier = threading.Barrier(4)

    def submit():
        barrier.wait()
        answers.append(store.submit(request))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new for _, new in answers) == [False, False, False, True]
    assert {job.id for job, _ in answers} == {request.id}
    with database.read() as connection:
        submissions = connection.execute(select(audit).where(audit.c.action == "job.submit")).all()
    assert len(submissions) == 1
