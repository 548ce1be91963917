"""Live traffic: one HTTP request per flight, at a fixed rate, whatever the server does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import msgspec

from crossfade.solutions.flights.replay import Question

TIMEOUT_SECONDS = 10.0
SLIP_SECONDS = 0.25
"""When this machine is too busy to send in time, it asks less from then on instead of catching up."""
LATEST = 500
"""Questions over which the pace is measured."""
MOST_OPEN = 64
"""Requests that may wait for an answer at once."""
_IDLE_SECONDS = 2.0  # shorter than the server keeps idle connections, so that none is closed while it is picked up
ORIGIN = "origin"
"""The attribute by which an experiment breaks its results down: which of the three airports a flight leaves from."""
_LATE = 1
"""The label of a flight that arrives late."""


@dataclass(frozen=True)
class Answer:
    """One answered request.

    Args:
        question: What was asked.
        version: Who answered.
        probability: Of arriving late.
        due: When the request was due to be sent, on the clock of `time.perf_counter`.
        seconds: From then to the answer, so that waiting before sending counts too.
        decided: What an experiment decided about the flight; None where none was about it.
    """

    question: Question
    version: str
    probability: float
    due: float
    seconds: float
    decided: Decided | None = None


class Decided(msgspec.Struct, frozen=True):
    """What an experiment, or a rollout, decided about one flight.

    Args:
        name: Of the experiment.
        variant: Which the flight got.
        decision_id: What an outcome names, so that it is counted for this decision; empty where nobody counts.
    """

    name: str
    variant: str
    decision_id: str = ""


class _Body(msgspec.Struct):
    version: str
    classes: tuple[int, ...]
    probabilities: list[tuple[float, ...]]
    experiment: Decided | None = None


class Traffic:
    """Asks one question after the other from its own thread. A context manager: leaving it waits for open requests.

    The loop is open: a request is sent when it is due, not when the one before it was answered, as real callers do.
    Only when far too many are open, or this machine is too busy to send, the next one is due later. Nothing is retried:
    a request that fails has failed.

    Args:
        url: Where to send the requests.
        questions: In the order of asking.
        rate: Requests per second.
    """

    def __init__(self, url: str, questions: Sequence[Question], rate: float) -> None:
        self.asked = 0
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._url = url
        self._questions = questions
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_all()), name="traffic")

    def __enter__(self) -> Self:
        """Start asking."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop asking, and wait for the answers that are still open."""
        self._stop.set()
        self._thread.join()

    @property
    def ran_out(self) -> bool:
        """Whether every question has been asked."""
        return self.asked == len(self._questions)

    def pace(self) -> float:
        """Return how many of the latest questions were asked per second: the rate, unless this machine is busy."""
        dues = [answer.due for answer in self.answers[-LATEST:]]
        return (len(dues) - 1) / (max(dues) - min(dues)) if len(set(dues)) > 1 else self._rate

    @property
    def unanswered(self) -> int:
        """How many requests have neither an answer nor a failure (yet)."""
        return self.asked - len(self.answers) - len(self.failures)

    async def _ask_all(self) -> None:
        free = asyncio.Semaphore(MOST_OPEN)
        limits = httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_SECONDS)
        async with (
            httpx.AsyncClient(limits=limits, timeout=TIMEOUT_SECONDS, trust_env=False) as client,
            asyncio.TaskGroup() as open_requests,
        ):
            due = time.perf_counter()
            for question in self._questions:
                due = max(due + 1 / self._rate, time.perf_counter() - SLIP_SECONDS)
                await asyncio.sleep(due - time.perf_counter())
                await free.acquire()
                if self._stop.is_set():
                    return
                self.asked += 1
                asking = open_requests.create_task(self._ask(client, question, due))
                asking.add_done_callback(lambda _: free.release())

    async def _ask(self, client: httpx.AsyncClient, question: Question, due: float) -> None:
        body = request_body(question)
        try:
            response = await client.post(self._url, content=body, headers={"content-type": "application/json"})
            seconds = time.perf_counter() - due
            if response.status_code != httpx.codes.OK:
                self.failures.append(f"{response.status_code} {response.text[:200]}")
                return
            answer = msgspec.json.decode(response.content, type=_Body)
            probability = answer.probabilities[0][answer.classes.index(_LATE)]
        except (httpx.HTTPError, msgspec.MsgspecError, LookupError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        self.answers.append(Answer(question, answer.version, probability, due, seconds, answer.experiment))


def request_body(question: Question) -> bytes:
    """Return what is asked: about which flight, so that experiments can draw it, and from where it leaves."""
    asked = {
        "rows": [question.row],
        "probabilities": True,
        "unit_id": question.flight,
        "context": {ORIGIN: question.row[ORIGIN]},
    }
    return msgspec.json.encode(asked)
