"""Small made-up versions for tests of whatever stands on a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.identity import new_id
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Card, FileEntry, Manifest, Page, Version

T = TypeVar("T")

STAGE = "registered"


def signature(*inputs: str) -> Signature:
    """Return a signature of float columns (`x` by default) with one float output."""
    specs = tuple(TensorSpec(name, "FP64", (-1,)) for name in inputs or ("x",))
    return Signature(specs, (TensorSpec("predict", "FP64", (-1,)),), layout="matrix")


def draft(name: str, version: str, content: bytes = b"weights", card: Card | None = None) -> Manifest:
    """Return a manifest with one model file and a card, nothing of which is stored."""
    files = [("model.bin", content, "model"), ("card.json", canonical_json(card or Card()), "card")]
    entries = [
        FileEntry(path, sha256(data), len(data), "application/octet-stream", role)  # type: ignore[arg-type]
        for path, data, role in sorted(files)
    ]
    return Manifest(name, version, "onnx", tuple(entries), signature())


def store(backend: RegistryBackend, manifest: Manifest, content: bytes = b"weights", card: Card | None = None) -> None:
    """Store what `draft` was given, and the manifest."""
    for data in (content, canonical_json(card or Card()), manifest.encode()):
        backend.blobs.put([data], limit_bytes=2**20)


def publish(
    backend: RegistryBackend, name: str, version: str, content: bytes = b"weights", card: Card | None = None
) -> Version:
    """Store and publish a version, and return it."""
    manifest = draft(name, version, content, card)
    with leased(backend, manifest):
        store(backend, manifest, content, card)
        return backend.publish(manifest, card or Card(), stage=STAGE, principal="ann")[0]


@contextmanager
def leased(backend: RegistryBackend, manifest: Manifest) -> Iterator[None]:
    """Protect what a manifest names, and itself, as everybody does who publishes."""
    holder = f"test-{new_id()}"
    backend.lease_blobs([manifest.digest, *(entry.digest for entry in manifest.files)], holder)
    yield
    backend.release_blobs(holder)


def move(backend: RegistryBackend, target: str | None, *, alias: str = "champion", expected: str | None = None) -> None:
    """Move an alias of the model `churn`."""
    backend.move_alias("churn", alias, target, expected=expected, principal="bob", reason="because")


def walk(ask: Callable[[str], Page[T]]) -> Iterator[T]:
    """Yield the items of every page of a list."""
    cursor = ""
    while True:
        page = ask(cursor)
        yield from page.items
        cursor = page.next_cursor
        if not cursor:
            return
