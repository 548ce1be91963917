"""Where a version runs: what it declares, what the settings say, and what is there. The GPUs are made up."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crossfade.errors import LoadFailedError, ManifestError
from crossfade.registry.acceptance import read_manifest
from crossfade.registry.flavors import onnx as onnx_flavor
from crossfade.registry.flavors.backends import FLAVORS, flavor_named
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.loading import load_pipeline
from crossfade.registry.packaging import pack
from crossfade.registry.placement import ANYWHERE, ON_CPU, Placement, check_placement, never
from crossfade.registry.versions import Manifest
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.opening import VersionOpener
from crossfade.settings import ModelRules, ServingSettings
from crossfade.traffic.snapshot import Aspired, Role
from tests import control
from tests.traffic.support import open_registry

GPU = Placement("gpu")
POLICY = TrustPolicy()
TRUSTING = TrustPolicy(allow_code=True)
ROWS = np.random.default_rng(7).normal(size=(60, 4))
LABELS = (ROWS[:, 0] > 0).astype(int)
EVERYTHING = frozenset({"predict", "predict_proba"})

# --- deciding ---


@pytest.mark.parametrize(
    ("rule", "declared", "expected"),
    [
        (ANYWHERE, ANYWHERE, ANYWHERE),
        (ANYWHERE, Placement("gpu", 4), Placement("gpu", 4)),
        (Placement("cpu"), Placement("gpu", 4), Placement("cpu", 4)),
        (Placement("gpu", 1), Placement("cpu", 4), Placement("gpu", 1)),
        (Placement("auto", 3), Placement("gpu", 0), Placement("gpu", 3)),
    ],
)
def test_the_settings_weigh_more_than_the_version(rule, declared, expected):
    assert rule.over(declared) == expected


@pytest.mark.parametrize(
    ("device", "present", "expected"), [("auto", True, True), ("auto", False, False), ("gpu", True, True)]
)
def test_auto_takes_a_gpu_that_is_there(device, present, expected):
    assert Placement(device).on_gpu(lambda: present, "torch") is expected


def test_the_cpu_is_always_there_and_nobody_looks_for_a_gpu():
    def look():
        raise AssertionError("nobody asked for a GPU")

    assert not ON_CPU.on_gpu(look, "torch")


def test_a_gpu_that_is_not_there_is_a_typed_refusal_that_says_what_to_do():
    with pytest.raises(LoadFailedError) as caught:
        GPU.on_gpu(never, "torch")
    assert "placed on a GPU" in caught.value.message
    assert "device `cpu`" in caught.value.message


@pytest.mark.parametrize("odd", [Placement("tpu"), Placement("cpu", -1), Placement("cpu", 1025), Placement(3)])
def test_a_placement_that_is_none(odd):
    with pytest.raises(ManifestError, match="placement"):
        check_placement(odd)


# --- declaring ---


def test_a_manifest_without_a_placement_is_what_it_always_was():
    manifest = Manifest("m", "1.0.0", "onnx", (), None)
    assert b"placement" not in manifest.encode()
    declared = msgspec.structs.replace(manifest, placement=Placement("gpu", 2))
    assert declared.digest != manifest.digest
    assert msgspec.json.decode(declared.encode())["placement"] == {"device": "gpu", "threads": 2}


@pytest.fixture
def registry(tmp_path, sqlite_url):
    registry = open_registry(tmp_path, sqlite_url)
    yield registry
    registry.backend.database.close()


@pytest.fixture
def onnx_file(tmp_path):
    return control.write_onnx(tmp_path / "model.onnx", 2.0)


def test_a_version_declares_where_it_wants_to_run(registry, onnx_file):
    version = registry.register("m", onnx_file, example=[[1.0, 2.0]], placement=Placement("gpu", 2))
    manifest = registry.manifest(version.ref)
    assert manifest.placement == Placement("gpu", 2)
    with pytest.raises(LoadFailedError, match=r"`m:1\.0\.0` cannot be loaded: it is placed on a GPU"):
        registry.load(version.ref)
    pipeline = load_pipeline(manifest, registry.backend.blobs, POLICY, ON_CPU)
    answers = pipeline.predict({"x": np.ones((1, 2), np.float32)}, frozenset({"y"}))
    assert answers["y"].tolist() == [[4.0]]


def test_a_declaration_travels_to_a_server(tmp_path):
    from crossfade.platform import open_platform
    from crossfade.settings import Settings

    with open_platform(Settings(home=tmp_path / "home")) as platform, control.local_client(platform) as client:
        draft = pack(control.write_onnx(tmp_path / "m.onnx", 1.0), placement=Placement(threads=3))
        version = client.register_draft("m", draft)
        assert client.version(version.ref).manifest.placement == Placement("auto", 3)


@pytest.mark.parametrize(
    "given", [{"device": "tpu"}, {"threads": -1}, {"threads": 10**9}, {"threads": "2"}, {"more": 1}, []]
)
def test_a_declaration_that_is_none_is_not_published(tmp_path, given):
    manifest = control.tiny_draft(tmp_path / "m.onnx", 1.0).manifest("m", "1.0.0")
    document = msgspec.json.decode(manifest.encode())
    assert read_manifest(msgspec.json.encode(document)).placement is None
    with pytest.raises(ManifestError):
        read_manifest(msgspec.json.encode(document | {"placement": given}))


def test_the_rules_of_a_model_decide_when_it_is_opened_for_serving(registry, onnx_file):
    version = registry.register("m", onnx_file, example=[[1.0, 2.0]], placement=GPU, version="1.0.0")
    wish = Aspired("1.0.0", version.manifest_digest, version.size_bytes, Role.ACTIVE, number=1)

    def opened(settings):
        return VersionOpener(registry.backend, POLICY, settings, Nursery(Limits(2**30)), runner=None).open("m", wish)

    with pytest.raises(LoadFailedError, match="placed on a GPU"):
        opened(ServingSettings())
    rules = {"m": ModelRules(device="cpu"), "other": ModelRules(device="gpu")}
    assert opened(ServingSettings(models=rules)).number == 1


# --- what the formats do with it ---


def models():
    """A saved model of each format that takes an array."""
    import catboost
    import lightgbm
    import xgboost

    yield "xgboost", xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(ROWS, LABELS)
    yield "lightgbm", lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(ROWS, LABELS)
    yield (
        "catboost",
        catboost.CatBoostClassifier(iterations=3, verbose=0, thread_count=1, allow_writing_files=False).fit(
            ROWS, LABELS
        ),
    )
    yield "sklearn", LogisticRegression().fit(ROWS, LABELS)


@pytest.fixture(scope="module")
def saved():
    return {name: flavor_named(name).save(model) for name, model in models()}


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost", "sklearn"])
def test_what_runs_on_the_cpu_only_refuses_a_gpu_and_answers_with_any_threads(saved, name):
    flavor, files = flavor_named(name), saved[name]
    with pytest.raises(LoadFailedError, match=f"flavor `{name}` has none here"):
        flavor.load(files, POLICY, GPU)
    expected = flavor.load(files, POLICY).predict(ROWS, EVERYTHING)
    for threads in (1, 2, 3):
        answers = flavor.load(files, POLICY, Placement(threads=threads)).predict(ROWS, EVERYTHING)
        np.testing.assert_array_equal(answers["predict"], expected["predict"])
        np.testing.assert_allclose(answers["predict_proba"], expected["predict_proba"], rtol=1e-6)


def test_trees_are_told_their_threads(saved, monkeypatch):
    import json

    booster = flavor_named("xgboost").load(saved["xgboost"], POLICY, Placement(threads=3))._booster
    assert json.loads(booster.save_config())["learner"]["generic_param"]["nthread"] == "3"
    told = []
    for name, attribute in (("lightgbm", "_booster"), ("catboost", "_model")):
        for placement in (ANYWHERE, Placement(threads=2)):
            model = flavor_named(name).load(saved[name], POLICY, placement)
            real = getattr(model, attribute)
            if name == "lightgbm":
                monkeypatch.setattr(real, "predict", lambda rows, **given: told.append(given) or np.zeros(len(rows)))
                model.predict(ROWS, EVERYTHING)
            else:
                import catboost

                with monkeypatch.context() as patch:
                    patch.setattr(catboost.CatBoost, "predict", lambda self, rows, **given: told.append(given) or rows)
                    model.predict(ROWS, frozenset({"predict_proba"}))
    assert [given.get("num_threads") or given.get("thread_count") for given in told] == [1, 2, 1, 2]


def test_no_part_of_an_estimator_starts_more_threads_than_it_may():
    forest = RandomForestClassifier(n_estimators=4, n_jobs=-1, random_state=0).fit(ROWS, LABELS)
    files = flavor_named("sklearn").save(make_pipeline(StandardScaler(), forest).fit(ROWS, LABELS))
    for placement, jobs in ((ANYWHERE, 1), (Placement(threads=2), 2)):
        loaded = flavor_named("sklearn").load(files, POLICY, placement)
        assert loaded.estimator.get_params()["randomforestclassifier__n_jobs"] == jobs
        assert loaded.estimator.get_params()["standardscaler__copy"] is True
    one = flavor_named("sklearn").save(RandomForestClassifier(n_estimators=4, random_state=0).fit(ROWS, LABELS))
    assert flavor_named("sklearn").load(one, POLICY, Placement(threads=2)).estimator.n_jobs is None, "it wants none"


class FakeSession:
    """An onnxruntime session that says where it runs; it has no tensors."""

    active: tuple[str, ...] = ("CPUExecutionProvider",)

    def __init__(self, data, options, providers):
        FakeSession.made = SimpleNamespace(threads=options.intra_op_num_threads, providers=providers)

    def get_providers(self):
        return list(self.active)

    def get_inputs(self):
        return []

    get_outputs = get_inputs


@pytest.fixture
def onnx_runtime(monkeypatch):
    """onnxruntime with these providers."""

    def build(available, active):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
        monkeypatch.setattr(FakeSession, "active", active)
        monkeypatch.setattr(onnx_flavor, "thread_bound", lambda: 16)

    return build


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("placement", "available", "expected"),
    [
        (ANYWHERE, [CPU], [CPU]),
        (ANYWHERE, [CUDA, CPU], [CUDA, CPU]),
        (ON_CPU, [CUDA, CPU], [CPU]),
        (GPU, [CUDA, CPU], [CUDA, CPU]),
    ],
)
def test_onnx_takes_a_gpu_when_its_library_has_one(onnx_runtime, onnx_file, placement, available, expected):
    onnx_runtime(available, expected)
    flavor_named("onnx").load({"model.onnx": onnx_file.read_bytes()}, POLICY, placement)
    assert FakeSession.made.providers == expected


def test_onnx_that_insists_on_a_gpu_does_not_run_on_the_cpu_silently(onnx_runtime, onnx_file):
    files = {"model.onnx": onnx_file.read_bytes()}
    onnx_runtime([CPU], [CPU])
    with pytest.raises(LoadFailedError, match="placed on a GPU"):
        flavor_named("onnx").load(files, POLICY, GPU)
    onnx_runtime([CUDA, CPU], [CPU])  # it is built for one, and the driver is missing
    with pytest.raises(LoadFailedError, match="placed on a GPU"):
        flavor_named("onnx").load(files, POLICY, GPU)
    flavor_named("onnx").load(files, POLICY, ANYWHERE)


@pytest.mark.parametrize(("placement", "threads"), [(ANYWHERE, onnx_flavor.MAX_THREADS), (Placement(threads=9), 9)])
def test_onnx_has_its_own_pool(onnx_runtime, onnx_file, placement, threads):
    onnx_runtime([CPU], [CPU])
    flavor_named("onnx").load({"model.onnx": onnx_file.read_bytes()}, POLICY, placement)
    assert FakeSession.made.threads == threads


def test_every_format_takes_a_placement():
    import inspect

    for name in FLAVORS:
        assert "placement" in inspect.signature(flavor_named(name).load).parameters


# --- PyTorch ---


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def program(torch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def forward(self, x):
            ramp = torch.arange(2, dtype=torch.float32)  # made on the way, and so on a device of its own
            return self.layer(x) + ramp + torch.zeros(x.shape[0], 2)

    batch = torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(Net().eval(), (torch.randn(3, 4),), dynamic_shapes=({0: batch},))


@pytest.mark.parametrize("name", ["torch", "torchscript"])
def test_pytorch_that_insists_on_a_gpu_is_refused_where_there_is_none(torch, program, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flavor = flavor_named(name)
    files = flavor.save(program if name == "torch" else torch.jit.trace(torch.nn.Linear(4, 2), torch.randn(3, 4)))
    with pytest.raises(LoadFailedError, match=f"flavor `{name}` has none here"):
        flavor.load(files, TRUSTING, GPU)
    rows = {"x": ROWS.astype(np.float32)}
    assert flavor.load(files, TRUSTING, ON_CPU).predict(rows, frozenset({"predict"}))["predict"].shape == (60, 2)


def test_a_gpu_that_fails_is_no_reason_to_fall_over(torch, program, monkeypatch):
    """A build of PyTorch for the CPU that claims to have a GPU fails as a driver does that is damaged."""
    files = flavor_named("torch").save(program)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(*_args, **_options):
        raise RuntimeError("CUDA driver error")

    monkeypatch.setattr(torch.Tensor, "to", broken)
    with pytest.raises(LoadFailedError, match="CUDA driver error"):
        flavor_named("torch").load(files, POLICY, ANYWHERE)


def test_everything_in_a_program_is_on_its_device(torch, program):
    """PyTorch's device `meta` stands for a GPU: it refuses to mix with the CPU just as well."""
    from safetensors.torch import load

    from crossfade.registry.flavors.torch import _parse
    from crossfade.registry.flavors.torch_program import Interpreter

    files = flavor_named("torch").save(program)
    parsed, weights = _parse(files), load(files["weights.safetensors"])
    elsewhere = Interpreter(parsed, weights, "meta")
    (answer,) = elsewhere.run({"x": torch.randn(5, 4)}).values()
    assert answer.device.type == "meta"
    assert answer.shape == (5, 2)
    assert elsewhere._placed, "the program makes tensors on the way"
    (here,) = Interpreter(parsed, weights).run({"x": torch.randn(5, 4)}).values()
    assert here.device.type == "cpu"
