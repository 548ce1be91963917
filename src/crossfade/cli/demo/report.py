"""The numbers that the demo ends with."""

from __future__ import annotations

from collections.abc import Iterator

from crossfade.cli.demo.board import Scorer, latency_ms
from crossfade.cli.demo.traffic import Traffic
from crossfade.cli.demo.verdict import BROKEN, FIRST, REPAIRED, SECOND, SUBTLE, THIRD
from crossfade.solutions.flights.dataset import Flights
from crossfade.solutions.flights.quality import Quality, measure
from crossfade.solutions.flights.training import Candidate


def scores(quality: Quality) -> str:
    """Return the three measurements that the demo follows."""
    return f"log loss {quality.log_loss:.3f}  AUC {quality.auc:.3f}  Brier {quality.brier:.3f}"


def constant_rate(training: Flights, judged: Flights) -> Quality:
    """Measure giving every flight the rate of the training window: what any model has to beat."""
    return measure(judged.late, [training.late.mean()] * len(judged))


def on(candidate: Candidate, judged: Flights) -> Quality:
    """Measure a version on flights that all landed."""
    return measure(judged.late, candidate.probabilities(judged.inputs))


def what_happened(traffic: Traffic, scorer: Scorer, swaps: list[tuple[str, float]]) -> Iterator[str]:
    """Yield the lines about requests, latency, swaps and who answered."""
    board = scorer.board()
    p50, p99 = latency_ms(traffic.answers, (50, 99))
    dues = [answer.due for answer in traffic.answers]
    rate = len(dues) / max(max(dues, default=0.0) - min(dues, default=0.0), 1.0)
    unanswered = traffic.asked - len(traffic.answers)
    yield f"{traffic.asked:,} requests, {rate:.0f} a second, {unanswered:,} without an answer"
    yield f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, measured by the caller over everything, swaps included"
    yield "champion moved " + ", ".join(f"to {version} in {1000 * seconds:,.0f} ms" for version, seconds in swaps)
    versions = (FIRST, SECOND, BROKEN, THIRD, SUBTLE, REPAIRED)
    yield f"answers: {', '.join(f'{version} {board.standing(version).answered:,}' for version in versions)}"


def how_good(
    candidates: list[Candidate], training: Flights, replay: Flights, traffic: Traffic, scorer: Scorer
) -> Iterator[str]:
    """Yield the lines that compare the versions on the same flights: those that were asked about and have landed.

    While it ran each version was judged on the flights it answered, stormy or calm; only the same flights are fair.
    """
    log = scorer.logbook
    clock = scorer.board().clock
    asked = Flights(replay.frame.iloc[: traffic.asked])
    landed = asked.landed(by=clock)
    yield f"of {len(asked):,} flights {len(landed):,} have landed, {landed.late.mean():.1%} of them late"
    yield f"{log.in_the_air:,} are in the air, {log.never_landing:,} never arrive (cancelled or diverted)"
    for candidate in candidates:
        yield f"{candidate.version:<22}{scores(on(candidate, landed))}"
    yield f"{'always the same rate':<22}{scores(constant_rate(training, landed))}"
