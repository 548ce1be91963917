import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.ledger import tally as module
from crossfade.ledger.gaps import EVERY
from crossfade.ledger.tally import SLOTS, Counted, Tally, counted, read_tally, this_boot


def test_counts_are_by_experiment():
    tally = Tally()
    for name in ("a", "b", "a"):
        tally.offered[tally.slot(name)] += 1
    tally.dropped[tally.slot("b")] += 1
    tally.synced(7)
    assert counted(tally.copy()) == Counted(this_boot(), 7, {"a": 2, "b": 1}, {"b": 1})


def test_counts_go_along_when_it_moves_to_a_file(tmp_path):
    tally = Tally()
    tally.offered[tally.slot("a")] += 5
    tally.synced(3)
    tally.keep(tmp_path / "t")
    tally.offered[tally.slot("a")] += 1
    tally.offered[tally.slot("b")] += 1
    assert read_tally(tmp_path / "t") == counted(tally.copy()) == Counted(this_boot(), 3, {"a": 6, "b": 1}, {})
    tally.close()
    tally.offered[tally.slot("a")] += 1  # nobody reads it any more, and it disturbs nobody
    assert read_tally(tmp_path / "t").offered == {"a": 6, "b": 1}


def test_a_process_that_is_killed_leaves_its_counts(tmp_path):
    path = tmp_path / "t"
    code = (
        "import os, pathlib, signal, sys\n"
        "from crossfade.ledger.tally import Tally\n"
        "tally = Tally()\n"
        "tally.keep(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(1000): tally.offered[tally.slot('late')] += 1\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_tally(path).offered == {"late": 1000}


def test_experiments_beyond_the_slots_share_one():
    tally = Tally()
    for number in range(SLOTS + 50):
        tally.offered[tally.slot(f"e{number}")] += 1
    found = counted(tally.copy()).offered
    assert sum(found.values()) == SLOTS + 50
    assert found[EVERY] == 51
    assert len(found) == SLOTS


@given(st.text(max_size=100))
def test_any_name_has_a_place(name):
    tally = Tally()
    tally.offered[tally.slot(name)] += 1
    tally.offered[tally.slot(name)] += 1
    found = counted(tally.copy()).offered
    assert sum(found.values()) == 2
    assert len(found) == 1


@pytest.mark.parametrize("content", [b"", b"short", b"CFTALLY1", bytes(10**6)])
def test_what_is_no_tally_says_nothing(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    assert read_tally(tmp_path / "t") is None


def test_none_says_nothing(tmp_path):
    assert read_tally(tmp_path / "missing") is None


@given(st.data())
def test_damage_is_read_without_an_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tally") / "t"
    tally = Tally()
    tally.offered[tally.slot("a")] += 5
    tally.keep(path)
    tally.close()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(8, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert isinstance(read_tally(path), Counted)


def test_a_full_disk_leaves_it_in_memory_and_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    tally = Tally()
    tally.offered[tally.slot("a")] += 1
    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        tally.keep(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    tally.keep(tmp_path / "t")
    assert read_tally(tmp_path / "t").offered == {"a": 1}
    tally.close()


def test_a_system_that_does_not_tell_its_start(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_BOOT", tmp_path / "missing")
    assert this_boot() == ""
    assert counted(Tally().copy()).boot == ""
