"""What this machine has got, and how replicas share it."""

import os

import pytest

from crossfade.core import graphics
from crossfade.core.graphics import visible_gpus
from crossfade.core.processors import cpu_seconds
from crossfade.errors import InsufficientResourcesError
from crossfade.serving.replicas import gpus as pools
from crossfade.serving.replicas import local
from crossfade.serving.replicas.gpus import GpuPool
from crossfade.serving.replicas.local import most_replicas, processors_of
from crossfade.traffic.deployed import Deployed, ReplicaRange, Resources

GIB = 2**30


@pytest.fixture
def machine(monkeypatch):
    """Eight processors, 16 GiB."""
    monkeypatch.setattr(local, "available_processors", lambda: 8)
    monkeypatch.setattr(local, "total_bytes", lambda: 16.0 * GIB)


def most(replicas, resources, *, workers=1, process_bytes=16 * GIB, gpus=()):
    terms = Deployed("d", 1, replicas=ReplicaRange(*replicas), resources=resources)
    return most_replicas(terms, workers, process_bytes, gpus)


@pytest.mark.parametrize(
    ("resources", "workers", "gpus", "expected"),
    [
        (Resources(), 4, (), 10),
        (Resources(cpu=2), 1, (), 4),
        (Resources(cpu=2), 2, (), 2),
        (Resources(memory_bytes=5 * GIB), 1, (), 3),
        (Resources(gpu=1), 1, ("0", "1"), 2),
        (Resources(cpu=1, memory_bytes=GIB, gpu=2), 1, ("0", "1", "2", "3"), 2),
    ],
)
def test_the_scarcest_resource_decides(machine, resources, workers, gpus, expected):
    assert most((1, 10), resources, workers=workers, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("resources", "wanted", "available"),
    [
        (Resources(cpu=5), "10", "8"),
        (Resources(memory_bytes=9 * GIB), "18 GiB", "16 GiB"),
        (Resources(gpu=1), "2", "1"),
        (Resources(memory_bytes=17 * GIB), "17 GiB", "16 GiB"),
    ],
)
def test_what_is_not_there_for_the_fewest_is_refused(machine, resources, wanted, available):
    with pytest.raises(InsufficientResourcesError) as raised:
        most((2, 4), resources, gpus=("0",))
    assert (raised.value.facts["wanted"], raised.value.facts["available"]) == (wanted, available)


def test_neighbours_get_other_processors_as_long_as_there_are_some(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 4, 5, 9})
    assert [sorted(processors_of(number, 2)) for number in range(3)] == [[3, 4], [5, 9], [3, 4]]
    assert processors_of(7, 0) == frozenset()
    assert processors_of(0, 99) == {3, 4, 5, 9}


def devices(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


def test_gpus_are_counted_as_the_driver_shows_them(tmp_path, monkeypatch):
    monkeypatch.delenv(graphics.VISIBLE, raising=False)
    assert visible_gpus(tmp_path) == ()
    folder = devices(tmp_path, "nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "null")
    assert visible_gpus(folder) == ("0", "1")
    monkeypatch.setenv(graphics.VISIBLE, "1, GPU-abc,-1,")
    assert visible_gpus(folder) == ("1", "GPU-abc")
    monkeypatch.setenv(graphics.VISIBLE, "")
    assert visible_gpus(folder) == ()


def test_nobody_shares_a_gpu_not_even_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "visible_gpus", lambda: ("0", "1", "2"))
    mine, yours = GpuPool(tmp_path / "gpus"), GpuPool(tmp_path / "gpus")
    first = mine.claim(2, "d")
    assert first == ("0", "1")
    with pytest.raises(InsufficientResourcesError, match="it needs 2, and 1 are there"):
        yours.claim(2, "e")
    assert yours.claim(1, "e") == ("2",), "what could not be used was let go of"
    with pytest.raises(InsufficientResourcesError):
        mine.claim(1, "d")
    mine.release(first)
    mine.release(first)
    assert yours.claim(2, "e") == ("0", "1")


def test_processor_time_of_a_process():
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**30) == 0.0
