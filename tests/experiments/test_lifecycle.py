"""Random lives of experiments against a model in memory, on both databases, reopened in the middle.

`CROSSFADE_EXPLORE=500 pytest tests/experiments/test_lifecycle.py` tries so many new ones.
"""

import itertools
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from crossfade.errors import ConflictError, ExperimentConflictError, ExperimentNotFoundError, LayerFullError
from crossfade.experiments.record import Status, Verdict
from crossfade.storage.changes import verify_audit
from crossfade.traffic.allocation.specs import LayerSpec
from crossfade.traffic.routing import Asker, Router
from crossfade.traffic.snapshot import SnapshotSource
from tests.experiments.life import open_store, plan
from tests.traffic.support import move, open_registry, publish_all

EXPLORED = int(os.environ.get("CROSSFADE_EXPLORE", "0"))
NAMES = st.sampled_from(["plain", "flag", "one", "other"])
SHARES = {"one": 0.6, "other": 0.5}
"""Of the layer: both do not fit."""
GOES = {
    "start": ({"draft", "paused"}, "running"),
    "pause": ({"running"}, "paused"),
    "stop": ({"draft", "running", "paused"}, "stopped"),
    "conclude": ({"running", "paused"}, "decided"),
}
"""Verb -> from which statuses it leads to which."""
VERDICT = Verdict("ship", "new", "better", "auto")
UNITS = [f"u-{number}" for number in range(40)]

numbers = itertools.count()
pytestmark = pytest.mark.timeout(0 if EXPLORED else 240)


class Known:
    """What the model knows of one experiment."""

    def __init__(self, spec):
        self.spec = spec
        self.status = "draft"
        self.weights = {"old": 0.5, "new": 0.5}
        self.coverage = spec.coverage
        self.revision = 0
        self.held = {}
        self.shrunk = set()


def machine_on(home, url):  # noqa: C901 - the methods of one class
    """Return a machine whose examples share one database and have names of their own."""

    class Lives(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.mark = next(numbers)
            self.known = {}
            self.open()
            self.store.create_layer(LayerSpec(self.own("layer")))
            self.revision = self.registry.backend.database.revision()

        def own(self, name):
            return f"{name}-{self.mark}"

        def open(self):
            self.registry = open_registry(home, url)
            self.store = open_store(self.registry)

        def teardown(self):
            for name, known in self.known.items():
                if known.status not in {"stopped", "decided"}:
                    self.store.stop(name, reason="enough")
            self.registry.backend.database.close()

        def specified(self, name, coverage=1.0):
            layered = {"layer": self.own("layer"), "share": SHARES[name]} if name in SHARES else {}
            return plan(self.own(name), model="" if name == "flag" else "m", coverage=coverage, **layered)

        def act(self, verb, name):
            arguments = (VERDICT,) if verb == "conclude" else ()
            said = {"reason": "enough"} if verb == "stop" else {}
            return lambda **options: getattr(self.store, verb)(self.own(name), *arguments, **said, **options)

        def free(self, name):
            others = sum(SHARES[other] for other in SHARES if other != name and self.routed(other))
            return name not in SHARES or others + SHARES[name] <= 1

        def routed(self, name):
            known = self.known.get(self.own(name))
            return known is not None and known.status in {"running", "paused"}

        @rule()
        def reopen(self):
            self.registry.backend.database.close()
            self.open()

        @rule(name=NAMES, coverage=st.sampled_from([1.0, 0.5]), dry_run=st.booleans())
        def create(self, name, coverage, dry_run):
            known, spec = self.known.get(self.own(name)), self.specified(name, coverage)
            if known is not None and known.spec != spec:
                with pytest.raises(ExperimentConflictError):
                    self.store.create(spec, dry_run=dry_run)
                return
            made, new = self.store.create(spec, dry_run=dry_run)
            assert (new, made.status.value) == (known is None, "draft" if known is None else known.status)
            if known is None and not dry_run:
                self.known[spec.name] = Known(spec)
                self.revision += 1

        @rule(name=NAMES, verb=st.sampled_from(list(GOES)), dry_run=st.sampled_from([False, False, True]))
        def go(self, name, verb, dry_run):
            known, act = self.known.get(self.own(name)), self.act(verb, name)
            sources, target = GOES[verb]
            if known is None:
                with pytest.raises(ExperimentNotFoundError):
                    act(dry_run=dry_run)
            elif known.status == target:
                assert act(dry_run=dry_run).status == target
            elif known.status not in sources:
                with pytest.raises(ExperimentConflictError):
                    act(dry_run=dry_run)
            elif verb == "start" and known.status == "draft" and not self.free(name):
                with pytest.raises(LayerFullError):
                    act(dry_run=dry_run)
            else:
                assert act(dry_run=dry_run).status == target
                if not dry_run:
                    known.status = target
                    known.revision = known.revision or int(verb == "start")
                    self.revision += 1

        @rule(
            name=NAMES,
            weight=st.none() | st.integers(0, 10),
            coverage=st.none() | st.sampled_from([0.0, 0.3, 1.0]),
            dry_run=st.sampled_from([False, False, True]),
        )
        def reweight(self, name, weight, coverage, dry_run):
            known = self.known.get(self.own(name))
            weights = None if weight is None else {"old": weight / 10, "new": 1 - weight / 10}
            if known is None or (weights is None and coverage is None):
                return
            if not self.routed(name):
                with pytest.raises(ConflictError):
                    self.store.reweight(self.own(name), weights, coverage=coverage, dry_run=dry_run)
                return
            after = self.store.reweight(self.own(name), weights, coverage=coverage, dry_run=dry_run)
            assert after.revision == known.revision + 1
            if not dry_run:
                for variant, before in known.weights.items():
                    if after.weights[variant] * after.coverage < before * known.coverage:
                        known.shrunk.add(variant)
                known.weights, known.coverage = (
                    weights or known.weights,
                    known.coverage if coverage is None else coverage,
                )
                known.revision += 1
                self.revision += 1

        @invariant()
        def the_store_says_what_the_model_says(self):
            own = [item for item in self.store.list(limit=1000).items if item.name in self.known]
            assert {item.name for item in own} == set(self.known)
            for item in own:
                known = self.known[item.name]
                assert (item.status.value, item.spec) == (known.status, known.spec)
                assert (item.revision, item.coverage, item.weights) == (known.revision, known.coverage, known.weights)
                assert (item.verdict == VERDICT) == (known.status == "decided")
                assert (item.finished_at is not None) == (item.status in {Status.STOPPED, Status.DECIDED})
            assert self.registry.backend.database.revision() == self.revision, "one revision for each change"
            layer = next(layer for layer in self.store.layers() if layer.spec.name == self.own("layer"))
            kept = dict(zip(layer.owners.names, layer.owners.shares, strict=True))
            assert {name: share for name, share in kept.items() if share} == {
                self.own(name): share for name, share in SHARES.items() if self.routed(name)
            }

        @invariant()
        def processes_do_what_the_model_says(self):
            source = SnapshotSource(self.registry.backend, self.registry.backend.database, keep_previous=0)
            traffic = source.read(source.revision()).traffic
            routed = {item.name: item for item in traffic.experiments if item.name in self.known}
            assert set(routed) == {n for n, known in self.known.items() if known.status in {"running", "paused"}}
            router = Router(traffic)
            for name, route in routed.items():
                known = self.known[name]
                assert route.paused == (known.status == "paused")
                decisions = {unit: router.assigner.decide(name, unit, {}) for unit in UNITS}
                now = {unit: d.variant if d.enrolled else None for unit, d in decisions.items()}
                assert not route.paused or set(now.values()) == {None}
                if not route.paused:
                    for unit, variant in known.held.items():
                        assert variant in {None, now[unit]} or variant in known.shrunk, "it lost a unit"
                    known.held, known.shrunk = now, set()
            assert router.route("m", Asker("u", experiment=self.own("flag"))).version is None

    return Lives


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_every_life_is_as_the_model_says(kind, tmp_path, request):
    url = request.getfixturevalue(f"{kind}_url")
    registry = open_registry(tmp_path, url)
    publish_all(registry, "m", "1.0.0", "1.0.1")
    move(registry, "m", "1.0.0")
    run_state_machine_as_test(
        machine_on(tmp_path, url),
        settings=settings(
            deadline=None,
            derandomize=not EXPLORED,
            max_examples=EXPLORED or 12,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
        ),
    )
    with registry.backend.database.read() as connection:
        verify_audit(connection)
    registry.backend.database.close()
