"""`IsolatedEnsemble`: an ensemble whose members of code have a process each, and the end of one is one failed member.

The members that only hold data, and what combines the answers, run in this process. A member that is given up is left
alone for a while where the ensemble can do without it; otherwise the ensemble is given up with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from crossfade.core.tensors import Label, Tensors, TensorSpec
from crossfade.registry.flavors.ensemble import assemble, load_part
from crossfade.registry.flavors.port import Trust, TrustPolicy
from crossfade.registry.loading import read_files
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import ANYWHERE, Placement
from crossfade.registry.trust import trust_of
from crossfade.registry.versions import Manifest
from crossfade.serving.isolation.host import GRACE_SECONDS, IsolatedModel, isolate
from crossfade.serving.isolation.nursery import Nursery
from crossfade.settings import ServingSettings
from crossfade.storage.blobs.port import BlobReader

REST_SECONDS = 600.0
"""How long a member is left alone whose process kept ending."""


class IsolatedMember:
    """A member in a process of its own, as the ensemble asks it. A `Runnable`.

    Args:
        model: The process; started.
    """

    inputs: tuple[TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[Label, ...] = ()
    matrix = False

    def __init__(self, model: IsolatedModel) -> None:
        self.outputs = model.outputs
        self._model = model
        self._rests_until = 0.0

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs, unchecked.

        Raises:
            RefusedInputError: These inputs have ended its process before, and more than once.
            ModelCrashedError, NotServedError, PredictionError: See `IsolatedModel.predict`.
        """
        if isinstance(inputs, dict) and (refusal := self._model.refusal(inputs, wanted)):
            raise refusal
        if self._model.given_up and time.monotonic() >= self._rests_until:
            self._model.try_again()
        return self._model.predict(inputs, wanted)

    def rest(self) -> None:
        """Be left alone for a while."""
        self._rests_until = time.monotonic() + REST_SECONDS


class IsolatedEnsemble:
    """What runs apart of an ensemble: its members of code, by their pinned references.

    Args:
        pipeline: The ensemble.
        models: Their processes.
        needed: The members without whom it cannot answer.

    Attributes:
        pipeline: See above.
        on_given_up: Called when a member is given up that is needed, on the thread that asked it.
    """

    def __init__(self, pipeline: Pipeline, models: Mapping[str, IsolatedModel], needed: frozenset[str]) -> None:
        self.pipeline = pipeline
        self.on_given_up: Callable[[], None] = _nothing
        self._models = dict(models)
        self._needed = [model for ref, model in models.items() if ref in needed]
        for model in self._needed:
            model.on_given_up = self._tell

    @property
    def ends(self) -> dict[str, int]:
        """How often a process ended, by reason."""
        return dict(sum((Counter(model.ends.copy()) for model in self._models.values()), Counter()))

    @property
    def given_up(self) -> str:
        """Why it is not tried any more, in words; empty while it is."""
        return next((f"a member is not served: {model.given_up}" for model in self._needed if model.given_up), "")

    @property
    def size_bytes(self) -> int:
        """The memory of its processes, and their files."""
        return sum(model.size_bytes for model in self._models.values())

    @contextmanager
    def bounded(self, seconds: float, *, spared: bool) -> Iterator[None]:
        """Say how long somebody waits, and whether the end of a process is forgiven; see `IsolatedModel.bounded`."""
        with ExitStack() as stack:
            for model in self._models.values():
                stack.enter_context(model.bounded(seconds, spared=spared))
            yield

    def refusal(self, tensors: Tensors, wanted: frozenset[str]) -> Exception | None:  # noqa: ARG002
        """Refuse nothing: members refuse by themselves, and the ensemble may do without them."""
        return None

    def rest_seconds(self) -> float:
        """Return how long batch requests have to wait, because one of them has just ended a process."""
        return max(model.rest_seconds() for model in self._models.values())

    def kill(self) -> None:
        """End the processes, from any thread, and start no other."""
        for model in self._models.values():
            model.kill()

    def close(self) -> None:
        """End the processes, and let go of everything. Nobody may be waiting for an answer."""
        for model in self._models.values():
            model.close()

    def _tell(self) -> None:
        self.on_given_up()


def isolate_members(
    manifest: Manifest, blobs: BlobReader, policy: TrustPolicy, settings: ServingSettings, nursery: Nursery
) -> IsolatedEnsemble:
    """Return a loaded ensemble whose members of code have been started in processes of their own; close it.

    Args:
        manifest: The ensemble.
        blobs: Its bytes, those of the members among them.
        policy: What is trusted.
        settings: How long it may take, and where it runs.
        nursery: Where processes come from.

    Raises:
        CrossfadeError: It cannot be loaded, or a member cannot.
    """
    rules = settings.of_model(manifest.name)
    placement = Placement(rules.device, rules.threads).over(manifest.placement or ANYWHERE)
    files = read_files(manifest, blobs, "model")
    models: dict[str, IsolatedModel] = {}

    def open_part(position: int, part: Manifest) -> Pipeline:
        if trust_of(part, blobs) is not Trust.CODE:
            return load_part(files, position, part, policy, placement)
        model = models[part.ref] = isolate(part, blobs, policy, settings, nursery, placement=placement)
        model.hang_seconds = rules.request_timeout_seconds + GRACE_SECONDS
        model.start()
        member = IsolatedMember(model)
        model.on_given_up = member.rest
        return model.pipeline_of(member)

    try:
        ensemble = assemble(files, open_part)
    except BaseException:
        for model in models.values():
            model.close()
        raise
    return IsolatedEnsemble(Pipeline(manifest.signature, ensemble, ref=manifest.ref), models, ensemble.needed)


def _nothing() -> None:
    """Nobody wants to know."""
