"""The story that the demo tells, step by step, on a real server and real flights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from crossfade.cli.demo.board import Scorer, latency_ms
from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.server import free_port, own_home, running_server
from crossfade.cli.demo.traffic import Traffic
from crossfade.cli.demo.verdict import BROKEN, Verdict
from crossfade.client import Client
from crossfade.core.identity import CHAMPION
from crossfade.errors import CrossfadeError
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.dataset import Flights, Split, load_flights, split_by_time
from crossfade.solutions.flights.quality import measure
from crossfade.solutions.flights.replay import Question, questions
from crossfade.solutions.flights.training import NAME, Candidate, pack_wrongly, train_on_schedule, train_with_weather

T = TypeVar("T")

FIRST, SECOND = "1.0.0", "1.1.0"
TICK_SECONDS = 0.25
FOLLOW_SECONDS = 1.0
"""After a move, how long answers of the former champion are nothing to wonder about."""


@dataclass(frozen=True)
class Plan:
    """How the demo runs.

    Args:
        home: Its folder.
        port: Of the server; None takes the usual one, or any free one.
        workers: Serving processes.
        rate: Requests per second.
        watch_seconds: How long the traffic is watched between two steps.
        once: End by itself.
    """

    home: Path
    port: int | None = None
    workers: int = 1
    rate: float = 100.0
    watch_seconds: float = 8.0
    once: bool = False


@dataclass(frozen=True)
class Reign:
    """A champion and the time, on the clock of `time.perf_counter`, in which only it should answer."""

    version: str
    begins: float
    ends: float


class Story:
    """Tells the story once.

    Args:
        plan: How.
        screen: Where it is shown.
    """

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._reigns: list[Reign] = []
        self._swaps: list[tuple[str, float]] = []

    def tell(self) -> list[str]:
        """Run the demo.

        Returns:
            The promises that were broken; none when all went well.

        Raises:
            CrossfadeError: It could not be run.
        """
        screen, plan = self._screen, self._plan
        with own_home(plan.home) as home:
            split = self._read()
            candidates = self._train(split)
            drafts = {candidate.version: candidate.draft() for candidate in candidates}
            broken = pack_wrongly(candidates[-1], split)
            seconds = 10 * plan.watch_seconds + 120
            asked = questions(split.replay, limit=int(seconds * plan.rate))
            port = plan.port or free_port()
            screen.step("Start the server")
            screen.command(f"CROSSFADE_HOME={home} crossfade serve")
            started = time.perf_counter()
            with running_server(home, port, plan.workers) as url, Client(url, principal="demo") as client:
                screen.good(f"{url} answers after {time.perf_counter() - started:.1f} s")
                self._register(client, url, drafts)
                verdict = self._release(client, url, asked, broken)
                promises = list(verdict.broken_promises())
                self._conclude(promises)
                if not plan.once:
                    self._leave_running(url, asked[0])
        return promises

    # --- before the traffic ---

    def _read(self) -> Split:
        screen = self._screen
        flights = load_flights()
        split = split_by_time(flights)
        screen.step("Will a flight from New York arrive more than 15 minutes late?")
        screen.say(f"  {len(flights):,} real flights of 2013, asked about when they are due to leave")
        screen.say(f"  {flights.cancelled:,} were cancelled and {flights.diverted:,} diverted: they have no outcome")
        return split

    def _train(self, split: Split) -> list[Candidate]:
        screen = self._screen
        training, evaluation = split.training, split.evaluation
        screen.step(f"Train on January to October ({len(training):,} flights)")
        screen.say(f"  evaluate on November ({len(evaluation):,}), replay December afterwards ({len(split.replay):,})")
        candidates = []
        for train, what in ((train_on_schedule, "logistic regression"), (train_with_weather, "boosting, weather")):
            started = time.perf_counter()
            candidate = train(split)
            seconds = time.perf_counter() - started
            screen.say(f"  {candidate.version}  {what:<20}  {_offline(candidate.card.evaluation)}   {seconds:4.1f} s")
            candidates.append(candidate)
        screen.say(f"  {'always the same rate':<27}  {_offline(_constant(training, evaluation))}")
        screen.say(f"  {evaluation.late.mean():.1%} were late in November, {training.late.mean():.1%} in training")
        return candidates

    def _register(self, client: Client, url: str, drafts: dict[str, Draft]) -> None:
        screen = self._screen
        screen.step("Register both versions, and make 1.0.0 the champion")
        for version, draft in drafts.items():
            screen.command(
                f"# client.register({NAME!r}, model, preprocessor=..., example=flights, version={version!r})"
            )
            registered = client.register_draft(NAME, draft, version=version)
            screen.say(f"  {registered.ref}  {registered.flavor}, {registered.size_bytes / 1024:,.0f} KiB")
        screen.command(f"export CROSSFADE_SERVER={url}")
        screen.command(f"crossfade models alias {NAME} {CHAMPION} {FIRST}")
        client.move_alias(NAME, CHAMPION, FIRST, reason="the first release")

    # --- under traffic ---

    def _release(self, client: Client, url: str, asked: list[Question], broken: Draft) -> Verdict:
        screen, plan = self._screen, self._plan
        screen.step(f"Replay December: {plan.rate:g} requests a second, in time order, and {FIRST} answers")
        traffic = Traffic(f"{url}/api/v1/predict/{NAME}", asked, plan.rate)
        scorer = Scorer(traffic)
        with traffic, screen.table(), _worker() as worker:
            watch = _Watch(scorer, screen, worker)
            screen.head()
            began = time.perf_counter()
            watch.during(plan.watch_seconds)
            began = self._swap(watch, client, SECOND, began, f"crossfade models alias {NAME} {CHAMPION} {SECOND}")
            refusal = self._try_broken(watch, client, broken)
            began = self._swap(watch, client, FIRST, began, f"crossfade models rollback {NAME}", back=True)
            began = self._swap(watch, client, SECOND, began, f"crossfade models alias {NAME} {CHAMPION} {SECOND}")
            self._reigns.append(Reign(SECOND, began, time.perf_counter()))
        scorer.board()
        history = client.alias_history(NAME, alias=CHAMPION).items
        self._summarise(traffic, scorer)
        return Verdict(
            asked=traffic.asked,
            answered=dict(scorer.logbook.answered),
            failures=tuple(traffic.failures),
            refusal=refusal,
            champions=tuple(move.target or "nobody" for move in reversed(history)),
            strays=self._strays(traffic),
        )

    def _swap(
        self, watch: _Watch, client: Client, version: str, began: float, command: str, *, back: bool = False
    ) -> float:
        """Move the champion, watch the traffic, and return when the new reign began."""
        screen = self._screen
        former = FIRST if version == SECOND else SECOND
        screen.step(f"{'Roll back' if back else 'Move the champion'} to {version} while requests keep coming")
        screen.command(command)
        started = time.perf_counter()
        self._reigns.append(Reign(former, began, started))
        if back:
            watch.while_doing(lambda: client.rollback(NAME, reason="the demo shows the way back"))
        else:
            watch.while_doing(lambda: client.move_alias(NAME, CHAMPION, version, reason="a better evaluation"))
        ended = time.perf_counter()
        self._swaps.append((version, ended - started))
        screen.good(f"{version} answers after {1000 * (ended - started):,.0f} ms")
        watch.during(self._plan.watch_seconds)
        return ended + FOLLOW_SECONDS

    def _try_broken(self, watch: _Watch, client: Client, broken: Draft) -> CrossfadeError | None:
        """Publish the version that was packed wrongly, and try to make it champion."""
        screen = self._screen
        screen.step(f"Publish {BROKEN}, packed by mistake with the preprocessor of another training run")
        watch.while_doing(lambda: client.register_draft(NAME, broken, version=BROKEN))
        screen.say("  its files are intact and it would load, so it is registered")
        screen.command(f"crossfade models alias {NAME} {CHAMPION} {BROKEN}")
        refusal = None
        try:
            watch.while_doing(lambda: client.move_alias(NAME, CHAMPION, BROKEN, reason="just a patch"))
        except CrossfadeError as error:
            refusal = error
            screen.bad(f"error: {error.message}")
            screen.say(f"  hint: {error.hint}")
            screen.good(f"its golden requests told: it never answered anybody, {SECOND} goes on")
        watch.during(self._plan.watch_seconds / 2)
        return refusal

    def _strays(self, traffic: Traffic) -> tuple[str, ...]:
        """Return versions that answered requests sent in the reign of another."""
        return tuple(
            sorted(
                {
                    answer.version
                    for reign in self._reigns
                    for answer in traffic.answers
                    if reign.begins <= answer.due and answer.due + answer.seconds <= reign.ends
                    and answer.version != reign.version
                }
            )
        )  # fmt: skip

    # --- after the traffic ---

    def _summarise(self, traffic: Traffic, scorer: Scorer) -> None:
        screen, board = self._screen, scorer.board()
        p50, p99 = latency_ms(traffic.answers, (50, 99))
        screen.step("What happened")
        screen.say(f"  {traffic.asked:,} requests, {traffic.asked - len(traffic.answers):,} without an answer")
        screen.say(f"  p50 {p50:.1f} ms, p99 {p99:.1f} ms over everything, every swap included")
        swaps = ", ".join(f"to {version} in {1000 * seconds:,.0f} ms" for version, seconds in self._swaps)
        screen.say(f"  champion moved {swaps}")
        screen.say(
            f"  {scorer.logbook.never_landing:,} flights never landed, {scorer.logbook.in_the_air:,} are in the air"
        )
        for version in (FIRST, SECOND, BROKEN):
            standing = board.standing(version)
            measured = _offline(standing.quality.evaluation()) if standing.quality else ""
            landed = f"{standing.quality.flights:,} landed: " if standing.quality else ""
            screen.say(f"  {version}  answered {standing.answered:6,}   {landed}{measured}".rstrip())

    def _conclude(self, promises: list[str]) -> None:
        screen = self._screen
        screen.say()
        if not promises:
            screen.good("Every request got an answer, and the broken version answered none.")
        for promise in promises:
            screen.bad(f"broken promise: {promise}")

    def _leave_running(self, url: str, question: Question) -> None:
        screen = self._screen
        body = orjson.dumps({"rows": [question.row], "probabilities": True}).decode()
        screen.step(f"The server keeps running at {url} (Ctrl-C stops it). Try:")
        screen.say(f"  curl {url}/api/v1/predict/{NAME} -H 'content-type: application/json' -d '{body}'")
        screen.say(f"  curl '{url}/api/v1/models/{NAME}/history?alias={CHAMPION}'")
        screen.say(f"  curl {url}/metrics")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            screen.say()
            screen.say("Stopping the server.")


class _Watch:
    """Keeps the table moving while something happens."""

    def __init__(self, scorer: Scorer, screen: Screen, worker: ThreadPoolExecutor) -> None:
        self._scorer = scorer
        self._screen = screen
        self._worker = worker

    def during(self, seconds: float) -> None:
        """Watch for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(TICK_SECONDS, left))
            self._screen.show(self._scorer.board())

    def while_doing(self, work: Callable[[], T]) -> T:
        """Do something in another thread, and watch until it is done."""
        done: Future[T] = self._worker.submit(work)
        while True:
            try:
                return done.result(TICK_SECONDS)
            except TimeoutError:
                if done.done():
                    raise
                self._screen.show(self._scorer.board())


@contextmanager
def _worker() -> Iterator[ThreadPoolExecutor]:
    """Give a thread; do not wait for what it still does when something else failed."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="story")
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _offline(evaluation: dict[str, float]) -> str:
    auc = evaluation.get("auc", float("nan"))
    return f"log loss {evaluation['log_loss']:.3f}  AUC {auc:.3f}  Brier {evaluation['brier']:.3f}"


def _constant(training: Flights, evaluation: Flights) -> dict[str, float]:
    """Return the evaluation of giving everybody the rate of the training window: what any model has to beat."""
    late = evaluation.late
    return measure(late, [training.late.mean()] * len(late)).evaluation()
