"""Random lives of versions against a model in memory, on both databases, reopened in the middle.

`CROSSFADE_EXPLORE=500 pytest tests/configs/test_lifecycle.py` tries so many new ones.
"""

import itertools
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from crossfade.configs.active import ActiveConfig
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.record import LEGAL, ConfigStatus
from crossfade.errors import ConfigConflictError, FourEyesError, NotFoundError, UnfitConfigError
from crossfade.storage.changes import verify_audit
from tests.configs.support import SPEC, halves, open_configs
from tests.traffic.support import open_registry

EXPLORED = int(os.environ.get("CROSSFADE_EXPLORE", "0"))
NUMBERS = st.integers(1, 4)
PEOPLE = st.sampled_from(["ann", "bob"])
DRY = st.sampled_from([False, False, True])
SAID = {"principal": "controller", "reason": "by plan"}
numbers = itertools.count()
pytestmark = pytest.mark.timeout(0 if EXPLORED else 240)


def machine_on(home, url):  # noqa: C901 - the methods of one class
    """Return a machine whose examples share one database and have names of their own."""

    class Lives(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.name = f"limits-{next(numbers)}"
            self.status, self.valid, self.author, self.way = {}, {}, {}, []
            self.rolled_out = None
            self.open()
            self.revision = self.registry.backend.database.revision()

        def open(self):
            self.registry = open_registry(home, url)
            self.configs = open_configs(self.registry)
            self.database = self.registry.backend.database

        def teardown(self):
            self.database.close()

        @property
        def active(self):
            return next((number for number, status in self.status.items() if status == "active"), None)

        def attempt(self, fits, act, *errors):
            """Act, and expect a refusal unless it fits."""
            if fits:
                return act()
            with pytest.raises(errors or (ConfigConflictError, NotFoundError)):
                act()
            return None

        def changed(self, dry_run, **statuses):
            if not dry_run:
                self.revision += 1
                self.status |= {int(number[1:]): status for number, status in statuses.items()}

        @rule()
        def reopen(self):
            self.database.close()
            self.open()

        @rule(valid=st.booleans(), who=PEOPLE)
        def draft(self, valid, who):
            if len(self.status) == 4:
                return
            number = len(self.status) + 1
            self.configs.draft(self.name, {"max": number if valid else -number}, spec=SPEC, principal=who)
            self.valid[number], self.author[number] = valid, who
            self.changed(False, **{f"n{number}": "draft"})

        @rule(number=NUMBERS, dry_run=DRY)
        def validate(self, number, dry_run):
            status = self.status.get(number)
            found = self.attempt(status, lambda: self.configs.validate(self.name, number, dry_run=dry_run))
            if status is None:
                return
            assert found.validation.valid == self.valid[number]
            if status not in {"draft", "validating", "approved", "rolled_back"}:
                assert found.status == status
                return
            kept = "approved" if status == "approved" else "validating"
            self.changed(dry_run, **{f"n{number}": kept if self.valid[number] else "draft"})

        @rule(number=NUMBERS, who=PEOPLE, dry_run=DRY)
        def approve(self, number, who, dry_run):
            status = self.status.get(number)
            own = self.author.get(number) == who
            act = lambda: self.configs.approve(self.name, number, principal=who, dry_run=dry_run)  # noqa: E731
            if status == "approved":
                assert act().status == "approved"
                return
            refusals = (ConfigConflictError, NotFoundError, FourEyesError, UnfitConfigError)
            if self.attempt(status == "validating" and not own, act, *refusals):
                self.changed(dry_run, **{f"n{number}": "approved"})

        @rule(number=NUMBERS, dry_run=DRY)
        def activate(self, number, dry_run):
            status = self.status.get(number)
            fits = status in {"approved", "deprecated", "active"} and self.rolled_out is None
            act = lambda: self.configs.activate(self.name, number, dry_run=dry_run)  # noqa: E731
            if self.attempt(fits, act) and status != "active":
                self.take_place(number, "deprecated", dry_run)

        @rule(dry_run=DRY)
        def rollback(self, dry_run):
            fits = bool(self.former()) and self.rolled_out is None
            if self.attempt(fits, lambda: self.configs.rollback(self.name, dry_run=dry_run)):
                self.take_place(self.former()[-1], "rolled_back", dry_run)

        @rule(number=NUMBERS)
        def roll_out(self, number):
            def begin():
                with self.database.write() as connection:
                    store = self.configs._store
                    store.mark(connection, self.name, number, ConfigStatus.DEPLOYING, **SAID)
                    store.route(connection, self.name, halves(self.active, number), **SAID)

            if self.rolled_out is not None or self.active is None:
                return
            fits = self.status.get(number) in {"approved", "deprecated"}
            self.attempt(fits, begin)
            if fits:
                self.changed(False, **{f"n{number}": "deploying"})
                self.revision += 1
                self.rolled_out = number

        @rule(end=st.sampled_from(["promote", "abort", "bad"]))
        def end_rollout(self, end):
            number = self.rolled_out
            if number is None:
                return
            with self.database.write() as connection:
                store = self.configs._store
                if end == "promote":
                    store.activate(connection, self.name, number, **SAID)
                else:
                    status = ConfigStatus.APPROVED if end == "abort" else ConfigStatus.ROLLED_BACK
                    store.route(connection, self.name, None, **SAID)
                    store.mark(connection, self.name, number, status, **SAID)
            self.rolled_out = None
            if end == "promote":
                self.take_place(number, "deprecated", False)
            else:
                self.changed(False, **{f"n{number}": "approved" if end == "abort" else "rolled_back"})
                self.revision += 1

        def former(self):
            return [number for number in self.way if self.status[number] == "deprecated"]

        def take_place(self, number, before, dry_run):
            was = self.active
            if not dry_run:
                self.way = [each for each in self.way if each != number] + [number]
            self.changed(dry_run, **({} if was is None else {f"n{was}": before}), **{f"n{number}": "active"})

        @invariant()
        def the_store_says_what_the_model_says(self):
            assert self.database.revision() == self.revision, "one revision for each change"
            if not self.status:
                return
            found = {each.number: each.status.value for each in self.configs.versions(self.name).items}
            assert found == self.status
            config = self.configs.find(self.name)
            assert config.active == self.active
            assert set(config.rollout.values()) == (
                set() if self.rolled_out is None else {self.active, self.rolled_out}
            )
            assert all(self.valid[number] for number, status in self.status.items() if status != "draft")

        @invariant()
        def readers_read_what_the_model_says(self):
            published = DatabaseBoard(self.database, 1.0).find(self.name)
            if self.active is None:
                assert published is None or published.active is None
                return
            config = ActiveConfig(published)
            assert config.read().number == self.active
            seen = {config.read(f"u-{number}").number for number in range(30)}
            assert seen == {self.active} | (set() if self.rolled_out is None else {self.rolled_out})

    return Lives


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_every_life_is_as_the_model_says(kind, tmp_path, request):
    url = request.getfixturevalue(f"{kind}_url")
    run_state_machine_as_test(
        machine_on(tmp_path, url),
        settings=settings(
            deadline=None,
            derandomize=not EXPLORED,
            max_examples=EXPLORED or (10 if kind == "sqlite" else 3),
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
    registry = open_registry(tmp_path, url)
    with registry.backend.database.read() as connection:
        verify_audit(connection)
    registry.backend.database.close()


def test_every_status_is_in_the_table_and_nothing_is_a_dead_end():
    assert set(LEGAL) == set(ConfigStatus)
    reached = {ConfigStatus.DRAFT}
    while more := {after for status in reached for after in LEGAL[status]} - reached:
        reached |= more
    assert reached == set(ConfigStatus)
    assert all(LEGAL.values())
