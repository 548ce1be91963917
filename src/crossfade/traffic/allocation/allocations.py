"""`Allocations`: all layers and experiments at one revision, as they are stored, and the changes that may be made."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Self

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.hashing import canonical_json
from crossfade.errors import ExperimentNotFoundError, InvalidAllocationError, InvalidLayerError
from crossfade.traffic.allocation.allocation import HOLDOUT, Allocation, Layer
from crossfade.traffic.allocation.ownership import TOLERANCE
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec


class AllocationsSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Layers and experiments as people write them down."""

    experiments: tuple[AllocationSpec, ...]
    layers: tuple[LayerSpec, ...] = ()


class Allocations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all processes decide by.

    Args:
        layers: In the order in which they were made.
        experiments: In the order in which they were placed.

    Example:
        >>> from crossfade.traffic.allocation.specs import VariantSpec
        >>> both = (VariantSpec("control", 0.5), VariantSpec("treatment", 0.5))
        >>> layer = Allocations().add_layer(LayerSpec("checkout", holdout=0.1))
        >>> layer.place(AllocationSpec("late", both, layer="checkout", share=0.5)).experiment("late").revision
        1
    """

    layers: tuple[Layer, ...] = ()
    experiments: tuple[Allocation, ...] = ()

    @classmethod
    def of(cls, spec: AllocationsSpec) -> Self:
        """Make everything that a specification asks for.

        Raises:
            InvalidAllocationError: Something cannot be.
            InvalidSegmentError: A segment is wrong.
            UnknownHashError: A hash is not known here.
            LayerFullError: The experiments of a layer want more than all of it.
        """
        result = cls()
        for layer in spec.layers:
            result = result.add_layer(layer)
        for experiment in spec.experiments:
            result = result.place(experiment)
        return result

    def layer(self, name: str) -> Layer:
        """Return a layer.

        Raises:
            InvalidLayerError: There is no such layer.
        """
        found = next((layer for layer in self.layers if layer.spec.name == name), None)
        if found is None:
            meant = _meant(name, [layer.spec.name for layer in self.layers])
            raise InvalidLayerError(name=name[:80], problem=f"there is no layer of this name{meant}")
        return found

    def experiment(self, name: str) -> Allocation:
        """Return the allocation of an experiment.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        found = next((experiment for experiment in self.experiments if experiment.spec.name == name), None)
        if found is None:
            raise not_found(name, [experiment.spec.name for experiment in self.experiments])
        return found

    def add_layer(self, spec: LayerSpec) -> Self:
        """Add a layer.

        Raises:
            InvalidLayerError: It cannot be, or not beside the others.
            UnknownHashError: Its hash is not known here.
        """
        return self._checked(layers=(*self.layers, Layer.create(spec)))

    def place(self, spec: AllocationSpec) -> Self:
        """Add an experiment; its layer keeps units for it.

        Raises:
            InvalidAllocationError: It cannot be, or not beside the others.
            InvalidSegmentError: Its segment is wrong.
            UnknownHashError: Its hash is not known here.
            LayerFullError: Its layer has not so many units left.
        """
        allocation = Allocation.create(spec)
        placed = self._placed(allocation.spec)
        return self._checked(layers=placed, experiments=(*self.experiments, allocation))

    def revise(
        self,
        name: str,
        weights: Mapping[str, float] | None = None,
        *,
        coverage: float | None = None,
        at: datetime,
    ) -> Self:
        """Change weights, coverage, or both of an experiment, see `Allocation.revise`.

        Args:
            name: The experiment.
            weights: Variant -> weight.
            coverage: Fraction of the experiment's units that takes part.
            at: The present moment: the change starts from where the ramp is by then.
        """
        return self._replaced(self.experiment(name).at(at).revise(weights, coverage=coverage))

    def amend(self, spec: AllocationSpec, *, at: datetime) -> Self:
        """Change anything but the draw of an experiment, its share of the layer included, see `Allocation.amend`.

        Args:
            spec: What is wanted; steps of its ramp that are past count as taken.
            at: The present moment: the change starts from where the ramp is by then.
        """
        changed = self.experiment(spec.name).at(at).amend(spec.at(at))
        return self._replaced(changed, layers=self._placed(changed.spec))

    def remove(self, name: str) -> Self:
        """Let go of an experiment and of its units."""
        gone = self.experiment(name)
        layers = tuple(layer.remove(name) if layer.spec.name == gone.spec.layer else layer for layer in self.layers)
        return self._checked(layers=layers, experiments=tuple(e for e in self.experiments if e is not gone))

    def encode(self) -> bytes:
        """Return canonical JSON: equal allocations give equal bytes."""
        return canonical_json(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse and check what `encode` returned.

        Raises:
            InvalidAllocationError: It is something else.
            InvalidSegmentError: A segment is wrong.
            UnknownHashError: A hash is not known here.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidAllocationError(name="*", problem=f"they cannot be read ({problem_of(error, cls)})") from error
        for layer in found.layers:
            layer.check()
        for experiment in found.experiments:
            experiment.check()
        return found._checked()

    def _placed(self, spec: AllocationSpec) -> tuple[Layer, ...]:
        if not spec.layer:
            return self.layers
        wanted = self.layer(spec.layer)
        if wanted.owners.share(spec.name) == spec.share:
            return self.layers
        placed = wanted.place(spec.name, spec.share)
        return tuple(placed if layer is wanted else layer for layer in self.layers)

    def _replaced(self, changed: Allocation, layers: tuple[Layer, ...] | None = None) -> Self:
        name = changed.spec.name
        experiments = tuple(changed if e.spec.name == name else e for e in self.experiments)
        return self._checked(layers=layers, experiments=experiments)

    def _checked(
        self, *, layers: tuple[Layer, ...] | None = None, experiments: tuple[Allocation, ...] | None = None
    ) -> Self:
        result = type(self)(
            self.layers if layers is None else layers, self.experiments if experiments is None else experiments
        )
        for name, problem in _problems_of_layers(result):
            raise InvalidLayerError(name=name[:80], problem=problem)
        for name, problem in _problems(result):
            raise InvalidAllocationError(name=name[:80], problem=problem)
        return result


def not_found(name: str, known: list[str]) -> ExperimentNotFoundError:
    """Return the error for a name that no experiment has."""
    close = difflib.get_close_matches(name[:80], known, n=1)
    return ExperimentNotFoundError(name=name[:80], suggestion=f"did you mean `{close[0]}`? " if close else "")


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:80], known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _problems_of_layers(allocations: Allocations) -> Iterator[tuple[str, str]]:
    """Yield what is wrong between layers that are right by themselves, and with what they keep."""
    layers = {layer.spec.name: layer for layer in allocations.layers}
    for name, times in Counter(layer.spec.name for layer in allocations.layers).items():
        if times > 1:
            yield name, "there is another layer of this name"
    for layer in allocations.layers:
        root = layers.get(layer.spec.root)
        if layer.spec.root and (root is None or root.spec.root):
            yield layer.spec.name, "its root is no layer, or has a root itself"
        elif root is not None and root.spec.unit != layer.spec.unit:
            yield layer.spec.name, f"its root holds out by `{root.spec.unit[:80]}`, and it draws by another unit"
    places = {(experiment.spec.layer, experiment.spec.name) for experiment in allocations.experiments}
    for name, layer in layers.items():
        for owner in layer.owners.names:
            if owner != HOLDOUT and (name, owner) not in places:
                yield name, f"it keeps units for `{owner[:80]}`, which is not there"


def _problems(allocations: Allocations) -> Iterator[tuple[str, str]]:
    """Yield what is wrong between experiments that are right by themselves, and layers that are right together."""
    specs = [experiment.spec for experiment in allocations.experiments]
    for name, times in Counter(spec.name for spec in specs).items():
        if times > 1:
            yield name, "there is another experiment of this name"
    # the same salt draws the same units: a half of a half would be all or nothing
    drawn_by = [layer.spec.drawn_by for layer in allocations.layers] + [spec.drawn_by for spec in specs]
    for salt, times in Counter(drawn_by).items():
        if times > 1:
            yield salt, "two draw their units by this salt, so they would not be independent"
    yield from _problems_of_places({layer.spec.name: layer for layer in allocations.layers}, specs)


def _problems_of_places(layers: Mapping[str, Layer], specs: list[AllocationSpec]) -> Iterator[tuple[str, str]]:
    for spec in filter(lambda spec: spec.layer, specs):
        layer = layers.get(spec.layer)
        if layer is None or abs(layer.owners.share(spec.name) - spec.share) > TOLERANCE:
            yield spec.name, f"its layer `{spec.layer[:80]}` is not there, or does not keep its units"
