"""What a simulated life has to know about a kind of subject: what may happen to it, who reads it, what holds for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from crossfade.releases.plan import RolloutPlan
from crossfade.releases.subjects.port import Subject as ProductSubject

if TYPE_CHECKING:
    from crossfade.registry.registry import Registry
    from tests.releases.simulation.actors import Replica
    from tests.releases.simulation.oracle import Known, Transition
    from tests.releases.simulation.world import World

PRINCIPAL = "ann"
"""Who acts besides controllers."""


class Script(NamedTuple):
    """What lives of one kind are drawn from.

    Attributes:
        plans: Name -> what is asked for; a text is the name of one of the product's own.
        truths: Of the new version.
        fault: What befalls those who serve, besides what befalls all.
        verbs: What people do to the subject itself.
        versions: What they do it to, and roll out.
        new: What the first rollout brings.
    """

    plans: Mapping[str, RolloutPlan | str]
    truths: tuple[str, ...]
    fault: str
    verbs: tuple[str, ...]
    versions: tuple[str, ...]
    new: str


class Move(NamedTuple):
    """Everybody gets another version."""

    source: str
    target: str
    by: str


class Server(Protocol):
    """What one process does for those who use the subject."""

    def suffer(self, until: int) -> None:
        """Bear the fault of this kind until a round."""

    def follow(self) -> int:
        """Look at the database; return the revision that is known from then on."""

    def slots(self) -> dict[str, tuple[str, str]]:
        """Go on loading; return what is reported of it."""

    def configs(self) -> dict[str, int]:
        """Return what is reported of configs."""

    def serve(self) -> Any:
        """Let some requests come; return what is to be written down of them, nothing for nothing."""

    def write(self, at_us: int, served: Any) -> None:
        """Write it down, as of a moment."""


class Subject(Protocol):
    """One kind of subject in one life.

    Attributes:
        product: What the engine is told of it.
        prometheus: Who is asked for numbers; None: nobody.
    """

    kind: str
    name: str
    script: Script
    product: ProductSubject
    prometheus: Any

    def __init__(self, world: World) -> None: ...

    @staticmethod
    def prepare(registry: Registry) -> None:
        """Write down what there is before a life begins."""

    def server(self, replica: Replica) -> Server:
        """Return what a process does about it."""

    def act(self, verb: str, version: str) -> None:
        """Do as somebody asks.

        Raises:
            CrossfadeError: That is refused.
        """

    def present(self) -> str:
        """Return the version that everybody gets outside of rollouts; empty for none."""

    def moves(self) -> Sequence[Move]:
        """Return how that has changed since the last time."""

    def echoes(self, before: Known, entry: Transition, moved: Move | None) -> tuple[str, ...]:
        """Return what the audit log says of the subject, and not of the rollout, with an entry of history."""

    def look(self, actor: str, news: Sequence[Transition], moved: Move | None) -> None:
        """Judge a commit by what holds for this kind alone."""

    def is_followed(self, rollout: Known, process: str, revision: int) -> bool:
        """Tell whether a process that reported a revision answers by the traffic that a rollout had before a commit."""

    def is_ready(self, slots: Mapping[str, Sequence[str]], version: str) -> bool:
        """Tell whether a process that reports this may get requests for a version."""

    def is_watched(self, plan: RolloutPlan, step: int) -> bool:
        """Tell whether a step has a check that sees harm."""

    def came(self, rollout: Known) -> int:
        """Return how often the new version was asked for."""

    def has_harmed(self, rollout: Known) -> bool:
        """Tell whether both versions were asked so often after the last fault that a bad one has to be known."""
