"""Made-up events, and what of them is stored."""

import time

from sqlalchemy import select

from crossfade.core.identity import new_id
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.ledger import now_us
from crossfade.storage.tables import exposures, ledger_gaps, ledger_journals, outcomes

PATIENCE = 20.0


def an_exposure(number=0, experiment="late", **more):
    fields = {"id": new_id(), "at_us": now_us(), "experiment": experiment, "revision": 3, "variant": "treatment"}
    return Exposure(**fields | {"unit": f"unit-{number}"} | more)


def an_outcome(number=0, **more):
    fields = {"id": f"outcome-{number}", "at_us": now_us(), "name": "landed_late", "value": 1.0}
    belongs = {} if "decision" in more else {"experiment": "late", "unit": f"unit-{number}"}
    return Outcome(**fields | belongs | more)


def eventually(condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def stored_outcomes(database):
    with database.read() as connection:
        return sorted(connection.scalars(select(outcomes.c.id)))


def stored_exposures(database):
    with database.read() as connection:
        return sorted(connection.scalars(select(exposures.c.id)))


def stored_gaps(database):
    """Return (experiment, reason) -> count of what is missing."""
    with database.read() as connection:
        rows = connection.execute(select(ledger_gaps)).all()
    return {(row.experiment, row.reason): row.count for row in rows}


def known_journals(database):
    with database.read() as connection:
        return {row.journal: row for row in connection.execute(select(ledger_journals))}


class Folded:
    """A fold that remembers what it was given, once the transaction is committed."""

    def __init__(self):
        self.exposures, self.outcomes, self.calls = [], [], 0
        self.error = None

    def __call__(self, connection, new_exposures, new_outcomes):
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.exposures += [each.id for each in new_exposures]
        self.outcomes += [each.id for each in new_outcomes]
        return {}
