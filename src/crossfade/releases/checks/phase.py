"""`Phase`: what the measurements of a check add up to, by its limits.

Source: the counters and limits of Argo Rollouts' analysis runs; unlike there, an error never hides a failure: the worst
result counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class CheckResult(StrEnum):
    """What a measurement, or all of them together, say; the later, the worse."""

    PASS = "pass"  # noqa: S105 - not a password
    PENDING = "pending"
    """Nothing yet, or not enough."""
    NO_TRAFFIC = "no_traffic"
    """Nobody asked the new version, or there is nothing yet to compare it with; what lasts waits for a person."""
    INCONCLUSIVE = "inconclusive"
    """It could be either."""
    ERROR = "error"
    """It could not be measured."""
    FAIL = "fail"


_SEVERITY = {result: place for place, result in enumerate(CheckResult)}


def worst(results: Iterable[CheckResult]) -> CheckResult:
    """Return the worst of several results; of none it is a pass.

    Example:
        >>> worst([CheckResult.PASS, CheckResult.FAIL, CheckResult.ERROR])
        <CheckResult.FAIL: 'fail'>
    """
    return max(results, key=_SEVERITY.__getitem__, default=CheckResult.PASS)


class Measurement(msgspec.Struct, frozen=True):
    """One look of a check.

    Args:
        result: What it says by itself.
        reason: Why, in a sentence.
        value: The number that was looked at, if there is one.
        limit: What it was compared with.
    """

    result: CheckResult
    reason: str
    value: float | None = None
    limit: float | None = None


class Limits(msgspec.Struct, frozen=True):
    """How many results of a kind a check may have; see `checks.spec`."""

    failures: int = 0
    inconclusive: int = 0
    errors: int = 4
    successes: int = 0
    successes_in_a_row: int = 0

    def satisfied(self, counts: CheckCounts) -> bool:
        """Tell whether enough has passed: in all or in a row, whichever is asked for; else anything at all."""
        if self.successes_in_a_row and counts.passed_in_a_row >= self.successes_in_a_row:
            return True
        if self.successes or self.successes_in_a_row:
            return bool(self.successes) and counts.passed >= self.successes
        return counts.passed > 0


class CheckCounts(msgspec.Struct, frozen=True):
    """The results of one check in one step.

    Args:
        passed, failed, inconclusive, errors: How many there were.
        passed_in_a_row, errors_in_a_row: How many of the newest.
    """

    passed: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors: int = 0
    passed_in_a_row: int = 0
    errors_in_a_row: int = 0

    def count(self, result: CheckResult) -> CheckCounts:
        """Return the counts with one more result."""
        return CheckCounts(
            self.passed + (result is CheckResult.PASS),
            self.failed + (result is CheckResult.FAIL),
            self.inconclusive + (result is CheckResult.INCONCLUSIVE),
            self.errors + (result is CheckResult.ERROR),
            self.passed_in_a_row + 1 if result is CheckResult.PASS else 0,
            self.errors_in_a_row + 1 if result is CheckResult.ERROR else 0,
        )

    def phase(self, limits: Limits) -> CheckResult:
        """Return what they add up to.

        Example:
            >>> CheckCounts(passed=3, failed=1).phase(Limits())
            <CheckResult.FAIL: 'fail'>
        """
        found = [CheckResult.PASS if limits.satisfied(self) else CheckResult.PENDING]
        if self.failed > limits.failures:
            found.append(CheckResult.FAIL)
        if self.errors_in_a_row > limits.errors:
            found.append(CheckResult.ERROR)
        if self.inconclusive > limits.inconclusive:
            found.append(CheckResult.INCONCLUSIVE)
        return worst(found)
