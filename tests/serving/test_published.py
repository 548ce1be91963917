"""What workers tell each other survives whatever interrupts the telling."""

import pytest

from crossfade.serving.published import Board, Published

COUNT = ("crossfade_rows_total", (("model", "m"), ("version", "1.0.0")), 3.0)
ONE = Published(12.5, frozenset({("m", "1.0.0")}), (COUNT,), (("crossfade_slots", (("state", "ready"),), 1.0),), ())


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def test_what_is_written_is_read(board):
    board.write("0", ONE)
    assert board.read("0") == ONE
    assert board.read("1") is None
    assert dict(board.others("1")) == {"0": ONE}
    assert dict(board.others("0")) == {}


def test_a_place_says_one_thing(board):
    board.write("0", ONE)
    board.write("0", Published(at=13.0))
    assert board.read("0") == Published(at=13.0)


def test_writing_that_was_cut_short_changes_nothing(board, tmp_path):
    board.write("0", ONE)
    (tmp_path / "0.part").write_bytes(b"\x95half")
    assert board.read("0") == ONE
    assert dict(board.others("1")) == {"0": ONE}


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"nonsense", b"\x95\x01\x02\x03\x04\x05"])
def test_what_cannot_be_read_says_nothing(board, tmp_path, damage):
    (tmp_path / "0.msgpack").write_bytes(damage)
    assert board.read("0") is None
    assert dict(board.others("1")) == {}


def test_a_failed_write_leaves_what_was_there(board, tmp_path):
    board.write("0", ONE)
    (tmp_path / "0.part").mkdir()
    with pytest.raises(OSError):
        board.write("0", Published())
    assert board.read("0") == ONE
