"""What this process says of the deployments that it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from crossfade.core.wording import in_one_line
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.traffic.deployed import Deployed, DeploymentReport, ReplicaCounts
from crossfade.traffic.snapshot import Aspired


def deployment_reports(slots: SlotTable, aspired: Mapping[str, tuple[Aspired, ...]]) -> tuple[DeploymentReport, ...]:
    """Return a report on every deployment of this process.

    Args:
        slots: What it holds.
        aspired: Model -> what it shall hold.
    """
    return tuple(_reports(slots, aspired))


def _reports(slots: SlotTable, aspired: Mapping[str, tuple[Aspired, ...]]) -> Iterator[DeploymentReport]:
    for name, wishes in aspired.items():
        for wish in wishes:
            if wish.terms is not None:
                report = _report(slots.find(name, wish.version), wish.terms)
                yield msgspec.structs.replace(report, version=wish.version, problem=in_one_line(report.problem))


def _report(slot: Slot | None, terms: Deployed) -> DeploymentReport:
    pending = DeploymentReport(terms.name, terms.generation, replicas=ReplicaCounts(terms.replicas.min))
    if slot is None:
        return pending
    if slot.state is State.FAILED:
        return msgspec.structs.replace(pending, failed=True, problem=slot.problem)
    if slot.state is not State.READY:
        return pending
    if slot.terms != terms:
        refused = slot.refused == terms
        return msgspec.structs.replace(pending, failed=refused, problem=slot.refusal if refused else "")
    if slot.replicas is None:  # whoever opened it knows nothing of replicas
        return msgspec.structs.replace(pending, replicas=ReplicaCounts(1, 1))
    rows = slot.counters.batch_rows
    batch_rows = round(rows.total / rows.count, 2) if rows.count else 0.0
    return msgspec.structs.replace(slot.replicas.report(), batch_rows=batch_rows)
