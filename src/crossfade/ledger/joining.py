"""The join: which exposure, and so which unit, an outcome belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from crossfade.ledger.admission import problem_of_exposure, problem_of_outcome, problem_of_subject
from crossfade.ledger.columns import JoinedOutcome
from crossfade.ledger.counts import NOBODY, UNKNOWN_EXPERIMENT, Counts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.measured import Measured, load
from crossfade.ledger.raw import exposures_by_id
from crossfade.ledger.waiting import wait, waited_for


@dataclass
class Joined:
    """Events of one experiment that can be used.

    Args:
        measured: The experiment.
        exposures: Of it.
        outcomes: Of its decisions, or its units.
    """

    measured: Measured
    exposures: list[Exposure] = field(default_factory=list)
    outcomes: list[JoinedOutcome] = field(default_factory=list)

    @property
    def units(self) -> list[str]:
        """Every unit that they are about, once."""
        exposed = dict.fromkeys(event.unit for event in self.exposures)
        return list(exposed | dict.fromkeys(outcome.unit for outcome in self.outcomes))

    def admit_exposure(self, event: Exposure, counts: Counts) -> None:
        """Take an exposure, or count why it cannot be used."""
        if problem := problem_of_exposure(event):
            counts.refuse(self.measured.experiment, problem)
        else:
            self.exposures.append(event)

    def admit_outcome(self, event: Outcome, exposure: Exposure | None, counts: Counts) -> None:
        """Take an outcome of a decision, or of a unit, or count why it cannot be used.

        What only a bandit learns from is left to it: it reads the raw outcomes of its decisions.
        """
        plan = self.measured.plan
        measured, learned = event.name in plan.names, exposure is not None and event.name == plan.measures.reward
        problem = problem_of_outcome(event.name, event.value, event.at_us)
        if not problem and not (measured or learned):
            problem = "unmeasured"
        if not problem:
            problem = problem_of_subject(event.unit) if exposure is None else problem_of_exposure(exposure)
        if problem:
            counts.refuse(self.measured.experiment, problem)
        elif measured:
            unit = event.unit if exposure is None else exposure.unit
            self.outcomes.append(JoinedOutcome(event, unit, exposure))


def join(
    connection: Connection, exposures: Sequence[Exposure], outcomes: Sequence[Outcome], counts: Counts
) -> list[Joined]:
    """Return events by experiment, in the order of names; what cannot be used is counted.

    Args:
        connection: From `Database.write`.
        exposures: New ones.
        outcomes: New ones; those that have waited for the exposures join them.
        counts: Gets what cannot be used.
    """
    outcomes = [*outcomes, *waited_for(connection, exposures)]
    decided = {event.id: event for event in exposures}
    decided |= exposures_by_id(connection, {event.decision for event in outcomes if event.decision} - decided.keys())
    names = {event.experiment for event in decided.values()} | {event.experiment for event in outcomes}
    joined = {name: Joined(measured) for name, measured in load(connection, names).items()}
    for exposure in exposures:
        if (place := joined.get(exposure.experiment)) is None:
            counts.refuse(NOBODY, UNKNOWN_EXPERIMENT)
        else:
            place.admit_exposure(exposure, counts)
    early = []
    for event in outcomes:
        decision = decided.get(event.decision) if event.decision else None
        if event.decision and decision is None:
            early += _that_waits(event, counts)
        elif (place := joined.get(event.experiment if decision is None else decision.experiment)) is None:
            counts.refuse(NOBODY, UNKNOWN_EXPERIMENT)
        else:
            place.admit_outcome(event, decision, counts)
    wait(connection, early)
    return [joined[name] for name in sorted(joined)]


def _that_waits(event: Outcome, counts: Counts) -> list[Outcome]:
    problem = problem_of_outcome(event.name, event.value, event.at_us) or problem_of_subject(event.decision)
    if problem:
        counts.refuse(NOBODY, problem)
    return [] if problem else [event]
