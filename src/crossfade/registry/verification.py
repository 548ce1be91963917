"""Is a registered version still what was registered, and does it still answer as it did?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import msgspec

from crossfade.core.tensors import row_count
from crossfade.registry import golden
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.loading import check_files, load_golden, load_pipeline
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Manifest, Role, Version

_NOT_LOADED: tuple[Role, ...] = ("card", "code")


class VerifyReport(msgspec.Struct, frozen=True):
    """A version that passed.

    Args:
        ref: Which version.
        manifest_digest: Its identity.
        files: How many files have the bytes that the manifest says.
        size_bytes: Their size together.
        golden_rows: How many rows of golden requests it answered.
        golden_difference: The largest difference to the stored answers, |answer - golden| / (1 + |golden|); None when
            it has no golden requests.
    """

    ref: str
    manifest_digest: str
    files: int
    size_bytes: int
    golden_rows: int
    golden_difference: float | None


ModelOpener = Callable[[Manifest], AbstractContextManager[golden.Predictor]]
"""Loads a version for a while; raises what cannot be loaded."""


def verify(
    backend: RegistryBackend, version: Version, policy: TrustPolicy, open_model: ModelOpener | None = None
) -> VerifyReport:
    """Read every blob of a version, load it, and ask it its golden requests.

    Args:
        backend: Where it is registered.
        version: Which.
        policy: What is trusted.
        open_model: Loads it; by default into this process.

    Raises:
        CorruptBlobError: A blob is missing or damaged; names the file.
        DeniedError, LoadFailedError, MissingExtraError: It cannot be loaded here.
        GoldenMismatchError, PredictionError: It does not answer as it did.
    """
    manifest = backend.manifest(version)
    for role in _NOT_LOADED:
        check_files(manifest, backend.blobs, role)
    requests = load_golden(manifest, backend.blobs)
    opened = open_model(manifest) if open_model else nullcontext(load_pipeline(manifest, backend.blobs, policy))
    with opened as model:
        difference = None if requests is None else golden.verify(model, requests, version.ref)
    return VerifyReport(
        ref=version.ref,
        manifest_digest=version.manifest_digest,
        files=len(manifest.files),
        size_bytes=version.size_bytes,
        golden_rows=0 if requests is None else row_count(requests.inputs),
        golden_difference=difference,
    )
