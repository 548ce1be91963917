"""What every act needs: the server, the flights that are asked about all the while, and a table that moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crossfade.cli.demo.board import Scorer
from crossfade.cli.demo.landings import Landings
from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.tables import Table
from crossfade.cli.demo.traffic import Answer, Traffic
from crossfade.cli.demo.watch import Watch
from crossfade.client import Client
from crossfade.experiments.spec import ExperimentSpec

FOLLOW_SECONDS = 1.0
"""After a move, how long answers of the former champion are nothing to wonder about."""


@dataclass(frozen=True)
class Reign:
    """A champion, and the span on the clock of `time.perf_counter` in which nobody else should answer."""

    version: str
    begins: float
    ends: float

    def covers(self, answer: Answer) -> bool:
        """Tell whether a request began and ended in this reign."""
        return self.begins <= answer.due and answer.due + answer.seconds <= self.ends

    def rules_out(self, answer: Answer) -> bool:
        """Tell whether another version gave an answer that lies within this reign."""
        return answer.version != self.version and self.covers(answer)


@dataclass(frozen=True)
class Stage:
    """Where the acts take place.

    Args:
        home: Of the demo, where files are kept for whoever wants to look.
        url: Of the server that answers.
        client: Of the same.
        screen: Where it is told.
        traffic: Asks all the while.
        scorer: Judges the answers.
        landings: Tells the server how flights ended.
        worker: A thread for what an act does while the table moves.
        watch_seconds: How long the traffic is watched after each step.
    """

    home: Path
    url: str
    client: Client
    screen: Screen
    traffic: Traffic
    scorer: Scorer
    landings: Landings
    worker: ThreadPoolExecutor
    watch_seconds: float

    def write(self, spec: ExperimentSpec) -> Path:
        """Keep a specification as a file that the command line takes, too; returns where."""
        return self.keep(f"{spec.name}.json", spec)

    def keep(self, name: str, content: object) -> Path:
        """Keep a plan, a policy or a document as a file that the command line takes, too; returns where."""
        document = self.home / name
        document.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
        return document

    def watch(self, look: Callable[[], Table]) -> Watch:
        """Return what keeps a table moving."""
        return Watch(look, self.screen, self.worker)


def strays(answers: list[Answer], reigns: list[Reign], drawn: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Return the versions that answered where another one should have.

    Args:
        answers: All of them.
        reigns: When only the champion should have answered.
        drawn: Experiment or rollout -> variant -> version that should have answered flights with this variant.
    """
    found = {answer.version for reign in reigns for answer in answers if reign.rules_out(answer)}
    for answer in answers:
        decided = answer.decided
        if decided is not None and drawn[decided.name][decided.variant] != answer.version:
            found.add(answer.version)
    return tuple(sorted(found))
