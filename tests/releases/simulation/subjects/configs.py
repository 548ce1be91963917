"""Configs: processes follow the board, and units read the version that is theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crossfade.configs.configs import Configs
from crossfade.configs.references import References
from crossfade.configs.store import ConfigStore
from crossfade.errors import PrometheusUnavailableError
from crossfade.registry.native import NativeBackend
from crossfade.registry.registry import Registry
from crossfade.releases.checks.spec import ThresholdCheck, WebhookCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.subjects.configs import ConfigSubject
from crossfade.telemetry.prometheus import Outcome, Reading
from tests.configs.support import SPEC, check_here, make_active, make_approved, open_configs
from tests.releases.simulation.subjects.config_rules import ConfigRules
from tests.releases.simulation.subjects.models import FAILING, LIMITS, MODEL, VERSIONS
from tests.releases.simulation.subjects.port import PRINCIPAL, Move, Script
from tests.releases.simulation.subjects.readers import ConfigServer, Readings
from tests.traffic.support import publish_all

if TYPE_CHECKING:
    from tests.releases.simulation.actors import Replica
    from tests.releases.simulation.oracle import Known, Transition
    from tests.releases.simulation.world import World

CONFIG = "limits"
NEW, SAME = "2", "4"
"""Two versions with one document."""
NAMED = f"{MODEL}:{VERSIONS[1]}"
OTHER = "bob"
"""Who approves what `PRINCIPAL` has written."""

FAILURES = ThresholdCheck("failures", query="failures {rollout} {version}", maximum=0.5, interval_seconds=2)
PLANS: dict[str, RolloutPlan | str] = {
    "canary": RolloutPlan(
        (Step(0.2, hold_seconds=3, minimum_units=3), Step(0.5, hold_seconds=2, minimum_units=3), Step(1.0)),
        checks=(FAILURES,),
        **LIMITS,
    ),
    "blind": RolloutPlan((Step(0.2), Step(0.6, hold_seconds=1), Step(1.0)), kind="staged", **LIMITS),
    "approved": RolloutPlan(
        (Step(0.25, hold_seconds=1, minimum_units=2, approval=True), Step(1.0)), checks=(FAILURES,), **LIMITS
    ),
    "watched": RolloutPlan(
        (Step(0.3, hold_seconds=2), Step(1.0)),
        checks=(
            FAILURES,
            WebhookCheck("service", "https://example.org/check", interval_seconds=2, success_count=2),
        ),
        **LIMITS,
    ),
    "at once": RolloutPlan((Step(1.0, hold_seconds=5),), kind="blue_green", checks=(FAILURES,), **LIMITS),
    "endless": RolloutPlan((Step(0.1, minimum_units=10**9), Step(1.0)), **LIMITS),
    "nothing": RolloutPlan(
        (Step(0.0, hold_seconds=2, checks=()), Step(0.3, minimum_units=3), Step(1.0)), checks=(FAILURES,), **LIMITS
    ),
    "fast": "fast",
}
TRUTHS = ("good", "good", "bad", "bad", "silent")
"""Of the new version: does no harm; does it to nine of ten units; nobody who reads it names a unit."""
_MOVES = "SELECT json_extract(details, '$.from'), json_extract(details, '$.to'), principal FROM audit"
_READ = 10
"""Units that read the new version after the last fault, until what it does has to be known."""


class ConfigLife:
    """The config of one life."""

    kind, name = "config", CONFIG
    script = Script(
        PLANS,
        TRUTHS,
        "lagging",
        ("activate", "activate", "take_back", "renew", "renew", "draft", "agree", "reject"),
        ("1", NEW, NEW, "3", SAME, "5"),
        NEW,
    )

    def __init__(self, world: World) -> None:
        self.world = world
        self.raw = world.memory.raw
        store, database = ConfigStore(world.clock_of(CONFIG)), world.connect(PRINCIPAL)
        # beside whoever asks: what documents name is looked up within their transaction
        references = References(Registry(NativeBackend(world.memory, None)), world.memory)
        self._configs = Configs(store, database, references, clock=world.clock_of(PRINCIPAL), check=check_here)
        self._backend = NativeBackend(database, None, clock=world.clock_of(PRINCIPAL))
        self._audited = self._revision()
        self._entered: dict[str, float] = {}
        self._servers: dict[str, ConfigServer] = {}
        self.product = ConfigSubject(store, references)
        self.readings = Readings(world, CONFIG)
        self.rules = ConfigRules(world, CONFIG)
        self.prometheus = Numbers(self)

    @staticmethod
    def prepare(registry: Registry) -> None:
        """Write down an active version and three that were approved, of which two have one document."""
        publish_all(registry, MODEL, *VERSIONS)
        configs = open_configs(registry)
        make_active(configs, CONFIG, {"max": 1}, spec=SPEC)
        for document in ({"max": 2, "version": NAMED}, {"max": 3}, {"max": 2, "version": NAMED}):
            make_approved(configs, CONFIG, document)

    def server(self, replica: Replica) -> ConfigServer:
        server = self._servers[replica.name] = ConfigServer(self.readings, replica)
        return server

    def act(self, verb: str, version: str) -> None:
        number, said = int(version), {"principal": PRINCIPAL}
        if verb == "activate":
            self._configs.activate(CONFIG, number, **said)
        elif verb == "take_back":
            self._configs.rollback(CONFIG, **said)
        elif verb == "renew":
            self._configs.validate(CONFIG, number, **said)
            self._configs.approve(CONFIG, number, principal=OTHER)
        elif verb == "draft":
            self._configs.draft(CONFIG, {"max": number}, **said)
        elif verb == "agree":  # with oneself
            self._configs.approve(CONFIG, number, **said)
        else:
            self._backend.change_stage(MODEL, VERSIONS[1], "rejected", source="registered", reason="", **said)

    # --- what the oracle asks ---

    def _revision(self) -> int:
        return int(self.raw.execute("SELECT revision FROM head").fetchone()[0])

    def present(self) -> str:
        active = self.raw.execute("SELECT active FROM configs WHERE name = ?", [CONFIG]).fetchone()[0]
        return "" if active is None else str(active)

    def moves(self) -> list[Move]:
        query = f"{_MOVES} WHERE seq > ? AND action IN ('config.activate', 'config.rollback') ORDER BY seq"
        found = self.raw.execute(query, [self._audited]).fetchall()
        self._audited = self._revision()
        return [Move(str(source), str(target), by) for source, target, by in found]

    def echoes(self, before: Known, entry: Transition, moved: Move | None) -> tuple[str, ...]:
        if entry.kind == "step":
            return ("config.route",)
        if entry.kind == "complete":
            return ("config.activate",)
        if entry.kind not in {"rollback", "abort"}:
            return ()
        if before.status == "completed":
            return ("config.rollback",)
        return ("config.route", f"config.{self.rules.withdrawn(entry)}")

    def look(self, actor: str, news: Sequence[Transition], moved: Move | None) -> None:
        self.rules.look(news, moved)
        self.readings.note(self.present())
        for entry in news:
            if entry.kind == "step":
                self._entered[entry.rollout] = self.world.time
            elif entry.kind == "pause" and entry.reason.startswith("no request") and "process" not in entry.reason:
                self._judge_silence(actor, entry)

    def _judge_silence(self, actor: str, entry: Transition) -> None:
        """A person is not sent for because nobody came, when as many have come as a step wants."""
        name, oracle = entry.rollout, self.world.oracle
        came = [at for at in self.readings.delivered[name].values() if at < self.world.begun[actor]]
        fresh = sum(at >= self._entered[name] for at in came)
        least = oracle.rollouts[name].plan.steps[entry.step].minimum_units
        oracle.require(not came or fresh < least, f"{name}: {fresh} came to this step: {entry.reason}")

    def is_followed(self, rollout: Known, process: str, revision: int) -> bool:
        """It is the process that is asked, whatever it has reported."""
        return self._servers[process].position >= self.rules.changed

    def is_ready(self, slots: Mapping[str, Sequence[str]], version: str) -> bool:
        """A document needs no loading."""
        return True

    def is_watched(self, plan: RolloutPlan, step: int) -> bool:
        return any(isinstance(check, ThresholdCheck) for check in plan.checks_of(step))

    def came(self, rollout: Known) -> int:
        return len(self.readings.delivered[rollout.name])

    def has_harmed(self, rollout: Known) -> bool:
        """Numbers are asked for once every process follows."""
        return rollout.live and self.readings.calm[rollout.name] > _READ


class Numbers:
    """Prometheus, as far as it knows how units do."""

    def __init__(self, config: ConfigLife) -> None:
        self._config = config

    def read(self, query: str) -> Reading:
        """Return which part of those who read a version came to harm."""
        world, (_, rollout, version) = self._config.world, query.split()
        if world.service.is_wrong() and world.service.answer == "error":
            raise PrometheusUnavailableError(problem="it is away")
        if world.service.is_wrong() and world.service.answer == "nonsense":
            return Reading(Outcome.SEVERAL, None, 2)
        if not self._config.readings.read[rollout]:
            return Reading(Outcome.EMPTY, None, 0)
        harmful = world.scenario.truth == "bad" and version in {NEW, SAME}
        return Reading(Outcome.VALUE, FAILING if harmful else 0.0, 1)
