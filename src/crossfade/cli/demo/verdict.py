"""Whether the demo kept its promises; the exit code of `crossfade demo --once` comes from here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crossfade.errors import CrossfadeError, UnsafeError

FIRST, SECOND, BROKEN = "1.0.0", "1.1.0", "1.1.1"
CHAMPIONS = (FIRST, SECOND, FIRST, SECOND)
"""Who should have been champion, one after the other."""


@dataclass(frozen=True)
class Verdict:
    """What happened, as far as promises go.

    Args:
        asked: Requests sent.
        answered: Version -> requests it answered.
        failures: What went wrong with those that failed.
        refusal: Why the broken version was not made champion; None when it was.
        champions: Who was champion, one after the other, as the server's history says.
        strays: Versions that answered although another one was champion all the while.
    """

    asked: int
    answered: dict[str, int]
    failures: tuple[str, ...]
    refusal: CrossfadeError | None
    champions: tuple[str, ...]
    strays: tuple[str, ...] = ()

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
            yield f"while another version was champion, {', '.join(self.strays)} answered"
