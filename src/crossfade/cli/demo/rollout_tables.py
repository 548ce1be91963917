"""The tables of the last act: a rollout on its way, and who reads which version of a config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfade.cli.demo.board import Board
from crossfade.cli.demo.layout import NAMES, WIDTHS, drawn_of, grid_of, line_of, values_of
from crossfade.configs.reports import ClientState, DriftReport
from crossfade.releases.rollout import Rollout

if TYPE_CHECKING:
    from rich.console import RenderableType

_ABSENT = "-"
_WIDTH = 24


@dataclass(frozen=True)
class RolloutTable:
    """Act 4: how much of the traffic a new version has, and what is counted of it and of the old one.

    Args:
        board: The state of now.
        rollout: As it stood last; None before it was created.
        stable, candidate: The old version and the new one.
    """

    board: Board
    rollout: Rollout | None
    stable: str
    candidate: str

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""
        arms = [f"{version} share, all, unsafe" for version in (self.stable, self.candidate)]
        return line_of(NAMES[:4], WIDTHS[:4], [*arms, "status"], _WIDTH)

    @property
    def line(self) -> str:
        """The state of now in one line."""
        arms = ["  ".join(cells[1:]) for cells in self._arms()]
        return line_of(values_of(self.board)[:4], WIDTHS[:4], [*arms, self._status()], _WIDTH)

    @property
    def note(self) -> str:
        """What it waits for."""
        return "" if self.rollout is None else self.rollout.state.words

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        grid = grid_of("", "version", "share", "answers", "unsafe")
        for cells in self._arms():
            grid.add_row("", *cells)
        words = Text(f"{self._status()}: {self.note}" if self.note else self._status(), "italic")
        return Group(drawn_of(self.board, grid), Padding(words, (1, 2, 0, 2)))

    def _status(self) -> str:
        if self.rollout is None:
            return _ABSENT
        step = f", step {self.rollout.state.step + 1}" if self.rollout.state.step >= 0 else ""
        return f"{self.rollout.status.value}{step}"

    def _arms(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield for each version: which, its share of the traffic, how much it answered, and how much was unsafe."""
        weight = 0.0 if self.rollout is None else self.rollout.weight
        counts = (0, 0, 0, 0) if self.rollout is None else self.rollout.evidence.counts.get("unsafe", (0, 0, 0, 0))
        unsafe, of, unsafe_before, of_before = counts
        for version, share, bad, answers in (
            (self.stable, 1 - weight, unsafe_before, of_before),
            (self.candidate, weight, unsafe, of),
        ):
            rate = f"{bad:,} ({bad / answers:.1%})" if answers else _ABSENT
            yield version, f"{share:.0%}", f"{answers:,}", rate


@dataclass(frozen=True)
class ConfigTable:
    """Act 4: who runs which version of a config, and which it should be.

    Args:
        board: The state of now.
        report: The newest; None before the first.
        clients: Whom it shows.
        rollout: Of the newest version; None while there is none.
    """

    board: Board
    report: DriftReport | None
    clients: tuple[str, ...]
    rollout: Rollout | None = None

    @property
    def head(self) -> str:
        """The headings, where it is written line by line."""
        clients = [f"{name} runs, should" for name in self.clients]
        return line_of(NAMES[:4], WIDTHS[:4], [*clients, "rollout"], _WIDTH)

    @property
    def line(self) -> str:
        """The state of now in one line."""
        clients = [f"{runs}, {should}: {state}" for _, runs, should, state in self._rows()]
        return line_of(values_of(self.board)[:4], WIDTHS[:4], [*clients, self._status()], _WIDTH)

    @property
    def note(self) -> str:
        """What the rollout waits for."""
        return self.rollout.state.words if self.rollout is not None and self.rollout.active else ""

    def drawn(self) -> RenderableType:
        """The state of now, as a terminal shows it."""
        grid = grid_of("", "client", "runs", "should run", "state")
        for name, runs, should, state in self._rows():
            grid.add_row("", name, runs, should, state, style="bold red" if state == "differs" else "")
        return drawn_of(self.board, grid)

    def _status(self) -> str:
        if self.rollout is None:
            return _ABSENT
        return f"{self.rollout.status.value}, {self.rollout.weight:.0%}"

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        known = {} if self.report is None else {client.client: client for client in self.report.clients}
        for name in self.clients:
            yield (name, *_numbers(known.get(name)))


def _numbers(client: ClientState | None) -> tuple[str, str, str]:
    if client is None:
        return (_ABSENT,) * 3
    runs, should = (_ABSENT if number is None else str(number) for number in (client.number, client.expected))
    return runs, should, client.state
