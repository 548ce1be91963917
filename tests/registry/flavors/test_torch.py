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
from crossfade.registry.flavors.torch_operators import OPERATORS, resolve
from crossfade.registry.flavors.torch_rehearsal import MAX_BYTES
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


def every_operator():
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, operator = name.partition("::")
        base, _, overload = operator.partition(".")
        yield f"{namespace}.{base}.{overload or 'default'}"


def test_every_operator_outside_of_the_list_is_refused():
    known = set(every_operator())
    assert known >= OPERATORS
    assert len(known) > 3000
    for target in known - OPERATORS:
        with pytest.raises(ValueError, match="is not allowed"):
            resolve(target)


def test_no_operator_on_the_list_writes_in_place_or_draws_at_random():
    for target in OPERATORS:
        schema = resolve(target)._schema
        assert not any(argument.alias_info and argument.alias_info.is_write for argument in schema.arguments), target
        assert not any(argument.name in {"generator", "unsafe"} for argument in schema.arguments), target


def crafted(*steps, dtype="FP32"):
    """Return the files of a program with one input of rows of three, `x`, whose last step is what it answers."""
    document = {
        "inputs": [{"name": "x", "datatype": dtype, "shape": [-1, 3]}],
        "outputs": [{"name": "predict", "datatype": "FP32", "shape": [-1]}],
        "weights": {"one": "one"},
        "steps": [
            {"name": f"step_{position}", "target": target, "args": list(args), "kwargs": kwargs}
            for position, (target, kwargs, *args) in enumerate(steps)
        ],
        "results": {"predict": f"step_{len(steps) - 1}"},
    }
    return {"program.json": json.dumps(document).encode(), "weights.safetensors": save({"one": torch.ones(1)})}


X_, ONE = {"ref": "x"}, {"ref": "one"}
FIRST = {"ref": "step_0"}


@pytest.mark.parametrize(
    "steps",
    [
        [
            ("aten.full.default", {"dtype": {"torch": "int64"}}, [1], 10**9),
            ("aten.segment_reduce.default", {"lengths": FIRST, "unsafe": True}, X_, "sum"),
        ],
        [("aten.empty.memory_format", {}, [1000])],
        [("aten.new_empty.default", {}, X_, [1000])],
        [("aten.empty_strided.default", {}, [10], [1])],
        [("aten.as_strided.default", {}, X_, [10], [1])],
        [("aten.rand.default", {}, [3])],
        [("aten.rand_like.default", {}, X_)],
        [("aten.set.source_Storage", {}, X_, ONE)],
        [("aten._nested_view_from_buffer.default", {}, X_, ONE, ONE, ONE)],
        [("aten.record_stream.default", {}, X_, 0)],
        [("aten.clone.default", {"memory_format": -1}, X_)],
        [("aten._to_copy.default", {"dtype": -2}, X_)],
        [("aten.zeros.default", {"device": 0}, [1])],
        [("aten.clone.default", {"nothing": 1}, X_)],
        [("aten.clone.default", {}, X_, None, None)],
    ],
    ids=lambda steps: steps[-1][0],
)
def test_a_program_that_reaches_past_its_tensors_is_refused(steps):
    with pytest.raises(LoadFailedError, match="not allowed|no such argument"):
        TORCH.load(crafted(*steps), POLICY)


@pytest.mark.parametrize("name", ["x", "one", "step_0"])
def test_a_value_cannot_be_replaced(name):
    def change(document):
        document["steps"][1]["name"] = name

    files = crafted(("aten.abs.default", {}, X_), ("aten.abs.default", {}, X_))
    with pytest.raises(LoadFailedError, match="computed twice"):
        TORCH.load(changed(files, change), POLICY)


def answer(files, rows=2, dtype=np.float32):
    runnable = TORCH.load(files, POLICY)
    return runnable.predict({"x": np.ones((rows, 3), dtype)}, frozenset({"predict"}))["predict"]


HUGE = 10**12


@pytest.mark.parametrize(
    "steps",
    [
        [("aten.full.default", {}, [HUGE], 1.0)],
        [("aten.full.default", {"dtype": {"torch": "bool"}}, [MAX_BYTES + 1], True)],
        [("aten.arange.default", {}, HUGE)],
        [("aten.linspace.default", {}, 0, 1, HUGE)],
        [("aten.eye.default", {}, 10**6)],
        [("aten.new_zeros.default", {}, X_, [HUGE])],
        [("aten.expand.default", {}, ONE, [HUGE]), ("aten.clone.default", {}, FIRST)],
        [("aten.repeat.default", {}, ONE, [HUGE])],
        [("aten.constant_pad_nd.default", {}, ONE, [HUGE, 0])],
        [("aten.arange.default", {}, 10**5), ("aten.outer.default", {}, FIRST, FIRST)],
        [("aten.expand.default", {}, ONE, [40_000]), ("aten.diag_embed.default", {}, FIRST)],
        [("aten.full.default", {}, [10**9], 1.0), ("aten.add.Tensor", {}, FIRST, FIRST)],
        [
            ("aten.full.default", {"dtype": {"torch": "float64"}}, [1, 1, 200, 200], 1.0),
            ("aten.full.default", {"dtype": {"torch": "float64"}}, [1, 1, 100, 100], 1.0),
            ("aten.repeat.default", {}, FIRST, [20, 1, 1, 1]),
            ("aten.conv2d.default", {}, {"ref": "step_2"}, {"ref": "step_1"}),
        ],
        [
            ("aten.zeros.default", {}, [1, 1, 40_000, 1]),
            ("aten.scaled_dot_product_attention.default", {}, FIRST, FIRST, FIRST),
        ],
        [
            ("aten.zeros.default", {}, [100, 1, 1, 10_000]),
            ("aten.zeros.default", {}, [1, 2000, 10_000, 1]),
            ("aten.matmul.default", {}, FIRST, {"ref": "step_1"}),
        ],
    ],
    ids=lambda steps: steps[-1][0],
)
def test_no_program_can_allocate_without_bounds(steps):
    with pytest.raises(MemoryError, match="more than 4 GiB"):
        answer(crafted(*steps))


def test_memory_depends_on_the_sizes_of_the_inputs():
    files = crafted(
        ("aten.sym_size.int", {}, X_, 0),
        ("mul", {}, FIRST, 10**6),
        ("aten.zeros.default", {"dtype": {"torch": "bool"}}, [{"ref": "step_1"}]),
        ("aten.any.default", {}, {"ref": "step_2"}),
    )
    assert not answer(files, rows=2)
    with pytest.raises(MemoryError):
        answer(files, rows=5000)


def test_values_are_forgotten_after_their_last_use():
    doubled = [("aten.add.Tensor", {}, {"ref": f"step_{position}"}, ONE) for position in range(40)]
    answer(crafted(("aten.expand.default", {}, ONE, [MAX_BYTES // 16]), *[(*doubled[0],)]))
    steps = [("aten.expand.default", {}, ONE, [MAX_BYTES // 4 // 10])]
    steps += [("aten.expand.default", {}, {"ref": f"step_{position}"}, [-1]) for position in range(40)]
    assert len(answer(crafted(*steps))) == MAX_BYTES // 4 // 10


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([("mul", {}, [1], HUGE)], "not a number"),
        ([("mul", {}, 2**40, 2**40)], "64 bits"),
        ([("add", {}, X_, X_)], "not a number"),
        ([("getitem", {}, X_, 0)], "numbered"),
    ],
)
def test_sizes_are_plain_numbers(steps, problem):
    with pytest.raises((TypeError, OverflowError), match=problem):
        answer(crafted(*steps))


INTEGERS = {"dtype": {"torch": "int64"}}


def recurrent(**changes):
    """Return an LSTM of two features and one hidden value, with changes."""
    sizes = {"input": [2, 5, 2], "hidden": [1, 2, 1], "cell": [1, 2, 1], "w": [4, 2], "u": [4, 1], "b": [4], **changes}
    layers = sizes.pop("layers", 1)
    steps = [("aten.zeros.default", {}, size) for size in sizes.values()]
    values = [{"ref": f"step_{position}"} for position in range(len(steps))]
    call = (values[0], values[1:3], [*values[3:], values[-1]], True, layers, 0.0, False, False, True)
    return [*steps, ("aten.lstm.input", {}, *call), ("getitem", {}, {"ref": "step_6"}, 0)]


def test_a_sound_recurrent_layer_is_run():
    assert answer(crafted(*recurrent())).shape == (2, 5, 1)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (recurrent(hidden=[1, 2, 5000]), "states"),
        (recurrent(hidden=[1, 1, 1], cell=[1, 1, 1]), "states"),
        (recurrent(w=[4, 1]), "weights"),
        (recurrent(b=[1]), "weights"),
        (recurrent(u=[1, 1]), "weights"),
        (recurrent(layers=10**9), "states"),
        (recurrent(input=[2, 2]), "sequences"),
        (recurrent(input=[2, 10**6, 2]), "too long"),
        (
            [("aten._native_batch_norm_legit_no_training.default", {}, X_, None, None, ONE, ONE, 0.1, 1e-5)],
            "per channel",
        ),
        ([("aten.instance_norm.default", {}, X_, None, None, ONE, ONE, True, 0.1, 1e-5, False)], "per channel"),
        (
            [
                ("aten.zeros.default", {}, [1, 1, 500, 4]),
                ("aten.zeros.default", {}, [1, 1, 1, 4]),
                ("aten.scaled_dot_product_attention.default", {}, FIRST, FIRST, {"ref": "step_1"}),
            ],
            "do not match",
        ),
        (
            [
                ("aten.full.default", INTEGERS, [1], -(2**63)),
                ("aten.div.Scalar_mode", {"rounding_mode": "trunc"}, FIRST, -1),
            ],
            "truncation",
        ),
        ([("aten.expand.default", {}, ONE, [10**9]), ("aten.unbind.int", {}, FIRST)], "pieces"),
        ([("aten.expand.default", {}, ONE, [10**9]), ("aten.split.Tensor", {}, FIRST, 1)], "pieces"),
    ],
)
def test_sizes_that_pytorch_does_not_compare_are_compared(steps, problem):
    with pytest.raises(ValueError, match=problem):
        answer(crafted(*steps))


@pytest.mark.parametrize(
    "steps",
    [
        [("aten.full.default", INTEGERS, [2], 10**9), ("aten.embedding.default", {}, X_, FIRST)],
        [("aten.full.default", INTEGERS, [2], 10**9), ("aten.index.Tensor", {}, X_, [FIRST])],
        [("aten.full.default", INTEGERS, [2, 1], -4), ("aten.gather.default", {}, X_, 1, FIRST)],
        [("aten.full.default", INTEGERS, [2], 7), ("aten.index_select.default", {}, X_, 1, FIRST)],
        [("aten.view.default", {}, X_, [2**32, 2**32])],
        [("aten.full.default", {}, [-1], 1.0)],
        [("aten.full.default", {}, [2**62, 2**62], 1.0)],
        [("aten.zeros.default", {}, [3, 3]), ("aten.mm.default", {}, FIRST, ONE)],
        [("aten.select.int", {}, X_, 9, 9)],
    ],
    ids=lambda steps: steps[-1][0],
)
def test_what_pytorch_refuses_fails_the_prediction_only(steps):
    with pytest.raises((RuntimeError, IndexError)):
        answer(crafted(*steps))


def test_other_files_are_refused(files):
    with pytest.raises(LoadFailedError, match="consists of"):
        TORCH.load({**files, "more": b""}, POLICY)
    with pytest.raises(LoadFailedError):
        TORCH.load({**files, "weights.safetensors": save({"other": torch.ones(1)})}, POLICY)


def test_operators_are_found():
    assert resolve("aten.add.Tensor")(torch.ones(1), torch.ones(1)).item() == 2
    assert resolve("sym_max")(1, 2) == 2


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
