"""From a manifest to a pipeline: every blob is read once, and the bytes that were checked are the bytes parsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import msgspec

from crossfade.core.memory import available_bytes
from crossfade.errors import BlobNotFoundError, CorruptBlobError, LoadFailedError
from crossfade.registry.flavors.backends import flavor_named
from crossfade.registry.flavors.port import Runnable, Transformer, TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import ANYWHERE, ON_CPU, Placement
from crossfade.registry.versions import FileEntry, Manifest, Role
from crossfade.storage.blobs.port import BlobReader, BlobStore

PREPROCESSOR_FOLDER = "preprocessor/"

_COPIES = 2
"""How much memory a file takes while it is parsed, in its own size: its bytes, and what is made of them."""


class _Files(Mapping[str, bytes]):
    """The files of a role, each read and checked when somebody looks into it. Formats do not look into all of them."""

    def __init__(self, manifest: Manifest, blobs: BlobStore, role: Role) -> None:
        self._manifest = manifest
        self._blobs = blobs
        self._entries = {entry.path.removeprefix(PREPROCESSOR_FOLDER): entry for entry in manifest.files_of(role)}
        self._contents: dict[str, bytes] = {}

    def __getitem__(self, path: str) -> bytes:
        if path not in self._contents:
            self._contents[path] = _read(self._manifest, self._entries[path], self._blobs)
        return self._contents[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check_rest(self) -> None:
        """Check the bytes of the files that nobody looked into."""
        for path, entry in self._entries.items():
            if path not in self._contents:
                _check(self._manifest, entry, self._blobs)


def load_pipeline(
    manifest: Manifest, blobs: BlobReader, policy: TrustPolicy, placement: Placement = ANYWHERE
) -> Pipeline:
    """Load a version.

    Args:
        manifest: What it is.
        blobs: Where its files are.
        policy: What this server trusts.
        placement: Where it shall run, whatever it declares itself. A preprocessor always runs on the CPU.

    Raises:
        CorruptBlobError: A blob is missing or damaged; names the file and the version.
        DeniedError: The policy forbids the format, or types in it.
        LoadFailedError: The bytes are not what the manifest says, or there is no GPU, which it insists on.
        MissingExtraError: A package is not installed.
        UnknownFlavorError: The version needs a flavor that is not installed.
    """
    place = placement.over(manifest.placement or ANYWHERE)
    with _naming(manifest.ref):
        model = load_runnable(manifest.flavor, read_files(manifest, blobs, "model"), policy, place)
        preprocessor = None
        if manifest.preprocessor:
            files = read_files(manifest, blobs, "preprocessor")
            preprocessor = load_transformer(manifest.preprocessor, files, policy)
    return Pipeline(manifest.signature, model, preprocessor, manifest.ref)


def load_golden(manifest: Manifest, blobs: BlobReader) -> GoldenRequests | None:
    """Return the golden requests of a version, or None when it has none.

    Raises:
        CorruptBlobError: Their blob is missing or damaged.
    """
    with _naming(manifest.ref):
        return next((GoldenRequests.decode(data) for data in read_files(manifest, blobs, "golden").values()), None)


def read_manifest(blobs: BlobReader, digest: str, ref: str) -> Manifest:
    """Return the manifest of a version, after checking its digest.

    Raises:
        CorruptBlobError: Its blob is missing or damaged.
    """
    return msgspec.json.decode(_read_blob(blobs, digest, "manifest.json", ref), type=Manifest)


def inspect_version(manifest: Manifest, blobs: BlobStore, policy: TrustPolicy) -> None:
    """Check the model files of a version for publication, without loading them.

    Raises:
        CorruptBlobError: A blob is missing or damaged.
        DeniedError: The policy forbids the format, or types in it.
        LoadFailedError: The bytes are not in the format.
    """
    with _naming(manifest.ref):
        _inspect(manifest.flavor, _Files(manifest, blobs, "model"), policy)
        if manifest.preprocessor:
            _inspect(manifest.preprocessor, _Files(manifest, blobs, "preprocessor"), policy)


def _inspect(flavor: str, files: _Files, policy: TrustPolicy) -> None:
    flavor_named(flavor).inspect(files, policy)
    files.check_rest()


def load_runnable(
    flavor: str, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ON_CPU
) -> Runnable:
    """Load a model from the bytes of its files."""
    return flavor_named(flavor).load(files, policy, placement)


def load_transformer(flavor: str, files: Mapping[str, bytes], policy: TrustPolicy) -> Transformer:
    """Load a preprocessor from the bytes of its files."""
    return cast("Transformer", flavor_named(flavor).load(_without_folder(files), policy, ON_CPU))


def _without_folder(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path.removeprefix(PREPROCESSOR_FOLDER): data for path, data in files.items()}


def read_files(manifest: Manifest, blobs: BlobReader, role: Role) -> dict[str, bytes]:
    """Return path -> verified bytes of the files with this role.

    Raises:
        CorruptBlobError: One is missing or damaged.
        LoadFailedError: One is larger than the memory that is left.
    """
    return {entry.path: _read(manifest, entry, blobs) for entry in manifest.files_of(role)}


def check_files(manifest: Manifest, blobs: BlobStore, role: Role) -> None:
    """Check the bytes of the files with this role, however large, without holding them in memory.

    Raises:
        CorruptBlobError: One is missing or damaged.
    """
    for entry in manifest.files_of(role):
        _check(manifest, entry, blobs)


def _check(manifest: Manifest, entry: FileEntry, blobs: BlobStore) -> None:
    if blobs.find_intact(entry.digest) is None:
        damage = "missing" if blobs.find(entry.digest) is None else "damaged"
        raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=manifest.ref, damage=damage)


def _read(manifest: Manifest, entry: FileEntry, blobs: BlobReader) -> bytes:
    available = available_bytes()
    if _COPIES * entry.size > available:  # rather than to be killed, with everything that this process serves
        problem = f"`{entry.path}` has {entry.size} bytes, and {available:.0f} bytes of memory are available"
        raise LoadFailedError(ref=manifest.ref, problem=problem)
    return _read_blob(blobs, entry.digest, entry.path, manifest.ref)


def _read_blob(blobs: BlobReader, digest: str, path: str, ref: str) -> bytes:
    try:
        return blobs.read(digest)
    except BlobNotFoundError as error:
        raise CorruptBlobError(digest=digest, path=path, ref=ref, damage="missing") from error
    except CorruptBlobError as error:
        raise CorruptBlobError(digest=digest, path=path, ref=ref, damage="damaged") from error


@contextmanager
def _naming(ref: str) -> Iterator[None]:
    """Flavors do not know what they load; name the version in their errors."""
    try:
        yield
    except LoadFailedError as error:
        raise LoadFailedError(ref=ref, problem=error.facts["problem"]) from error
