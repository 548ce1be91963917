"""PyTorch: exported programs as data, TorchScript only with permission."""

import io
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save

from crossfade.errors import CodeNotAllowedError, LoadFailedError, UnknownFlavorError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.torch import Torch
from crossfade.registry.flavors.torchscript import TorchScript
from crossfade.testing.flavors import FlavorContract
from tests.registry.flavors.rows import X

POLICY, TRUSTING = TrustPolicy(), TrustPolicy(allow_code=True)
TORCH = Torch()
SCRIPT = TorchScript()
FLOATS = X.astype(np.float32)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.out = torch.nn.Linear(8, 3)
        self.register_buffer("centre", torch.ones(4))

    def forward(self, x):
        hidden = torch.relu(self.norm(self.hidden((x - self.centre) * torch.tensor(2.0))))
        halves = hidden.view(hidden.shape[0] * 2, -1).sum(-1)
        return {"probabilities": torch.softmax(self.out(hidden), -1), "sums": halves[: hidden.shape[0]]}


class Reader(torch.nn.Module):
    """Tokens and a weight in; embedding, recurrence, attention and convolution inside."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(10, 6)
        self.recur = torch.nn.GRU(6, 4, batch_first=True)
        self.attend = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.convolve = torch.nn.Conv1d(4, 2, 3, padding=1)

    def forward(self, tokens, weight):
        states, _ = self.recur(self.embed(tokens))
        states, _ = self.attend(states, states, states)
        mixed = torch.nn.functional.gelu(self.convolve(states.transpose(1, 2)), approximate="tanh").mean((1, 2))
        return torch.where(weight > 0, mixed, torch.full_like(weight, float("inf"))), mixed.to(torch.float64)


# PyTorch warns about itself while it exports and traces
pytestmark = pytest.mark.filterwarnings("ignore")


def export(module, *examples):
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(module.eval(), examples, dynamic_shapes=tuple({0: batch} for _ in examples))


@pytest.fixture(scope="module")
def model():
    return export(Net(), torch.randn(3, 4))


@pytest.fixture
def inputs():
    return {"x": FLOATS[:8]}


class TestTorch(FlavorContract):
    flavor = "torch"
    package = "torch"
    flips = 30


class TestTorchScript(FlavorContract):
    flavor = "torchscript"
    package = "torch"
    flips = 0  # a damaged archive may hold damaged code, which may do anything: that is why it needs permission

    @pytest.fixture
    def model(self):
        return torch.jit.trace(torch.nn.Linear(4, 2), torch.randn(2, 4))


def test_specs_are_read_from_the_program(model):
    loaded = TORCH.load(TORCH.save(model), POLICY)
    assert [(spec.name, spec.describe()) for spec in loaded.inputs] == [("x", "FP32 [-1, 4]")]
    assert [(spec.name, spec.describe()) for spec in loaded.outputs] == [
        ("probabilities", "FP32 [-1, 3]"),
        ("sums", "FP32 [-1]"),
    ]


@pytest.mark.slow
def test_a_larger_network_answers_like_its_module():
    module = Reader()
    exported = export(module, torch.randint(0, 10, (3, 7)), torch.randn(3))
    loaded = TORCH.load(TORCH.save(exported), POLICY)
    assert [spec.name for spec in loaded.outputs] == ["output_0", "output_1"]
    tokens, weight = np.arange(35).reshape(5, 7) % 10, FLOATS[:5, 0]
    answers = loaded.predict({"tokens": tokens, "weight": weight}, frozenset({"output_0", "output_1"}))
    with torch.inference_mode():
        expected = module(torch.from_numpy(tokens), torch.from_numpy(weight.copy()))
    for value, name in zip(expected, ("output_0", "output_1"), strict=True):
        np.testing.assert_allclose(answers[name], value.numpy(), rtol=1e-5, atol=1e-6)
    assert answers["output_1"].dtype == np.float64


class Pictures(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 4, 3, groups=2),
            torch.nn.GroupNorm(2, 4),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Dropout(),
            torch.nn.Linear(4, 3),
            torch.nn.Softmax(-1),
        )

    def forward(self, x):
        return self.layers(x)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.cell = torch.nn.LSTMCell(6, 5)
        self.norm = torch.nn.LayerNorm(5)

    def forward(self, x):
        return self.norm(self.cell(self.lstm(x)[0][:, -1])[0])


class Attentive(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 8, padding_idx=0)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.encoder(self.embed(tokens), src_key_padding_mask=tokens == 0).mean(1)


@pytest.mark.parametrize(
    ("module", "example"),
    [
        (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(), torch.nn.GELU()), torch.randn(3, 4)),
        (Pictures(), torch.randn(3, 3, 8, 8)),
        (Recurrent(), torch.randn(3, 6, 4)),
        (Attentive(), torch.randint(1, 10, (3, 7))),
    ],
    ids=["perceptron", "pictures", "recurrent", "attentive"],
)
@pytest.mark.slow
def test_usual_networks_answer_like_their_modules(module, example):
    loaded = TORCH.load(TORCH.save(export(module, example)), POLICY)
    rows = torch.cat([example, example[:2]])
    with torch.inference_mode():
        expected = module(rows).numpy()
    answer = loaded.predict(rows.numpy(), frozenset({"predict"}))["predict"]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


def test_read_only_and_bare_arrays_are_taken(model):
    loaded = TORCH.load(TORCH.save(model), POLICY)
    frozen = FLOATS[:2].copy()
    frozen.setflags(write=False)
    expected = loaded.predict({"x": frozen}, frozenset({"sums"}))["sums"]
    np.testing.assert_array_equal(loaded.predict(X[:2], frozenset({"sums"}))["sums"], expected)


def test_a_predict_of_one_output_and_a_tuple_of_one():
    class One(torch.nn.Module):
        def forward(self, x):
            return (x.sum(-1),)

    loaded = TORCH.load(TORCH.save(export(One(), torch.randn(3, 4))), POLICY)
    assert [spec.name for spec in loaded.outputs] == ["predict"]


# --- nothing is unpickled, nothing else is run ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(model):
    return TORCH.save(model)


def test_nothing_is_unpickled(files, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    assert not any(b"pkl" in data or b"\x80\x02" in data for data in files.values())
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert TORCH.load(files, POLICY).predict({"x": FLOATS[:2]}, frozenset({"sums"}))


def changed(files, change):
    document = json.loads(files["program.json"])
    change(document)
    return {**files, "program.json": json.dumps(document).encode()}


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.hub.load",
        "aten.from_file.default",
        "aten.add_.Tensor",
        "aten.resize_.default",
        "aten.nothing.default",
        "aten.add.nothing",
        "aten.__class__.mro",
        "aten.add.__call__",
        "prim.Print.default",
        "builtins.eval",
        "getitem.__self__",
        "aten._assert_async.msg",
        "aten.save.default",
        "",
    ],
)
def test_no_other_operator_can_be_called(files, target):
    def change(document):
        document["steps"][-1]["target"] = target

    with pytest.raises(LoadFailedError, match="operator"):
        TORCH.load(changed(files, change), POLICY)


@pytest.mark.parametrize(
    "argument",
    ["/etc/passwd", {"ref": "nothing"}, {"torch": "hub"}, {"torch": "load"}, {"float": "1"}, {"a": 1, "b": 2}, [["x"]]],
)
def test_no_other_argument_can_be_given(files, argument):
    def change(document):
        document["steps"][0]["args"] = [argument]

    with pytest.raises(LoadFailedError, match="argument"):
        TORCH.load(changed(files, change), POLICY)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["results"].update(sums="nothing"),
        lambda document: document["weights"].update(p_hidden_weight="nothing"),
        lambda document: document.update(code="import os"),
        lambda document: document.pop("steps"),
        lambda document: document["steps"].insert(0, {"name": "a", "target": "add", "args": [], "kwargs": {}, "x": 1}),
    ],
)
def test_an_unsound_program_is_refused(files, change):
    with pytest.raises(LoadFailedError):
        TORCH.load(changed(files, change), POLICY)


def test_other_files_are_refused(files):
    with pytest.raises(LoadFailedError, match="consists of"):
        TORCH.load({**files, "more": b""}, POLICY)
    with pytest.raises(LoadFailedError):
        TORCH.load({**files, "weights.safetensors": save({"other": torch.ones(1)})}, POLICY)


# --- what cannot be saved ------------------------------------------------------------------------------------------


def refused(model):
    with pytest.raises(UnknownFlavorError) as caught:
        TORCH.save(model)
    return str(caught.value)


def test_a_plain_module_is_told_how_to_export():
    assert TORCH.recognises(Net())
    assert "torch.export.export" in refused(Net())


def test_a_fixed_batch_size_is_refused():
    assert "fixed batch size" in refused(torch.export.export(Net().eval(), (torch.randn(3, 4),)))


def test_state_is_refused():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen.add_(1)
            return x + self.seen

    assert "state" in refused(export(Counting(), torch.randn(3, 4)))


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (torch.nonzero, "aten.nonzero.default"),
        (torch.rand_like, "aten.rand_like.default"),
        (lambda x: x.as_strided((2, 2), (1, 1)), "aten.as_strided.default"),
    ],
)
def test_an_operator_outside_of_the_list_is_refused_by_its_name(operation, problem):
    class Outside(torch.nn.Module):
        def forward(self, x):
            return operation(x)

    assert problem in refused(export(Outside(), torch.randn(3, 4)))


def test_a_scripted_module_needs_permission_and_answers_several_outputs():
    class Two(torch.nn.Module):
        def forward(self, x):
            return x.sum(-1), x.mean(-1)

    files = SCRIPT.save(torch.jit.trace(Two(), torch.randn(2, 4)))
    with pytest.raises(CodeNotAllowedError, match="TorchScript"):
        SCRIPT.load(files, POLICY)
    answers = SCRIPT.load(files, TRUSTING).predict({"x": FLOATS[:3]}, frozenset())
    assert set(answers) == {"output_0", "output_1"}


def test_a_scripted_module_may_answer_a_dict():
    class Named(torch.nn.Module):
        def forward(self, x):
            return {"total": x.sum(-1)}

    loaded = SCRIPT.load(SCRIPT.save(torch.jit.trace(Named(), torch.randn(2, 4), strict=False)), TRUSTING)
    assert set(loaded.predict({"x": FLOATS[:3]}, frozenset())) == {"total"}


def test_a_pickled_module_is_no_archive():
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    with pytest.raises(LoadFailedError):
        SCRIPT.load({"model.pt": buffer.getvalue()}, TRUSTING)
