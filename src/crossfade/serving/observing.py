"""`Observer`: looks at predictions from beside them, where the settings want that: traces, and captured payloads.

While both are off, none of this is on the way of a request.
"""

from __future__ import annotations

from crossfade.core.tensors import Tensors, row_count
from crossfade.errors import CrossfadeError
from crossfade.serving.cache import VersionAnswers
from crossfade.serving.prediction import DEFAULT_TERMS, HeldVersion, Prediction, Terms
from crossfade.serving.slots import Slot
from crossfade.serving.tracing import CURRENT, Trace, Tracer
from crossfade.settings import Settings


class Observer:
    """Everything that looks at the predictions of this process.

    Args:
        tracer: Where traces go, or None.

    Attributes:
        tracer: The same.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self.tracer = tracer

    def hold(
        self, slot: Slot, alias: str | None, fallback: bool, revision: int, answers: VersionAnswers | None
    ) -> HeldVersion:
        """Hold on to a version for one request that is looked at."""
        return _ObservedVersion(self, slot, alias, fallback, revision, answers)

    def close(self) -> None:
        """Let what was seen reach where it goes, as far as a few seconds suffice."""
        if self.tracer is not None:
            self.tracer.close()


def open_observer(settings: Settings) -> Observer | None:
    """Return the observer that the settings ask for, or None.

    Raises:
        SettingsError, MissingExtraError: What is asked for cannot be done.
    """
    telemetry = settings.telemetry
    if not telemetry.otlp_endpoint:
        return None
    from crossfade.serving.otlp import open_sender

    return Observer(Tracer(telemetry.sample_ratio, open_sender(telemetry.otlp_endpoint)))


class _ObservedVersion(HeldVersion):
    __slots__ = ("_observer",)

    def __init__(
        self,
        observer: Observer,
        slot: Slot,
        alias: str | None,
        fallback: bool,
        revision: int,
        answers: VersionAnswers | None,
    ) -> None:
        super().__init__(slot, alias, fallback, revision, answers)
        self._observer = observer

    async def predict(
        self,
        tensors: Tensors,
        wanted: frozenset[str] | None = None,
        terms: Terms = DEFAULT_TERMS,
        request_id: str = "",
    ) -> Prediction:
        """Answer a request, and note how."""
        tracer = self._observer.tracer
        trace = None if tracer is None else tracer.begin(terms.trace, self._started)
        if tracer is None or trace is None:
            return await super().predict(tensors, wanted, terms, request_id)
        token = CURRENT.set(trace)
        try:
            return await super().predict(tensors, wanted, terms, request_id)
        except Exception as error:
            trace.error = error.code if isinstance(error, CrossfadeError) else type(error).__name__
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
            "crossfade.fallback": self._fallback,
            "crossfade.snapshot.revision": self._revision,
        }
        if not trace.error:
            trace.facts["crossfade.rows"] = row_count(tensors)
