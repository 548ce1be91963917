"""`Suspects`: requests that have ended the process of a model, refused before they do it again and again.

Only fingerprints are kept, not what was asked.
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
        self._writing = threading.Lock()

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
