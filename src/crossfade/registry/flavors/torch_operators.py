"""The operators of PyTorch that a saved program may call, and what they may be given.

Most of PyTorch's 3,000 `aten` operators trust their caller: some read past the end of a tensor when sizes do not match,
some return memory as they found it. So this is a list of those that are known to be safe, not of those known to be
harmful. Each was called with hostile arguments, its memory between pages that may not be touched and filled with two
different patterns. What PyTorch does not check itself, `torch_rehearsal.py` checks before the call.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TABLE = {
    "one element at a time, to one of the same kind": """
        abs acos acosh asin asinh atan atanh ceil celu cos cosh deg2rad digamma elu erf erfc erfinv exp exp2 expm1
        floor frac gelu hardshrink hardsigmoid hardswish hardtanh i0 leaky_relu lgamma log log10 log1p log2 log_sigmoid
        logit mish nan_to_num neg positive rad2deg reciprocal relu relu6 round round.decimals rsqrt selu sgn sigmoid
        sign silu sin sinc sinh softplus softshrink special_entr special_expit special_log_ndtr special_ndtr sqrt square
        tan tanh threshold trunc
    """,
    "two tensors, element by element, to one of the same kind": """
        add.Scalar add.Tensor atan2 div.Scalar div.Tensor fmax fmin hypot logaddexp logaddexp2 maximum minimum
        mul.Scalar mul.Tensor remainder.Scalar remainder.Tensor sub.Scalar sub.Tensor true_divide.Tensor
    """,
    "more arithmetic": """
        addcdiv addcmul bitwise_not copysign.Scalar copysign.Tensor div.Scalar_mode div.Tensor_mode float_power.Scalar
        float_power.Tensor_Scalar float_power.Tensor_Tensor floor_divide floor_divide.Scalar fmod.Scalar fmod.Tensor
        heaviside isfinite isinf isnan isneginf isposinf lerp.Scalar lerp.Tensor logical_not pow.Scalar
        pow.Tensor_Scalar pow.Tensor_Tensor prelu rsub.Scalar rsub.Tensor signbit true_divide.Scalar xlogy.Tensor
    """,
    "comparing and choosing": """
        __and__.Scalar __and__.Tensor __or__.Scalar __or__.Tensor __xor__.Scalar __xor__.Tensor bitwise_and.Scalar
        bitwise_and.Tensor bitwise_or.Scalar bitwise_or.Tensor bitwise_xor.Scalar bitwise_xor.Tensor clamp clamp.Tensor
        clamp_max clamp_max.Tensor clamp_min clamp_min.Tensor clip clip.Tensor eq.Scalar eq.Tensor ge.Scalar ge.Tensor
        gt.Scalar gt.Tensor isclose le.Scalar le.Tensor logical_and logical_or logical_xor lt.Scalar lt.Tensor
        masked_fill.Scalar masked_fill.Tensor ne.Scalar ne.Tensor where.Scalar where.ScalarOther where.ScalarSelf
        where.self
    """,
    "reducing": """
        all all.dim amax amin aminmax any any.dim any.dims argmax argmin argsort argsort.stable count_nonzero
        count_nonzero.dim_IntList cummax cummin cumprod cumsum kthvalue linalg_vector_norm logcumsumexp logsumexp max
        max.dim mean mean.dim median min min.dim mode nanmean nansum norm.ScalarOpt_dim prod prod.dim_int
        quantile quantile.scalar sort sort.stable std.correction std.dim sum sum.dim_IntList topk var.correction var.dim
    """,
    "products of matrices": "addmm addmv baddbmm bmm dot linear matmul mm mv outer",
    "layers": """
        _log_softmax _native_batch_norm_legit_no_training _softmax adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d
        avg_pool3d channel_shuffle col2im conv1d conv2d conv3d conv_transpose1d conv_transpose2d.input
        conv_transpose3d.input convolution embedding glu group_norm gru.input im2col instance_norm layer_norm
        log_softmax.int lstm.input max_pool1d max_pool2d max_pool3d native_group_norm native_layer_norm pixel_shuffle
        pixel_unshuffle rms_norm rnn_relu.input rnn_tanh.input scaled_dot_product_attention softmax.int
        upsample_bicubic2d.vec upsample_bilinear2d.vec upsample_linear1d.vec upsample_nearest1d.vec
        upsample_nearest2d.vec upsample_nearest3d.vec upsample_trilinear3d.vec
    """,
    "looking up": """
        bucketize.Tensor gather index.Tensor index_add index_copy index_fill.int_Scalar index_put index_select
        masked_scatter scatter.src scatter.value scatter_add scatter_reduce.two take
    """,
    "shapes": """
        _to_copy _unsafe_view alias broadcast_tensors cat clone constant_pad_nd contiguous copy detach diag_embed
        diagonal expand flip hstack lift_fresh_copy meshgrid.indexing narrow pad permute reflection_pad1d
        reflection_pad2d reflection_pad3d repeat repeat_interleave.self_int replication_pad1d replication_pad2d
        replication_pad3d reshape roll rot90 select.int select_scatter slice.Tensor slice_scatter split.Tensor
        split_with_sizes squeeze squeeze.dim squeeze.dims stack t tile transpose.int tril triu unbind.int unfold
        unsqueeze view
    """,
    "making": """
        arange arange.start arange.start_step eye eye.m fill.Scalar fill.Tensor full full_like linspace new_full
        new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like
    """,
    "sizes": "sym_numel sym_size.int",
}
"""Left out on purpose: what returns memory as it found it (`empty`), draws at random, changes a tensor in place, has
results whose size depends on values (`nonzero`), shares storage on its own terms (`as_strided`), or reads elsewhere
when a tensor is expanded (`median.dim`)."""


def _named(*groups: str) -> frozenset[str]:
    names = [name for group in groups for name in _TABLE[group].split()]
    return frozenset(f"aten.{name}" if "." in name else f"aten.{name}.default" for name in names)


OPERATORS = _named(*_TABLE)
"""`aten.<name>.<overload>`, as PyTorch writes them."""

UNARY = _named("one element at a time, to one of the same kind")
BINARY = _named("two tensors, element by element, to one of the same kind")

MAX_SIZE = 2**63 - 1


def _of_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hold a function to plain numbers that fit 64 bits: `[0] * 10**12` and towers of powers cost memory, too."""

    def calculate(*numbers: Any) -> Any:
        if not all(isinstance(number, (bool, int, float)) for number in numbers):
            raise TypeError("a size is calculated from something that is not a number")
        result = function(*numbers)
        if isinstance(result, int) and abs(result) > MAX_SIZE:
            raise OverflowError("a size does not fit 64 bits")
        return result

    return calculate


def _item(values: Any, position: Any) -> Any:
    if not isinstance(values, (list, tuple)) or type(position) is not int:
        raise TypeError("only results of an operator with several are numbered")
    return values[position]


_SIZES: dict[str, Callable[..., Any]] = {
    **{
        name: _of_sizes(getattr(operator, name))
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
    },
    **{name: _of_sizes(getattr(math, name)) for name in ("ceil", "floor", "trunc", "sqrt")},
    "sym_max": _of_sizes(max),
    "sym_min": _of_sizes(min),
    "sym_float": _of_sizes(float),
    "sym_int": _of_sizes(int),
    "sym_not": _of_sizes(operator.not_),
    "sym_sqrt": _of_sizes(math.sqrt),
    "getitem": _item,
}
"""Functions of sizes, which are plain numbers when the program runs; and the one that takes a result apart."""


def resolve(target: str) -> Any:
    """Return the operator with this name.

    Raises:
        ValueError: It is not one that a program may call.
    """
    import torch

    if target in _SIZES:
        return _SIZES[target]
    if target not in OPERATORS:
        raise ValueError(f"operator `{target[:80]}` is not allowed")
    _, name, overload = target.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)


def by_name(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an `aten` operator by the names in its schema.

    Raises:
        ValueError: It has no such arguments.
    """
    names = [argument.name for argument in function._schema.arguments]
    positional = dict(zip(names, args, strict=False))
    if len(args) > len(names) or not set(kwargs) <= set(names) - set(positional):
        raise ValueError(f"operator `{function}` has no such argument")
    return {**positional, **kwargs}


def check_arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check the arguments that PyTorch takes as they are: it reads any number as a dtype, and then reads past a table.

    Raises:
        ValueError: One is of the wrong kind, or is nothing that a program may choose.
    """
    import torch

    kinds = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
    for name, value in by_name(function, args, kwargs).items():
        if name in kinds and value is not None and not isinstance(value, kinds[name]):
            raise ValueError(f"argument `{name}` of `{function}` is not allowed")
        if name in ("device", "pin_memory", "generator", "out") and not (value is None or value is False):
            raise ValueError(f"argument `{name}` of `{function}` is not allowed")
