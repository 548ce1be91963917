"""A model in a process of its own answers as it would here, and whatever it does, an error is all that comes of it."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import LoadFailedError, ModelCrashedError, NotServedError, PredictionError
from crossfade.serving.isolation import host as hosts
from crossfade.serving.isolation.host import Allowance
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD
from tests.traffic.support import eventually

WANTED = frozenset({"predict"})
FINE = {"x": np.array([1.0, 2.0])}
POISON = {"x": np.array([1.0, BAD])}


def doubled(host, tensors=FINE):
    return host.pipeline().predict(tensors, WANTED)["predict"].tolist()


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_alive(pid):
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_it_answers(isolated):
    assert doubled(isolated(poison.Harmless())) == [2.0, 4.0]


def test_an_exception_is_a_failed_prediction_and_the_process_goes_on(isolated):
    host = isolated(poison.Harmless())
    pid = host.pid
    with pytest.raises(PredictionError, match="does not like this row"):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
    assert host.pid == pid


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (poison.Segfault(), "SIGSEGV"),
        (poison.Abort(), "SIGABRT"),
        (poison.Exit(), "status 3"),
        (poison.Loop(), "within 2 seconds"),
        (poison.DeadlockedThread(), "within 2 seconds"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_its_process_is_one_failed_request(isolated, model, problem):
    host = isolated(model, hang_seconds=1.0)
    with pytest.raises(ModelCrashedError, match=problem):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
    assert sum(host.ends.values()) == 1


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (poison.PoliteExit(), "tried to exit"),
        (poison.ForkBomb(), "Operation not permitted"),
        (poison.MemoryBomb(), "MemoryError"),
        (poison.FileLeak(), "Too many open files"),
        (poison.HugeOutput(), "MemoryError|more than|shape"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_is_refused_is_an_exception_in_it(isolated, model, problem):
    host = isolated(model)
    with pytest.raises(PredictionError, match=problem):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]


def test_threads_end_where_memory_does(isolated):
    host = isolated(poison.ThreadBomb())
    with pytest.raises((PredictionError, ModelCrashedError)):
        doubled(host, POISON)
    eventually(lambda: answers(host), 20)


def answers(host):
    """The threads that it left may still leave it no memory; then it ends, and the next process has none."""
    try:
        return doubled(host) == [2.0, 4.0]
    except (PredictionError, ModelCrashedError):
        return False


def test_what_it_prints_before_it_crashes_arrives_and_where_it_was(isolated, caplog):
    caplog.set_level("INFO")
    with pytest.raises(ModelCrashedError):
        doubled(isolated(poison.LastWords()), POISON)
    eventually(lambda: "last words" in caplog.text, 10)
    eventually(lambda: "Fatal Python error: Aborted" in caplog.text, 10)


def test_a_flood_of_output_is_slowed_down_and_shortened(isolated, caplog):
    caplog.set_level("INFO")
    host = isolated(poison.LogFlood(), hang_seconds=20.0)
    doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
    eventually(lambda: "`m:1.0.0` printed: flood" in caplog.text, 10)
    assert all(len(record.getMessage()) < 3_000 for record in caplog.records)
    assert sum(len(record.getMessage()) for record in caplog.records) < 200_000


def test_it_cannot_reach_beyond_itself(isolated):
    poison.LOOT.write_text("loot")
    try:
        assert doubled(isolated(poison.Burglar())) == [0.0, 0.0]
        assert poison.LOOT.read_text() == "loot"
    finally:
        poison.LOOT.unlink()


@pytest.mark.parametrize("rows", [0, 1, 5_000, 200_000])
def test_any_number_of_rows_comes_back(isolated, rows):
    values = -np.arange(float(rows))
    answer = isolated(poison.Harmless()).pipeline().predict({"x": values}, WANTED)["predict"]
    np.testing.assert_array_equal(answer, 2 * values)


def test_an_answer_larger_than_its_question_gets_a_larger_region(isolated):
    host = isolated(poison.Wide())
    answer = host.pipeline().predict({"x": np.ones(2_000)}, WANTED)["predict"]
    assert answer.shape == (2_000, 1_000)
    assert doubled(isolated(poison.Harmless())) == [2.0, 4.0]


def test_text_and_bytes_come_back(isolated):
    host = isolated(poison.Echo(), example={"text": np.array(["a"], object)})
    texts = np.array(["", "ä\n" * 10, "\0"], dtype=object)
    assert host.pipeline().predict({"text": texts}, WANTED)["predict"].tolist() == texts.tolist()


def test_a_format_of_data_runs_there_too(isolated):
    x = np.random.default_rng(3).normal(size=(50, 2))
    model = LogisticRegression().fit(x, np.where(x[:, 0] > 0, "yes", "no"))
    host = isolated(model, example=x)
    wanted = frozenset({"predict", "predict_proba"})
    answer = host.pipeline().predict({host.signature.inputs[0].name: x}, wanted)
    assert answer["predict"].tolist() == model.predict(x).tolist()
    np.testing.assert_array_equal(answer["predict_proba"], model.predict_proba(x))


@pytest.mark.parametrize(("how", "problem"), [("exit", "status 7"), ("raise", "ZeroDivisionError")])
def test_a_load_that_fails_says_why(isolated, how, problem):
    host = isolated(poison.Misbehaving(how), start=False)
    with pytest.raises(LoadFailedError, match=problem):
        host.start()
    assert host.pid is None


def test_a_load_that_hangs_is_ended(isolated):
    host = isolated(poison.Misbehaving("hang"), start=False, load_seconds=1.0)
    with pytest.raises(LoadFailedError, match=r"within 0\.9 seconds"):
        host.start()
    assert host.pid is None


def test_a_process_that_is_killed_from_outside_is_started_again(isolated):
    host = isolated(poison.Harmless())
    os.kill(host.pid, signal.SIGKILL)
    with pytest.raises(ModelCrashedError, match="SIGKILL"):
        doubled(host)
    assert doubled(host) == [2.0, 4.0]
    assert host.ends == {"signal": 1}


def test_after_five_crashes_it_is_given_up(isolated, monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    host, told = isolated(poison.Exit()), []
    host.on_given_up = lambda: told.append(host.given_up)
    for _ in range(hosts.CRASHES):
        with pytest.raises(ModelCrashedError):
            doubled(host, POISON)
    with pytest.raises(NotServedError, match=r"quarantined: it crashed or hung too often .* status 3"):
        doubled(host)
    assert len(told) == 1
    assert host.pid is None


def test_crashes_of_long_ago_do_not_count(isolated, monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(hosts, "WITHIN_SECONDS", 0.001)
    host = isolated(poison.Exit())
    for _ in range(hosts.CRASHES + 1):
        with pytest.raises(ModelCrashedError):
            doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]


def test_a_request_that_ends_two_processes_is_not_put_to_a_third(isolated, monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    host = isolated(poison.Exit())
    for _ in range(2):
        assert host.suspects.refusal(POISON, WANTED) is None
        with pytest.raises(ModelCrashedError):
            doubled(host, POISON)
    refusal = host.suspects.refusal(POISON, WANTED)
    assert (refusal.code, refusal.http_status) == ("refused_input", 422)
    assert host.suspects.refusal(FINE, WANTED) is None


def test_killing_it_frees_who_waits(isolated):
    host, errors = isolated(poison.Loop(), hang_seconds=60.0), []

    def wait():
        try:
            doubled(host, POISON)
        except ModelCrashedError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    host.kill()
    waiter.join(10)
    assert errors
    assert not waiter.is_alive()


def test_closing_it_leaves_nothing(isolated):
    host = isolated(poison.Harmless())
    pid, fds = host.pid, open_files()
    doubled(host, {"x": np.ones(100_000)})
    host.close()
    host.close()
    assert not is_alive(pid)
    eventually(lambda: open_files() < fds, 5)
    with pytest.raises(NotServedError, match="unloaded"):
        doubled(host)


def test_closing_it_while_it_waits_to_be_started_again_starts_nothing(isolated, monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 30.0)
    host, errors = isolated(poison.Exit()), []
    with pytest.raises(ModelCrashedError):
        doubled(host, POISON)

    def ask():
        try:
            doubled(host)
        except NotServedError as error:
            errors.append(error)

    waiter = threading.Thread(target=ask)
    waiter.start()
    time.sleep(0.1)
    host.close()
    waiter.join(10)
    assert len(errors) == 1
    assert host.pid is None


def test_a_process_that_comes_after_the_end_is_ended(isolated, monkeypatch, nursery):
    host, take, taken = isolated(poison.Harmless(), start=False), nursery.take, []

    def late(name):
        taken.append(take(name))
        host.close()
        return taken[0]

    monkeypatch.setattr(nursery, "take", late)
    with pytest.raises(LoadFailedError, match="unloaded"):
        host.start()
    eventually(lambda: not is_alive(taken[0].pid), 5)


def test_without_memory_to_share_it_is_one_failed_request(isolated, monkeypatch):
    host = isolated(poison.Harmless())

    def refuse(size):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(hosts.Region, "create", refuse)
        with pytest.raises(ModelCrashedError, match="Cannot allocate memory"):
            doubled(host, {"x": np.ones(100_000)})
    assert len(doubled(host, {"x": np.ones(100_000)})) == 100_000
    assert host.ends == {}


def test_forgetting_it_ends_its_process(isolated):
    pid = isolated.forgotten(poison.Harmless())
    eventually(lambda: not is_alive(pid), 5)


def test_its_memory_is_known(isolated):
    model = isolated(poison.Harmless())
    assert 5e6 < model.size_bytes < 500e6
    model.close()
    assert 0 < model.size_bytes < 1e6, "its files: whoever adds up at the end asks it once more"


class Liar:
    """A process that answers what it was not asked."""

    pid, size_bytes = 1, 0

    def __init__(self, reply):
        self.reply = reply

    def send(self, message, fd=None, *, seconds):
        pass

    def receive(self, *, seconds):
        return self.reply

    def kill(self):
        pass

    close = kill


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (hosts.Answered(b"not a frame"), ModelCrashedError),
        (hosts.Answered(b"", in_region=10**12), ModelCrashedError),
        (hosts.Loaded(()), ModelCrashedError),
        (hosts.Crowded(10**15), PredictionError),
        (hosts.Answered(hosts.encode_frame({"predict": np.zeros(3)})), PredictionError),
        (hosts.Answered(hosts.encode_frame({"predict": np.zeros((2, 2))})), PredictionError),
        (hosts.Answered(hosts.encode_frame({"predict": np.array(["x", "y"])})), PredictionError),
        (hosts.Answered(hosts.encode_frame({"other": np.zeros(2)})), PredictionError),
        (hosts.Failed("version_not_found", {"ref": "x"}), PredictionError),
        (hosts.Failed("load_failed", {}), PredictionError),
        (hosts.Failed("prediction_failed", {"problem": "x" * 10**6}), PredictionError),
        (hosts.Failed("signature_mismatch", {"{0.__class__}": "x"}), PredictionError),
    ],
)
def test_what_a_process_claims_is_checked(isolated, reply, error):
    host = isolated(poison.Harmless())
    honest = host._running.pop()
    host._running.append(Liar(reply))
    try:
        with pytest.raises(error) as raised:
            doubled(host)
        assert len(str(raised.value)) < 3_000
    finally:
        honest.close()


def test_what_it_answers_is_typed_as_the_signature_says(isolated):
    signature = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP32", (-1,)),))
    host = isolated(poison.Harmless(), signature=signature)
    assert host.pipeline().predict(FINE, WANTED)["predict"].dtype == np.float32


def test_one_that_ended_while_it_was_idle_is_noticed_without_being_asked(isolated):
    host = isolated(poison.Harmless())
    assert host.lost() == ""
    os.kill(host.pid, signal.SIGKILL)
    eventually(lambda: host.lost() == "its process was ended by SIGKILL")
    assert host.lost() == "it has no process yet"
    host.restart()
    assert doubled(host) == [2.0, 4.0]
    host.close()
    assert "unloaded" in host.lost()


def test_one_that_is_of_no_use_is_ended_and_counts_as_a_crash(isolated):
    host = isolated(poison.Harmless())
    pid = host.pid
    host.end("it answers wrongly")
    assert not is_alive(pid)
    assert host.ends == {"probe": 1}
    assert doubled(host) == [2.0, 4.0]


def test_less_memory_than_a_process_takes_by_itself_is_refused(isolated):
    """Whether the model would still find some that its process has to spare is a matter of luck."""
    other = isolated(poison.Harmless()).another(Allowance(memory_bytes=2**20))
    with pytest.raises(
        LoadFailedError, match=r"m:1.0.0.*may have 1 MiB of memory, and takes [\d.]+ MiB without its model"
    ):
        other.start()
    other.close()


def test_another_process_of_a_version_shares_files_and_suspects_and_has_limits_of_its_own(isolated):
    host = isolated(poison.Harmless())
    other = host.another(Allowance(memory_bytes=2**28, processors=frozenset({min(os.sched_getaffinity(0))}), gpus=()))
    try:
        other.start()
        assert other.pid != host.pid
        assert doubled(other) == [2.0, 4.0]
        assert other.suspects is host.suspects
        assert os.sched_getaffinity(other.pid) == {min(os.sched_getaffinity(0))}
        limits = Path(f"/proc/{other.pid}/limits").read_text()
        assert str(2**28) in next(line for line in limits.splitlines() if line.startswith("Max data size"))
    finally:
        other.close()
    assert doubled(host) == [2.0, 4.0], "the files of one are not those of the other"
