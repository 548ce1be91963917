"""What holds that no number shows: results and deviations of experiments, gaps, rollbacks, unsafe answers."""

from datetime import timedelta

import pytest
from sqlalchemy import insert

from crossfade.alerts.signals import Known
from crossfade.alerts.sources import DatabaseSources, ExperimentSources, drift, emergencies, standard_sources
from crossfade.errors import ExperimentConflictError, MissingExtraError
from crossfade.platform import open_platform
from crossfade.settings import Settings
from crossfade.storage.changes import commit_change
from crossfade.storage.tables import ledger_gaps, safety_violations
from crossfade.storage.times import to_text
from tests import control
from tests.alerts.support import START, Clock


class Fake:
    """Anything with these attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Trials:
    """Experiments whose analyses are made by hand."""

    def __init__(self, **reports):
        self.reports = reports
        self.analysed = 0

    def list(self, *, status, limit):
        assert status == "running"
        return Fake(items=[Fake(name=name, model="churn" if name != "flag" else "") for name in self.reports])

    def analyze(self, name):
        self.analysed += 1
        found = self.reports[name]
        if isinstance(found, Exception):
            raise found
        action, *problems = found
        return Fake(
            decision=Fake(action=action, reason="because"),
            health=Fake(problems=[Fake(code=code, words=f"{code} is odd") for code in problems]),
        )


@pytest.fixture
def now():
    return [0.0]


def sources(trials, now):
    return ExperimentSources(trials, trials, lambda: now[0])


def test_experiments_that_can_be_decided(now):
    trials = Trials(a=("ship",), b=("continue",), c=("keep",), d=("stop",), e=("review",), flag=("ship",))
    found = sources(trials, now).results()
    assert [each.labels["experiment"] for each in found] == ["a", "c", "d", "flag"]
    assert found[0] == Known({"experiment": "a", "model": "churn"}, "ship: because")
    assert found[-1].labels == {"experiment": "flag"}


def test_experiments_whose_units_come_otherwise_than_they_should(now):
    trials = Trials(a=("continue", "sample_ratio", "stale"), b=("ship", "stale"))
    assert sources(trials, now).deviations() == [Known({"experiment": "a", "model": "churn"}, "sample_ratio is odd")]


def test_one_that_cannot_be_analysed_hides_no_other(now):
    trials = Trials(a=ExperimentConflictError(name="a", problem="has not started"), b=("ship",))
    assert [each.labels["experiment"] for each in sources(trials, now).results()] == ["b"]


def test_without_what_analyses_need_the_rules_are_blind(now):
    trials = Trials(a=MissingExtraError(feature="x", package="scipy", extra="experiments"))
    with pytest.raises(MissingExtraError):
        sources(trials, now).results()


def test_analyses_are_looked_at_once_a_minute(now):
    trials = Trials(a=("ship",))
    made = sources(trials, now)
    for seconds in (0, 15, 30, 59):
        now[0] = seconds
        made.results()
        made.deviations()
    assert trials.analysed == 1
    now[0] = 60
    made.results()
    assert trials.analysed == 2


def test_gaps_of_the_last_day(database):
    clock = Clock()
    made = DatabaseSources(database, clock)
    assert list(made.ledger_gaps()) == []
    recent, old = (int((START - timedelta(hours=hours)).timestamp() * 1e6) for hours in (1, 25))
    rows = [
        {"experiment": "a", "reason": "dropped", "journal": "1", "first_us": old, "last_us": recent, "count": 3},
        {"experiment": "a", "reason": "crash", "journal": "1", "first_us": old, "last_us": recent, "count": None},
        {"experiment": "", "reason": "crash", "journal": "2", "first_us": old, "last_us": recent, "count": None},
        {"experiment": "old", "reason": "crash", "journal": "1", "first_us": old, "last_us": old, "count": None},
    ]
    with database.write() as connection:
        connection.execute(insert(ledger_gaps), rows)
    assert [each.labels for each in made.ledger_gaps()] == [{}, {"experiment": "a"}]


def test_rollbacks_of_rollouts(database):
    clock = Clock()
    made = DatabaseSources(database, clock)
    with database.write() as connection:
        for action, subject, reason in (
            ("rollout.rollback", "r1", "complaints"),
            ("config.rollback", "c", ""),
            ("rollout.step", "r2", "better"),
        ):
            commit_change(
                connection,
                kind="x",
                model="churn",
                subject=subject,
                principal="p",
                action=action,
                details={"reason": reason},
                now=START,
            )
    assert list(made.rollbacks()) == [
        Known({"subject": "r1", "model": "churn"}, "complaints"),
        Known({"subject": "c", "model": "churn"}, "rolled back by p"),
    ]
    clock.wait(901)
    assert list(made.rollbacks()) == []


def test_critical_answers(database):
    clock = Clock()
    made = DatabaseSources(database, clock)

    def violation(number, level, minutes_ago, model="churn"):
        row = dict.fromkeys(("check_name", "instead", "example"), "x") | {"version": "1.0.0", "row_count": 1}
        minute = to_text(START - timedelta(minutes=minutes_ago))
        role = "shadow" if model == "quiet" else "answer"
        row |= {"id": str(number), "model": model, "level": level, "minute": minute, "answers": 1_000, "role": role}
        return row

    rows = [
        violation(1, "critical", 1),
        violation(2, "critical", 2),
        violation(3, "unsafe", 1, "other"),
        violation(4, "critical", 6, "old"),
        violation(5, "critical", 1, "quiet"),
    ]
    with database.write() as connection:
        connection.execute(insert(safety_violations), rows)
    assert list(made.safety_violations()) == [Known({"model": "churn"}, "2,000 answers within five minutes", 2_000.0)]


def test_emergencies():
    stopped = Fake(model="", mode="block", reason="fire", since=START)
    here = Fake(model="churn", mode="fall_back", reason="smoke", since=START)
    safety = Fake(status=lambda: Fake(emergencies=(stopped,), local=(here,)))
    assert [(each.labels, each.reason) for each in emergencies(safety)] == [
        ({}, "block, since 00:00 UTC: fire"),
        ({"model": "churn"}, "fall_back, since 00:00 UTC: smoke"),
    ]


def test_drift_on_all_pages():
    pages = {"": ("a", "next"), "next": ("b", "last"), "last": ("draft", "")}

    def page(*, cursor, limit):
        name, following = pages[cursor]
        return Fake(items=[Fake(name=name, active=None if name == "draft" else 1)], next_cursor=following)

    differing = {"a": 0, "b": 3}
    desk = Fake(verbs=Fake(list=page), drift=Fake(report=lambda name: Fake(differs=differing[name])))
    assert list(drift(desk)) == [Known({"config": "b"}, "3 clients differ", 3.0)]


def test_on_a_real_platform(tmp_path):
    with open_platform(Settings(home=tmp_path / "home")) as platform, control.local_client(platform) as client:
        control.register(client, tmp_path, "1.0.0", "1.1.0")
        made = standard_sources(
            platform.database, platform.experiments, platform.judge, platform.safety, platform.configs
        )
        assert {name: list(source()) for name, source in made.items()} == {name: [] for name in made}
        assert {rule.condition.source for rule in platform.alerts.rules() if hasattr(rule.condition, "source")} == {
            *made,
            "blind_rules",
        }
        client.move_alias("tiny", "champion", "1.0.0")
        client.move_alias("tiny", "champion", "1.1.0")
        assert list(made["rollbacks"]()) == []
        client.rollback("tiny")
        assert list(made["rollbacks"]()) == [
            Known({"subject": "tiny@champion", "model": "tiny"}, "from 1.1.0 to 1.0.0")
        ]
