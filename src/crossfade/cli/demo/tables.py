"""The tables of the first three acts: each as a line of text, and as it is drawn on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crossfade.cli.demo.board import Board
from crossfade.cli.demo.layout import NAMES, WIDTHS, drawn_of, grid_of, line_of, values_of
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.report import AnalysisReport, Comparison
from crossfade.experiments.reports import words
from crossfade.experiments.reports.sections import headline
from crossfade.methods.stats.values import Effect

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 20
_ROOM = 31
"""Characters of a drawn interval; odd, so that zero has a place in the middle."""


class Table(Protocol):
    """What the screen shows while an act goes on."""

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""

    @property
    def line(self) -> str:
        """The state of now in one line."""

    @property
    def note(self) -> str:
        """The state of now in words; empty for nothing to say."""

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""


@dataclass(frozen=True)
class ReleaseTable:
    """Act 1: who answers, and how good the answers were.

    Args:
        board: The state of now.
        versions: Whose quality it follows.
    """

    board: Board
    versions: tuple[str, ...]

    note = ""

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""
        return line_of(
            (*NAMES, "answers"), (*WIDTHS, 7), [f"{version} landed, late, log loss" for version in self.versions], 28
        )

    @property
    def line(self) -> str:
        """The state of now in one line."""
        values = (*values_of(self.board), self.board.answering)
        return line_of(values, (*WIDTHS, 7), [self._quality(version) for version in self.versions], 28)

    def _quality(self, version: str) -> str:
        quality = self.board.standing(version).quality
        return "-" if quality is None else f"{quality.flights:,}  {quality.base_rate:.1%}  {quality.log_loss:.3f}"

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""
        grid = grid_of("", "version", "answered", "landed", "late", "log loss", "AUC", "Brier")
        for version in self.versions:
            standing, answers = self.board.standing(version), version == self.board.answering
            quality = standing.quality
            cells: tuple[str, ...] = ("-",) * 5
            if quality is not None:
                late, losses = f"{quality.base_rate:.1%}", (quality.log_loss, quality.auc, quality.brier)
                cells = (f"{quality.flights:,}", late, *(f"{value:.3f}" for value in losses))
            mark = "  answers >" if answers else ""
            grid.add_row(mark, version, f"{standing.answered:,}", *cells, style="bold green" if answers else "")
        return drawn_of(self.board, grid)


@dataclass(frozen=True)
class TrialTable:
    """Act 2: what an experiment knows so far.

    Args:
        board: The state of now.
        report: The newest analysis; None before the first.
        metric: The one that decides.
        versions: Variant -> version, the control first.
    """

    board: Board
    report: AnalysisReport | None
    metric: str
    versions: Mapping[str, str]

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""
        arms = [f"{version} all, landed, loss" for version in self.versions.values()]
        return line_of(NAMES[:4], WIDTHS[:4], [*arms, "difference, always-valid"], 24)

    @property
    def line(self) -> str:
        """The state of now in one line."""
        arms = ["  ".join(self._arm(variant)) for variant in self.versions]
        return line_of(values_of(self.board)[:4], WIDTHS[:4], [*arms, self._difference()], 24)

    @property
    def note(self) -> str:
        """The decision as it stands, and what is missing."""
        if self.report is None:
            return ""
        decision = self.report.decision
        missing = f"; missing: {decision.missing}" if decision.missing else ""
        return f"{headline(self.report)}: {decision.reason}{missing}"

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        grid = grid_of("", "variant", "version", "drawn", "landed", "log loss")
        for variant, version in self.versions.items():
            grid.add_row("", variant, version, *self._arm(variant))
        found = self._effect()
        bar = (
            ""
            if found is None
            else f"  better {interval_bar(found.interval[0], found.effect, found.interval[1])} worse"
        )
        interval = Text(f"  difference {self._difference()}{bar}")
        return Group(drawn_of(self.board, grid), interval, Padding(Text(self.note, "italic"), (1, 2, 0, 2)))

    def _comparison(self) -> Comparison | None:
        found = () if self.report is None else self.report.comparisons
        return next((each for each in found if each.metric == self.metric), None)

    def _effect(self) -> Effect | None:
        comparison = self._comparison()
        return comparison.absolute if comparison is not None and isinstance(comparison.absolute, Effect) else None

    def _arm(self, variant: str) -> tuple[str, str, str]:
        """Return how many flights a variant got, how many have landed, and its loss on those."""
        comparison = self._comparison()
        units = {} if self.report is None else dict(self.report.health.units)
        arms = () if comparison is None else (comparison.control, comparison.treatment)
        arm = next((each for each in arms if each.variant == variant), None)
        value = "-" if arm is None or arm.value is None else f"{arm.value:.3f}"
        drawn = f"{units[variant]:,}" if units else "-"
        return drawn, "-" if arm is None else f"{arm.units:,}", value

    def _difference(self) -> str:
        found = self._effect()
        return "-" if found is None else f"{found.effect:+.3f} ({found.interval[0]:+.3f}, {found.interval[1]:+.3f})"


@dataclass(frozen=True)
class BanditTable:
    """Act 3: which part of the traffic each variant has earned.

    Args:
        board: The state of now.
        report: What the bandit knows; None before it was asked first.
        versions: Variant -> version.
        earned: Version -> how many flights landed, and what they earned together.
    """

    board: Board
    report: BanditReport | None
    versions: Mapping[str, str]
    earned: Mapping[str, tuple[int, float]]

    note = ""

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""
        arms = [f"{version} weight, best, gain" for version in self.versions.values()]
        return line_of(NAMES[:4], WIDTHS[:4], arms, 24)

    @property
    def line(self) -> str:
        """The state of now in one line."""
        arms = [f"{weight}  {chance}  {gain}" for weight, chance, _, gain in self._arms()]
        return line_of(values_of(self.board)[:4], WIDTHS[:4], arms, 24)

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""
        grid = grid_of("", "variant", "version", "weight", "", "chance to be best", "landed", "mean gain")
        for (variant, version), (weight, chance, landed, gain) in zip(self.versions.items(), self._arms(), strict=True):
            grid.add_row("", variant, version, weight, weight_bar(self._weight(variant)), chance, landed, gain)
        return drawn_of(self.board, grid)

    def _weight(self, variant: str) -> float:
        return 0.0 if self.report is None else self.report.weights.get(variant, 0.0)

    def _arms(self) -> Iterator[tuple[str, str, str, str]]:
        for variant, version in self.versions.items():
            chance = None if self.report is None else self.report.chances.get(variant)
            landed, gain = self.earned.get(version, (0, 0.0))
            mean = f"{gain / landed:+.4f}" if landed else words.ABSENT
            weight = words.ABSENT if self.report is None else f"{self._weight(variant):.3f}"
            yield weight, words.chance(chance), f"{landed:,}", mean


def interval_bar(lower: float, middle: float, upper: float, reach: float = 0.3) -> str:
    """Return an interval as a picture around zero; what lies outside of `-reach` to `reach` is cut off.

    Example:
        >>> interval_bar(-0.2, -0.1, 0.05)
        '[     =====●====:===            ]'
    """
    half = _ROOM // 2
    first, place, last = (round(half * (1 + max(-1.0, min(1.0, end / reach)))) for end in (lower, middle, upper))
    cells = [" "] * _ROOM
    cells[first : last + 1] = "=" * (last + 1 - first)
    cells[half] = ":"
    cells[place] = "●"
    return f"[{''.join(cells)}]"


def weight_bar(weight: float) -> str:
    """Return a weight as a bar.

    Example:
        >>> weight_bar(0.25)
        '█████               '
    """
    return ("█" * round(weight * _BAR)).ljust(_BAR)
