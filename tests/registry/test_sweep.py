"""Deleting without the database's lock: what others may do meanwhile, and what a collection that dies leaves behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from crossfade.core.clock import utc_now
from crossfade.errors import BlobsUnavailableError, UnavailableError
from crossfade.registry import native, registration
from crossfade.registry.registry import Registry
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import blob_leases
from crossfade.testing.drafts import publish
from tests.registry import toy
from tests.registry.support import open_backend
from tests.registry.toy import Linear

ALWAYS = RegistrySettings(lease_seconds=1e-9)
"""Renews leases with every chunk of an upload."""


class Watched(FolderBlobStore):
    """Runs something whenever it is asked for a blob, or to delete one."""

    before = staticmethod(lambda operation: None)

    def find(self, digest):
        self.before("find")
        return super().find(digest)

    def delete(self, digest):
        self.before("delete")
        return super().delete(digest)


@pytest.fixture
def later():
    return [timedelta()]


@pytest.fixture
def backend(tmp_path, database_url, later):
    toy.install()
    backend = open_backend(tmp_path, database_url, clock=lambda: utc_now() + later[0])
    backend._blobs = Watched(tmp_path / "blobs")
    yield backend
    with backend.database.read() as connection:
        verify_audit(connection)
    backend.database.close()


def put(backend, *contents):
    return [backend.blobs.put([data], limit_bytes=100).digest for data in contents]


def holders(backend):
    with backend.database.read() as connection:
        return set(connection.scalars(blob_leases.select().with_only_columns(blob_leases.c.holder)))


def test_nobody_asks_the_store_while_holding_the_lock_of_the_database(backend):
    asked = []

    def write(operation):
        asked.append(operation)

        def somebody_else():
            with backend.database.write():
                pass

        other = threading.Thread(target=somebody_else, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), operation

    put(backend, b"loose")
    backend.blobs.before = write
    publish(backend, "churn", "1.0.0")
    assert backend.collect_garbage(grace_seconds=0) == (1, 5)
    assert set(asked) == {"find", "delete"}
    assert holders(backend) == set()


def test_whoever_needs_a_blob_that_is_being_deleted_waits_and_finds_it_gone(backend):
    [digest] = put(backend, b"loose")
    found = []

    def rely_on_it():
        backend.lease_blobs([digest], "upload")
        found.append(backend.blobs.find(digest))

    rival = threading.Thread(target=rely_on_it)

    def begin(operation):
        if operation == "delete":
            rival.start()
            rival.join(0.3)
            assert rival.is_alive()

    backend.blobs.before = begin
    assert backend.collect_garbage(grace_seconds=0) == (1, 5)
    rival.join()
    assert found == [None]
    assert holders(backend) == {"upload"}


def test_a_collection_that_broke_off_keeps_its_claim_until_no_deletion_can_be_under_way(backend, later, monkeypatch):
    first, second = sorted(put(backend, b"one", b"two"))

    def break_off(operation):
        if operation == "delete" and backend.blobs.find(first) is None:
            raise BlobsUnavailableError(problem="the answer was lost")

    backend.blobs.before = break_off
    with pytest.raises(BlobsUnavailableError):
        backend.collect_garbage(grace_seconds=0)
    backend.blobs.before = Watched.before
    monkeypatch.setattr(native, "_SWEEP_SECONDS", 0.1)
    with pytest.raises(UnavailableError, match="try again in two minutes"):
        backend.lease_blobs([second], "upload")
    with backend.database.read() as connection:
        [details] = connection.exec_driver_sql("SELECT details FROM audit WHERE action = 'blobs.collect'").scalars()
    assert first in details
    assert second not in details
    later[0] = timedelta(seconds=131)
    backend.lease_blobs([second], "upload")
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)
    backend.release_blobs("upload")
    assert backend.collect_garbage(grace_seconds=0) == (1, 3)


def test_a_slow_store_ends_a_sweep_before_its_claim_runs_out(backend, later):
    put(backend, b"one", b"two")

    def be_slow(operation):
        if operation == "delete":
            later[0] += timedelta(seconds=11)

    backend.blobs.before = be_slow
    assert backend.collect_garbage(grace_seconds=0) == (1, 3)
    assert holders(backend) == set()
    assert backend.collect_garbage(grace_seconds=0) == (1, 3)


# --- leases during long uploads ------------------------------------------------------------------------------------


def slowly(later, *pieces, each=timedelta(minutes=50)):
    """Yield pieces; a long time goes by after each."""
    for piece in pieces:
        yield piece
        later[0] += each


def test_a_long_upload_keeps_what_its_registration_relies_on(backend, later):
    registry = Registry(backend, ALWAYS)
    [old] = put(backend, b"old")
    backend.lease_blobs([old], "upload")
    registry.store_blob(slowly(later, b"a", b"b", b"c", b"d"), None, "upload")
    backend.collect_garbage(grace_seconds=0)
    assert backend.blobs.find(old) is not None
    later[0] += timedelta(minutes=70)
    backend.collect_garbage(grace_seconds=0)
    assert backend.blobs.find(old) is None


def test_every_file_of_an_upload_renews_the_lease_of_the_others(backend, later):
    registry = Registry(backend)
    digests = put(backend, b"one", b"two", b"three")
    backend.lease_blobs(digests, "upload")
    for digest, data in zip(digests, (b"one", b"two", b"three"), strict=True):
        registry.store_blob([data], digest, "upload")
        later[0] += timedelta(minutes=50)
    assert backend.collect_garbage(grace_seconds=0) == (0, 0)


def test_a_lease_that_ran_out_is_not_revived_by_renewing(backend, later):
    [digest] = put(backend, b"old")
    backend.lease_blobs([digest], "upload")
    later[0] = timedelta(minutes=70)
    backend.lease_blobs((), "upload")
    assert backend.collect_garbage(grace_seconds=0) == (1, 3)


def test_a_local_registration_of_a_large_file_keeps_its_blobs(backend, later, monkeypatch):
    chunks = registration._chunks_of

    def slow(content):
        yield from slowly(later, *chunks(content))
        backend.collect_garbage(grace_seconds=0)
        yield b""

    monkeypatch.setattr(registration, "_chunks_of", slow)
    registry = Registry(backend, ALWAYS)
    model = Linear((1.0, 2.0))
    example = [{"x0": 1.0, "x1": 2.0}]
    found = registry.register("churn", model, preprocessor=Linear((1.0, 1.0)), example=example)
    assert registry.verify(found.ref).files == 4


# --- interrupted uploads -------------------------------------------------------------------------------------------


def test_what_a_killed_upload_left_behind_is_collected_a_day_later(backend, later):
    root = backend.blobs.root
    program = (
        "import sys, time; from pathlib import Path; from crossfade.storage.blobs.folder import FolderBlobStore\n"
        "def chunks():\n    yield b'x' * 100_000\n    print('begun', flush=True)\n    time.sleep(60)\n"
        f"FolderBlobStore(Path({str(root)!r})).put(chunks(), limit_bytes=10**9)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as upload:
        assert upload.stdout.readline() == "begun\n"
        upload.kill()
    backend.collect_garbage(grace_seconds=0)
    assert len(list((root / "tmp").iterdir())) == 1, "it could still be under way"
    later[0] = timedelta(days=1, seconds=1)
    backend.collect_garbage(grace_seconds=0, dry_run=True)
    assert len(list((root / "tmp").iterdir())) == 1
    backend.collect_garbage(grace_seconds=0)
    assert list((root / "tmp").iterdir()) == []
