"""`Suspects`: requests that have ended the process of a model, refused before they do it again and again.

Only fingerprints are kept, not what was asked. A batch request that ended the process makes the next one wait,
so that a job may look for its deadly rows, and those whom somebody waits for have most of the time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from crossfade.core.tensors import Tensors
from crossfade.errors import RefusedInputError
from crossfade.serving.fingerprints import Fingerprints

KILLS = 2
"""After so many a request is refused."""
REFUSED_SECONDS = 600.0
_MAX_SUSPECTS = 1024
_LEAST_REST = 1.0
_REST_FACTOR = 4.0
"""After a batch request has ended the process, the next waits so many times as long as that cost: others have four
fifths of the time."""


class Suspects:
    """Of one version.

    Args:
        fingerprints: Of its requests.
        ref: What errors call the version.
    """

    def __init__(self, fingerprints: Fingerprints, ref: str) -> None:
        self._fingerprints = fingerprints
        self._ref = ref
        self._kills: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._rests_until = 0.0
        self._writing = threading.Lock()

    @property
    def rest_seconds(self) -> float:
        """How long batch requests have to wait, because one of them has just ended a process."""
        return max(0.0, self._rests_until - time.monotonic())

    def rest(self, away_seconds: float) -> None:
        """Let batch requests wait.

        Args:
            away_seconds: For how long nobody was answered, because of one of them.
        """
        self._rests_until = time.monotonic() + max(_LEAST_REST, _REST_FACTOR * away_seconds)

    def add(self, inputs: Tensors, wanted: frozenset[str]) -> None:
        """Note that a request was asked when the process ended."""
        fingerprint = self._fingerprints.of(inputs, wanted)
        with self._writing:
            kills, _ = self._kills.pop(fingerprint, (0, 0.0))
            self._kills[fingerprint] = (kills + 1, time.monotonic())
            if len(self._kills) > _MAX_SUSPECTS:
                self._kills.popitem(last=False)

    def refusal(self, inputs: Tensors, wanted: frozenset[str]) -> RefusedInputError | None:
        """Return why a request must not be asked, or None.

        Args:
            inputs: Tensors that passed the check of the signature.
            wanted: Names of outputs.
        """
        if not self._kills:  # almost always
            return None
        fingerprint = self._fingerprints.of(inputs, wanted)
        kills, last = self._kills.get(fingerprint, (0, 0.0))
        rest = last + REFUSED_SECONDS - time.monotonic()
        if kills and rest <= 0:
            with self._writing:
                self._kills.pop(fingerprint, None)
        if kills < KILLS or rest <= 0:
            return None
        return RefusedInputError(ref=self._ref, times=kills, seconds=round(rest))
