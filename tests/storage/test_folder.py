"""What is particular to the folder blob store; what every store promises is in `crossfade.testing.blobs`."""

import errno
import hashlib
import io
import itertools
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crossfade.errors import BlobsUnavailableError, CrossfadeError, StorageFullError
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.filesystem import LocalFileSystem
from tests.storage.test_database import small_disk

LIMIT = 10_000_000


@pytest.fixture
def store(tmp_path):
    return FolderBlobStore(tmp_path / "some" / "blobs")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(store, data: bytes) -> str:
    return store.put([data], limit_bytes=LIMIT).digest


# --- layout and permissions


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_folders_are_for_the_owner_and_blobs_are_read_only(tmp_path, mask):
    before = os.umask(mask)
    try:
        store = FolderBlobStore(tmp_path / "some" / "blobs")
        digest = put(store, b"hello")
    finally:
        os.umask(before)
    blob = store.root / "sha256" / digest[:2] / digest
    assert blob.read_bytes() == b"hello"
    assert mode(blob) == 0o444
    folders = [store.root.parent, store.root, store.root / "tmp", store.root / "sha256", blob.parent]
    assert {mode(folder) for folder in folders} == {0o700}


def test_bytes_under_way_are_for_the_owner_only(store):
    seen = []

    def chunks():
        yield b"first"
        (temporary,) = (store.root / "tmp").iterdir()
        seen.append((mode(temporary), temporary.read_bytes()))

    store.put(chunks(), limit_bytes=LIMIT)
    assert seen == [(0o600, b"first")]


def test_a_temporary_name_that_is_taken_is_not_written_to(store, monkeypatch, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("crossfade.storage.blobs.folder.secrets.token_hex", lambda _: "guessed")
    (store.root / "tmp" / "guessed").symlink_to(victim)
    with pytest.raises(BlobsUnavailableError):
        put(store, b"attack")
    assert victim.read_text() == "mine"


def test_two_stores_share_a_folder(store):
    other = FolderBlobStore(store.root)
    digest = put(store, b"shared")
    assert other.read(digest) == b"shared"
    assert put(other, b"shared") == digest
    assert other.delete(digest)
    assert store.find(digest) is None
    assert put(store, b"shared") == digest


def test_what_else_lies_in_the_folder_is_not_listed(store):
    digest = put(store, b"blob")
    shard = store.root / "sha256" / digest[:2]
    (shard / "notes.txt").write_text("x")
    (shard / digest.upper()).write_text("x")
    (shard / (digest[:-1] + "0" + ".bak")).write_text("x")
    (store.root / "sha256" / "README").write_text("x")
    misplaced = store.root / "sha256" / "zz"
    misplaced.mkdir()
    (misplaced / digest).write_text("x")
    assert [blob.digest for blob in store.list()] == [digest]


def test_a_blob_that_vanishes_while_listing_is_left_out(store):
    for number in range(20):
        put(store, str(number).encode())
    listing = store.list()
    first = next(listing)
    for path in (store.root / "sha256").glob("*/*"):
        path.unlink()
    assert list(listing) == []
    assert store.find(first.digest) is None


def test_storing_what_another_process_deletes_meanwhile_stores_it(store, monkeypatch):
    digest = put(store, b"blob")
    real = LocalFileSystem.touch

    def deleted_just_before(filesystem, path):
        path.unlink()
        real(filesystem, path)

    monkeypatch.setattr(LocalFileSystem, "touch", deleted_just_before)
    assert put(store, b"blob") == digest
    assert store.read(digest) == b"blob"


# --- leftovers


def test_old_leftovers_are_swept_and_young_ones_spared(store):
    temporary = store.root / "tmp"
    now = datetime.now(UTC)
    for name, age in (("old", 7200), ("young", 60)):
        (temporary / name).write_bytes(b"x")
        moment = now.timestamp() - age
        os.utime(temporary / name, (moment, moment))
    assert store.sweep_unfinished(now - timedelta(hours=1)) == 1
    assert [path.name for path in temporary.iterdir()] == ["young"]
    assert store.sweep_unfinished(now - timedelta(hours=1)) == 0


def test_a_leftover_that_vanishes_while_sweeping_is_no_error(store, monkeypatch):
    (store.root / "tmp" / "x").write_bytes(b"")
    monkeypatch.setattr(LocalFileSystem, "list_names", lambda self, path: ["gone", "x"])
    assert store.sweep_unfinished(datetime.now(UTC) + timedelta(hours=1)) == 1


def test_a_killed_upload_leaves_only_a_leftover(store):
    program = (
        "import os, sys; from pathlib import Path; from crossfade.storage.blobs.folder import FolderBlobStore\n"
        "def chunks():\n    yield b'x' * 100_000\n    os._exit(9)\n"
        f"FolderBlobStore(Path({str(store.root)!r})).put(chunks(), limit_bytes=10**9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert list(store.list()) == []
    assert len(list((store.root / "tmp").iterdir())) == 1
    assert store.sweep_unfinished(datetime.now(UTC) + timedelta(seconds=1)) == 1


# --- when the disk fails


class FailingFileSystem(LocalFileSystem):
    """Fails at one operation, once, as the operating system would."""

    def __init__(self) -> None:
        self.countdown = -1
        self.code = 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def counted(*arguments):
            self.countdown -= 1
            if self.countdown == 0:
                if name == "close":  # the descriptor is gone all the same
                    found(*arguments)
                raise OSError(self.code, os.strerror(self.code))
            return found(*arguments)

        return counted


def error_of(use) -> CrossfadeError | None:
    try:
        use()
    except CrossfadeError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EFBIG, StorageFullError),
        (errno.EIO, BlobsUnavailableError),
        (errno.EROFS, BlobsUnavailableError),
        (errno.EACCES, BlobsUnavailableError),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_whichever_operation_fails_the_error_says_so_and_nothing_is_torn(tmp_path, code, kind, known):
    data = b"some bytes" * 1_000
    digest = hashlib.sha256(data).hexdigest()
    for number in itertools.count(1):
        filesystem = FailingFileSystem()
        store = FolderBlobStore(tmp_path / str(number), filesystem)
        if known:
            put(store, data)
        filesystem.code, filesystem.countdown = code, number
        error = error_of(lambda store=store: store.put([data[:500], data[500:]], limit_bytes=LIMIT))
        assert error is None or type(error) is kind
        failed = filesystem.countdown <= 0
        filesystem.countdown = -1
        for blob in store.list():
            assert store.read(blob.digest) == data
        assert len(list((store.root / "tmp").iterdir())) <= 1
        assert put(store, data) == digest
        if not failed:
            assert number > 8
            return


def test_a_full_disk_keeps_nothing_and_recovers(tmp_path):
    with small_disk(tmp_path) as disk:
        store = FolderBlobStore(disk / "blobs")
        kept = put(store, b"small")
        with pytest.raises(StorageFullError) as raised:
            store.put((b"x" * 100_000 for _ in range(100)), limit_bytes=10**9)
        assert raised.value.facts["where"] == str(store.root)
        assert list((store.root / "tmp").iterdir()) == []
        assert [blob.digest for blob in store.list()] == [kept]
        assert store.read(put(store, b"y" * 100_000)) == b"y" * 100_000


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BlobsUnavailableError, match="file"):
        FolderBlobStore(tmp_path / "file" / "blobs")
    with pytest.raises(BlobsUnavailableError, match="file"):
        FolderBlobStore(tmp_path / "file")


def test_a_folder_that_vanishes_is_unavailable(store):
    digest = put(store, b"blob")
    store.root.rename(store.root.parent / "moved")
    with pytest.raises(BlobsUnavailableError, match="No such file"):
        put(store, b"blob")
    assert store.find(digest) is None
    assert list(store.list()) == []
    assert store.sweep_unfinished(datetime.now(UTC)) == 0


def test_closed_folders_above_do_not_matter(tmp_path, monkeypatch):
    real = LocalFileSystem.fsync_dir
    above = tmp_path / "above"
    (above / "blobs").mkdir(parents=True)

    def closed_above(filesystem, path):
        if path in {above, *above.parents}:
            raise PermissionError(errno.EACCES, "closed", str(path))
        real(filesystem, path)

    monkeypatch.setattr(LocalFileSystem, "fsync_dir", closed_above)
    assert put(FolderBlobStore(above / "blobs"), b"x")
    with pytest.raises(BlobsUnavailableError, match="closed"):  # but what we make, we must be able to keep
        FolderBlobStore(above / "new")


def test_an_error_while_reading_is_translated(store, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "bad sector")

    digest = put(store, b"blob")
    monkeypatch.setattr(LocalFileSystem, "open_read", lambda self, path: Broken())
    with pytest.raises(BlobsUnavailableError, match="bad sector"):
        store.read(digest)


# --- the operating system's files


def test_writing_goes_on_until_everything_is_written(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    filesystem = LocalFileSystem()
    handle = filesystem.open_new(tmp_path / "x")
    filesystem.write(handle, b"0123456789" * 10)
    filesystem.write(handle, memoryview(b"end"))
    filesystem.close(handle)
    assert (tmp_path / "x").read_bytes() == b"0123456789" * 10 + b"end"


def test_names_are_sorted_and_folders_made_once(tmp_path):
    filesystem = LocalFileSystem()
    for name in "cab":
        assert filesystem.mkdir(tmp_path / name) is True
        assert filesystem.mkdir(tmp_path / name) is False
    assert filesystem.list_names(tmp_path) == ["a", "b", "c"]


def test_handles_are_not_inherited(tmp_path):
    filesystem = LocalFileSystem()
    handle = filesystem.open_new(tmp_path / "x")
    assert not os.get_inheritable(handle)
    filesystem.close(handle)
    with pytest.raises(FileExistsError):
        filesystem.open_new(tmp_path / "x")
