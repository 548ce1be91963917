"""Configs are rolled out by the same engine."""

import pytest

from crossfade.configs.active import ActiveConfig, Published, PublishedVersion
from crossfade.configs.checking import Finding
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.document import document_of
from crossfade.configs.following import ConfigFollower
from crossfade.configs.record import ConfigStatus, route_of
from crossfade.configs.spec import ConfigSpec
from crossfade.configs.store import ConfigStore
from crossfade.errors import ConfigConflictError, ConfigNotFoundError, InvalidPlanError, RolloutConflictError
from crossfade.releases.checks.spec import ThresholdCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.subjects.configs import ConfigSubject
from crossfade.storage.tables import arrivals
from tests.releases.life import ERRORS, SUBJECTS, Stage
from tests.traffic.support import move, publish_all

PLAN = RolloutPlan((Step(0.1, minimum_units=10), Step(0.5), Step(1.0)), no_traffic_seconds=60)


class Office(Stage):
    """A config `limits` with an active version and an approved one."""

    def __init__(self, registry, clock):
        self.configs = ConfigStore(clock)
        SUBJECTS["config"] = ConfigSubject(self.configs)
        self.follower = ConfigFollower(DatabaseBoard(registry.backend.database, 1.0), clock)
        self.board_is_away = False
        super().__init__(registry, clock)
        for number, status in ((1, None), (2, ConfigStatus.APPROVED), (3, ConfigStatus.DRAFT)):
            with self.database.write() as connection:
                self.write(connection, number, status)

    def write(self, connection, number, status):
        said = {"principal": "ann", "reason": ""}
        document = document_of({"max": number}, "limits")
        self.configs.draft(connection, "limits", document, ConfigSpec(), **said)
        if status is not ConfigStatus.DRAFT:
            self._approve(connection, number)
        if status is None:
            self.configs.activate(connection, "limits", number, **said)

    def _approve(self, connection, number):
        for step in (ConfigStatus.VALIDATING, ConfigStatus.APPROVED):
            self.configs.mark(connection, "limits", number, step, principal="ann", reason="")

    def approve(self, number):
        with self.database.write() as connection:
            self._approve(connection, number)

    def status(self, number):
        with self.database.read() as connection:
            return self.configs.version(connection, "limits", number).status

    def moved(self):
        if not self.board_is_away:
            self.follower.refresh()
        return self.follower.moved()

    def active(self):
        with self.database.read() as connection:
            return self.configs.row(connection, "limits").active

    def readers(self, units):
        """Return how many of these units read which version."""
        with self.database.read() as connection:
            row = self.configs.row(connection, "limits")
        versions = tuple(PublishedVersion(number, f"d{number}", "{}") for number in (1, 2))
        config = ActiveConfig(Published("limits", 1, row.active, versions, route_of(row)), self.clock())
        found = [config.read(f"u{unit}").number for unit in range(units)]
        return found.count(1), found.count(2)

    def expose(self, units, variant="candidate", *, moved=0):
        with self.database.write() as connection:
            row = {"experiment": self.store.find("limits").name, "revision": self.clock.now.toordinal(), "moved": moved}
            day = self.clock.now.isoformat()[:10]
            connection.execute(arrivals.delete())
            connection.execute(arrivals.insert().values(**row, variant=variant, day=day, units=units, weight=0.1))

    def turn(self):
        self.clock.advance(1)
        self.follow()
        self.controller.turn()
        return self.store.find("limits")


@pytest.fixture
def office(registry, clock):
    yield Office(registry, clock)
    del SUBJECTS["config"]


def begin(office, version="2", plan=PLAN):
    return office.store.create(RolloutRequest("limits", version, plan, "config"), principal="bob")


def test_a_config_gets_to_everybody_step_by_step(office):
    rollout = begin(office)
    assert (rollout.kind, rollout.stable, rollout.candidate) == ("config", "1", "2")
    assert office.status(2) is ConfigStatus.DEPLOYING
    assert office.readers(2000) == (2000, 0)
    assert office.turn().weight == 0.1
    _, new = office.readers(2000)
    assert 120 < new < 280
    assert office.turn().weight == 0.1, "nobody has read it yet"
    office.expose(10)
    weights = [office.turn().weight for _ in range(6)]
    assert weights[-1] == 1.0
    assert weights == sorted(weights)
    assert office.store.find("limits").status == "completed"
    assert (office.status(2), office.status(1), office.active()) == ("active", "deprecated", 2)
    assert office.readers(100) == (0, 100)


def test_units_that_had_the_old_version_before_count_as_well(office):
    begin(office)
    office.turn()
    office.expose(0, "stable", moved=10)
    assert office.turn().weight == 0.5


def test_aborting_leaves_it_approved_and_rolling_back_does_not(office):
    begin(office)
    office.turn()
    office.store.abort("limits")
    assert (office.status(2), office.active(), office.readers(50)) == ("approved", 1, (50, 0))
    begin(office)
    office.turn()
    office.store.rollback("limits", reason="complaints")
    assert (office.status(2), office.active(), office.readers(50)) == ("rolled_back", 1, (50, 0))


def complete(office, version="2"):
    begin(office, version, RolloutPlan((Step(1.0),)))
    while office.turn().active:
        pass


def test_aborting_a_return_leaves_the_way_back(office):
    complete(office)
    begin(office, "1")
    office.store.abort("limits")
    assert (office.status(1), office.active()) == ("deprecated", 2)
    with office.database.write() as connection:
        assert office.configs.previous(connection, "limits") == 1


def test_what_was_rolled_back_and_approved_anew_is_no_former_version_when_it_is_aborted(office):
    complete(office)
    office.store.rollback("limits", reason="complaints")
    office.approve(2)
    office.store.create(RolloutRequest("limits", "2", PLAN, "config", "mended", override_latch=True))
    office.store.abort("limits")
    assert office.status(2) is ConfigStatus.APPROVED


def test_after_its_end_it_can_be_taken_back(office):
    complete(office)
    assert office.active() == 2
    office.store.rollback("limits", reason="complaints")
    assert (office.active(), office.status(2), office.status(1)) == (1, "rolled_back", "active")


@pytest.mark.parametrize("version", ["3", "9", "x", "-1", "²", ""])
def test_what_nobody_approved_is_not_rolled_out(office, version):
    with pytest.raises(RolloutConflictError, match="no usable version"):
        begin(office, version)


def test_an_unknown_config_is_not_found(office):
    with pytest.raises(ConfigNotFoundError):
        office.store.create(RolloutRequest("nothing", "1", PLAN, "config"))


def test_nobody_activates_another_version_meanwhile(office):
    begin(office)
    office.turn()
    with pytest.raises(ConfigConflictError), office.database.write() as connection:
        office.configs.activate(connection, "limits", 3, principal="eve", reason="")


def test_a_model_and_a_config_of_one_name_are_two_subjects(office):
    begin(office)
    assert office.begin().name != office.store.find("limits").name


def test_units_that_read_it_are_exposed(office):
    begin(office)
    office.turn()
    with office.database.read() as connection:
        row = office.configs.row(connection, "limits")
    versions = tuple(PublishedVersion(number, f"d{number}", "{}") for number in (1, 2))
    config = ActiveConfig(Published("limits", 1, row.active, versions, route_of(row)), office.clock())
    for unit in ("u1", "u2", "u3"):
        exposure = config.exposure(unit)
        read = config.read(unit)
        assert (exposure.experiment, exposure.unit, exposure.variant) == ("limits-1", unit, read.variant)
        assert exposure.propensity == pytest.approx(0.9 if read.number == 1 else 0.1, abs=0.01)
    assert ActiveConfig(Published("limits", 1, 1, versions), office.clock()).exposure("u1") is None


def test_named_plans_ask_a_person_before_everybody_reads_it(office):
    rollout = begin(office, plan="careful")
    assert rollout.plan.checks == ()
    assert [step.approval for step in rollout.plan.steps] == [False, False, False, True, False]
    assert not any(step.shadow or step.minimum_units for step in rollout.plan.steps)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (RolloutPlan((Step(0.5), Step(1.0)), checks=(ERRORS,)), "looks at answers"),
        (RolloutPlan((Step(1.0),), checks=(ThresholdCheck("p", series="p99_seconds", maximum=1),)), "looks at answers"),
        (RolloutPlan((Step(0.0, shadow=True), Step(1.0))), "no shadow"),
        (RolloutPlan((Step(0.5), Step(1.0)), kind="rolling"), "read by units"),
        ("reckless", "no plan"),
    ],
)
def test_what_only_models_have_is_refused(office, plan, words):
    with pytest.raises(InvalidPlanError, match=words):
        begin(office, plan=plan)


def test_a_model_and_a_config_of_one_name_have_to_be_told_apart(office):
    publish_all(office.registry, "limits", "1.0.0", "1.0.1")
    move(office.registry, "limits", "1.0.0")
    config = begin(office)
    model = office.store.create(RolloutRequest("limits", "1.0.1", PLAN))
    with pytest.raises(RolloutConflictError, match="is a model and a config"):
        office.store.find("limits")
    assert office.store.find(config.name).kind == "config"
    assert office.store.find(model.name).kind == "model"


def test_it_waits_for_processes_that_do_not_read_the_board_although_they_follow_models(office):
    begin(office)
    office.board_is_away = True
    before = office.turn()
    assert (before.status, before.weight) == ("preparing", 0.0)
    office.board_is_away = False
    entered = office.turn()
    assert entered.weight == 0.1
    office.expose(10)
    office.board_is_away = True
    for _ in range(5):
        assert office.turn().weight == 0.1
    office.board_is_away = False
    assert office.turn().weight == 0.5


class Missing:
    """Says that something a document names is gone, which takes a while: others write meanwhile."""

    def __init__(self, database):
        self.database, self.gone = database, True

    def missing(self, references):
        with self.database.write():
            return (Finding("/model", "`churn:1.0.0` is not registered", "reference"),) if self.gone else ()


def test_what_names_something_that_is_gone_is_not_rolled_out(office):
    SUBJECTS["config"] = ConfigSubject(office.configs, Missing(office.database))
    with pytest.raises(RolloutConflictError, match=r"`2`: at `/model`, `churn:1.0.0` is not registered"):
        begin(office)


def test_what_names_something_that_goes_meanwhile_is_taken_back(office):
    missing = Missing(office.database)
    missing.gone = False
    SUBJECTS["config"] = ConfigSubject(office.configs, missing)
    begin(office)
    assert office.turn().weight == 0.1
    missing.gone = True
    after = office.turn()
    assert after.status == "rolled_back"
    assert after.reason == "version 2 cannot be used any more: at `/model`, `churn:1.0.0` is not registered"
