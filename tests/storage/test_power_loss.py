"""Cut the power before every operation of the folder blob store, and look at every state the disk may then be in.

The harness is tested too: with any single synchronisation left out, or done too late, it must find a violation.
"""

import hashlib
import itertools
from pathlib import Path

import pytest

from crossfade.storage.blobs.folder import FolderBlobStore
from tests.storage.power_loss import PowerLossError, PowerLossFileSystem

ROOT = Path("/disk/blobs")
DATA = b"".join(number.to_bytes(4, "big") for number in range(2_500))  # 10,000 bytes: two pages and a bit
DIGEST = hashlib.sha256(DATA).hexdigest()
NEIGHBOUR = next(  # another blob of the same shard
    data
    for data in (b"%d" % number for number in itertools.count())
    if hashlib.sha256(data).hexdigest()[:2] == DIGEST[:2]
)


class ViolationError(Exception):
    """A promise was broken."""


def put(store: FolderBlobStore, data: bytes) -> str:
    return store.put([data[:3_000], data[3_000:]], limit_bytes=len(data)).digest


def check(disk: PowerLossFileSystem, acknowledged: set[str]) -> int:
    """Look at every state after a power cut; return how many there were."""
    count = 0
    for state in disk.states():
        count += 1
        store = FolderBlobStore(ROOT, state)
        found = set()
        for blob in store.list():
            with store.open(blob.digest) as stream:
                if hashlib.sha256(stream.read()).hexdigest() != blob.digest:
                    raise ViolationError("a digest names other bytes")
            found.add(blob.digest)
        if acknowledged - found:
            raise ViolationError("an acknowledged blob is lost")
        if put(store, DATA) != DIGEST or store.read(DIGEST) != DATA:
            raise ViolationError("trying again does not help")
    return count


def run_until_power_fails(disk: PowerLossFileSystem, contents: list[bytes]) -> tuple[bool, set[str]]:
    """Store blobs until the power fails; return whether it did, and what was acknowledged."""
    acknowledged: set[str] = set()
    try:
        store = FolderBlobStore(ROOT, disk)
        for data in contents:
            acknowledged.add(put(store, data))
    except PowerLossError:
        return True, acknowledged
    return False, acknowledged


def cut_everywhere(contents: list[bytes], disk_kind: type[PowerLossFileSystem] = PowerLossFileSystem) -> int:
    """Cut the power before every operation and after the last; return how many states were looked at."""
    states = 0
    for cut in itertools.count(1):
        disk = disk_kind(fails_at=cut)
        failed, acknowledged = run_until_power_fails(disk, contents)
        states += check(disk, acknowledged)
        if not failed:
            return states
    raise AssertionError


def kill_everywhere(disk_kind: type[PowerLossFileSystem] = PowerLossFileSystem) -> int:
    """Kill a process before every operation; let another store the same; then cut the power."""
    states = 0
    for kill in itertools.count(1):
        disk = PowerLossFileSystem(fails_at=kill)
        killed, _ = run_until_power_fails(disk, [DATA])
        # The process is gone, but not the power: the disk works on, with everything not yet synchronised.
        second = disk_kind(disk.root)
        failed, acknowledged = run_until_power_fails(second, [DATA])
        assert not failed
        states += check(second, acknowledged)
        if not killed:
            return states
    raise AssertionError


@pytest.mark.parametrize(
    "contents",
    [[DATA], [DATA, NEIGHBOUR], [DATA, DATA], [b""], [b"x", DATA]],
    ids=["one", "same shard", "twice", "empty", "two shards"],
)
def test_a_blob_is_there_whole_or_not_at_all(contents):
    assert cut_everywhere(contents) > 20


def test_what_a_killed_process_left_behind_is_made_durable_by_the_next():
    assert kill_everywhere() > 20


def test_bad_bytes_are_replaced_without_a_moment_of_absence():
    for cut in itertools.count(1):
        disk = PowerLossFileSystem()
        put(FolderBlobStore(ROOT, disk), DATA)
        file = disk._file(ROOT / "sha256" / DIGEST[:2] / DIGEST)
        file.content[0] ^= 1
        file.durable = bytes(file.content)
        disk.operations.clear()
        disk.fails_at = cut
        failed, acknowledged = run_until_power_fails(disk, [DATA])
        for state in disk.states():
            stored = {blob.digest for blob in FolderBlobStore(ROOT, state).list()}
            assert stored == {DIGEST}
            if acknowledged:
                assert FolderBlobStore(ROOT, state).read(DIGEST) == DATA
        if not failed:
            return


# --- does the harness notice? --------------------------------------------------------------------------------------


def forgetting(number: int) -> type[PowerLossFileSystem]:
    """Return a disk that does nothing at synchronisation number `number` (from 0)."""

    class Forgetful(PowerLossFileSystem):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.synchronisations = 0

        def _skips(self) -> bool:
            self.synchronisations += 1
            return self.synchronisations == number + 1

        def fsync(self, handle):
            if not self._skips():
                super().fsync(handle)

        def fsync_dir(self, path):
            if not self._skips():
                super().fsync_dir(path)

    return Forgetful


def synchronisations(contents: list[bytes]) -> list[str]:
    disk = PowerLossFileSystem()
    run_until_power_fails(disk, contents)
    return [operation for operation in disk.operations if operation.startswith("fsync")]


def test_one_blob_needs_exactly_these_synchronisations():
    # The first is that of `/` for `/` itself, which costs nothing and spares a special case.
    assert synchronisations([DATA]) == ["fsync_dir"] * 4 + ["fsync"] + ["fsync_dir"] * 2


@pytest.mark.parametrize("number", range(1, 7))
def test_leaving_out_any_synchronisation_is_noticed(number):
    with pytest.raises(ViolationError):
        cut_everywhere([DATA], forgetting(number))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_leaving_out_any_synchronisation_after_a_killed_process_is_noticed(number):
    # Synchronisations of the second process: the folders above, the new blob's shard or the found blob's name. Which
    # one it is depends on where the first process was killed; leaving it out must hurt for one of these places.
    with pytest.raises(ViolationError):
        kill_everywhere(forgetting(number))


def test_renaming_before_synchronising_is_noticed():
    class Hasty(PowerLossFileSystem):
        """Synchronises a file only after the next rename."""

        late: int | None = None

        def fsync(self, handle):
            self.late = handle

        def close(self, handle):
            if self.late != handle:
                super().close(handle)

        def rename(self, source, target):
            super().rename(source, target)
            if self.late is not None:
                super().fsync(self.late)

    with pytest.raises(ViolationError, match="other bytes"):
        cut_everywhere([DATA], Hasty)


class InPlace(PowerLossFileSystem):
    """Writes to the final name: what `put` would be without its temporary file."""

    def open_new(self, path):
        self.place = ROOT / "sha256" / DIGEST[:2] / DIGEST
        self.mkdir(self.place.parent)
        return super().open_new(self.place)

    def rename(self, source, target):
        self._step("rename", target)


def test_writing_straight_to_the_final_name_is_noticed():
    with pytest.raises(ViolationError, match="other bytes"):
        cut_everywhere([DATA], InPlace)
