"""The story that the demo tells, step by step, on a real server and real flights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from crossfade.cli.demo import report, trial
from crossfade.cli.demo.bandit import BANDIT, FLOOR, Bandit, account
from crossfade.cli.demo.bandit import VERSIONS as COMPETING
from crossfade.cli.demo.board import Scorer
from crossfade.cli.demo.canary import Canary
from crossfade.cli.demo.config import BEHIND, ConfigRelease
from crossfade.cli.demo.landings import Landings
from crossfade.cli.demo.release import Release
from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.server import own_home, running_server
from crossfade.cli.demo.stage import Stage, strays
from crossfade.cli.demo.traffic import Traffic, request_body
from crossfade.cli.demo.trial import TRIAL, Trial
from crossfade.cli.demo.verdict import (
    FIRST,
    REPAIRED,
    SECOND,
    SUBTLE,
    BanditVerdict,
    ConfigVerdict,
    RolloutVerdict,
    TrialVerdict,
    Verdict,
)
from crossfade.cli.demo.watch import worker_thread
from crossfade.client import Client
from crossfade.core.identity import CHAMPION
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.dataset import Flights, Split, load_flights, split_by_time
from crossfade.solutions.flights.replay import questions
from crossfade.solutions.flights.training import (
    NAME,
    Candidate,
    pack_wrongly,
    take_pascals,
    train_on_recent,
    train_on_schedule,
    train_shallow,
    train_with_weather,
)

STRIDE = 2
"""Every second flight is replayed, so that a minute shows more of December."""
LEARNED_WATCHES = 7
"""The bandit learns from as many flights as are asked about in so many times the pause between two steps."""


@dataclass(frozen=True)
class Plan:
    """How the demo runs.

    Args:
        home: Its folder.
        port: Of the server; None takes the usual one, or any free one.
        workers: Serving processes.
        rate: Requests per second.
        first_day: Of December, with which the replay begins.
        watch_seconds: How long the traffic is watched between two steps.
        train_every: Train on every n-th flight only.
        once: End by itself.
    """

    home: Path
    port: int | None = None
    workers: int = 1
    rate: float = 100.0
    first_day: int = 3
    watch_seconds: float = 4.0
    train_every: int = 1
    once: bool = False


@dataclass(frozen=True)
class _Prepared:
    """What is ready before the first request."""

    split: Split
    replay: Flights
    candidates: list[Candidate]
    broken: Draft
    subtle: Candidate

    @property
    def repaired(self) -> Candidate:
        """What has to be released in the stead of the one with the subtle error."""
        return self.candidates[-1]

    @property
    def usual(self) -> float:
        """The rate of late flights in training."""
        return float(self.split.training.late.mean())


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
                promises = self._live(client, url, prepared)
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
        december = split.replay.frame
        replay = Flights(december[december["day"] >= f"2013-12-{self._plan.first_day:02d}"].iloc[::STRIDE])
        return _Prepared(
            split, replay, candidates, pack_wrongly(candidates[1], split), take_pascals(candidates[-1], split)
        )

    def _train(self, split: Split) -> list[Candidate]:
        screen = self._screen
        training, evaluation = split.training, split.evaluation
        screen.step(f"Train on January to October ({len(training):,} flights)")
        screen.say(f"  evaluate on November ({len(evaluation):,}), replay December afterwards ({len(split.replay):,})")
        candidates = []
        for train, what in (
            (train_on_schedule, "logistic regression"),
            (train_with_weather, "boosting, weather"),
            (train_on_recent, "the same, recent"),
            (train_shallow, "shallow trees"),
        ):
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
        screen.step("Start the server")
        started = time.perf_counter()
        with running_server(home, plan.port, plan.workers) as url:
            port = url.rpartition(":")[2]
            screen.command(f"CROSSFADE_HOME={home} crossfade serve --port {port} --workers {plan.workers}")
            screen.good(f"{url} answers after {time.perf_counter() - started:.1f} s")
            yield url

    def _register(self, client: Client, url: str, prepared: _Prepared) -> None:
        screen = self._screen
        screen.step("Register the first two, and make 1.0.0 the champion")
        for candidate in prepared.candidates[:2]:
            version = candidate.version
            screen.code(f"client.register({NAME!r}, model, preprocessor=..., example=flights, version={version!r})")
            registered = client.register_draft(NAME, candidate.draft(), version=version)
            screen.say(f"  {registered.ref}  {registered.flavor}, {registered.size_bytes / 1024:,.0f} KiB")
        screen.command(f"export CROSSFADE_SERVER={url}")
        screen.command(f"crossfade models alias {NAME} {CHAMPION} {FIRST}")
        client.move_alias(NAME, CHAMPION, FIRST, reason="the first release")

    # --- under traffic ---

    def _live(self, client: Client, url: str, prepared: _Prepared) -> list[str]:
        """Play the acts while flights are asked about without a pause; returns the promises that were broken."""
        screen, plan = self._screen, self._plan
        asked = questions(prepared.replay, len(prepared.replay))
        traffic = Traffic(f"{url}/api/v1/predict/{NAME}", asked, plan.rate)
        landings = Landings(client.record_outcomes)
        scorer = Scorer(traffic, landings.land)
        with traffic, landings, worker_thread() as worker:
            stage = Stage(plan.home, url, client, screen, traffic, scorer, landings, worker, plan.watch_seconds)
            release = self._release(stage, prepared)
            experiment = self._try(stage)
            newest = client.alias_history(NAME, alias=CHAMPION, limit=1).items
            tried = TrialVerdict(TRIAL, trial.BETTER, experiment.verdict, newest[0] if newest else None)
            bandit = self._compete(stage, prepared)
            canary = self._roll_out(stage, prepared)
            config = self._configure(stage)
            moves = client.alias_history(NAME, alias=CHAMPION).items
        self._report(prepared, traffic, scorer, release)
        reigns = release.reigns + experiment.reigns + canary.reigns
        drawn = {**experiment.drawn, BANDIT: COMPETING, **canary.drawn}
        verdict = Verdict(
            asked=traffic.asked,
            answered=dict(scorer.logbook.answered),
            failures=tuple(traffic.failures),
            refusal=release.refusal,
            champions=tuple(move.target or "nobody" for move in reversed(moves)),
            strays=strays(traffic.answers, reigns, drawn),
            unreported=tuple(landings.failures),
        )
        rolled = RolloutVerdict(canary.caught, canary.caught_by, canary.promoted)
        return [promise for each in (verdict, tried, bandit, rolled, config) for promise in each.broken_promises()]

    def _release(self, stage: Stage, prepared: _Prepared) -> Release:
        screen, plan = self._screen, self._plan
        screen.act("Act 1: release, and take it back")
        screen.step(
            f"Replay every second flight from December {plan.first_day} on, {plan.rate:g} a second; {FIRST} answers"
        )
        screen.say("  a version is judged on the flights it answered, and only once they have landed")
        release = Release(stage)
        with screen.table():
            release.run(prepared.broken)
        return release

    def _try(self, stage: Stage) -> Trial:
        self._screen.act("Act 2: find out which version is better")
        experiment = Trial(stage)
        with self._screen.table():
            experiment.run()
        return experiment

    def _compete(self, stage: Stage, prepared: _Prepared) -> BanditVerdict:
        plan, usual = self._plan, prepared.usual
        self._screen.act("Act 3: use the best while finding out which it is")
        bandit = Bandit(stage, usual, int(plan.rate * plan.watch_seconds * LEARNED_WATCHES))
        with self._screen.table():
            bandit.run(prepared.candidates[2].draft())
        found = account(bandit.answers, prepared.candidates[:3], prepared.replay, usual)
        bandit.tell(found)
        return BanditVerdict(bandit.report, FLOOR, bandit.lowest, bandit.heaviest, found.worst)

    def _roll_out(self, stage: Stage, prepared: _Prepared) -> Canary:
        self._screen.act("Act 4: change production gradually, by evidence")
        canary = Canary(stage, prepared.usual)
        with self._screen.table():
            canary.run(prepared.subtle.draft(), prepared.repaired.draft())
        return canary

    def _configure(self, stage: Stage) -> ConfigVerdict:
        with Client(stage.url, principal="reviewer") as reviewer, self._screen.table():
            release = ConfigRelease(stage, reviewer)
            release.run()
        return ConfigVerdict(
            release.config,
            release.version,
            release.invalid,
            release.refusal,
            release.differed,
            BEHIND,
            release.report,
        )

    # --- after the traffic ---

    def _report(self, prepared: _Prepared, traffic: Traffic, scorer: Scorer, release: Release) -> None:
        screen, training = self._screen, prepared.split.training
        screen.act("What happened")
        for line in report.what_happened(traffic, scorer, release.swaps):
            screen.say(f"  {line}")
        screen.step("How good the versions are, on the same flights of December")
        for line in report.how_good(
            [*prepared.candidates, prepared.subtle], training, prepared.replay, traffic, scorer
        ):
            screen.say(f"  {line}")

    def _conclude(self, promises: list[str]) -> None:
        screen = self._screen
        screen.say()
        if not promises:
            screen.good("Every request got an answer, and the broken version gave none.")
            screen.good(f"The experiment made {SECOND} the champion, and the bandit kept to its floor.")
            screen.good(f"The rollout took {SUBTLE} back before it was champion, and made {REPAIRED} the champion.")
            screen.good("The config was approved by somebody else than its author, and everybody runs it.")
        for promise in promises:
            screen.bad(f"broken promise: {promise}")

    def _leave_running(self, url: str, replay: Flights) -> None:
        screen = self._screen
        (question,) = questions(replay, 1)
        body = request_body(question).decode()
        screen.step(f"The server keeps running at {url} (Ctrl-C stops it). Try:")
        screen.say(f"  curl {url}/api/v1/predict/{NAME} -H 'content-type: application/json' -d '{body}'")
        screen.say(f"  curl '{url}/api/v1/models/{NAME}/history?alias={CHAMPION}'")
        screen.say(f"  curl {url}/api/v1/experiments/{TRIAL}/report")
        screen.say(f"  curl {url}/api/v1/rollouts/{NAME}/history")
        screen.say(f"  curl {url}/metrics")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            screen.say()
            screen.say("Stopping the server.")
