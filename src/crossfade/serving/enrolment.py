"""`Enroller`: requests that take part in an experiment, from their decision to their exposure.

An exposure is written down when the answer is known, whether it was right, late, or an error: what a variant does to a
request is what the experiment is about. What a request got wrong by itself is no exposure. Shadows get their copy of
the request after its answer, with the lowest priority; the exposure waits for them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context

import msgspec
import numpy as np

from crossfade.core.identity import new_id
from crossfade.core.tensors import Tensors, row_count
from crossfade.ledger.events import Exposure, ShadowAnswer
from crossfade.serving.guarding import Protector, SafetyNote
from crossfade.serving.predictor import LABELS, PROBABILITIES
from crossfade.serving.slots import Slot, SlotTable
from crossfade.serving.waiting import Priority
from crossfade.traffic.allocation.compiled import encoded, unit_in
from crossfade.traffic.allocation.decisions import Decision
from crossfade.traffic.allocation.specs import UNIT
from crossfade.traffic.routing import Asker, Assignment, ExperimentRoute

MAX_SHADOWS = 64
"""Copies under way in one process; what comes then is answered without shadows, and counted."""
MAX_DIMENSION_TEXT = 64
_PLAIN = (str, int, float, bool)
_NO_DIMENSIONS: dict[str, str] = {}
_NO_FEATURES: dict[str, float] = {}
"""Shared: a container of its own in each exposure that waits for the journal would call the garbage collector often."""
SAFETY_DIMENSION = "safety"
"""A dimension of every exposure whose answer was not safe, declared or not: `warning`, `unsafe` or `critical`."""
SHADOW_OUTCOMES = ("answered", "failed", "shed", "absent")

Record = Callable[[Exposure], None]


class Enroller:
    """Makes an `Enrolment` of each request that takes part.

    Args:
        slots: Where shadows are.
        record: Keeps an exposure; must not block, and must not raise.
        protector: Looks at the answers of shadows, or None.

    Attributes:
        shadows: What became of copies: `answered`, `failed`, `shed` because too many were under way or the model was
            too busy, or `absent` because the version was not ready.
        exposures: (experiment, variant) -> how many requests took part.
    """

    def __init__(self, slots: SlotTable, record: Record, protector: Protector | None = None) -> None:
        self.shadows: Counter[str] = Counter(dict.fromkeys(SHADOW_OUTCOMES, 0))
        self.exposures: Counter[tuple[str, str]] = Counter()
        self._slots = slots
        self._record = record
        self._protector = protector
        self._under_way: set[asyncio.Task[None]] = set()

    def enrol(self, assignment: Assignment, asker: Asker) -> Enrolment | None:
        """Return what becomes the exposure of a request; None when there will be none, and no copy of it either."""
        route, decision = assignment.route, assignment.decision
        if route is None or not decision.enrolled or not (route.recorded or route.shadows):
            return None
        return Enrolment(self, route, decision, asker)

    def expose(self, route: ExperimentRoute, variant: str, propensity: float, asker: Asker) -> str:
        """Keep the exposure of a unit that got a flag and no prediction; returns the id of the decision."""
        exposure = Exposure(
            new_id(),
            time.time_ns() // 1000,
            route.name,
            route.allocation.revision,
            variant,
            _unit(route, asker) or asker.request_id,
            propensity,
            dimensions=_dimensions(route.dimensions, asker),
            context=_features(route, asker),
        )
        self.exposures[exposure.experiment, exposure.variant] += 1
        self._record(exposure)
        return exposure.id

    def record(self, exposure: Exposure, slot: Slot, tensors: Tensors | None, route: ExperimentRoute) -> None:
        """Keep an exposure, after its shadows have answered, where there are any."""
        variants = [name for name in route.shadows if name != exposure.variant] if route.shadows else ()
        if not variants or tensors is None:
            self._keep(exposure, route)
        elif len(self._under_way) >= MAX_SHADOWS:
            self.shadows["shed"] += len(variants)
            self._keep(exposure, route)
        else:
            work = self._shadow(exposure, slot, tensors, route, variants)
            task = asyncio.create_task(work, context=Context())  # the trace of the request ends with its answer
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait for the shadows that are under way: their exposures are kept."""
        await asyncio.gather(*self._under_way)

    async def _shadow(
        self, exposure: Exposure, slot: Slot, tensors: Tensors, route: ExperimentRoute, variants: Sequence[str]
    ) -> None:
        answers = [await self._ask(slot.name, name, route.versions[name], tensors) for name in variants]
        found = tuple(answer for answer in answers if answer is not None)
        self._keep(msgspec.structs.replace(exposure, shadows=found), route)

    def _keep(self, exposure: Exposure, route: ExperimentRoute) -> None:
        if route.recorded:
            self.exposures[exposure.experiment, exposure.variant] += 1
            self._record(exposure)

    async def _ask(self, model: str, variant: str, version: str, tensors: Tensors) -> ShadowAnswer | None:
        slot = self._slots.take(model, version)
        if slot is None:
            self.shadows["absent"] += 1
            return None
        started = time.monotonic()
        try:
            checked = slot.signature.check(tensors)
            protector = self._protector
            looked_at = frozenset[str]() if protector is None else protector.outputs_of(slot) & slot.outputs
            wanted = scored_outputs(slot) | looked_at
            outputs = await slot.predict(checked, wanted, started + slot.timeout_seconds, Priority.SHADOW)
            if protector is not None:
                protector.look_at_shadow(slot, checked, outputs)
        except Exception as error:  # noqa: BLE001 - whatever a shadow does, nobody waits for its answer
            status = getattr(error, "http_status", 500)
            shed = status in {429, 503, 504}
            self.shadows["shed" if shed else "failed"] += 1
            if not shed:
                slot.shadows.count_error(status, time.monotonic() - started)
            return None if shed else ShadowAnswer(variant, version, None, time.monotonic() - started, error=True)
        finally:
            slot.release()
        self.shadows["answered"] += 1
        now = time.monotonic()
        slot.shadows.count_answer(row_count(checked), now - started, now)
        return ShadowAnswer(variant, version, score_of(outputs), now - started)


class Enrolment:
    """One request that takes part.

    Attributes:
        id: Of the decision: what outcomes name. Empty where nothing is recorded.
        scored: Whether the score of the answer is wanted.
    """

    __slots__ = ("_asker", "_at_us", "_decision", "_enroller", "_route", "id", "scored")

    def __init__(self, enroller: Enroller, route: ExperimentRoute, decision: Decision, asker: Asker) -> None:
        self.id = new_id() if route.recorded else ""
        self.scored = route.scored
        self._enroller = enroller
        self._route = route
        self._decision = decision
        self._asker = asker
        self._at_us = time.time_ns() // 1000

    def answered(
        self,
        slot: Slot,
        tensors: Tensors,
        outputs: Tensors,
        latency_seconds: float,
        fallback: bool,
        safety: SafetyNote | None = None,
    ) -> None:
        """Note the answer.

        Args:
            slot: Who gave it.
            tensors: What was asked, as it passed the signature.
            outputs: The answer.
            latency_seconds: How long it took.
            fallback: Whether the unit got something else than what the variant's own version says.
            safety: What was found out about it, when there is something to say.
        """
        exposure = self._exposure(slot, score_of(outputs), latency_seconds, fallback=fallback, error=False)
        if safety is not None and safety.checks:
            said = exposure.dimensions | {SAFETY_DIMENSION: safety.level.value}
            exposure = msgspec.structs.replace(exposure, dimensions=said)
        self._enroller.record(exposure, slot, tensors, self._route)

    def failed(self, slot: Slot, latency_seconds: float, fallback: bool) -> None:
        """Note that there is no answer, because of the version or the server."""
        exposure = self._exposure(slot, None, latency_seconds, fallback=fallback, error=True)
        self._enroller.record(exposure, slot, None, self._route)

    def _exposure(
        self, slot: Slot, score: float | None, latency_seconds: float, *, fallback: bool, error: bool
    ) -> Exposure:
        route, decision, asker = self._route, self._decision, self._asker
        return Exposure(
            self.id,
            self._at_us,
            decision.experiment,
            decision.revision,
            decision.variant,
            _unit(route, asker) or self.id,
            decision.propensity,
            slot.name,
            slot.version,
            score,
            latency_seconds,
            error,
            fallback,
            _dimensions(route.dimensions, asker),
            _features(route, asker),
        )


def scored_outputs(slot: Slot) -> frozenset[str]:
    """Return which outputs of a version a score is made of."""
    if PROBABILITIES in slot.outputs:
        return frozenset({PROBABILITIES})
    names = [spec.name for spec in slot.signature.outputs]
    return frozenset({LABELS if LABELS in names else names[0]})


def score_of(outputs: Tensors) -> float | None:
    """Return the score of an answer: the probability of the last class, or else its only number; of many rows the mean.

    Example:
        >>> import numpy as np
        >>> score_of({"predict_proba": np.array([[0.25, 0.75]])})
        0.75
    """
    values = outputs.get(PROBABILITIES)
    if values is None:
        values = outputs.get(LABELS, next(iter(outputs.values()), None))
    if values is None or values.dtype.kind not in "fiub" or not values.size:
        return None
    if values.ndim > 1:
        values = values[..., -1]
    if values.size == 1:
        score = float(values.item())
    else:
        with np.errstate(all="ignore"):
            score = float(values.mean())
    return score if math.isfinite(score) else None


def _unit(route: ExperimentRoute, asker: Asker) -> str:
    """Return whom an exposure is about; empty where every request is a unit: drawn by itself, or nobody said whose."""
    if not route.allocation.spec.sticky:
        return ""
    unit = asker.unit if route.unit == UNIT else unit_in(asker.context, route.unit)
    return "" if unit is None or encoded(unit) is None else unit


def _features(route: ExperimentRoute, asker: Asker) -> dict[str, float]:
    """Return what the policy saw of the context; nothing where there is none."""
    if route.policy is None:
        return _NO_FEATURES
    spec = route.policy.spec
    return dict(zip((feature.name for feature in spec.features), spec.vector(asker.context or {}), strict=True))


def _dimensions(names: tuple[str, ...], asker: Asker) -> dict[str, str]:
    if not names:
        return _NO_DIMENSIONS
    context = asker.context or {}
    return {name: str(value)[:MAX_DIMENSION_TEXT] for name in names if isinstance(value := context.get(name), _PLAIN)}
