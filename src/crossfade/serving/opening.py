"""Opening a version for serving: from its digest to a model that has proved itself."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Signature, Tensors, TensorSpec
from crossfade.errors import LoadFailedError, PredictionError
from crossfade.registry.ensembles.document import FLAVOR as ENSEMBLE
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.loading import load_golden, load_pipeline
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Manifest
from crossfade.serving.batching import Predict

_TIMED_CALLS = 7
_TIMED_SECONDS = 0.05


class OpenedVersion(msgspec.Struct, frozen=True):
    """A loaded version.

    Args:
        manifest: What it is.
        predict: Its preprocessor and model.
        golden: Requests with the answers that it must give, if it has any.
        number: Its order of registration.
        waits: Whether a call may wait for something other than a processor, which the event loop must not.
    """

    manifest: Manifest
    predict: Predict
    golden: GoldenRequests | None = None
    number: int = 0
    waits: bool = False


Opener = Callable[[str, str], OpenedVersion]
"""(model, semver) -> the loaded version. Raises what cannot be loaded."""


def registry_opener(backend: RegistryBackend, policy: TrustPolicy) -> Opener:
    """Return the opener that loads from a registry backend."""

    def open_version(name: str, version: str) -> OpenedVersion:
        found = backend.find_version(name, version)
        if found is None:
            raise LoadFailedError(ref=f"{name}:{version}", problem="it was deleted")
        manifest = backend.manifest(found)
        pipeline = load_pipeline(manifest, backend.blobs, policy)
        golden = load_golden(manifest, backend.blobs)
        return OpenedVersion(manifest, pipeline.predict, golden, found.number, manifest.flavor == ENSEMBLE)

    return open_version


def warm_up(opened: OpenedVersion, requests: int) -> float:
    """Call a version a few times with one row, then see how long a call takes.

    Returns:
        The median seconds of a warm call; infinite when there is no golden request and the model does not like zeros,
        which says nothing against it.

    Raises:
        PredictionError: It fails on its own golden request.
    """
    signature = opened.manifest.signature
    wanted = frozenset(spec.name for spec in signature.outputs)
    golden = opened.golden
    inputs = zeros(signature) if golden is None else {name: value[:1] for name, value in golden.inputs.items()}
    try:
        for _ in range(requests):
            opened.predict(inputs, wanted)
        return _median_seconds(lambda: opened.predict(inputs, wanted))
    except PredictionError:
        if golden is not None:
            raise
        return math.inf


def _median_seconds(call: Callable[[], object]) -> float:
    """Time a few calls; a slow one is timed fewer times, because noise matters less to it."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < _TIMED_CALLS and sum(seconds) < _TIMED_SECONDS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def zeros(signature: Signature) -> Tensors:
    """Return one row that fits a signature: zeros, empty texts, open dimensions of size 1.

    Example:
        >>> zeros(Signature((TensorSpec("x", "FP32", (-1, 2)),), ()))
        {'x': array([[0., 0.]], dtype=float32)}
    """
    return {spec.name: _zero(spec) for spec in signature.inputs}


def _zero(spec: TensorSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    shape = tuple(max(1, size) if size < 0 else size for size in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, "" if spec.text else b"", dtype=object)
    return np.zeros(shape, dtype=DTYPES[spec.datatype])
