"""Invalidation reaches every process through the snapshot, by version or by model, and is written down."""

import json

import pytest
from sqlalchemy import select

from crossfade.core.clock import utc_now
from crossfade.errors import ModelNotFoundError, VersionNotFoundError
from crossfade.registry.requests import ProcessStatus
from crossfade.storage.tables import audit
from crossfade.traffic import invalidation as module
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.invalidation import AnswerInvalidation
from crossfade.traffic.snapshot import SnapshotSource
from tests.traffic.support import FAST, move, publish_all


@pytest.fixture
def fleet(database):
    return Fleet(database, FAST)


@pytest.fixture
def invalidation(registry, database, fleet):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    publish_all(registry, "other", "1.0.0")
    move(registry, "churn", "1.1.0")
    return AnswerInvalidation(registry, database, fleet)


@pytest.fixture
def source(registry, database):
    return SnapshotSource(registry.backend, database, keep_previous=1)


def generations(source, name="churn"):
    route = source.read(source.revision()).route(name)
    return [route.generation(version) for version in ("1.0.0", "1.1.0")]


def test_at_first_nothing_is_invalidated(invalidation, source):
    assert generations(source) == [0, 0]


@pytest.mark.parametrize("ref", ["churn:1.1.0", "churn@champion", "models:/churn/2"])
def test_one_version_is_invalidated(invalidation, source, ref):
    done = invalidation.invalidate(ref)
    assert (done.model, done.version, done.ref) == ("churn", "1.1.0", "churn:1.1.0")
    assert done.generation == source.revision()
    assert generations(source) == [0, done.generation]
    assert generations(source, "other") == [0, 0]


def test_a_bare_name_means_every_version(invalidation, source):
    first = invalidation.invalidate("churn:1.0.0").generation
    done = invalidation.invalidate("churn")
    assert (done.version, done.ref) == (None, "churn")
    assert generations(source) == [done.generation] * 2
    again = invalidation.invalidate("churn:1.0.0").generation
    assert generations(source) == [again, done.generation]
    assert first < done.generation < again


def test_followers_need_only_what_changed(invalidation, source, database):
    known = source.read(source.revision())
    done = invalidation.invalidate("churn")
    followed = source.follow(known, source.revision())
    assert followed.route("churn").generation("1.0.0") == done.generation
    assert followed.route("other") is known.route("other")
    assert followed == source.read(source.revision())


def test_who_and_why_is_in_the_audit_log(invalidation, database):
    invalidation.invalidate("churn", reason="the features were wrong", principal="ann")
    with database.read() as connection:
        entry = connection.execute(select(audit).order_by(audit.c.seq.desc())).first()
    assert (entry.action, entry.subject, entry.principal) == ("cache.invalidate", "churn", "ann")
    assert json.loads(entry.details) == {"reason": "the features were wrong"}


def test_a_rehearsal_changes_nothing(invalidation, source):
    before = source.revision()
    assert invalidation.invalidate("churn:1.0.0", dry_run=True).generation == 0
    assert source.revision() == before


@pytest.mark.parametrize(("ref", "error"), [("nothing", ModelNotFoundError), ("churn:9.9.9", VersionNotFoundError)])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_does_not_exist_is_refused(invalidation, ref, error, dry_run):
    with pytest.raises(error):
        invalidation.invalidate(ref, dry_run=dry_run)


def test_processes_that_follow_and_those_that_do_not_are_told(invalidation, fleet, monkeypatch):
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)
    now = utc_now()
    for name, revision in (("quick", 10**9), ("slow", 0)):
        fleet.report(ProcessStatus(name, name, 1, now, now, revision))
    done = invalidation.invalidate("churn")
    assert (done.processes, done.late) == (1, ("slow/1",))
