"""Opening proves that a version is what was registered, and that it works."""

import math
import os
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from crossfade.core import memory
from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.errors import CorruptBlobError, LoadFailedError, PredictionError
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.versions import Manifest
from crossfade.serving import opening
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.loader import Loader
from crossfade.serving.opening import OpenedVersion, VersionOpener, warm_up, zeros
from crossfade.serving.slots import SlotTable
from crossfade.settings import ServingSettings
from crossfade.traffic.snapshot import Aspired, Role
from tests.serving.fakes import SIGNATURE, Constant
from tests.traffic.support import FAST, eventually

X = np.arange(6.0).reshape(3, 2)


@pytest.fixture
def opener(registry):
    model = LinearRegression().fit(X, X.sum(axis=1))
    registry.register("total", model, version="1.0.0", example=X)
    return VersionOpener(registry.backend, TrustPolicy(), FAST, Nursery(Limits(2**30)), runner=None).open


@pytest.fixture
def wish(opener, registry):
    version = registry.resolve("total:1.0.0")
    return Aspired("1.0.0", version.manifest_digest, version.size_bytes, Role.ACTIVE, number=version.number)


def test_a_version_is_opened_from_the_registry(opener, registry, wish):
    opened = opener("total", wish)
    assert opened.manifest == registry.manifest("total:1.0.0")
    assert opened.number == 1
    assert opened.golden is not None
    answer = opened.predict(opened.manifest.signature.check({"x": X}), frozenset({"predict"}))
    assert answer["predict"] == pytest.approx(X.sum(axis=1))
    assert 0 < warm_up(opened, 2) < math.inf


def test_a_version_is_opened_while_the_database_is_away(opener, registry, wish):
    registry.backend.database.away = True
    assert opener("total", wish).number == 1


def test_an_ensemble_waits_for_its_members_so_the_event_loop_must_not_call_it(opener, registry, wish):
    both = registry.register_ensemble("both", EnsembleSpec("average", (Member("total:1.0.0"),)))
    assert opener("both", msgspec.structs.replace(wish, manifest_digest=both.manifest_digest)).waits
    assert not opener("total", wish).waits


def test_a_missing_version_cannot_be_opened(opener, wish):
    with pytest.raises(CorruptBlobError, match=r"manifest\.json.*missing"):
        opener("total", msgspec.structs.replace(wish, manifest_digest="0" * 64))


def test_a_model_whose_process_cannot_load_it_leaves_nothing(registry, wish, monkeypatch):
    rules = FAST.model_copy(update={"execution": "process"})
    nursery = Nursery(Limits(2**30))
    opener = VersionOpener(registry.backend, TrustPolicy(), rules, nursery, runner=None).open
    opener("total", wish).close()
    monkeypatch.setattr(nursery, "_limits", Limits(2**20))  # too little for anything
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    nursery.learn(("decimal",))
    for _ in range(3):
        with pytest.raises(LoadFailedError) as failed:
            opener("total", wish)
        kept = failed  # an error that is kept must not keep the files
    nursery.close()
    assert kept is not None
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= len(before), 5)  # noqa: PTH208


def test_damaged_bytes_are_named(opener, registry, wish):
    (entry,) = registry.manifest("total:1.0.0").files_of("model")
    registry.backend.blobs.delete(entry.digest)
    with pytest.raises(CorruptBlobError, match=entry.path):
        opener("total", wish)


def opened(model, golden=None):
    return OpenedVersion(Manifest("m", "1.0.0", "fake", (), SIGNATURE), model, golden)


GOLDEN = GoldenRequests({"x": np.array([1.0, 2.0])}, {"predict": np.array([1.0, 1.0])})


def test_warming_up_uses_one_row_of_the_golden_requests():
    seen = []

    def model(tensors, wanted):
        seen.append((tensors["x"].tolist(), wanted))
        return {"predict": tensors["x"]}

    warm_up(opened(model, GOLDEN), 2)
    assert len(seen) > 2
    assert all(call == ([1.0], {"predict"}) for call in seen)


def test_the_measure_is_the_median_of_warm_calls(monkeypatch):
    durations: Iterator[float] = iter([9.0, 9.0, *[0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007]])

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(opening, "time", clock)

    def model(tensors, wanted):
        clock.now += next(durations)
        return {}

    assert warm_up(opened(model), 2) == pytest.approx(0.004)


def test_a_slow_model_is_not_called_many_times(monkeypatch):
    model = Constant(1)
    monkeypatch.setattr(opening, "_TIMED_SECONDS", 0.0)
    warm_up(opened(model), 2)
    assert model.calls == 3


def test_a_model_that_does_not_like_zeros_is_no_worse_for_it():
    def model(tensors, wanted):
        raise PredictionError(ref="m:1.0.0", problem="unknown category")

    assert warm_up(opened(model), 2) == math.inf
    with pytest.raises(PredictionError):
        warm_up(opened(model, GOLDEN), 2)


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("text", [True, False])
def test_zeros_fit_every_signature(datatype, text):
    spec = TensorSpec("x", datatype, (-1, 3, -1), text=text)
    signature = Signature((spec,), ())
    made = zeros(signature)
    assert made["x"].shape == (1, 3, 1)
    assert signature.check(made)["x"] is made["x"]


# --- memory ---


def test_this_process_uses_memory():
    assert memory.resident_bytes() > 2**20
    assert memory.private_bytes() > 2**20


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATM", tmp_path / "absent")
    assert memory.resident_bytes() == memory.private_bytes() == 0


def limit_of(workers):
    return Loader(SlotTable(), None, ServingSettings(workers=workers)).limit_bytes


@pytest.mark.parametrize(("limit", "expected"), [("max", None), ("1000", 750), ("absent", None)])
def test_the_limit_of_a_container_counts(monkeypatch, tmp_path, limit, expected):
    path = tmp_path / "memory.max"
    if limit != "absent":
        path.write_text(limit + "\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (tmp_path / "nowhere",))
    machine = limit_of(1)
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (path,))
    assert limit_of(1) == (machine if expected is None else expected)
    assert limit_of(2) == (machine if expected is None else expected) // 2
