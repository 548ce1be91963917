"""Every decoder withstands what broke it once, and well-formed input that was damaged; `make fuzz` looks deeper."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import target as judging
from tests.fuzz.target import ExpensiveError, Target, examine
from tests.fuzz.targets import TARGETS, cases

EXAMPLES = 60
TRACED = 5
"""How much longer an input may take while every line of ours is counted."""
LONGEST = 2 * judging.MAX_INPUT_BYTES
CASES = [pytest.param(name, path, id=f"{name}/{path.name}") for name in TARGETS for path in cases(name)]
NUMBERS = (b"0", b"-1", b"1e308", b"99999999999999999999", b"\xff\xff\xff\xff", b"\x00" * 8, b"\x7f")


def patient(target):
    return target if sys.gettrace() is None else target._replace(cpu_seconds=TRACED * target.cpu_seconds)


@st.composite
def damaged(draw, target):
    """A seed of the target, damaged in a few places; sometimes one piece of it is there very often."""
    data = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(start + draw(st.sampled_from([1, 4, 40])), len(data))))
        match draw(st.sampled_from(["word", "word", "bytes", "cut", "repeat", "flood", "other"])):
            case "word":
                data[start:stop] = draw(st.sampled_from((*target.words, *NUMBERS)))
            case "bytes":
                data[start:stop] = draw(st.binary(max_size=8))
            case "cut":
                del data[start:stop]
            case "repeat":
                piece = bytes(data[start:stop]) or b"["
                data[start:stop] = piece * draw(st.integers(2, max(2, LONGEST // len(piece))))
            case "flood":
                word = draw(st.sampled_from((*target.words, *NUMBERS)))
                data[start:start] = word * (LONGEST // len(word))
            case "other":
                data[start:] = draw(st.sampled_from(target.seeds))[start:]
        del data[LONGEST:]
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused(name):
    target = patient(TARGETS[name])

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck)
    @given(st.one_of(st.binary(max_size=200), damaged(target), damaged(target), damaged(target)))
    def withstands(data):
        examine(target, data)

    withstands()


@pytest.mark.parametrize(("name", "path"), CASES)
def test_what_broke_it_once_is_read_or_refused(name, path):
    examine(patient(TARGETS[name]), path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_reads_what_is_well_formed(name):
    """A target that refuses everything would withstand everything."""
    target, understood = TARGETS[name], 0
    for seed in target.seeds:
        try:
            target.run(seed)
        except target.allowed:
            continue
        understood += 1
    assert understood


# --- the judge -------------------------------------------------------------------------------------------------------


def judged(run, cpu_seconds=60.0):
    examine(Target("made up", run, (), allowed=(ValueError,), cpu_seconds=cpu_seconds), b"")


def test_other_errors_are_findings():
    judged(lambda _: int("x"))
    with pytest.raises(ZeroDivisionError):
        judged(lambda _: 1 // 0)


def test_too_much_memory_is_a_finding():
    with pytest.raises(ExpensiveError, match="MiB of memory"):
        judged(lambda _: np.empty(judging.MEMORY_BYTES + 2**24, np.uint8).fill(1))


def test_only_what_is_slow_every_time_is_a_finding(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 1.01, *range(100)])
    monkeypatch.setattr(judging.time, "thread_time", lambda: next(clock))
    judged(lambda _: None, judging.CPU_SECONDS)
    with pytest.raises(ExpensiveError, match="processor time"):
        judged(lambda _: None, judging.CPU_SECONDS)
