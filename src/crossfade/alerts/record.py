"""`Alert`, `Silence`, `Matcher`: what is stored, and what people are shown."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Self

import msgspec

from crossfade.core.hashing import canonical_json, sha256
from crossfade.errors import InvalidSilenceError

_MAX_MATCHER = 200


class AlertStatus(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    """It is so, but not yet for long enough."""
    FIRING = "firing"
    """Somebody should look."""
    RESOLVED = "resolved"
    """It was so."""


class Alert(msgspec.Struct, frozen=True):
    """A rule that holds, or held, for something.

    Args:
        id: Of this rule for these labels: the same whenever it comes back.
        rule: Its name.
        severity: `info`, `ticket` or `page`.
        labels: What it is about.
        status: Where it is in its life.
        summary: One sentence.
        reason: The numbers, in words, when it held last, or why it is over.
        value: The number; None where there is none.
        since: Since when the condition holds without a break.
        fired_at: When it began to fire.
        resolved_at: When it was over, the last time; None while it fires.
        well_since: Firing, and since when it is well.
        unknown_since: Firing, and since when nothing is known.
        firings: When it began to fire within the last hour.
        flapping: It comes back so often that it has to be well for longer each time.
        silenced: Nobody is told at present.
    """

    id: str
    rule: str
    severity: str
    labels: dict[str, str]
    status: AlertStatus
    summary: str
    reason: str
    value: float | None
    since: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    well_since: datetime | None = None
    unknown_since: datetime | None = None
    firings: tuple[datetime, ...] = ()
    flapping: bool = False
    silenced: bool = False

    @property
    def model(self) -> str:
        """The model that it is about; empty for none."""
        return self.labels.get("model", "")


def alert_id(rule: str, labels: dict[str, str]) -> str:
    """Return the identity of a rule for some labels.

    Example:
        >>> alert_id("A", {"model": "churn"}) == alert_id("A", {"model": "churn"})
        True
    """
    return sha256(canonical_json([rule, labels]))[:32]


def about(labels: dict[str, str]) -> str:
    """Return labels as people read them.

    Example:
        >>> about({"model": "churn"}), about({"model": "churn", "kind": "x"}), about({})
        ('churn', 'kind=x, model=churn', 'this deployment')
    """
    if set(labels) <= {"model"} or set(labels) == {"experiment"}:
        return "".join(labels.values()) or "this deployment"
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


class Matcher(msgspec.Struct, frozen=True):
    """One condition of a silence on a label; `rule` and `severity` count as labels, too.

    Args:
        label: Which.
        pattern: Its value; `*` and `?` stand for anything.
        equal: Whether it shall match.
    """

    label: str
    pattern: str
    equal: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a matcher as people write it.

        Raises:
            InvalidSilenceError: It is none.

        Example:
            >>> Matcher.parse("model=churn"), Matcher.parse("rule!=Model*").equal
            (Matcher(label='model', pattern='churn', equal=True), False)
        """
        label, sign, pattern = text.partition("=")
        equal = not label.endswith("!")
        label = label.removesuffix("!").strip()
        usable = label.isidentifier() and label.isascii() and pattern.isprintable() and len(text) <= _MAX_MATCHER
        if not sign or not usable:
            raise InvalidSilenceError(problem=f"`{text[:80]}` is no condition such as `model=churn` or `rule!=Model*`")
        if not pattern.strip():  # of a variable that is not set: every alert without the label would match
            problem = f"`{text[:80]}` names no value; alerts without the label are `{label}!=?*`"
            raise InvalidSilenceError(problem=problem)
        return cls(label, pattern.strip(), equal)

    def matches(self, alert: Alert) -> bool:
        """Tell whether an alert fulfils it. A label that an alert does not have is empty."""
        value = {"rule": alert.rule, "severity": alert.severity}.get(self.label, alert.labels.get(self.label, ""))
        return fnmatchcase(value, self.pattern) is self.equal

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.label}{'=' if self.equal else '!='}{self.pattern}"


class Silence(msgspec.Struct, frozen=True):
    """For a while, nobody is told of some alerts. They go on being evaluated and shown.

    Args:
        id: Of the silence.
        matchers: All of them have to match.
        reason: Why.
        created_by: Who wants it.
        created_at: Since when.
        ends_at: Until when.
        ended_by: Who ended it before its time.
    """

    id: str
    matchers: tuple[Matcher, ...]
    reason: str
    created_by: str
    created_at: datetime
    ends_at: datetime
    ended_by: str = ""

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Tell whether nobody shall be told of an alert now."""
        return now < self.ends_at and all(matcher.matches(alert) for matcher in self.matchers)


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A silence that somebody wants.

    Args:
        matchers: Such as `model=churn`, `rule=Model*`, `severity!=page`; all of them have to match.
        seconds: How long.
        reason: Why.
    """

    matchers: tuple[str, ...]
    seconds: float
    reason: str


class ChannelTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which channel shall be tried; empty tries all of them."""

    channel: str
    reason: str = ""


class Told(msgspec.Struct, frozen=True):
    """What became of a notification that was tried.

    Args:
        channel: Where to.
        problem: Why it did not arrive; empty when it did.
    """

    channel: str
    problem: str = ""
