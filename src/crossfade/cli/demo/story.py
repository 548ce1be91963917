"""The story that the demo tells, step by step, on a real server and real flights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from crossfade.cli.demo import report
from crossfade.cli.demo.board import Scorer
from crossfade.cli.demo.release import Release
from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.server import free_port, own_home, running_server
from crossfade.cli.demo.traffic import Traffic
from crossfade.cli.demo.verdict import FIRST, Verdict
from crossfade.cli.demo.watch import Watch, worker_thread
from crossfade.client import Client
from crossfade.core.identity import CHAMPION
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.dataset import Flights, Split, load_flights, split_by_time
from crossfade.solutions.flights.replay import questions
from crossfade.solutions.flights.training import NAME, Candidate, pack_wrongly, train_on_schedule, train_with_weather

STRIDE = 2
"""Every second flight is replayed, so that a minute shows more of December than its calm first days."""
LONGEST_SWAPS_SECONDS = 60.0
"""How long all swaps together may take before the flights run out."""


@dataclass(frozen=True)
class Plan:
    """How the demo runs.

    Args:
        home: Its folder.
        port: Of the server; None takes the usual one, or any free one.
        workers: Serving processes.
        rate: Requests per second.
        watch_seconds: How long the traffic is watched between two steps.
        train_every: Train on every n-th flight only.
        once: End by itself.
    """

    home: Path
    port: int | None = None
    workers: int = 1
    rate: float = 100.0
    watch_seconds: float = 8.0
    train_every: int = 1
    once: bool = False


@dataclass(frozen=True)
class _Prepared:
    """What is ready before the first request."""

    split: Split
    replay: Flights
    candidates: list[Candidate]
    broken: Draft


class Story:
    """Tells the story once.

    Args:
        plan: How.
        screen: Where it is shown.
    """

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen

    def tell(self) -> list[str]:
        """Run the demo.

        Returns:
            The promises that were broken; none when all went well.

        Raises:
            CrossfadeError: It could not be run.
        """
        with own_home(self._plan.home) as home:
            prepared = self._prepare()
            with self._server(home) as url, Client(url, principal="demo") as client:
                self._register(client, url, prepared)
                promises = list(self._release(client, url, prepared).broken_promises())
                self._conclude(promises)
                if not self._plan.once:
                    self._leave_running(url, prepared.replay)
        return promises

    # --- before the traffic ---

    def _prepare(self) -> _Prepared:
        screen = self._screen
        flights = load_flights()
        split = split_by_time(flights)
        split = replace(split, training=Flights(split.training.frame.iloc[:: self._plan.train_every]))
        screen.step("Will a flight from New York arrive more than 15 minutes late?")
        screen.say(f"  {len(flights):,} real flights of 2013, asked about when they are due to leave")
        screen.say(f"  {flights.cancelled:,} were cancelled and {flights.diverted:,} diverted: they have no outcome")
        candidates = self._train(split)
        replay = Flights(split.replay.frame.iloc[::STRIDE])
        return _Prepared(split, replay, candidates, pack_wrongly(candidates[-1], split))

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
            screen.say(f"  {candidate.version}  {what:<20}  {report.scores(candidate.quality)}   {seconds:4.1f} s")
            candidates.append(candidate)
        screen.say(f"  {'always the same rate':<27}  {report.scores(report.constant_rate(training, evaluation))}")
        screen.say(f"  {evaluation.late.mean():.1%} were late in November, {training.late.mean():.1%} in training")
        return candidates

    @contextmanager
    def _server(self, home: Path) -> Iterator[str]:
        screen, plan = self._screen, self._plan
        port = plan.port or free_port()
        screen.step("Start the server")
        screen.command(f"CROSSFADE_HOME={home} crossfade serve --port {port} --workers {plan.workers}")
        started = time.perf_counter()
        with running_server(home, port, plan.workers) as url:
            screen.good(f"{url} answers after {time.perf_counter() - started:.1f} s")
            yield url

    def _register(self, client: Client, url: str, prepared: _Prepared) -> None:
        screen = self._screen
        screen.step("Register both versions, and make 1.0.0 the champion")
        for candidate in prepared.candidates:
            version = candidate.version
            screen.code(f"client.register({NAME!r}, model, preprocessor=..., example=flights, version={version!r})")
            registered = client.register_draft(NAME, candidate.draft(), version=version)
            screen.say(f"  {registered.ref}  {registered.flavor}, {registered.size_bytes / 1024:,.0f} KiB")
        screen.command(f"export CROSSFADE_SERVER={url}")
        screen.command(f"crossfade models alias {NAME} {CHAMPION} {FIRST}")
        client.move_alias(NAME, CHAMPION, FIRST, reason="the first release")

    # --- under traffic ---

    def _release(self, client: Client, url: str, prepared: _Prepared) -> Verdict:
        screen, plan = self._screen, self._plan
        screen.step(f"Replay every second flight of December, {plan.rate:g} requests a second; {FIRST} answers")
        screen.say("  a version is judged on the flights it answered, and only once they have landed")
        limit = int(plan.rate * (LONGEST_SWAPS_SECONDS + 5 * plan.watch_seconds))
        traffic = Traffic(f"{url}/api/v1/predict/{NAME}", questions(prepared.replay, limit), plan.rate)
        scorer = Scorer(traffic)
        with traffic, screen.table(), worker_thread() as worker:
            screen.head()
            release = Release(client, Watch(scorer, screen, worker), screen, plan.watch_seconds)
            release.run(prepared.broken)
        history = client.alias_history(NAME, alias=CHAMPION).items
        self._report(prepared, traffic, scorer, release)
        return Verdict(
            asked=traffic.asked,
            answered=dict(scorer.logbook.answered),
            failures=tuple(traffic.failures),
            refusal=release.refusal,
            champions=tuple(move.target or "nobody" for move in reversed(history)),
            strays=release.strays(traffic.answers),
        )

    # --- after the traffic ---

    def _report(self, prepared: _Prepared, traffic: Traffic, scorer: Scorer, release: Release) -> None:
        screen, training = self._screen, prepared.split.training
        screen.step("What happened")
        for line in report.what_happened(traffic, scorer, release.swaps):
            screen.say(f"  {line}")
        screen.step("How good the versions are, on the same flights of December")
        for line in report.how_good(prepared.candidates, training, prepared.replay, traffic, scorer):
            screen.say(f"  {line}")

    def _conclude(self, promises: list[str]) -> None:
        screen = self._screen
        screen.say()
        if not promises:
            screen.good("Every request got an answer, and the broken version gave none.")
        for promise in promises:
            screen.bad(f"broken promise: {promise}")

    def _leave_running(self, url: str, replay: Flights) -> None:
        screen = self._screen
        (question,) = questions(replay, 1)
        body = msgspec.json.encode({"rows": [question.row], "probabilities": True}).decode()
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
