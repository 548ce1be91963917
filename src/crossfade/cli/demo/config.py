"""Act 4, at its end: a configuration document is checked, approved by somebody else, rolled out, and followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from crossfade.cli.demo.canary import follow
from crossfade.cli.demo.rollout_tables import ConfigTable
from crossfade.cli.demo.stage import Stage
from crossfade.client import Client
from crossfade.client.followed import FollowedConfig
from crossfade.configs.record import Config, ConfigVersion
from crossfade.configs.reports import DriftReport
from crossfade.configs.spec import ConfigSpec
from crossfade.core.identity import CHAMPION
from crossfade.errors import CrossfadeError
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import Rollout, RolloutStatus
from crossfade.solutions.flights.training import NAME

ALERTS = "delay_alerts"
"""The config: when the desks of an airport are told that a flight will be late."""
FOLLOWING, BEHIND = "desk-jfk", "desk-ewr"
"""Two programs that read it: one follows, the other has read it once."""
FIRST_DOCUMENT: dict[str, object] = {"model": f"{NAME}@{CHAMPION}", "threshold": 0.5, "max_alerts_per_hour": 20}
IN_PERCENT = FIRST_DOCUMENT | {"threshold": 60}
SECOND_DOCUMENT = FIRST_DOCUMENT | {"threshold": 0.6}
SPEC = ConfigSpec(
    {
        "type": "object",
        "required": list(FIRST_DOCUMENT),
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string", "x-crossfade-ref": "alias"},
            "threshold": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "max_alerts_per_hour": {"type": "integer", "minimum": 1, "maximum": 500},
        },
    },
    description="When a desk is told that a flight will be late.",
)
PLAN = RolloutPlan((Step(0.5, hold_seconds=3.0), Step(1.0)))
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 15.0
"""How long a client that follows may take until it is known to have followed."""


class ConfigRelease:
    """Releases a config, and finds out who runs it.

    Args:
        stage: Where; its client writes.
        reviewer: A client in the name of somebody else, who approves.
    """

    def __init__(self, stage: Stage, reviewer: Client) -> None:
        self.refusal: CrossfadeError | None = None
        """Why its author could not approve it; None when they could."""
        self.invalid = ""
        """What was found wrong with the document that cannot be."""
        self.version: ConfigVersion | None = None
        """The version that is released."""
        self.rollout: Rollout | None = None
        self.differed: tuple[str, ...] = ()
        """Who ran something else after the rollout."""
        self.config: Config | None = None
        """As it was at the end."""
        self.report: DriftReport | None = None
        """Who runs what, as it was found out last."""
        self._behind: FollowedConfig | None = None
        self._stage = stage
        self._reviewer = reviewer
        self._watch = stage.watch(self.table)

    def table(self) -> ConfigTable:
        """Return the state of now."""
        return ConfigTable(self._stage.scorer.board(), self.report, (FOLLOWING, BEHIND), self.rollout)

    def run(self) -> None:
        """Write it down, let two programs read it, change it, and see who has not followed."""
        client, screen = self._stage.client, self._stage.screen
        if self._stage.traffic.ran_out:
            screen.bad("no flight is left for it")
            return
        self._begin()
        screen.head(self.table())
        with client.config(ALERTS, unit=FOLLOWING, client=FOLLOWING, cache=None):
            self._read_behind()
            if self._change():
                self._drift()
        self.config = self._watch.while_doing(lambda: client.config_status(ALERTS))

    def _begin(self) -> None:
        """Release the first version: nobody reads it yet, so it is simply activated."""
        client, screen = self._stage.client, self._stage.screen
        screen.step(f"Write down when somebody is told of a late flight: the config {ALERTS}")
        spec = self._stage.keep(f"{ALERTS}-spec.json", SPEC)
        found = self._draft(1, FIRST_DOCUMENT, f" --spec {spec}", SPEC)
        self._watch.while_doing(lambda: client.validate_config(ALERTS, found.number))
        self._watch.while_doing(lambda: self._reviewer.approve_config(ALERTS, found.number, reason="as discussed"))
        screen.command(f"crossfade configs activate {ALERTS} {found.number}")
        self._watch.while_doing(lambda: client.activate_config(ALERTS, found.number, reason="the first version"))

    def _draft(
        self, number: int, document: Mapping[str, object], option: str = "", spec: ConfigSpec | None = None
    ) -> ConfigVersion:
        client, kept = self._stage.client, self._stage.keep(f"{ALERTS}-{number}.json", document)
        self._stage.screen.command(f"crossfade configs draft {ALERTS} {kept}{option}")
        return self._watch.while_doing(lambda: client.draft_config(ALERTS, document, spec=spec, reason="fewer alarms"))

    def _change(self) -> bool:
        """Release another version by a rollout; returns whether it came to its end."""
        client, screen = self._stage.client, self._stage.screen
        screen.step("Raise the threshold to 60 %: first a slip, then an author who approves their own change")
        slip = self._draft(2, IN_PERCENT)
        checked = self._watch.while_doing(lambda: client.validate_config(ALERTS, slip.number))
        if checked.validation is not None and not checked.validation.valid:
            self.invalid = checked.validation.problem
            screen.bad(f"error: version {slip.number} is not fit: {self.invalid}")
        number = self._draft(3, SECOND_DOCUMENT).number
        screen.command(f"crossfade configs validate {ALERTS} {number}")
        self._watch.while_doing(lambda: client.validate_config(ALERTS, number))
        screen.command(f"crossfade configs approve {ALERTS} {number}")
        try:
            self._watch.while_doing(lambda: client.approve_config(ALERTS, number, reason="it is mine"))
        except CrossfadeError as error:
            self.refusal = error
            screen.bad(f"error: {error.message}")
        reviewer = self._reviewer
        self.version = self._watch.while_doing(lambda: reviewer.approve_config(ALERTS, number, reason="agreed"))
        screen.good(f"written by {self.version.created_by}, approved by {self.version.approved_by or 'nobody'}")
        kept = self._stage.keep(f"{ALERTS}-plan.json", PLAN)
        screen.command(f"crossfade rollouts create {ALERTS} {number} --kind config --plan {kept}")
        wanted = RolloutRequest(ALERTS, str(number), PLAN, kind="config", reason="fewer alarms")
        created = self._watch.while_doing(lambda: client.create_rollout(wanted))
        self.rollout = follow(self._stage, self._watch, created.name, self._note)
        if self.rollout.status is not RolloutStatus.COMPLETED:
            screen.bad(f"version {number} was not released: {self.rollout.reason}")
            return False
        screen.good(f"version {number} is active")
        return True

    def _drift(self) -> None:
        """See who still runs the version before, and let it catch up."""
        screen = self._stage.screen
        screen.step(f"{FOLLOWING} has followed by itself; who has not?")
        screen.command(f"crossfade configs drift {ALERTS}")
        self._await(lambda report: _states(report) == {FOLLOWING: "current", BEHIND: "differs"})
        behind = [] if self.report is None else [one for one in self.report.clients if one.state == "differs"]
        self.differed = tuple(one.client for one in behind)
        for one in behind:
            screen.bad(f"{one.client} runs version {one.number}, and should run {one.expected}")
        self._read_behind()
        self._await(lambda report: _states(report) == dict.fromkeys((FOLLOWING, BEHIND), "current"))
        if self.report is not None and not self.report.differs:
            screen.good(
                f"{BEHIND} has read it again: {self.report.current} clients run what they should, nobody differs"
            )

    def _await(self, wanted: Callable[[DriftReport], bool]) -> None:
        """Look at who runs what until it is as wanted, or patience ends."""
        client, until = self._stage.client, time.monotonic() + PATIENCE_SECONDS
        while True:
            self._tell_what_is_run()
            self.report = self._watch.while_doing(lambda: client.config_drift(ALERTS))
            if wanted(self.report) or time.monotonic() >= until:
                return
            self._watch.during(LOOK_SECONDS)

    def _note(self, rollout: Rollout) -> None:
        """Keep how the rollout stands, and look at who runs what."""
        client = self._stage.client
        self.rollout = rollout
        self._tell_what_is_run()
        self.report = self._watch.while_doing(lambda: client.config_drift(ALERTS))

    def _read_behind(self) -> None:
        """Let the program that does not follow read the config, once."""
        client = self._stage.client
        self._behind = self._watch.while_doing(
            lambda: client.config(ALERTS, follow=False, unit=BEHIND, client=BEHIND, cache=None)
        )

    def _tell_what_is_run(self) -> None:
        """Let it ask whether there is news, and thereby say what it has; it does not care about the answer."""
        client, behind = self._stage.client, self._behind
        if behind is not None:
            known = f'"{behind.number}-{behind.digest}"'
            self._watch.while_doing(lambda: client.read_config(ALERTS, unit=BEHIND, known=known, client=BEHIND))


def _states(report: DriftReport) -> dict[str, str]:
    return {client.client: client.state for client in report.clients}
