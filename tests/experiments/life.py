"""Experiments on a registry of their own: what the tests of their life share."""

from __future__ import annotations

from crossfade.core.clock import utc_now
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.experiments.store import ExperimentStore
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.readiness import Readiness
from tests.traffic.support import FAST

HALVES = {"old": 0.5, "new": 0.5}


def plan(name="late", weights=HALVES, model="m", **options):
    """Return an experiment whose variants are answered by `1.0.0`, `1.0.1` and so on."""
    versions = [f"1.0.{number}" if model else "" for number in range(len(weights))]
    named = zip(weights.items(), versions, strict=True)
    return ExperimentSpec(
        name, tuple(Variant(variant, weight, version) for (variant, weight), version in named), model=model, **options
    )


def open_store(registry, clock=utc_now, readiness=None):
    """Return the experiments of a registry; by default no process serves them."""
    database = registry.backend.database
    return ExperimentStore(registry, database, readiness or Readiness(Fleet(database, FAST), 10.0), clock)
