"""Crossfade: an `Assigner`, and what serving does for a flag that somebody takes part in."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.assign import COUNTRIES, SHARE, report
from crossfade.core.clock import utc_now
from crossfade.serving.enrolment import Enroller
from crossfade.serving.slots import SlotTable
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.assignment import Assigner
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec, VariantSpec
from crossfade.traffic.routing import Asker, ExperimentRoute

BOTH = (VariantSpec("control", 0.5), VariantSpec("treatment", 0.5))


def main() -> None:
    allocations = Allocations().add_layer(LayerSpec("checkout")).place(AllocationSpec("late", BOTH))
    segment = Segment({"country": {"$in": COUNTRIES}})
    allocations = allocations.place(AllocationSpec("seg", BOTH, layer="checkout", share=SHARE, segment=segment))
    compiled = Assigner(allocations, utc_now()).experiments  # functions: as serving asks
    late, seg = compiled["late"], compiled["seg"]
    exposures = 0

    def record(_exposure: object) -> None:
        nonlocal exposures
        exposures += 1

    enroller, route = Enroller(SlotTable(), record), ExperimentRoute(allocations.experiment("late"))

    def exposed(unit: str, context: dict[str, Any]) -> str:
        decision = late(unit, context, None)
        enroller.expose(route, decision.variant, decision.propensity, Asker(unit, context))
        return decision.variant

    report(
        lambda unit, context: late(unit, context, None).variant,
        lambda unit, context: seg(unit, context, None).variant,
        exposed,
        lambda: exposures,
    )


if __name__ == "__main__":
    main()
