"""Emergencies of a machine are files: durable, strict when damaged, and seen by whoever looks."""

import errno
import json
import os

import pytest

from crossfade.errors import InvalidNameError, LatchUnwritableError, NoEmergencyError, ReasonRequiredError
from crossfade.safety.latch import FOLDER, Latch
from crossfade.storage.filesystem import LocalFileSystem


@pytest.fixture
def latch(tmp_path, clock):
    return Latch(tmp_path / "home", clock)


def test_nobody_has_ever_stopped_anything(latch, tmp_path):
    assert latch.read() == ()
    assert latch.seen() == (0, 0)
    assert not (tmp_path / "home").exists(), "looking makes nothing"


@pytest.mark.parametrize("model", ["", "m"])
@pytest.mark.parametrize("mode", ["block", "fall_back"])
def test_it_begins_and_ends(latch, clock, model, mode):
    begun = latch.put(model, mode, "it burns", "ann")
    assert latch.read() == (begun,)
    assert (begun.model, begun.mode, begun.reason, begun.started_by) == (model, mode, "it burns", "ann")
    assert begun.local
    assert begun.since == clock.now
    assert latch.remove(model, "it is out", "bob") == begun
    assert latch.read() == ()


def test_another_latch_on_the_same_home_sees_it(latch, tmp_path):
    latch.put("", "block", "why", "ann")
    assert Latch(tmp_path / "home").read() == latch.read()
    assert Latch(tmp_path / "elsewhere").read() == ()


def test_everything_and_models_are_apart(latch):
    for model in ("b", "", "a"):
        latch.put(model, "block", "why", "ann")
    assert [item.model for item in latch.read()] == ["", "a", "b"]
    latch.remove("", "over", "ann")
    assert [item.model for item in latch.read()] == ["a", "b"]


def test_a_new_mode_replaces_the_old(latch):
    latch.put("m", "block", "first", "ann")
    latch.put("m", "fall_back", "second", "ann")
    (found,) = latch.read()
    assert (found.mode, found.reason) == ("fall_back", "second")


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_it_takes_a_reason_to_begin_and_to_end(latch, reason):
    with pytest.raises(ReasonRequiredError):
        latch.put("", "block", reason, "ann")
    latch.put("", "block", "why", "ann")
    with pytest.raises(ReasonRequiredError):
        latch.remove("", reason, "ann")
    assert len(latch.read()) == 1


def test_there_has_to_be_one_to_end(latch):
    with pytest.raises(NoEmergencyError, match="everything on this machine"):
        latch.remove("", "why", "ann")
    latch.put("a", "block", "why", "ann")
    with pytest.raises(NoEmergencyError, match="b on this machine"):
        latch.remove("b", "why", "ann")


@pytest.mark.parametrize("model", ["../../etc/passwd", "a/b", "UPPER", "+everything", ".hidden", "x" * 65, "a\x00b"])
def test_a_model_is_no_path(latch, model):
    with pytest.raises(InvalidNameError):
        latch.put(model, "block", "why", "ann")
    with pytest.raises(InvalidNameError):
        latch.remove(model, "why", "ann")
    assert latch.read() == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'{"mode": "sing"}', b"\xff\xfe", b'{"model": "m"}', b"x" * 100_000],
)
@pytest.mark.parametrize("name", ["+everything.json", "m.json"])
def test_a_damaged_file_blocks(latch, tmp_path, content, name):
    latch.put("x", "fall_back", "why", "ann")
    (tmp_path / "home" / FOLDER / name).write_bytes(content)
    found = {item.model: item for item in latch.read()}
    damaged = found["" if name.startswith("+") else "m"]
    assert damaged.mode == "block"
    assert "cannot be read" in damaged.reason
    assert found["x"].mode == "fall_back"
    latch.remove(damaged.model, "it was damaged", "ann")
    assert [item.model for item in latch.read()] == ["x"]


def test_a_file_is_about_the_model_of_its_name(latch, tmp_path):
    latch.put("a", "block", "why", "ann")
    folder = tmp_path / "home" / FOLDER
    (folder / "b.json").write_bytes((folder / "a.json").read_bytes())
    assert [item.model for item in latch.read()] == ["a", "b"]


def test_what_is_half_written_is_not_looked_at(latch, tmp_path):
    latch.put("a", "block", "why", "ann")
    (tmp_path / "home" / FOLDER / ".b.json.123").write_bytes(b"{")
    assert [item.model for item in latch.read()] == ["a"]


def test_what_a_killed_process_left_behind_is_no_hindrance(latch, tmp_path):
    latch.put("a", "block", "why", "ann")
    (tmp_path / "home" / FOLDER / f".b.json.{os.getpid()}").write_bytes(b"{")
    latch.put("b", "block", "why", "ann")
    assert [item.model for item in latch.read()] == ["a", "b"]


def test_a_change_is_seen_and_a_recent_one_is_looked_at_again(latch, tmp_path, clock):
    latch.put("a", "block", "why", "ann")
    folder = tmp_path / "home" / FOLDER
    moment = clock.now.timestamp()
    os.utime(folder, (moment, moment))
    assert latch.seen() is None, "another change may follow within the same tick"
    clock.advance(10)
    seen = latch.seen()
    assert seen is not None
    assert latch.seen() == seen
    latch.put("b", "block", "why", "ann")
    os.utime(folder, (moment + 1, moment + 1))
    assert latch.seen() != seen


def test_files_are_for_the_owner_only(latch, tmp_path):
    latch.put("", "block", "why", "ann")
    folder = tmp_path / "home" / FOLDER
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "+everything.json").stat().st_mode & 0o077 == 0


def test_who_did_what_is_written_down(latch, tmp_path):
    latch.put("m", "block", 'a "quoted"\nreason', "ann")
    latch.remove("m", "over", "bob")
    lines = [json.loads(line) for line in (tmp_path / "home" / FOLDER / "log.jsonl").read_text().splitlines()]
    assert [(line["action"], line["scope"], line["principal"], line["reason"]) for line in lines] == [
        ("on", "m", "ann", 'a "quoted"\nreason'),
        ("off", "m", "bob", "over"),
    ]


def test_a_folder_that_cannot_be_looked_into_says_nothing_rather_than_that_all_is_well(latch, monkeypatch):
    latch.put("m", "block", "it burns", "ann")

    def refuse(*_):
        raise PermissionError("no")

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    assert latch.seen() is None, "so that it is looked at again"
    with pytest.raises(PermissionError):
        latch.read()


# --- a disk that is full or closed ---


@pytest.fixture
def full(monkeypatch):
    """A disk that has room for names, and for nothing else."""

    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFileSystem, "write", write)


def test_on_a_full_disk_it_blocks_all_the_same(latch, full):
    begun = latch.put("m", "block", "why", "ann")
    assert (begun.model, begun.mode) == ("m", "block")
    assert [(item.model, item.mode) for item in latch.read()] == [("m", "block")]


def test_on_a_full_disk_nothing_stricter_than_wanted_begins(latch, full, tmp_path):
    with pytest.raises(LatchUnwritableError, match="No space left"):
        latch.put("m", "fall_back", "why", "ann")
    assert latch.read() == ()
    assert list((tmp_path / "home" / FOLDER).iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(latch, tmp_path):
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(LatchUnwritableError, match="emergency"):
        latch.put("", "block", "why", "ann")


def test_without_its_log_it_begins_and_ends(latch, tmp_path, caplog):
    (tmp_path / "home" / FOLDER / "log.jsonl").mkdir(parents=True)
    latch.put("", "block", "why", "ann")
    assert len(latch.read()) == 1
    latch.remove("", "over", "ann")
    assert latch.read() == ()
    assert caplog.text.count("log.jsonl cannot be written") == 2
