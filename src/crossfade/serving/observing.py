"""`Observer`: looks at predictions from beside them, where the settings want that: traces, and captured payloads.

While both are off, none of this is on the way of a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from crossfade.core.identity import new_id
from crossfade.core.tensors import Tensors, row_count
from crossfade.errors import CrossfadeError, DatabaseUnavailableError
from crossfade.serving.holding import DEFAULT_TERMS, Grant, HeldVersion, Prediction, Terms
from crossfade.serving.slots import Slot
from crossfade.serving.tracing import CURRENT, Trace, TraceContext, Tracer
from crossfade.settings import Settings
from crossfade.storage.database import Database
from crossfade.storage.secrets import deployment_secret

if TYPE_CHECKING:
    from crossfade.serving.capture import Capture

_log = logging.getLogger(__name__)

_SECRET = "capture"  # noqa: S105 - its name


class Observer:
    """Everything that looks at the predictions of this process.

    Args:
        tracer: Where traces go, or None.
        capture: Where payloads go, or None.

    Attributes:
        tracer, capture: The same.
    """

    def __init__(self, tracer: Tracer | None = None, capture: Capture | None = None) -> None:
        self.tracer = tracer
        self.capture = capture

    @property
    def traces(self) -> Mapping[str, int]:
        """What became of traces."""
        return {} if self.tracer is None else self.tracer.sent

    @property
    def captured_rows(self) -> Mapping[str, int]:
        """What became of captured rows."""
        return {} if self.capture is None else self.capture.rows

    def refused(self, context: TraceContext | None, error: Exception) -> None:
        """Note a request that no version was held for."""
        if self.tracer is not None and (trace := self.tracer.begin(context, time.monotonic())) is not None:
            trace.error = _code(error)
            self.tracer.end(trace)

    def problems(self) -> list[str]:
        """Say what is not looked at although it should be."""
        return [] if self.capture is None else self.capture.problems()

    def hold(self, slot: Slot, grant: Grant) -> HeldVersion:
        """Hold on to a version for one request that is looked at."""
        return _ObservedVersion(self, slot, grant)

    def close(self) -> None:
        """Let what was seen reach where it goes, as far as a few seconds suffice."""
        for part in (self.tracer, self.capture):
            if part is not None:
                part.close()


def open_observer(settings: Settings, database: Database) -> Observer | None:
    """Return the observer that the settings ask for, or None.

    Raises:
        SettingsError, MissingExtraError: What is asked for cannot be done.
    """
    capture = _open_capture(settings, database) if settings.capture.models else None
    tracer = None
    if settings.telemetry.otlp_endpoint:
        from crossfade.serving.otlp import open_sender

        tracer = Tracer(settings.telemetry.sample_ratio, open_sender(settings.telemetry.otlp_endpoint))
    return None if tracer is None and capture is None else Observer(tracer, capture)


def _open_capture(settings: Settings, database: Database) -> Capture | None:
    """Open the capture. Only hashes need the secret; without it nothing is captured rather than what can be undone."""
    from crossfade.serving.capture import Capture

    secret = b""
    if any(rules.hashed for rules in settings.capture.models.values()):
        try:
            secret = deployment_secret(database, _SECRET)
        except DatabaseUnavailableError:
            _log.warning(
                "nothing is captured until the next start: the secret of hashes is in the database, which is away"
            )
            return None
    return Capture(settings.capture, settings.capture_folder, secret)


class _ObservedVersion(HeldVersion):
    __slots__ = ("_asked", "_observer")

    def __init__(self, observer: Observer, slot: Slot, grant: Grant) -> None:
        super().__init__(slot, grant)
        self._observer = observer
        self._asked = False

    def question(self, terms: Terms, head: bytes, body: bytes) -> None:
        """Remember nothing: what is looked at has to be read."""

    async def predict(
        self,
        tensors: Tensors,
        wanted: frozenset[str] | None = None,
        terms: Terms = DEFAULT_TERMS,
        request_id: str = "",
    ) -> Prediction:
        """Answer a request, and note how."""
        self._asked = True
        tracer, capture = self._observer.tracer, self._observer.capture
        trace = None if tracer is None else tracer.begin(terms.trace, self._started)
        if tracer is None or trace is None:
            prediction = await super().predict(tensors, wanted, terms, request_id)
        else:
            prediction = await self._traced(tracer, trace, tensors, wanted, terms)
        if capture is not None and not terms.replay:
            capture.offer(self._slot, tensors, prediction.outputs, request_id or new_id())
        return prediction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go; what could not be read is noted, too."""
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._note(error)

    def _note(self, error: BaseException | None) -> None:
        tracer = self._observer.tracer
        if tracer is None or self._asked or not isinstance(error, Exception):
            return
        if (trace := tracer.begin(self._grant.trace, self._started)) is not None:
            trace.error = _code(error)
            self._describe(trace, {})
            tracer.end(trace)

    async def _traced(
        self, tracer: Tracer, trace: Trace, tensors: Tensors, wanted: frozenset[str] | None, terms: Terms
    ) -> Prediction:
        token = CURRENT.set(trace)
        try:
            return await super().predict(tensors, wanted, terms)
        except Exception as error:
            trace.error = _code(error)
            raise
        finally:
            CURRENT.reset(token)
            self._describe(trace, tensors)
            tracer.end(trace)

    def _describe(self, trace: Trace, tensors: Tensors) -> None:
        slot = self._slot
        trace.facts = {
            "crossfade.model.name": slot.name,
            "crossfade.model.version": slot.version,
            "crossfade.model.digest": slot.digest,
            "crossfade.fallback": self._grant.fallback,
            "crossfade.snapshot.revision": self._grant.revision,
        }
        if not trace.error:
            trace.facts["crossfade.rows"] = row_count(tensors)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, CrossfadeError) else type(error).__name__
