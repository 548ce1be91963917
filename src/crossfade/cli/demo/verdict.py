"""Whether the demo kept its promises; the exit code of `crossfade demo --once` comes from here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crossfade.configs.record import Config, ConfigVersion
from crossfade.configs.reports import DriftReport
from crossfade.errors import CrossfadeError, UnsafeError
from crossfade.experiments.judging import AUTO
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Verdict as Decided
from crossfade.registry.versions import AliasMove
from crossfade.releases.controller import CONTROLLER
from crossfade.releases.rollout import Rollout, RolloutStatus

FIRST, SECOND, BROKEN, THIRD, SUBTLE, REPAIRED = "1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0", "1.3.1"
CHAMPIONS = (FIRST, SECOND, FIRST, SECOND, REPAIRED)
"""Who should have been champion, in this order: by hand, by hand, by a rollback, by the experiment, by a rollout."""
ENOUGH = 1000
"""Of how many flights a bandit must have learned before it may be blamed."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What happened, as far as promises go.

    Args:
        asked: Requests sent.
        answered: Version -> requests it answered.
        failures: What went wrong with those that failed.
        refusal: Why the broken version was not made champion; None when it was.
        champions: Who was champion, one after the other, as the server's history says.
        strays: Versions that answered although another one was champion all the while, or was drawn.
        unreported: What went wrong with outcomes that the server did not take.
    """

    asked: int
    answered: dict[str, int]
    failures: tuple[str, ...]
    refusal: CrossfadeError | None
    champions: tuple[str, ...]
    strays: tuple[str, ...] = ()
    unreported: tuple[str, ...] = ()

    def broken_promises(self) -> Iterator[str]:
        """Yield what did not go as it must; nothing when all went well."""
        total = sum(self.answered.values())
        if not self.asked:
            yield "no request was sent"
        if total != self.asked:
            yield f"{self.asked - total} of {self.asked} requests got no answer" + "".join(
                f"; the first failure: {failure}" for failure in self.failures[:1]
            )
        if not isinstance(self.refusal, UnsafeError):
            yield f"{BROKEN} should have been found unfit, but: {self.refusal or 'it was made champion'}"
        if self.answered.get(BROKEN):
            yield f"{BROKEN} answered {self.answered[BROKEN]} requests"
        if self.champions != CHAMPIONS:
            yield f"the champions were {', '.join(self.champions)} instead of {', '.join(CHAMPIONS)}"
        if self.strays:
            yield f"{', '.join(self.strays)} answered where another version should have"
        for problem in self.unreported[:1]:
            yield f"{len(self.unreported)} reports of outcomes were not taken; the first: {problem}"


@dataclass(frozen=True)
class TrialVerdict:
    """What came of the experiment.

    Args:
        name: Of the experiment.
        better: The variant that is to be shipped.
        verdict: How it ended; None when nothing was decided.
        newest: The last move of the champion; None when it never moved.
    """

    name: str
    better: str
    verdict: Decided | None
    newest: AliasMove | None

    def broken_promises(self) -> Iterator[str]:
        """Yield what did not go as it must."""
        if self.verdict is None:
            yield f"the experiment {self.name} was not decided"
            return
        if (self.verdict.action, self.verdict.variant) != ("ship", self.better):
            yield f"the experiment {self.name} ended with: {self.verdict.action} {self.verdict.variant}".rstrip()
        if self.verdict.by != AUTO:
            yield f"the experiment {self.name} was decided by {self.verdict.by} and not by the server"
        if self.newest is None or self.newest.moved_by != CONTROLLER or self.name not in self.newest.reason:
            yield f"the history of the champion does not name the experiment {self.name}"


@dataclass(frozen=True)
class BanditVerdict:
    """What came of the bandit.

    Args:
        report: What it knew at the end; None when it was never asked.
        floor: What every variant keeps.
        lowest: The smallest weight that any variant ever had.
        heaviest: The version with the largest weight at the end.
        worst: The version that would have earned least on the same flights.
    """

    report: BanditReport | None
    floor: float
    lowest: float
    heaviest: str
    worst: str

    def broken_promises(self) -> Iterator[str]:
        """Yield what did not go as it must."""
        if self.report is None or not self.report.decisions:
            yield "the bandit learned nothing"
            return
        if self.lowest < self.floor - _ROUNDING:
            yield f"a weight fell to {self.lowest:.4f}, and the floor is {self.floor}"
        if self.heaviest == self.worst and self.report.decisions >= ENOUGH:
            yield f"the bandit gave most of the flights to {self.worst}, which told worst"


@dataclass(frozen=True)
class RolloutVerdict:
    """What came of the two rollouts.

    Args:
        caught: That of the version with the error, as it ended; None when it never began.
        caught_by: Who ended it.
        promoted: That of the repaired version.
    """

    caught: Rollout | None
    caught_by: str
    promoted: Rollout | None

    def broken_promises(self) -> Iterator[str]:
        """Yield what did not go as it must."""
        if self.caught is None or self.caught.status is not RolloutStatus.ROLLED_BACK:
            yield f"{SUBTLE} should have been rolled back, but: {_ending(self.caught)}"
        elif self.caught_by != CONTROLLER or "check `" not in self.caught.reason:
            yield f"{SUBTLE} was rolled back by {self.caught_by or 'nobody'} and not by a check: {self.caught.reason}"
        elif not self.caught.latched:
            yield f"{SUBTLE} could be rolled out again without a person's word"
        if self.promoted is None or self.promoted.status is not RolloutStatus.COMPLETED:
            yield f"{REPAIRED} should have been promoted, but: {_ending(self.promoted)}"


@dataclass(frozen=True)
class ConfigVerdict:
    """What came of the config.

    Args:
        config: As it was at the end; None when it was never written.
        version: The one that should be active.
        invalid: What was found wrong with the document that cannot be.
        refusal: Why its author could not approve their own; None when they could.
        differed: Who ran something else after the rollout.
        behind: Who should have.
        report: Who runs what at the end.
    """

    config: Config | None
    version: ConfigVersion | None
    invalid: str
    refusal: CrossfadeError | None
    differed: tuple[str, ...]
    behind: str
    report: DriftReport | None

    def broken_promises(self) -> Iterator[str]:
        """Yield what did not go as it must."""
        if self.config is None or self.version is None or self.report is None:
            yield "the config was not released"
            return
        if not self.invalid:
            yield f"a document of {self.config.name} that cannot be was found to be fit"
        if self.refusal is None or self.version.approved_by in {"", self.version.created_by}:
            yield f"version {self.version.number} of {self.config.name} was approved by its author"
        if self.config.active != self.version.number:
            yield f"version {self.config.active} of {self.config.name} is active, and not {self.version.number}"
        if self.differed != (self.behind,):
            yield f"{self.behind} should have been behind, and those were: {', '.join(self.differed) or 'nobody'}"
        if self.report.differs or not self.report.current:
            yield f"{self.report.differs} clients of {self.config.name} run something else than they should"


def _ending(rollout: Rollout | None) -> str:
    return "it was never rolled out" if rollout is None else f"{rollout.status.value}: {rollout.reason}"
