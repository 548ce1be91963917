"""Whether a LightGBM model text is whole and sound.

LightGBM trusts its files: a truncated one, or a wrong index in a tree, makes it read foreign memory. So the text is
read here first, and every tree in it is checked.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np

from crossfade.errors import LoadFailedError
from crossfade.registry.flavors.answers import in_words
from crossfade.registry.flavors.trees import check_children

_TREE = "Tree="
_END = "end of trees"
_PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
_PER_NODE = (
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "internal_value",
    "internal_weight",
    "internal_count",
)
_ONCE = ("Tree", "num_leaves", "num_cat", "is_linear", "shrinkage")
_CATEGORIES = ("cat_boundaries", "cat_threshold")
_NUMBER = r"-?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|inf|nan)"
_NUMBER_LIST = re.compile(rf"(?:{_NUMBER}(?: {_NUMBER})*)? ?")
_TAIL = re.compile(r"\nparameters:\n(\[\w+: .*\]\n)+\nend of parameters\n\npandas_categorical:.*\n\Z")


def check_file(text: str) -> None:
    """Check a model text.

    Raises:
        LoadFailedError: It is damaged.
    """
    try:
        _check(text)
    except (KeyError, OverflowError, ValueError) as error:
        raise LoadFailedError(ref="lightgbm", problem=f"it is no intact file ({in_words(error)})") from error


def _check(text: str) -> None:
    if not text.startswith("tree\n"):
        raise ValueError("it does not start with `tree`")
    start = text.find(f"\n{_TREE}") + 1
    end = text.find(f"\n{_END}\n") + 1
    if not end or not _TAIL.search(text, end):
        raise ValueError("the end is missing")
    start = start if 0 < start < end else end
    header = _fields(text[:start])
    features = int(header["max_feature_idx"]) + 1
    for name in ("feature_names", "feature_infos"):
        if len(header[name].split()) != features:
            raise ValueError(f"{name} does not name {features} features")
    if header.get("linear_tree", "0") != "0":
        raise ValueError("linear trees are not supported")
    blocks = _blocks(text, header, start, end)
    per_iteration = int(header["num_tree_per_iteration"])
    if per_iteration < 1 or len(blocks) % per_iteration or not 1 <= int(header["num_class"]) <= per_iteration:
        raise ValueError("the number of trees does not fit the number of classes")
    for block in blocks:
        _check_tree(_fields(block), features)


def _blocks(text: str, header: dict[str, str], start: int, end: int) -> list[str]:
    """Cut the text where LightGBM cuts it: at the sizes, in bytes, that the header gives."""
    sizes = [int(size) for size in header.get("tree_sizes", "").split()]
    borders = np.cumsum([0, *sizes])
    encoded = text[start:end].encode()
    if any(size <= 0 for size in sizes) or borders[-1] > len(encoded) or encoded.count(b"\nTree=") + 1 < len(sizes):
        raise ValueError("the sizes of the trees do not fit")
    blocks = [encoded[a:b].decode() for a, b in pairwise(borders)]
    if encoded[borders[-1] :].strip() or any(
        not block.startswith(_TREE) or not block.endswith("\n\n\n") for block in blocks
    ):
        raise ValueError("the sizes of the trees do not fit")
    return blocks


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in block.split("\n"):  # `splitlines` knows more ends of lines than LightGBM
        name, equals, value = line.partition("=")
        if equals:
            if name in fields:
                raise ValueError(f"`{name[:80]}` appears twice")
            fields[name] = value
    return fields


def _check_tree(fields: dict[str, str], features: int) -> None:
    _check_fields(fields)
    leaves = int(fields["num_leaves"])
    inner = leaves - 1
    if inner == 0:
        return
    columns = {name: _numbers(fields, name, int) for name in ("split_feature", "left_child", "right_child")}
    if np.any(columns["split_feature"] < 0) or np.any(columns["split_feature"] >= features):
        raise ValueError("a tree uses a feature that the model does not have")
    children = np.concatenate((columns["left_child"], columns["right_child"]))
    check_children(children[children >= 0], inner)
    check_children(~children[children < 0], leaves, root=False)
    categorical = (_numbers(fields, "decision_type", int) & 1) == 1
    _check_categories(fields, _numbers(fields, "threshold", float)[categorical])


def _check_fields(fields: dict[str, str]) -> None:
    """LightGBM reads on several threads, where an error of its own ends the process."""
    known = {*_PER_LEAF, *_PER_NODE, *_ONCE, *_CATEGORIES}
    if not set(fields) <= known or not known - set(fields) <= set(_CATEGORIES):
        raise ValueError("a tree has other fields than it should")
    for name, value in fields.items():
        if not _NUMBER_LIST.fullmatch(value):
            raise ValueError(f"`{name}` of a tree is no list of numbers")
    leaves, linear = int(fields["num_leaves"]), int(fields["is_linear"])
    if leaves < 1 or linear or len(fields["leaf_value"].split()) != leaves or len(fields["shrinkage"].split()) != 1:
        raise ValueError("the leaves of a tree are incomplete")
    counts = dict.fromkeys(_PER_LEAF, leaves) | dict.fromkeys(_PER_NODE, leaves - 1)
    if leaves > 1 and any(len(fields[name].split()) != count for name, count in counts.items()):
        raise ValueError("the nodes of a tree are incomplete")


def _check_categories(fields: dict[str, str], thresholds: Any) -> None:
    """A categorical node's threshold is the number of its set; `cat_boundaries` says where each set's bits are."""
    count = int(fields["num_cat"])
    if np.any(thresholds != np.floor(thresholds)) or np.any(thresholds < 0) or np.any(thresholds >= count):
        raise ValueError("a tree refers to categories that it does not have")
    if count > 0:
        borders = _numbers(fields, "cat_boundaries", int)
        bits = _numbers(fields, "cat_threshold", int)
        if len(borders) != count + 1 or borders[0] != 0 or np.any(np.diff(borders) < 0) or borders[-1] != len(bits):
            raise ValueError("the categories of a tree are incomplete")


def _numbers(fields: dict[str, str], name: str, kind: type) -> Any:
    return np.array(fields[name].split(), dtype=np.float64 if kind is float else np.int64)
