"""What loading a version can do to the process that loads it, from its manifest and without loading it."""

from __future__ import annotations

from collections.abc import Iterator

from crossfade.registry.flavors.backends import flavor_named
from crossfade.registry.flavors.port import Trust
from crossfade.registry.loading import read_manifest
from crossfade.registry.versions import MANIFEST_PATH, Manifest
from crossfade.storage.blobs.port import BlobReader


def trust_of(manifest: Manifest, blobs: BlobReader) -> Trust:
    """Return the worst that any part of a version can do: its model, its preprocessor, the members of an ensemble.

    Raises:
        UnknownFlavorError: A flavor is not installed.
        CorruptBlobError: The manifest of a member is missing or damaged.
    """
    manifests = (manifest, *_inner(manifest, blobs))
    names = {name for each in manifests for name in (each.flavor, each.preprocessor) if name}
    return max(flavor_named(name).trust for name in names)


def _inner(manifest: Manifest, blobs: BlobReader) -> Iterator[Manifest]:
    """Yield the manifests of the parts, and of their parts: they are files like all others."""
    for entry in manifest.files_of("model"):
        if entry.path.endswith(f"/{MANIFEST_PATH}"):
            yield read_manifest(blobs, entry.digest, manifest.ref)
