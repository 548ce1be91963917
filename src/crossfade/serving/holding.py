"""`HeldVersion`: one request's hold on the one version that answers it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from crossfade.core.identity import CHAMPION
from crossfade.core.tensors import Tensors, row_count
from crossfade.errors import (
    CrossfadeError,
    MalformedRequestError,
    SignatureMismatchError,
    UnsafeAnswerError,
    UnsupportedMediaTypeError,
)
from crossfade.safety.inspection import Findings
from crossfade.serving.cache import VersionAnswers
from crossfade.serving.enrolment import Enroller, Enrolment, scored_outputs
from crossfade.serving.guarding import Protector, SafetyNote
from crossfade.serving.guarding import Question as Guarded
from crossfade.serving.replies import Question, Reply
from crossfade.serving.slots import Slot
from crossfade.serving.tracing import TraceContext
from crossfade.serving.waiting import Priority
from crossfade.traffic.allocation.decisions import Decision
from crossfade.traffic.routing import Assignment


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """An answer.

    Args:
        model: Who answered.
        version: Its semver.
        outputs: The wanted outputs.
        alias: The alias that was asked, or None when it was a version.
        fallback: Whether another version answered in the stead of the one that should have.
        revision: Of the snapshot that decided.
        decision: What an experiment decided, if one was about this request.
        decision_id: What outcomes name, when the request takes part in the experiment; else empty.
        safety: What there is to say about its safety; None: nothing.
    """

    model: str
    version: str
    outputs: Tensors
    alias: str | None = None
    fallback: bool = False
    revision: int = -1
    decision: Decision | None = None
    decision_id: str = ""
    safety: SafetyNote | None = None


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What a client asks for besides the answer.

    Args:
        timeout_seconds: How long it may take, counted from when the request was read, if the settings allow so much; by
            default as they say.
        priority: Who goes first when a model is busy, and who is turned away.
        trace: The client's place in its trace, if it has one.
        replay: Whether it was asked before, and is put to a version again: nothing of it is captured.
    """

    timeout_seconds: float | None = None
    priority: Priority = Priority.ONLINE
    trace: TraceContext | None = None
    replay: bool = False


DEFAULT_TERMS = Terms()
_UNREADABLE = (MalformedRequestError, UnsupportedMediaTypeError)
"""No version could answer that. What does not fit a signature is an exposure: another version may take it."""


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Why a version answers a request, and what of.

    Args:
        alias: The alias that was asked, or None when it was a version.
        fallback: Whether it answers in the stead of another one.
        revision: Of the snapshot that decided.
        answers: What is kept of its answers, or None.
        decision: Of the experiment that was about the request, if there was one.
        enrolment: What becomes its exposure, when it takes part.
        protector: Looks at the answer, where there are rules about the model.
        unit: Whom the request is about; empty when it does not say.
        trace: The client's place in its trace, if it has one.
    """

    alias: str | None
    fallback: bool
    revision: int
    answers: VersionAnswers | None = None
    decision: Decision | None = None
    enrolment: Enrolment | None = None
    protector: Protector | None = None
    unit: str = ""
    trace: TraceContext | None = None


class HeldVersion:
    """One request's hold on the one version that answers it; use it as a context manager, on the event loop.

    Whatever fails inside the block counts as a failed request of the version.

    Attributes:
        signature: What the request is decoded by and checked against.
    """

    __slots__ = ("_enrolment", "_grant", "_slot", "_started", "signature")

    def __init__(self, slot: Slot, grant: Grant) -> None:
        self._started = time.monotonic()
        self._slot = slot
        self._grant = grant
        self._enrolment = grant.enrolment
        self.signature = slot.signature

    async def predict(
        self,
        tensors: Tensors,
        wanted: frozenset[str] | None = None,
        terms: Terms = DEFAULT_TERMS,
        request_id: str = "",  # noqa: ARG002 - for those who look at it
    ) -> Prediction:
        """Answer a request.

        Args:
            tensors: Inputs by name.
            wanted: Names of outputs; all when not given.
            terms: How long it may take, and who goes first.
            request_id: What the client calls it, or knows it by.

        Raises:
            SignatureMismatchError: The inputs do not fit, or there is no such output.
            MalformedRequestError: There is no row, which many models cannot be asked.
            PredictionError: The model failed on them.
            OverloadedError: The model is too busy to answer in time.
            DeadlineExceededError: It did not answer in time.
            UnsafeAnswerError: The answer is not given, and nothing else can be.
            EmergencyError: The model was stopped meanwhile.
        """
        slot, asked_at = self._slot, time.monotonic()
        checked = slot.signature.check(tensors)
        names = _wanted(slot, wanted)
        if not row_count(checked):
            raise MalformedRequestError(problem="there is no row", see=_see(slot))
        grant, enrolment = self._grant, self._enrolment
        if enrolment is not None and enrolment.scored:
            names |= scored_outputs(slot)
        deadline = self._started + slot.allowed_seconds(terms.timeout_seconds)
        safety, protector = None, grant.protector
        if protector is not None and protector.warden.guards is not None:
            outputs, safety = await self._protected(protector, checked, names, deadline, terms.priority)
        else:
            outputs = await self._ask(checked, names, deadline, terms.priority)
            if protector is not None and protector.warden.guards is not None:  # an emergency that began meanwhile
                protector.admit(slot.name)
        self._count(row_count(checked), unsafe=safety is not None and safety.level.withheld)
        decision_id = ""
        if enrolment is not None:
            self._enrolment, decision_id = None, enrolment.id
            instead = grant.fallback or (safety is not None and bool(safety.instead))
            # without the time in which the request was read, which shadows do not have either
            enrolment.answered(slot, checked, outputs, time.monotonic() - asked_at, instead, safety)
        return Prediction(
            slot.name,
            slot.version,
            outputs,
            grant.alias,
            grant.fallback,
            grant.revision,
            grant.decision,
            decision_id,
            safety,
        )

    def _ask(self, checked: Tensors, names: frozenset[str], deadline: float, priority: Priority) -> Awaitable[Tensors]:
        """Ask the model, or what is kept of its answers."""
        answers = self._grant.answers
        # a large file would push out what is asked often
        if answers is None or priority is Priority.BATCH:
            return self._slot.predict(checked, names, deadline, priority)
        return answers.predict(self._slot, checked, names, deadline, priority)

    async def _protected(
        self, protector: Protector, checked: Tensors, names: frozenset[str], deadline: float, priority: Priority
    ) -> tuple[Tensors, SafetyNote | None]:
        """Ask the model, unless it is stopped, and return what may be given."""
        slot, unit = self._slot, self._grant.unit
        guard = protector.warden.guard(slot.name)
        outputs: Tensors = {}
        found: Findings | None = None
        if guard is None:
            outputs = await self._ask(checked, names, deadline, priority)
        elif guard.emergency is None:
            inspector = guard.inspector(slot)
            wanted = names if inspector.outputs <= names else names | (inspector.outputs & slot.outputs)
            outputs = await self._ask(checked, wanted, deadline, priority)
            found = inspector.inspect(checked, outputs, row_count(checked), unit)
        later = protector.warden.guard(slot.name)
        if later is not None and later.emergency is not None:  # it may have begun meanwhile
            guard = later
        if guard is None:
            return outputs, None
        if found is None and guard.emergency is None:
            return protector.pass_on(guard, slot, outputs, names, unit)
        asked = Guarded(slot, checked, names, unit, deadline, priority)
        return await protector.settle(guard, asked, outputs, found)

    def question(self, terms: Terms, head: bytes, body: bytes) -> Question | None:
        """Return what a whole request is remembered by; None where nothing is kept, or where somebody looks at it.

        Args:
            terms: Only requests without terms of their own are remembered: a trace is part of the answer, and so are
                what an experiment decided, and what is said about safety.
            head: What besides the body decides how it is read.
            body: Of the request.
        """
        answers = self._grant.answers
        if answers is None or terms is not DEFAULT_TERMS or self._grant.decision is not None:
            return None
        protector = self._grant.protector
        if protector is not None and protector.warden.guard(self._slot.name) is not None:
            return None  # whether it may be given is asked every time
        return answers.question(self._grant.fallback, head, body)

    def recall(self, question: Question) -> Reply | None:
        """Return the answer that the same request got a moment ago, and count it; or None."""
        assert self._grant.answers is not None  # noqa: S101 - it has given the question
        reply = self._grant.answers.recall(self._slot, question)
        if reply is not None:
            self._count(reply.rows)
        return reply

    def remember(self, question: Question, reply: Reply) -> None:
        """Keep an answer for the same request."""
        assert self._grant.answers is not None  # noqa: S101 - it has given the question
        self._grant.answers.remember(question, reply)

    def _count(self, rows: int, *, unsafe: bool = False) -> None:
        now = time.monotonic()
        self._slot.counters.count_answer(rows, now - self._started, now)
        self._slot.counters.fallbacks += self._grant.fallback
        self._slot.counters.unsafe += unsafe
        if self._grant.alias != CHAMPION:
            self._slot.pinned.count_answer(rows, now - self._started, now)
            self._slot.pinned.unsafe += unsafe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go, and count a failure; an error of what decoded the request is told who was to answer."""
        self._slot.release()
        if isinstance(error, Exception):
            status = error.http_status if isinstance(error, CrossfadeError) else 500
            seconds = time.monotonic() - self._started
            unsafe = isinstance(error, UnsafeAnswerError)
            self._slot.counters.count_error(status, seconds)
            self._slot.counters.unsafe += unsafe
            if self._grant.alias != CHAMPION:
                self._slot.pinned.count_error(status, seconds)
                self._slot.pinned.unsafe += unsafe
            if self._enrolment is not None and not isinstance(error, _UNREADABLE):
                self._enrolment.failed(self._slot, seconds, self._grant.fallback)
        if isinstance(error, MalformedRequestError):
            raise MalformedRequestError(problem=str(error.facts["problem"]), see=_see(self._slot)) from error
        if isinstance(error, SignatureMismatchError) and error.facts["ref"] != self._slot.ref:
            facts: dict[str, Any] = error.facts | {"ref": self._slot.ref}
            raise SignatureMismatchError(**facts) from error


Refused = Callable[[TraceContext | None, CrossfadeError], None]
"""Is told of a request that was refused, by the client's place in its trace."""


class Holder:
    """Makes a `HeldVersion` of each request.

    Args:
        enroller: For requests that take part in an experiment.
        held: Another class, or what makes one, where requests are looked at.
        protector: Applies the safety rules, or None.
        refused: Is told of requests that no version was held for, where requests are looked at.

    Attributes:
        enroller, protector: The same.
    """

    def __init__(
        self,
        enroller: Enroller,
        held: Callable[[Slot, Grant], HeldVersion] = HeldVersion,
        protector: Protector | None = None,
        refused: Refused | None = None,
    ) -> None:
        self.enroller = enroller
        self.protector = protector
        self._refused = refused
        self._held = held

    def hold(self, slot: Slot, grant: Grant) -> HeldVersion:
        """Hold on to a leased slot for one request."""
        return self._held(slot, grant)

    def refuse(self, trace: TraceContext | None, error: CrossfadeError) -> None:
        """Tell whoever looks at requests of one that no version is held for, by its client's place in its trace."""
        if self._refused is not None:
            self._refused(trace, error)


def told(assignment: Assignment, slot: Slot) -> Decision:
    """Return what an answer says of a decision: a champion that is no variant any more has no variant's name."""
    decision, route = assignment.decision, assignment.route
    if assignment.version is not None or route is None or route.versions.get(decision.variant) == slot.version:
        return decision
    return msgspec.structs.replace(decision, variant="")


def _see(slot: Slot) -> str:
    return f"crossfade models show {slot.ref}"


def _wanted(slot: Slot, wanted: frozenset[str] | None) -> frozenset[str]:
    if wanted is None:
        return slot.outputs
    if not wanted <= slot.outputs:
        slot.signature.output(next(iter(wanted - slot.outputs)))
    return wanted
