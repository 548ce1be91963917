"""Garbage collection beside registrations that need the very bytes it is about to delete."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from crossfade.core.clock import utc_now
from crossfade.errors import CorruptBlobError
from crossfade.registry import garbage, publication
from crossfade.registry.registry import Registry
from crossfade.registry.versions import Card
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import blob_candidates, blob_leases
from crossfade.storage.times import to_text
from crossfade.testing.drafts import STAGE, draft, leased, publish, store
from tests.registry import toy
from tests.registry.support import open_backend, toy_manifest
from tests.registry.toy import Linear

DAY = 86_400.0


class Interrupted(FolderBlobStore):
    """Runs something at the worst moment: right before a blob is deleted."""

    at_delete = staticmethod(lambda: None)

    def delete(self, digest):
        self.at_delete()
        return super().delete(digest)


@pytest.fixture
def later():
    return [timedelta()]


@pytest.fixture
def backend(tmp_path, later):
    backend = open_backend(tmp_path, clock=lambda: utc_now() + later[0])
    yield backend
    backend.database.close()


def put(backend, data=b"loose"):
    return backend.blobs.put([data], limit_bytes=100).digest


def marks(backend):
    with backend.database.read() as connection:
        return sorted(connection.scalars(blob_candidates.select().with_only_columns(blob_candidates.c.digest)))


def test_a_blob_is_marked_first_and_deleted_a_grace_period_later(backend, later):
    digest = put(backend)
    later[0] = timedelta(days=2)
    assert backend.collect_garbage(grace_seconds=DAY, dry_run=True) == (0, 0)
    assert marks(backend) == []
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    assert marks(backend) == [digest]
    later[0] = timedelta(days=3, seconds=1)
    assert backend.collect_garbage(grace_seconds=DAY, dry_run=True) == (1, 5)
    assert backend.collect_garbage(grace_seconds=DAY) == (1, 5)
    assert (marks(backend), backend.blobs.find(digest)) == ([], None)


def test_a_blob_that_was_stored_again_is_young_again(backend, later):
    digest = put(backend)
    backend.collect_garbage(grace_seconds=DAY)
    later[0] = timedelta(days=1, seconds=1)
    stored_at = utc_now() + timedelta(seconds=60)
    path = backend.blobs.root / "sha256" / digest[:2] / digest
    os.utime(path, (stored_at.timestamp(), stored_at.timestamp()))
    assert marks(backend) == [digest]
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    later[0] = timedelta(days=1, seconds=61)
    assert backend.collect_garbage(grace_seconds=DAY) == (1, 5)


def test_a_lease_spares_a_blob_and_starts_the_grace_period_again(backend, later):
    digest = put(backend)
    backend.collect_garbage(grace_seconds=DAY)
    later[0] = timedelta(days=2)
    backend.lease_blobs([digest, digest], "upload")
    backend.lease_blobs([digest], "upload")
    assert marks(backend) == []
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    later[0] += timedelta(hours=2)  # the lease has run out, but nobody saw the blob unreferenced before now
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    assert marks(backend) == [digest]
    with backend.database.read() as connection:
        assert connection.execute(blob_leases.select()).all() == []
    later[0] += timedelta(days=1, seconds=1)
    assert backend.collect_garbage(grace_seconds=DAY) == (1, 5)


def test_a_reference_spares_a_blob_and_starts_the_grace_period_again(backend, later):
    manifest = draft("churn", "1.0.0")
    store(backend, manifest)
    backend.collect_garbage(grace_seconds=DAY)
    assert len(marks(backend)) == 3
    with leased(backend, manifest):
        backend.publish(manifest, Card(), stage=STAGE, principal="ann")
    assert marks(backend) == []
    later[0] = timedelta(days=9)
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    backend.delete_version("churn", "1.0.0", principal="ann", reason="")
    assert backend.collect_garbage(grace_seconds=DAY) == (0, 0)
    later[0] += timedelta(days=1, seconds=1)
    assert backend.collect_garbage(grace_seconds=DAY)[0] == 3


def test_more_blobs_than_one_batch_holds_are_all_collected_and_audited(backend, monkeypatch):
    monkeypatch.setattr(garbage, "_MARKED_AT_ONCE", 7)
    monkeypatch.setattr(garbage, "_SWEPT_AT_ONCE", 3)
    digests = {put(backend, b"%d" % number) for number in range(20)}
    kept = publish(backend, "churn", "1.0.0")
    assert backend.collect_garbage(grace_seconds=0, dry_run=True)[0] == 20
    assert backend.collect_garbage(grace_seconds=0)[0] == 20
    assert not digests & {blob.digest for blob in backend.blobs.list()}
    assert backend.manifest(kept).version == "1.0.0"
    with backend.database.read() as connection:
        assert verify_audit(connection) > 1
        text = connection.exec_driver_sql("SELECT details FROM audit WHERE action = 'blobs.collect'").scalars().all()
    assert all(any(digest in line for line in text) for digest in digests)


def test_a_mark_that_vanished_since_the_scan_spares_the_blob(backend, monkeypatch):
    digest = put(backend)
    ripe = garbage._ripe

    def leased_and_released_meanwhile(*arguments):
        found = ripe(*arguments)
        backend.lease_blobs([digest], "quick")
        backend.release_blobs("quick")
        return found

    monkeypatch.setattr(garbage, "_ripe", leased_and_released_meanwhile)
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)
    assert backend.blobs.find(digest) is not None


def test_a_blob_stored_again_since_the_scan_is_spared(backend, monkeypatch):
    digest = put(backend)
    path = backend.blobs.root / "sha256" / digest[:2] / digest
    ripe = garbage._ripe

    def stored_meanwhile(*arguments):
        found = ripe(*arguments)
        os.utime(path, (utc_now().timestamp() + 60,) * 2)
        return found

    monkeypatch.setattr(garbage, "_ripe", stored_meanwhile)
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)
    assert backend.blobs.find(digest) is not None


def test_a_reference_that_left_the_mark_in_place_spares_the_blob_all_the_same(backend, monkeypatch):
    digest = put(backend)
    ripe = garbage._ripe

    def leased_by_other_means(*arguments):
        found = ripe(*arguments)
        with backend.database.write() as connection:
            row = {"digest": digest, "holder": "restored", "expires_at": to_text(utc_now() + timedelta(days=1))}
            connection.execute(blob_leases.insert(), row)
        return found

    monkeypatch.setattr(garbage, "_ripe", leased_by_other_means)
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)
    assert backend.blobs.find(digest) is not None


def test_a_publication_leases_what_it_relies_on(registry, monkeypatch):
    built, contents = toy_manifest("churn", "1.0.0", Linear((1.0,)))
    for data in contents:
        registry.backend.blobs.put([data], limit_bytes=1000)
    inspect = publication.inspect_version

    def collected_meanwhile(*arguments):
        assert registry.backend.collect_garbage(grace_seconds=0) == (0, 0)
        return inspect(*arguments)

    monkeypatch.setattr(publication, "inspect_version", collected_meanwhile)
    assert registry.publish(built)[1]


def test_a_blob_that_somebody_else_deleted_is_not_counted(backend, monkeypatch):
    digest = put(backend)
    ripe = garbage._ripe

    def deleted_meanwhile(*arguments):
        found = ripe(*arguments)
        backend.blobs.delete(digest)
        return found

    monkeypatch.setattr(garbage, "_ripe", deleted_meanwhile)
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)


def test_a_registration_that_starts_while_its_bytes_are_deleted_restores_them(tmp_path, database_url):
    toy.install()
    backend = open_backend(tmp_path, database_url)
    backend._blobs = Interrupted(tmp_path / "blobs")
    registry = Registry(backend)
    model = Linear((1.0, 2.0))
    registry.register("churn", model, signature=model.signature())
    registry.delete("churn:1.0.0")
    done = []

    def register():
        done.append(registry.register("churn", model, signature=model.signature()))

    rival = threading.Thread(target=register)
    backend.blobs.at_delete = lambda: rival.ident or rival.start()
    count, _ = backend.collect_garbage(grace_seconds=0)
    rival.join()
    assert count == 3
    assert registry.verify(done[0].ref).files == 2
    backend.database.close()


def test_a_publication_whose_bytes_were_deleted_first_is_refused(backend):
    """Without a lease, and against a grace period of nothing, the publication itself is the last line."""
    manifest = draft("churn", "1.0.0")
    store(backend, manifest)
    backend.collect_garbage(grace_seconds=0)
    with pytest.raises(CorruptBlobError):
        backend.publish(manifest, Card(), stage=STAGE, principal="ann")


def test_collecting_without_any_grace_never_breaks_a_registration(tmp_path, database_url):
    toy.install()
    backend = open_backend(tmp_path, database_url)
    registry = Registry(backend)
    stop = threading.Event()

    def collect():
        other = open_backend(tmp_path, database_url)
        while not stop.is_set():
            other.collect_garbage(grace_seconds=0)
        other.database.close()

    def come_and_go(worker):
        for turn in range(6):
            # two workers share each content, so that one deletes what the other is about to rely on
            model = Linear((1.0,), float(turn + 10 * (worker // 2)))
            ref = registry.register(f"model_{worker}", model, signature=model.signature(), version=f"1.0.{turn}").ref
            assert registry.load(ref).model.model == model
            if turn % 2:
                registry.delete(ref)

    with ThreadPoolExecutor(5) as pool:
        collector = pool.submit(collect)
        try:
            list(pool.map(come_and_go, range(4)))
        finally:
            stop.set()
        collector.result()
    backend.collect_garbage(grace_seconds=0)
    for worker in range(4):
        for version in registry.list_versions(f"model_{worker}").items:
            registry.verify(version.ref)
    backend.database.close()
