"""Segments on a disk whose power is cut at every operation, and on one that fails."""

import itertools
from pathlib import Path

import pytest

from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder
from crossfade.storage.frames import Damage, Frame, marker_of, read_frames
from crossfade.storage.segments import SegmentWriter, list_segments, segment_name
from tests.storage.power_loss import PowerLossError, PowerLossFileSystem

FOLDER = Path("/disk/ledger")
JOURNAL = "0193f0a0-0000-7000-8000-000000000000"
BATCHES = [[b"a" * 100], [b"b" * 3_000, b"c" * 2_000], [b"d" * 10], [b"e" * 5_000], [b"f"]]
SEGMENT_BYTES = 5_000


def writer(filesystem, folder=FOLDER, segment_bytes=SEGMENT_BYTES) -> SegmentWriter:
    return SegmentWriter(filesystem, folder, JOURNAL, segment_bytes, lambda: b"opening")


def records(filesystem, folder=FOLDER) -> list[bytes]:
    """Return all records but the openings."""
    found = []
    for number in list_segments(filesystem, folder).get(JOURNAL, []):
        name = segment_name(JOURNAL, number)
        with filesystem.open_read(folder / name) as stream:
            size = filesystem.stat(folder / name).size
            found += [
                part.payload
                for part in read_frames(stream, marker_of(name), 0, size)
                if isinstance(part, Frame) and part.payload != b"opening"
            ]
    return found


# --- power loss ------------------------------------------------------------------------------------------------------


def run_until_power_fails(disk) -> tuple[bool, int]:
    """Write and synchronise each batch; return whether the power failed, and how many batches were acknowledged."""
    acknowledged = 0
    try:
        make_durable_folder(disk, FOLDER)
        segments = writer(disk)
        for batch in BATCHES:
            segments.append(batch)
            segments.sync()
            acknowledged += 1
        segments.close()
    except PowerLossError:
        return True, acknowledged
    return False, acknowledged


def lost_records(disk_kind=PowerLossFileSystem) -> int:
    """Cut the power before every operation; return in how many states an acknowledged record was lost or reordered."""
    written, lost, states = [record for batch in BATCHES for record in batch], 0, 0
    for cut in itertools.count(1):
        disk = disk_kind(fails_at=cut)
        failed, acknowledged = run_until_power_fails(disk)
        promised = [record for batch in BATCHES[:acknowledged] for record in batch]
        for state in disk.states():
            states += 1
            try:
                found = records(state)
            except FileNotFoundError:
                found = []
            lost += found[: len(promised)] != promised or found != written[: len(found)]
        if not failed:
            assert states > 50
            return lost
    raise AssertionError


def test_no_acknowledged_record_is_lost_with_the_power():
    assert lost_records() == 0


@pytest.mark.parametrize("operation", ["sync_data", "fsync_dir"])
def test_the_harness_notices_a_synchronisation_that_is_left_out(operation):
    class Forgetful(PowerLossFileSystem):
        pass

    setattr(Forgetful, operation, lambda self, *_: None)
    assert lost_records(Forgetful) > 0


# --- failures --------------------------------------------------------------------------------------------------------


class Failing(LocalFileSystem):
    """A disk on which the next calls of some operations fail, a write after half of it."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}

    def fails(self, operation: str) -> bool:
        left = self.failing.get(operation, 0)
        self.failing[operation] = max(0, left - 1)
        return left > 0

    def write(self, handle, data):
        if self.fails("write"):
            super().write(handle, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        super().write(handle, data)

    def sync_data(self, handle):
        if self.fails("sync_data"):
            raise OSError(5, "Input/output error")
        super().sync_data(handle)

    def truncate(self, path, size):
        if self.fails("truncate"):
            raise OSError(5, "Input/output error")
        super().truncate(path, size)

    def fsync_dir(self, path):
        if self.fails("fsync_dir"):
            raise OSError(5, "Input/output error")
        super().fsync_dir(path)


def test_of_a_failed_write_nothing_is_left(tmp_path):
    disk = Failing()
    segments = writer(disk, tmp_path)
    segments.append([b"one"])
    before = (tmp_path / segment_name(JOURNAL, 1)).read_bytes()
    disk.failing = {"write": 1}
    with pytest.raises(OSError, match="No space"):
        segments.append([b"x" * 500, b"y" * 500])
    assert (tmp_path / segment_name(JOURNAL, 1)).read_bytes() == before
    segments.append([b"two"])
    segments.close()
    assert records(disk, tmp_path) == [b"one", b"two"]
    assert list_segments(disk, tmp_path) == {JOURNAL: [1]}


def test_where_that_cannot_be_undone_the_next_segment_goes_on(tmp_path):
    disk = Failing()
    segments = writer(disk, tmp_path)
    segments.append([b"one"])
    disk.failing = {"write": 1, "truncate": 1}
    with pytest.raises(OSError, match="No space"):
        segments.append([b"x" * 500])
    segments.append([b"two"])
    segments.close()
    assert segments.segment == 2
    assert records(disk, tmp_path) == [b"one", b"two"]


def test_a_segment_that_could_not_be_synchronised_is_not_used_again(tmp_path):
    disk = Failing()
    segments = writer(disk, tmp_path)
    segments.append([b"one"])
    disk.failing = {"sync_data": 1}
    with pytest.raises(OSError, match="Input/output"):
        segments.sync()
    segments.sync()  # there is nothing that could be synchronised
    segments.append([b"two"])
    segments.close()
    assert segments.segment == 2
    assert records(disk, tmp_path) == [b"one", b"two"]


@pytest.mark.parametrize("operation", ["write", "fsync_dir"])
def test_a_segment_that_cannot_begin_is_followed_by_another(tmp_path, operation):
    disk = Failing()
    segments = writer(disk, tmp_path)
    disk.failing = {operation: 1}
    with pytest.raises(OSError, match=r"error|space"):
        segments.append([b"one"])
    segments.append([b"one"])
    segments.close()
    assert records(disk, tmp_path) == [b"one"]


def test_frames_count_up_through_segments_and_sizes_are_known(tmp_path):
    segments = writer(LocalFileSystem(), tmp_path, segment_bytes=200)
    for number in range(10):
        segments.append([b"%d" % number * 50])
    segments.close()
    numbers = []
    for number in list_segments(LocalFileSystem(), tmp_path)[JOURNAL]:
        path = tmp_path / segment_name(JOURNAL, number)
        assert segments.sizes[number] == path.stat().st_size
        with path.open("rb") as stream:
            for part in read_frames(stream, marker_of(path.name), 0, path.stat().st_size):
                assert not isinstance(part, Damage)
                numbers.append(part.number)
    assert numbers == list(range(1, segments.frames + 1))
    assert segments.segment > 3
    segments.forget(1)
    segments.forget(1)
    assert 1 not in segments.sizes
    assert 1 not in list_segments(LocalFileSystem(), tmp_path)[JOURNAL]


def test_other_files_are_no_segments(tmp_path):
    for name in (f"{JOURNAL}.lock", f"{JOURNAL}-1.log", "x-00000001.log", f"{JOURNAL}-00000002.log"):
        (tmp_path / name).touch()
    assert list_segments(LocalFileSystem(), tmp_path) == {JOURNAL: [2]}
