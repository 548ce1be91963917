"""A program run on sizes alone, to know before it runs what it would allocate and whether its sizes match."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from crossfade.registry.flavors.torch_operators import BINARY, UNARY, by_name

MAX_BYTES = 4 * 2**30
"""What one prediction may hold besides the weights and its inputs."""

MAX_PIECES = 100_000
"""Steps of a recurrence, or tensors that one is cut into: each costs some hundred bytes, however small it is."""


class Call(NamedTuple):
    """One step of a program, ready to be called."""

    name: str
    target: str
    function: Any
    args: list[Any]
    kwargs: dict[str, Any]
    finished: tuple[str, ...]
    """The values that no later step needs."""

    @property
    def chooses_device(self) -> bool:
        """Whether it is told on which device its result shall be."""
        schema = getattr(self.function, "_schema", None) if self.target.startswith("aten.") else None
        return schema is not None and any(argument.name == "device" for argument in schema.arguments)

    def arguments(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with every reference replaced by the value that it stands for."""
        return fill(self.args, values), {key: fill(value, values) for key, value in self.kwargs.items()}


class Ref(str):
    """The name of an earlier result."""

    __slots__ = ()


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Replace references by what they stand for."""
    if type(value) is Ref:
        return values[value]
    return [fill(item, values) for item in value] if type(value) is list else value


def rehearse(calls: Sequence[Call], tensors: Mapping[str, Any]) -> None:
    """Run a program on PyTorch's `meta` device, where tensors have sizes and no content.

    Args:
        calls: The program.
        tensors: Its inputs and weights, on that device.

    Raises:
        MemoryError: It would hold more than `MAX_BYTES`.
        ValueError: An operator would be given sizes that do not match.
        Exception: Whatever PyTorch itself raises.
    """
    values: dict[str, Any] = dict(tensors)
    sizes: dict[str, int] = {}
    held = 0
    for call in calls:
        values[call.name], workspace = _sized(call, *call.arguments(values))
        sizes[call.name] = _size(values[call.name])
        held += sizes[call.name]
        if held + workspace > MAX_BYTES:
            raise MemoryError(f"a prediction on inputs of this size would need more than {MAX_BYTES >> 30} GiB")
        for name in call.finished:
            del values[name]
            held -= sizes.pop(name)


def _sized(call: Call, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, int]:
    """Return what a step gives, without its content, and the bytes that it needs besides."""
    if not call.target.startswith("aten."):
        return call.function(*args, **kwargs), 0
    given = by_name(call.function, args, kwargs)
    workspace = _CHECKS[call.target](given) if call.target in _CHECKS else 0
    result = _STAND_INS[call.target](given) if call.target in _STAND_INS else None
    if result is not None:
        return result, workspace
    if call.chooses_device:
        kwargs = {**kwargs, "device": "meta"}
    return call.function(*args, **kwargs), workspace


def _size(value: Any) -> int:
    """Count bytes as if nothing were shared, because an operator may copy what was only expanded.

    Python's numbers do not wrap. A dimension of zero counts as one: some operators go through the others all the same.
    """
    if isinstance(value, (list, tuple)):
        return sum(_size(item) for item in value)
    return math.prod(max(size, 1) for size in value.shape) * int(value.dtype.itemsize) if hasattr(value, "shape") else 0


# --- what PyTorch does not check -----------------------------------------------------------------------------------


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _batch_norm(given: Mapping[str, Any]) -> int:
    channels = tuple(given["input"].shape[1:2])
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = given.get(name)
        _need(value is None or tuple(value.shape) == channels, f"`{name}` has not one element per channel")
    _need(not given.get("use_input_stats") or given.get("running_mean") is None, "the running mean would change")
    return 0


def _attention(given: Mapping[str, Any]) -> int:
    query, key, value = (given[name].shape for name in ("query", "key", "value"))
    _need(len(query) == len(key) == len(value) > 2, "query, key and value have different dimensions")
    _need(key[:-1] == value[:-1] and query[-1] == key[-1], "query, key and value do not match")
    grouped = bool(given.get("enable_gqa")) and query[:-3] == key[:-3]
    _need(query[:-2] == key[:-2] or grouped, "query and key do not match")
    _need(not given.get("dropout_p"), "attention with dropout is random")
    return int(math.prod(query[:-1]) * key[-2] * given["query"].dtype.itemsize)


def _recurrence(gates: int) -> Callable[[Mapping[str, Any]], int]:
    """Return the check of a recurrent layer: native code takes the sizes of its weights from each other."""

    def check(given: Mapping[str, Any]) -> int:
        sequence, states, weights = given["input"], given["hx"], [tuple(item.shape) for item in given["params"]]
        states = states if isinstance(states, list) else [states]
        _need(sequence.ndim == 3 and not given["train"], "a recurrent layer wants batches of sequences")
        batch, steps = sequence.shape[:2] if given["batch_first"] else sequence.shape[1::-1]
        layers, ways, hidden = given["num_layers"], 1 + bool(given["bidirectional"]), states[0].shape[-1]
        _need(steps <= MAX_PIECES, "the sequence is too long")
        sound = all(tuple(state.shape) == (layers * ways, batch, hidden) for state in states)
        _need(sound, "the states of a recurrent layer do not match, or it has projections")
        each = 4 if given["has_biases"] else 2
        _need(len(weights) == layers * ways * each, "a recurrent layer has another number of weights")
        for position in range(layers * ways):
            width = sequence.shape[-1] if position < ways else hidden * ways
            expected = [(gates * hidden, width), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
            _need(weights[position * each :][:each] == expected[:each], "the weights of a recurrent layer do not match")
        kinds = {item.dtype for item in (sequence, *states, *given["params"])}
        _need(len(kinds) == 1, "a recurrent layer computes with one datatype")
        return int(batch * steps * gates * hidden * ways * sequence.dtype.itemsize)

    return check


def _convolution(given: Mapping[str, Any]) -> int:
    """Only 32-bit convolutions are computed in place; others lay out each patch, one column per position."""
    image, weight = given["input"], given["weight"]
    if str(image.dtype) == "torch.float32":
        return 0
    patch = math.prod(weight.shape[1:])
    padding = given.get("padding", 0)
    border = 2 * max(padding) if isinstance(padding, list) and padding else 0
    positions = math.prod(size + max(border, 0) for size in image.shape[2:])
    return int(image.shape[0] * patch * positions * image.dtype.itemsize)


def _product(given: Mapping[str, Any]) -> int:
    """A product of stacks copies both when one of them is repeated to match the other."""
    left, right = given["self"].shape, given["other"].shape
    if not left[:-2] or not right[:-2] or left[:-2] == right[:-2]:
        return 0
    return int(
        math.prod(left[:-2])
        * math.prod(right[:-2])
        * (math.prod(left[-2:]) + math.prod(right[-2:]))
        * given["self"].dtype.itemsize
    )


def _quotient(given: Mapping[str, Any]) -> int:
    """The processor itself refuses to divide the smallest integer by -1, and that ends the process."""
    import torch

    floats = torch.result_type(given["self"], given["other"]).is_floating_point
    _need(floats or given.get("rounding_mode") != "trunc", "only floats are divided by truncation")
    return 0


def _pieces(given: Mapping[str, Any]) -> int:
    tensor, dim = given["self"], given.get("dim", 0)
    pieces = tensor.shape[dim] // max(given.get("split_size", 1), 1)
    _need(pieces <= MAX_PIECES, f"a tensor is cut into {pieces} pieces")
    return 0


_CHECKS: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.instance_norm.default": _batch_norm,
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.lstm.input": _recurrence(4),
    "aten.gru.input": _recurrence(3),
    "aten.rnn_tanh.input": _recurrence(1),
    "aten.rnn_relu.input": _recurrence(1),
    "aten.conv1d.default": _convolution,
    "aten.conv2d.default": _convolution,
    "aten.conv3d.default": _convolution,
    "aten.conv_transpose1d.default": _convolution,
    "aten.conv_transpose2d.input": _convolution,
    "aten.conv_transpose3d.input": _convolution,
    "aten.convolution.default": _convolution,
    "aten.matmul.default": _product,
    "aten.div.Tensor_mode": _quotient,
    "aten.div.Scalar_mode": _quotient,
    "aten.split.Tensor": _pieces,
    "aten.unbind.int": _pieces,
}
"""What must hold before an operator is called. Each answers the bytes that it needs besides its results."""


# --- what the meta device does otherwise ---------------------------------------------------------------------------

# It runs much of PyTorch as Python, a millisecond for each step, after seconds of imports. What programs consist of is
# told here instead. A result that is told may be larger than the real one and never smaller; None asks PyTorch.


def _alike(given: Mapping[str, Any]) -> Any:
    tensor = given["self"]
    return tensor.new_empty(tensor.shape) if tensor.is_floating_point() else None


def _paired(given: Mapping[str, Any]) -> Any:
    import torch

    left, right = given["self"], given["other"]
    if not left.is_floating_point():
        return None
    if isinstance(right, (int, float)):
        return left.new_empty(left.shape)
    same = left.shape == right.shape
    shape = left.shape if same else torch.broadcast_shapes(left.shape, right.shape)
    return left.new_empty(shape) if left.dtype == right.dtype else None


def _normed(given: Mapping[str, Any]) -> Any:
    return given["input"].new_empty(given["input"].shape)


def _normed_in_batches(given: Mapping[str, Any]) -> tuple[Any, ...]:
    return _normed(given), given["input"].new_empty(0), given["input"].new_empty(0)


def _transformed(given: Mapping[str, Any]) -> Any:
    weight = given["weight"].shape
    return given["input"].new_empty((*given["input"].shape[:-1], weight[0])) if len(weight) > 1 else None


def _recurrent(given: Mapping[str, Any]) -> tuple[Any, ...]:
    sequence, states = given["input"], given["hx"]
    states = states if isinstance(states, list) else [states]
    width = states[0].shape[-1] * (1 + bool(given["bidirectional"]))
    return (sequence.new_empty((*sequence.shape[:2], width)), *(state.new_empty(state.shape) for state in states))


def _attended(given: Mapping[str, Any]) -> Any:
    return given["query"].new_empty((*given["query"].shape[:-1], given["value"].shape[-1]))


def _viewed(given: Mapping[str, Any]) -> Any:
    """Some results are laid out in another order there, which has no such view; the size is the same."""
    return given["self"].reshape(given["size"])


_STAND_INS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    **dict.fromkeys(UNARY, _alike),
    **dict.fromkeys(BINARY, _paired),
    "aten.layer_norm.default": _normed,
    "aten._native_batch_norm_legit_no_training.default": _normed_in_batches,
    "aten.linear.default": _transformed,
    "aten.lstm.input": _recurrent,
    "aten.gru.input": _recurrent,
    "aten.rnn_tanh.input": _recurrent,
    "aten.rnn_relu.input": _recurrent,
    "aten.scaled_dot_product_attention.default": _attended,
    "aten.view.default": _viewed,
    "aten._unsafe_view.default": _viewed,
}
