"""What a runner promises: it makes copies of a version run somewhere, and asks, ends and starts them again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from crossfade.core.tensors import Tensors
from crossfade.registry.versions import Manifest
from crossfade.traffic.deployed import Deployed


class Usage(msgspec.Struct, frozen=True):
    """What a replica uses now, and the processor time of its present process."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0


class Replica(Protocol):
    """One copy of a version. Used by one thread at a time; `kill` and `usage` may be called from any."""

    @property
    def preprocess_seconds(self) -> float:
        """How long the last call took until the model itself was called."""

    @property
    def member_rows(self) -> Mapping[tuple[str, str], int]:
        """(member, what became of its rows) -> how many in the last call, where the model has members."""

    @property
    def given_up(self) -> str:
        """Why it is not tried any more, in words; empty while it is."""

    def lost(self) -> str:
        """Say, in words, why it cannot be asked now: it has not been started, or has ended; empty when it can."""

    def start(self) -> None:
        """Start it for the first time.

        Raises:
            CrossfadeError: It cannot be loaded; the error is the one that loading raised.
        """

    def restart(self) -> None:
        """Start it unless it lives, after a pause that grows when it keeps ending.

        Raises:
            ModelCrashedError: It could not be started; trying again is worth it.
            NotServedError: It has been given up.
            CrossfadeError: It cannot be loaded.
        """

    def predict(self, tensors: Tensors, wanted: frozenset[str], seconds: float | None = None) -> Tensors:
        """Return the wanted outputs.

        Args:
            tensors: Inputs that passed the check of the signature.
            wanted: Names of outputs.
            seconds: How long it may take, if not as long as a request usually; then it is ended.

        Raises:
            ModelCrashedError: It ended, or had to be ended.
            CrossfadeError: What the model says.
        """

    def bounded(self, seconds: float, *, spared: bool) -> AbstractContextManager[None]:
        """Say of the calls of a `with` block how long somebody waits for them, and whether their end is forgiven."""

    def end(self, problem: str) -> None:
        """End it because it lives but is of no use; `restart` gets another process."""

    def usage(self) -> Usage:
        """Say what it uses."""

    def kill(self) -> None:
        """End it and start no other; whoever waits for an answer gets an error."""

    def close(self) -> None:
        """End it and let go of everything. Nobody may be waiting for an answer."""


class Template(Protocol):
    """A version with its files at hand, from which replicas are made."""

    @property
    def size_bytes(self) -> int:
        """Memory that it holds itself, however many replicas there are."""

    def refusal(self, tensors: Tensors, wanted: frozenset[str]) -> Exception | None:
        """Say why a request must not be put to any replica: it has ended some before."""

    def rest_seconds(self) -> float:
        """Return how long batch requests have to wait, because one of them has just ended a replica."""

    def replica(self, number: int) -> Replica:
        """Return a new replica, not started.

        Args:
            number: Its place among the replicas: no two that live have the same.

        Raises:
            InsufficientResourcesError: There are not so many GPUs left.
        """

    def close(self) -> None:
        """Let go of the files. Its replicas are closed before."""


class Runner(Protocol):
    """Makes versions run."""

    def most(self, terms: Deployed) -> int:
        """Return how many replicas the machine has got the resources for, at most as many as are wanted.

        Raises:
            InsufficientResourcesError: It has not got them for the fewest.
        """

    def prepare(self, manifest: Manifest, terms: Deployed) -> Template:
        """Get the files of a version.

        Raises:
            CrossfadeError: They cannot be had.
        """
