"""Act 2: an experiment finds out which version is better, on flights of the same days, and ships it by itself."""

from __future__ import annotations

import math
import time

import httpx
import msgspec

from crossfade.cli.demo.canary import follow
from crossfade.cli.demo.stage import FOLLOW_SECONDS, Reign, Stage
from crossfade.cli.demo.tables import TrialTable
from crossfade.cli.demo.traffic import ORIGIN
from crossfade.cli.demo.verdict import FIRST, SECOND
from crossfade.core.identity import CHAMPION
from crossfade.experiments.analysis_spec import DecisionSpec
from crossfade.experiments.record import ENDED, Experiment, Verdict
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.releases.rollout import CANDIDATE, STABLE
from crossfade.solutions.flights.training import NAME

TRIAL = "late_flights"
LATE = "late"
"""The outcome: 1 when the flight arrived more than 15 minutes late, else 0."""
LOG_LOSS = "log_loss"
VERSIONS = {"schedule": FIRST, "weather": SECOND}
"""Variant -> version, the control first."""
BETTER = "weather"
LOOK_SECONDS = 1.0
LAST_SECONDS = 15.0
"""After the last flight was asked about, how long a decision may still take."""


def specification() -> ExperimentSpec:
    """Return the experiment as anybody would write it down; only the minimum runtime is that of flights in a hurry."""
    down = {"direction": "down", "role": "guardrail"}
    metrics = (
        {"name": LOG_LOSS, "outcome": LATE, "loss": "log", "direction": "down", "missing": "skip"},
        {"name": "errors", "kind": "ratio", "outcome": "error", "denominator": "exposures", **down},
        {"name": "latency", "kind": "quantile", "outcome": "latency_seconds", "level": 0.9, "margin": 0.5, **down},
    )
    return ExperimentSpec(
        TRIAL,
        tuple(Variant(name, 0.5, version) for name, version in VERSIONS.items()),
        model=NAME,
        description="Do probabilities become better when the weather is known?",
        metrics=msgspec.convert(metrics, tuple[MetricSpec, ...]),
        dimensions=(ORIGIN,),
        decision=DecisionSpec(auto=True, minimum_runtime_seconds=5.0),
    )


class Trial:
    """Runs the experiment until the server has decided, or no flight is left.

    Args:
        stage: Where.
    """

    def __init__(self, stage: Stage) -> None:
        self.experiment: Experiment | None = None
        """As it stood last."""
        self.reigns: list[Reign] = []
        """When only the version that was shipped should have answered."""
        self.drawn: dict[str, dict[str, str]] = {TRIAL: VERSIONS}
        """Experiment or rollout -> variant -> version that should have answered flights with this variant."""
        self._report: AnalysisReport | None = None
        self._stage = stage
        self._watch = stage.watch(self.table)

    def table(self) -> TrialTable:
        """Return the state of now."""
        return TrialTable(self._stage.scorer.board(), self._report, LOG_LOSS, VERSIONS)

    def run(self) -> None:
        """Write the experiment down, start it, and watch until it is over."""
        client, screen = self._stage.client, self._stage.screen
        spec = specification()
        self._stage.landings.measure(TRIAL, LATE, lambda answer: float(answer.question.late))
        screen.step(f"Let chance decide who answers which flight: the experiment {TRIAL}")
        screen.say(
            f"  half of the flights get {FIRST}, half {SECOND}; when one has landed, the server is told if it was late"
        )
        screen.say("  log loss decides, errors and latency are guardrails, and the server acts by itself")
        screen.head(self.table())
        screen.command(f"crossfade experiments create {self._stage.write(spec)}")
        self._watch.while_doing(lambda: client.create_experiment(spec))
        screen.command(f"crossfade experiments start {TRIAL}")
        self._watch.while_doing(lambda: client.start_experiment(TRIAL, reason="before and after tell nothing"))
        asked, began = self._stage.traffic.asked, time.perf_counter()
        self._follow()
        ended = time.perf_counter()
        self._end(self._stage.traffic.asked - asked, ended - began)
        if self.verdict is not None:
            shipped = time.perf_counter()
            self._watch.during(self._stage.watch_seconds / 2)
            self.reigns.append(Reign(SECOND, shipped + FOLLOW_SECONDS, time.perf_counter()))

    @property
    def verdict(self) -> Verdict | None:
        """How it ended; None as long as nothing was decided."""
        return None if self.experiment is None else self.experiment.verdict

    def _follow(self) -> None:
        client, until = self._stage.client, math.inf
        while time.monotonic() < until:
            self._report = self._watch.while_doing(lambda: client.analyze_experiment(TRIAL))
            self.experiment = self._watch.while_doing(lambda: client.experiment(TRIAL))
            if self.experiment.status in ENDED:
                return
            if self._stage.traffic.ran_out:
                until = min(until, time.monotonic() + LAST_SECONDS)
            self._watch.during(LOOK_SECONDS)

    def _end(self, flights: int, seconds: float) -> None:
        """Say how it ended, why, and where to read more."""
        client, screen, verdict = self._stage.client, self._stage.screen, self.verdict
        if verdict is None:
            screen.bad(f"nothing was decided after {flights:,} flights and {seconds:.0f} s, and no flight is left")
            screen.words(self.table().note)
            screen.say("  begin earlier with --first-day, or ask more slowly with --rate")
            self._watch.while_doing(lambda: client.stop_experiment(TRIAL, reason="no flight is left"))
            return
        address = f"{self._stage.url}/api/v1/experiments/{TRIAL}/report"
        page = self._watch.while_doing(lambda: httpx.get(address, timeout=60.0, trust_env=False))
        if verdict.action == "ship":
            rollout = follow(self._stage, self._watch, NAME, lambda _rollout: None)
            self.drawn[rollout.name] = {STABLE: rollout.stable, CANDIDATE: rollout.candidate}
        newest = self._watch.while_doing(lambda: client.alias_history(NAME, alias=CHAMPION, limit=1).items[0])
        kept = self._stage.home / f"{TRIAL}.html"
        kept.write_bytes(page.content)
        screen.step(f"After {flights:,} flights and {seconds:.0f} s it was decided: {verdict.action} {verdict.variant}")
        screen.words(verdict.reason)
        screen.good(f"{CHAMPION} moved from {newest.source} to {newest.target}, by {newest.reason.partition(':')[0]}")
        screen.say(f"  the whole report, with its pictures: {address}")
        screen.say(f"  kept as {kept}")
