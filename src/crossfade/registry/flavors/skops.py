"""skops files: the types that this server trusts in them, and their canonical form."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

TRUSTED_TYPES: frozenset[str] = frozenset(
    {
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
    }
)
"""Trusted besides skops' own list, which has every public scikit-learn estimator."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"

Node = dict[str, Any]


def canonical(data: bytes) -> bytes:
    """Return an equivalent skops file that depends on the model only.

    skops names arrays and marks shared objects by memory address, and stamps the time. Here an id stays only where an
    object is shared, ids and files are numbered by first appearance, sets are sorted, and times are fixed.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        schema = json.loads(source.read(_SCHEMA))
        for node in _nodes(schema):
            if node.get("__loader__") == "SetNode":
                node["content"].sort(key=_content)
        files = _renumber(schema)
        members = {new: source.read(old) for old, new in files.items()}
    members[_SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])
    return target.getvalue()


def _renumber(schema: Node) -> dict[str, str]:
    """Rewrite ids and file names in place; return the old file names with their new ones."""
    uses = Counter(node["__id__"] for node in _nodes(schema) if "__id__" in node)
    ids: dict[int, int] = {}
    files: dict[str, str] = {}
    for node in _nodes(schema):
        if "__id__" in node:
            old = node.pop("__id__")
            if uses[old] > 1 and node.get("__loader__") != "JsonNode":
                node["__id__"] = ids.setdefault(old, len(ids) + 1)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            suffix = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files):06d}.{suffix}")
    return files


def _nodes(value: Any) -> Iterator[Node]:
    """Yield every JSON object, in document order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _content(node: Node) -> str:
    return json.dumps({key: value for key, value in node.items() if key != "__id__"})
