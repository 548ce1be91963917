"""Whatever people and the controller do in whatever order, a rollout keeps its promises."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossfade.errors import ConflictError, RolloutNotFoundError
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import ACTIVE, LEGAL, RolloutStatus
from crossfade.storage.changes import verify_audit
from tests.releases.life import ERRORS, Stage
from tests.traffic.support import Clock, move, open_registry

PLAN = RolloutPlan(
    (
        Step(0.0, shadow=True, minimum_units=5),
        Step(0.1, hold_seconds=3, minimum_units=5, approval=True),
        Step(0.5, hold_seconds=3),
        Step(1.0),
    ),
    checks=(ERRORS,),
    no_traffic_seconds=20,
    hold_down_seconds=5,
    deadline_seconds=120,
)
WEIGHTS = {0.0, *(step.weight for step in PLAN.steps)}


class Lives(RuleBasedStateMachine):
    """One model, any number of rollouts, people who do as they like."""

    @initialize()
    def begin(self):
        self.folder = TemporaryDirectory()
        home = Path(self.folder.name)
        self.clock = Clock()
        self.clock.now = datetime(2026, 1, 31, tzinfo=UTC)
        self.registry = open_registry(home, f"sqlite:///{home / 'lives.db'}")
        self.stage = Stage(self.registry, self.clock)
        self.store = self.stage.store
        self.seen = {}
        self.lifted = set()

    def teardown(self):
        if hasattr(self, "registry"):
            with self.registry.backend.database.read() as connection:
                verify_audit(connection)
            self.registry.backend.database.close()
            self.folder.cleanup()

    # --- what happens ---

    @rule(version=st.sampled_from(["1.0.0", "1.0.1", "1.0.2"]), override=st.booleans())
    def create(self, version, override):
        wanted = RolloutRequest("m", version, PLAN, reason="why not", override_latch=override)
        over = {rollout.name for rollout in self._all() if rollout.candidate == version and rollout.latched}
        if self._try(lambda: self.store.create(wanted)) and override:
            self.lifted |= over

    @rule(verb=st.sampled_from(["pause", "resume", "promote", "abort", "rollback", "retry"]))
    def do(self, verb):
        self._try(lambda: getattr(self.store, verb)("m", principal="ann"))

    @rule()
    def promote_to_the_end(self):
        self._try(lambda: self.store.promote("m", to_end=True))

    @rule(version=st.sampled_from(["1.0.0", "1.0.1", "1.0.2"]))
    def move_by_hand(self, version):
        move(self.registry, "m", version)

    @rule(seconds=st.integers(1, 10), asked=st.booleans(), bad=st.sampled_from([0, 0, 0, 8]))
    def time_passes(self, seconds, asked, bad):
        for _ in range(seconds):
            self.clock.advance(1)
            newest = self._newest()
            if asked and newest is not None:
                number = newest.candidate.rpartition(".")[2]
                self._serve(newest, number, bad)
            self.stage.follow()
            self.stage.controller.turn()

    @rule(behind=st.integers(1, 3))
    def a_process_lags(self, behind):
        self.stage.follow("b", max(0, self.stage.database.revision() - behind))
        self.stage.controller.turn()
        self.stage.fleet.leave("b")

    @precondition(lambda self: not self.stage.emergency)
    @rule()
    def an_emergency_begins(self):
        self.stage.emergency = "everything=block"

    @precondition(lambda self: self.stage.emergency)
    @rule()
    def the_emergency_ends(self):
        self.stage.emergency = ""

    # --- what always holds ---

    @invariant()
    def statuses_follow_one_another_legally(self):
        for rollout in self._all():
            for entry in self.store.history(rollout.name):
                assert RolloutStatus(entry.target) in LEGAL[RolloutStatus(entry.source)]

    @invariant()
    def weights_are_those_of_the_plan_and_never_grow_after_the_way_back(self):
        for rollout in self._all():
            back = False
            for entry in self.store.history(rollout.name):
                assert entry.weight in WEIGHTS
                assert not (back and entry.weight)
                back = back or entry.kind in {"rollback", "abort"}

    @invariant()
    def one_rollback_each_and_one_rollout_at_a_time(self):
        rollouts = self._all()
        assert sum(rollout.active for rollout in rollouts) <= 1
        for rollout in rollouts:
            kinds = [entry.kind for entry in self.store.history(rollout.name)]
            assert kinds.count("rollback") <= 1
            assert kinds.count("rollback") + kinds.count("abort") <= 1

    @invariant()
    def what_is_over_has_nothing_or_everything(self):
        for rollout in self._all():
            expected = {RolloutStatus.COMPLETED: 1.0, RolloutStatus.ABORTED: 0.0, RolloutStatus.ROLLED_BACK: 0.0}
            if rollout.status in expected:
                assert rollout.weight == expected[rollout.status]
            latched = rollout.status is RolloutStatus.ROLLED_BACK and rollout.name not in self.lifted
            assert rollout.latched == latched

    @invariant()
    def a_pause_says_what_it_waits_for(self):
        for rollout in self._all():
            if rollout.status is RolloutStatus.PAUSED:
                assert rollout.state.waiting_for in {"person", "approval"}
                assert rollout.state.words

    @invariant()
    def rows_only_move_forward(self):
        for rollout in self._all():
            assert rollout.seen >= self.seen.get(rollout.name, 0)
            self.seen[rollout.name] = rollout.seen

    # --- parts ---

    def _all(self):
        return self.store.list(limit=1000).items if hasattr(self, "store") else ()

    def _newest(self):
        found = self._all()
        return found[0] if found and found[0].status in ACTIVE else None

    def _serve(self, newest, number, bad):
        from tests.releases.life import answered

        shadow = newest.state.step >= 0 and newest.plan.steps[newest.state.step].shadow
        new = f"1.0.{number}" + ("/shadow" if shadow else "")
        versions = {newest.stable: answered(50), new: answered(10, bad)}
        at_us = int(self.clock().timestamp() * 1e6)
        self.stage.health.write("a", at_us, {1: {"m": versions}})

    def _try(self, action):
        with suppress(ConflictError, RolloutNotFoundError):  # what cannot be is refused, and changes nothing
            action()
            return True
        return False


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


def test_every_status_leads_somewhere_or_is_an_end():
    ends = {status for status, following in LEGAL.items() if not following}
    assert ends == {RolloutStatus.ABORTED, RolloutStatus.ROLLED_BACK}
    for status in ACTIVE:
        assert ends <= set(LEGAL[status]), "the way back is always open"


def test_times_are_those_of_the_clock(stage):
    stage.begin()
    began = stage.clock.now
    rollout = stage.reach("completed")
    assert rollout.created_at == began
    assert rollout.finished_at == stage.clock.now
    assert rollout.held_until == stage.clock.now + timedelta(seconds=rollout.plan.hold_down_seconds)
