"""Opening a version for serving: from its digest to a model that has proved itself."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Signature, Tensors, TensorSpec
from crossfade.errors import PredictionError
from crossfade.registry.ensembles.document import FLAVOR as ENSEMBLE
from crossfade.registry.flavors.port import Trust, TrustPolicy
from crossfade.registry.golden import GoldenRequests, verify
from crossfade.registry.loading import load_golden, load_pipeline, read_manifest
from crossfade.registry.placement import Placement
from crossfade.registry.port import RegistryBackend
from crossfade.registry.trust import trust_of
from crossfade.registry.versions import Manifest
from crossfade.serving.calling import Predict, Staged
from crossfade.serving.isolation.ensembles import IsolatedEnsemble, isolate_members
from crossfade.serving.isolation.host import IsolatedModel, isolate
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.replicas.lane import Question
from crossfade.serving.replicas.port import Runner
from crossfade.serving.replicas.replica_set import ReplicaSet
from crossfade.serving.retired import Apart
from crossfade.settings import ModelRules, ServingSettings
from crossfade.traffic.deployed import Deployed
from crossfade.traffic.snapshot import Aspired

_TIMED_CALLS = 7
_TIMED_SECONDS = 0.05


class OpenedVersion(msgspec.Struct, frozen=True):
    """A loaded version.

    Args:
        manifest: What it is.
        predict: Its preprocessor and model.
        golden: Requests with the answers that it must give, if it has any.
        number: Its order of registration.
        staged: Where `predict` says how long its parts took, if it does.
        waits: Whether a call may wait for something other than a processor, which the event loop must not.
        isolated: The model, when it runs in a process of its own, or the members of an ensemble that do; whoever holds
            the version closes it.
        replicas: The same, when it runs in several, of which `predict` asks the first.
    """

    manifest: Manifest
    predict: Predict
    golden: GoldenRequests | None = None
    number: int = 0
    staged: Staged | None = None
    waits: bool = False
    isolated: IsolatedModel | IsolatedEnsemble | None = None
    replicas: ReplicaSet | None = None

    @property
    def apart(self) -> Apart | None:
        """The model, when it runs outside of this process."""
        return self.isolated or self.replicas

    def close(self) -> None:
        """End its processes, if it has some."""
        if self.apart is not None:
            self.apart.close()


Opener = Callable[[str, Aspired], OpenedVersion]
"""(model, which of its versions) -> the loaded version. Raises what cannot be loaded."""


class VersionOpener:
    """Opens versions of a registry backend, each where the settings or itself place it.

    Args:
        backend: Where versions come from.
        policy: What is trusted.
        settings: Which versions run in processes of their own.
        nursery: Where those processes come from.
        runner: What makes replicas run.
    """

    def __init__(
        self,
        backend: RegistryBackend,
        policy: TrustPolicy,
        settings: ServingSettings,
        nursery: Nursery,
        runner: Runner,
    ) -> None:
        self._runner = runner
        self._backend = backend
        self._policy = policy
        self._settings = settings
        self._nursery = nursery

    def open(self, name: str, wish: Aspired) -> OpenedVersion:
        """Return a loaded version, to be closed. It takes blobs alone: the database may be away.

        Raises:
            CorruptBlobError: A blob is missing or damaged.
            InsufficientResourcesError: The machine has not got what its deployment wants.
            LoadFailedError: It cannot be loaded.
            CrossfadeError: What else loading raises.
        """
        manifest = read_manifest(self._backend.blobs, wish.manifest_digest, f"{name}:{wish.version}")
        golden = load_golden(manifest, self._backend.blobs)
        if wish.terms is not None:
            return self._replicated(manifest, golden, wish.number, wish.terms)
        return self._opened(manifest, golden, wish.number)

    @contextmanager
    def open_model(self, manifest: Manifest) -> Iterator[OpenedVersion]:
        """Open a version for as long as the `with` block lasts.

        Raises:
            CrossfadeError: What loading raises.
        """
        opened = self._opened(manifest)
        try:
            yield opened
        finally:
            opened.close()

    def _opened(self, manifest: Manifest, golden: GoldenRequests | None = None, number: int = 0) -> OpenedVersion:
        blobs, rules = self._backend.blobs, self._settings.of_model(manifest.name)
        if not self._needs_process(manifest, rules):
            pipeline = load_pipeline(manifest, blobs, self._policy, Placement(rules.device, rules.threads))
            return OpenedVersion(manifest, pipeline.predict, golden, number, pipeline, manifest.flavor == ENSEMBLE)
        if manifest.flavor == ENSEMBLE and rules.execution == "auto":
            members = isolate_members(manifest, blobs, self._policy, self._settings, self._nursery)
            predict = members.pipeline.predict
            return OpenedVersion(manifest, predict, golden, number, members.pipeline, waits=True, isolated=members)
        isolated = isolate(manifest, blobs, self._policy, self._settings, self._nursery)
        try:
            isolated.start()
        except BaseException:
            isolated.close()
            raise
        return OpenedVersion(manifest, isolated.pipeline().predict, golden, number, isolated, True, isolated)

    def _replicated(
        self, manifest: Manifest, golden: GoldenRequests | None, number: int, terms: Deployed
    ) -> OpenedVersion:
        self._runner.most(terms)
        with ExitStack() as opening:
            template = self._runner.prepare(manifest, terms)
            opening.callback(template.close)
            first = template.replica(0)
            opening.callback(first.close)
            first.start()
            question = Question(lambda predict: prove(predict, manifest, golden))
            replicas = ReplicaSet(template, first, terms, self._runner.most, question, manifest.ref)
            opening.pop_all()
        return OpenedVersion(manifest, first.predict, golden, number, first, waits=True, replicas=replicas)

    def _needs_process(self, manifest: Manifest, rules: ModelRules) -> bool:
        """Tell whether a version runs in a process of its own: as the rules say, else when any part of it is code."""
        if rules.execution != "auto":
            return rules.execution == "process"
        return trust_of(manifest, self._backend.blobs) is Trust.CODE


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


def prove(predict: Predict, manifest: Manifest, golden: GoldenRequests | None) -> None:
    """Ask a copy of a version its golden requests; without some, only see that it answers something.

    Raises:
        CrossfadeError: It fails.
    """
    if golden is not None:
        verify(_Asked(predict), golden, manifest.ref)
        return
    with suppress(PredictionError):  # it need not like zeros
        predict(zeros(manifest.signature), frozenset(spec.name for spec in manifest.signature.outputs))


class _Asked(NamedTuple):
    predict: Predict


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
