"""Which operators a PyTorch program may call, with what, and how much memory it may take."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from crossfade.core.tensors import Signature
from crossfade.errors import LoadFailedError, PredictionError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.flavors.torch import Torch
from crossfade.registry.flavors.torch_operators import OPERATORS, resolve
from crossfade.registry.flavors.torch_rehearsal import MAX_BYTES
from crossfade.registry.pipeline import Pipeline

POLICY = TrustPolicy()
TORCH = Torch()
X, ONE, FIRST = {"ref": "x"}, {"ref": "one"}, {"ref": "step_0"}
INTEGERS = {"dtype": {"torch": "int64"}}
HUGE = 10**12


def test_operators_are_found():
    assert resolve("aten.add.Tensor")(torch.ones(1), torch.ones(1)).item() == 2
    assert resolve("sym_max")(1, 2) == 2


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


@pytest.mark.parametrize(
    "steps",
    [
        [
            ("aten.full.default", {"dtype": {"torch": "int64"}}, [1], 10**9),
            ("aten.segment_reduce.default", {"lengths": FIRST, "unsafe": True}, X, "sum"),
        ],
        [("aten.empty.memory_format", {}, [1000])],
        [("aten.new_empty.default", {}, X, [1000])],
        [("aten.empty_strided.default", {}, [10], [1])],
        [("aten.as_strided.default", {}, X, [10], [1])],
        [("aten.rand.default", {}, [3])],
        [("aten.rand_like.default", {}, X)],
        [("aten.set.source_Storage", {}, X, ONE)],
        [("aten._nested_view_from_buffer.default", {}, X, ONE, ONE, ONE)],
        [("aten.record_stream.default", {}, X, 0)],
        [("aten.clone.default", {"memory_format": -1}, X)],
        [("aten._to_copy.default", {"dtype": -2}, X)],
        [("aten.zeros.default", {"device": 0}, [1])],
        [("aten.clone.default", {"nothing": 1}, X)],
        [("aten.clone.default", {}, X, None, None)],
    ],
    ids=lambda steps: steps[-1][0],
)
def test_a_program_that_reaches_past_its_tensors_is_refused(steps):
    with pytest.raises(LoadFailedError, match=r"not allowed|no such argument"):
        TORCH.load(crafted(*steps), POLICY)


@pytest.mark.parametrize("name", ["x", "one", "step_0"])
def test_a_value_cannot_be_replaced(name):
    files = crafted(("aten.abs.default", {}, X), ("aten.abs.default", {}, X))
    document = json.loads(files["program.json"])
    document["steps"][1]["name"] = name
    with pytest.raises(LoadFailedError, match="computed twice"):
        TORCH.load({**files, "program.json": json.dumps(document).encode()}, POLICY)


def answer(files, rows=2, dtype=np.float32):
    runnable = TORCH.load(files, POLICY)
    return runnable.predict({"x": np.ones((rows, 3), dtype)}, frozenset({"predict"}))["predict"]


@pytest.mark.parametrize(
    "steps",
    [
        [("aten.full.default", {}, [HUGE], 1.0)],
        [("aten.full.default", {"dtype": {"torch": "bool"}}, [MAX_BYTES + 1], True)],
        [("aten.arange.default", {}, HUGE)],
        [("aten.linspace.default", {}, 0, 1, HUGE)],
        [("aten.eye.default", {}, 10**6)],
        [("aten.new_zeros.default", {}, X, [HUGE])],
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
        ("aten.sym_size.int", {}, X, 0),
        ("mul", {}, FIRST, 10**6),
        ("aten.zeros.default", {"dtype": {"torch": "bool"}}, [{"ref": "step_1"}]),
        ("aten.any.default", {}, {"ref": "step_2"}),
    )
    assert not answer(files, rows=2)
    with pytest.raises(MemoryError):
        answer(files, rows=5000)


def test_values_are_forgotten_after_their_last_use():
    steps = [("aten.expand.default", {}, ONE, [MAX_BYTES // 40])]  # a tenth of the limit, in 32-bit numbers
    steps += [("aten.expand.default", {}, {"ref": f"step_{position}"}, [-1]) for position in range(40)]
    steps += [("aten.select.int", {}, {"ref": "step_40"}, 0, 0)]
    assert answer(crafted(*steps)) == 1


def test_too_much_memory_fails_the_prediction_only():
    files = crafted(("aten.full.default", {}, [HUGE], 1.0))
    runnable = TORCH.load(files, POLICY)
    pipeline = Pipeline(Signature(inputs=runnable.inputs, outputs=runnable.outputs), runnable, ref="m@1.0.0")
    with pytest.raises(PredictionError, match="failed on this input: MemoryError"):
        pipeline.predict({"x": np.ones((2, 3), np.float32)}, frozenset({"predict"}))


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([("mul", {}, [1], HUGE)], "not a number"),
        ([("mul", {}, 2**40, 2**40)], "64 bits"),
        ([("add", {}, X, X)], "not a number"),
        ([("getitem", {}, X, 0)], "numbered"),
    ],
)
def test_sizes_are_plain_numbers(steps, problem):
    with pytest.raises((TypeError, OverflowError), match=problem):
        answer(crafted(*steps))


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
            [("aten._native_batch_norm_legit_no_training.default", {}, X, None, None, ONE, ONE, 0.1, 1e-5)],
            "per channel",
        ),
        ([("aten.instance_norm.default", {}, X, None, None, ONE, ONE, True, 0.1, 1e-5, False)], "per channel"),
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
        [("aten.full.default", INTEGERS, [2], 10**9), ("aten.embedding.default", {}, X, FIRST)],
        [("aten.full.default", INTEGERS, [2], 10**9), ("aten.index.Tensor", {}, X, [FIRST])],
        [("aten.full.default", INTEGERS, [2, 1], -4), ("aten.gather.default", {}, X, 1, FIRST)],
        [("aten.full.default", INTEGERS, [2], 7), ("aten.index_select.default", {}, X, 1, FIRST)],
        [("aten.view.default", {}, X, [2**32, 2**32])],
        [("aten.full.default", {}, [-1], 1.0)],
        [("aten.full.default", {}, [2**62, 2**62], 1.0)],
        [("aten.zeros.default", {}, [3, 3]), ("aten.mm.default", {}, FIRST, ONE)],
        [("aten.select.int", {}, X, 9, 9)],
    ],
    ids=lambda steps: steps[-1][0],
)
def test_what_pytorch_refuses_fails_the_prediction_only(steps):
    with pytest.raises((RuntimeError, IndexError)):
        answer(crafted(*steps))
