"""How many processors there are, and whether libraries keep to them."""

import os
import subprocess
import sys

import pytest

from crossfade.core import processors
from crossfade.core.processors import available_processors, bound_threads, thread_bound


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with so many processors, and a container with a quota."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def build(count, quota=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        monkeypatch.setattr(processors, "_QUOTA", tmp_path / "cpu.max")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(quota)

    yield build
    os.environ.pop("OMP_NUM_THREADS", None)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (None, 16),
        ("max 100000\n", 16),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("10000 100000\n", 1),
        ("9900000 100000\n", 16),
        ("nonsense", 16),
        ("", 16),
    ],
)
def test_a_container_has_what_its_quota_gives(machine, quota, expected):
    machine(16, quota)
    assert available_processors() == expected


@pytest.mark.parametrize(("processes", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_processes_share_the_processors(machine, processes, threads):
    machine(8)
    assert bound_threads(processes) == threads
    assert thread_bound() == threads
    assert os.environ["OMP_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("5,2", 5), (" 2 ", 2), ("", 4), ("many", 4), ("0", 4)])
def test_who_has_said_how_many_is_obeyed(machine, monkeypatch, given, expected):
    machine(8)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert bound_threads(2) == expected


def test_without_a_bound_all_processors_are_meant(machine):
    machine(8)
    assert thread_bound() == 8


def test_the_pools_of_libraries_that_are_loaded_later_keep_to_it():
    pytest.importorskip("threadpoolctl")
    code = """
from crossfade.core.processors import bound_threads
import os
os.sched_getaffinity = lambda _: {0, 1, 2, 3, 4, 5}
os.cpu_count = lambda: 6
bound_threads(6)
import numpy, sklearn.ensemble, threadpoolctl
print(sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[1]"
