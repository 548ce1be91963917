import subprocess
import sys

from crossfade.storage.locks import FileLock


def test_one_holds_it(tmp_path):
    path = tmp_path / "a.lock"
    lock = FileLock.take(path)
    assert lock is not None
    assert FileLock.take(path) is None
    lock.release()
    again = FileLock.take(path)
    assert again is not None
    again.release(delete=True)
    assert not path.exists()


def test_a_new_one_is_seen_only_when_it_is_held(tmp_path):
    path = tmp_path / "a.lock"
    lock = FileLock.make(path)
    assert sorted(tmp_path.iterdir()) == [path]
    assert FileLock.take(path) is None
    lock.release(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_whoever_takes_a_file_that_was_deleted_meanwhile_holds_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    import crossfade.storage.locks as module

    real = module.fcntl.flock

    def deleted_first(handle, operation):
        path.unlink()
        real(handle, operation)

    monkeypatch.setattr(module.fcntl, "flock", deleted_first)
    assert FileLock.take(path) is None
    monkeypatch.undo()
    path.touch()
    lock = FileLock.take(path)
    assert lock is not None
    lock.release()


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    path = tmp_path / "a.lock"
    code = (
        "import sys, pathlib\n"
        "from crossfade.storage.locks import FileLock\n"
        "lock = FileLock.make(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        assert FileLock.take(path) is None
    finally:
        process.kill()
        process.communicate()
    lock = FileLock.take(path)
    assert lock is not None
    lock.release()
