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
_REQUIRED = {"Tree", "num_leaves", "num_cat", "leaf_value", "is_linear", "shrinkage"}
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
    if encoded[borders[-1] :].strip() or any(not block.startswith(_TREE) for block in blocks):
        raise ValueError("the sizes of the trees do not fit")
    return blocks


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in block.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            if name in fields:
                raise ValueError(f"`{name[:80]}` appears twice")
            fields[name] = value
    return fields


def _check_tree(fields: dict[str, str], features: int) -> None:
    if not fields.keys() >= _REQUIRED:
        raise ValueError("a tree is incomplete")
    leaves = int(fields["num_leaves"])
    if leaves < 1 or len(_numbers(fields, "leaf_value", float)) != leaves or fields.get("is_linear", "0") != "0":
        raise ValueError("the leaves of a tree are incomplete")
    for name, value in fields.items():  # LightGBM ends the process at the first that is no number
        if not _NUMBER_LIST.fullmatch(value):
            raise ValueError(f"`{name[:80]}` of a tree is no list of numbers")
    inner = leaves - 1
    if inner == 0:
        return
    columns = {name: _numbers(fields, name, int) for name in ("split_feature", "left_child", "right_child")}
    columns["decision_type"], columns["threshold"] = _numbers(fields, "decision_type", int), _thresholds(fields)
    if any(len(column) != inner for column in columns.values()):
        raise ValueError("the nodes of a tree are incomplete")
    if np.any(columns["split_feature"] < 0) or np.any(columns["split_feature"] >= features):
        raise ValueError("a tree uses a feature that the model does not have")
    children = np.concatenate((columns["left_child"], columns["right_child"]))
    check_children(children[children >= 0], inner)
    check_children(~children[children < 0], leaves, root=False)
    _check_categories(fields, columns["threshold"][(columns["decision_type"] & 1) == 1])


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


def _thresholds(fields: dict[str, str]) -> Any:
    return _numbers(fields, "threshold", float)


def _numbers(fields: dict[str, str], name: str, kind: type) -> Any:
    return np.array(fields[name].split(), dtype=np.float64 if kind is float else np.int64)
