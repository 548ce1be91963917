"""What the outside world does to files: full disks, lost and changed blobs. Nothing is half done, nothing silent."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from crossfade.errors import BlobsUnavailableError, CorruptBlobError, StorageFullError
from crossfade.registry.registry import Registry
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.changes import verify_audit
from crossfade.storage.filesystem import LocalFileSystem
from tests.registry.support import open_backend
from tests.registry.toy import Linear

ROWS = [{"x0": 1.0, "x1": 2.0}, {"x0": 3.0, "x1": 4.0}]
MODEL = Linear((1.0, 2.0))


class SmallDisk(LocalFileSystem):
    """A disk with room for so many bytes."""

    def __init__(self, room, error=errno.ENOSPC):
        super().__init__()
        self.room = room
        self.error = error

    def write(self, handle, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(self.error, "no room")
        super().write(handle, data)


def register(registry, **options):
    return registry.register("churn", MODEL, example=ROWS, **options)


def temporary_files(backend):
    return list((backend.blobs.root / "tmp").iterdir())


@pytest.mark.parametrize("room", [0, 10, 100, 250, 600])
def test_a_disk_that_fills_up_while_uploading_registers_nothing(registry, tmp_path, room):
    backend = registry.backend
    disk = SmallDisk(room)
    backend._blobs = FolderBlobStore(tmp_path / "blobs", disk)
    with pytest.raises(StorageFullError, match="no space left in"):
        register(registry)
    assert registry.list_models().items == ()
    assert temporary_files(backend) == []
    disk.room = 10**6
    assert registry.verify(register(registry).ref).golden_rows == 2


def test_a_broken_disk_is_not_called_a_full_one(registry, tmp_path):
    registry.backend._blobs = FolderBlobStore(tmp_path / "blobs", SmallDisk(10, errno.EIO))
    with pytest.raises(BlobsUnavailableError):
        register(registry)


def fill(registry):
    for number in range(200):  # there is some room in pages that exist
        registry.register("churn", Linear((1.0, 2.0), number + 1.0), example=ROWS, description="x" * 4000)


def test_a_database_that_is_full_registers_nothing_and_recovers(registry):
    database = registry.backend.database

    def limit(pages):
        with database.write() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    register(registry)
    limit(1)
    with pytest.raises(StorageFullError):
        fill(registry)
    limit(2**30)
    for version in registry.list_versions("churn", limit=1000).items:
        registry.verify(version.ref)
    assert registry.verify(register(registry, version="2.0.0").ref).files == 3
    with database.read() as connection:
        verify_audit(connection)


def path_of(registry, path):
    digest = next(e.digest for e in registry.manifest("churn:1.0.0").files if e.path == path)
    return registry.backend.blobs.root / "sha256" / digest[:2] / digest


def lose(path):
    path.unlink()


def change(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def truncate(path):
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [lose, change, truncate])
@pytest.mark.parametrize("file", ["model.toy", "preprocessor/model.toy", "golden.json", "card.json"])
def test_a_harmed_blob_is_refused_named_and_restored_by_registering_again(registry, harm, file):
    options = {"preprocessor": Linear((1.0, 1.0))}
    register(registry, **options)
    harm(path_of(registry, file))
    with pytest.raises(CorruptBlobError) as caught:
        registry.verify("churn:1.0.0")
    assert file in str(caught.value)
    assert "churn:1.0.0" in str(caught.value)
    if "model" in file:
        with pytest.raises(CorruptBlobError, match=file):
            registry.load("churn:1.0.0")
    if file == "card.json":
        with pytest.raises(CorruptBlobError, match=file):
            registry.card("churn:1.0.0")
    assert register(registry, **options).version == "1.0.0"
    assert registry.verify("churn:1.0.0").files == 4


@pytest.mark.parametrize("harm", [lose, change, truncate])
def test_a_harmed_manifest_is_refused_named_and_restored_by_registering_again(registry, harm):
    digest = register(registry).manifest_digest
    harm(registry.backend.blobs.root / "sha256" / digest[:2] / digest)
    for ask in (registry.load, registry.manifest, registry.verify):
        with pytest.raises(CorruptBlobError, match=r"manifest\.json of `churn:1\.0\.0`"):
            ask("churn:1.0.0")
    register(registry, version="1.0.0")
    assert registry.verify("churn:1.0.0").files == 3


def test_a_lost_file_is_named_when_it_is_opened(registry):
    register(registry)
    lose(path_of(registry, "model.toy"))
    with pytest.raises(CorruptBlobError, match="missing"):
        registry.open_file("churn:1.0.0", "model.toy")


def test_publishing_what_was_changed_on_disk_is_refused(registry, tmp_path):
    register(registry)
    change(path_of(registry, "model.toy"))
    manifest = registry.manifest("churn:1.0.0")
    registry.delete("churn:1.0.0")
    with pytest.raises(CorruptBlobError, match=r"model\.toy"):
        registry.publish(manifest)


def test_another_registry_on_the_same_files_sees_the_same(registry, tmp_path):
    register(registry)
    other = Registry(open_backend(tmp_path))
    answer = other.load("churn:1.0.0").predict({"x0": np.array([1.0]), "x1": np.array([1.0])}, frozenset({"predict"}))
    assert answer["predict"].tolist() == [3.0]
    other.backend.database.close()
