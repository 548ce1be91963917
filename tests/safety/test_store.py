"""What people do about safety: each change is one transaction, audited, and can be rehearsed."""

import math
from datetime import timedelta

import pytest
from sqlalchemy import select

from crossfade.errors import (
    DatabaseUnavailableError,
    InvalidOverrideError,
    InvalidPageError,
    InvalidSafetyPolicyError,
    MalformedRequestError,
    ModelNotFoundError,
    NoEmergencyError,
    OverrideNotFoundError,
    ReasonRequiredError,
    SafetyPolicyNotFoundError,
    StillReferencedError,
    VersionNotFoundError,
)
from crossfade.registry.requests import ProcessStatus
from crossfade.safety.inspection import Finding, Findings
from crossfade.safety.levels import Level
from crossfade.safety.requests import CheckRequest
from crossfade.safety.specs import (
    Constant,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    LastSafe,
    OtherVersion,
    RangeCheck,
    SafetyPolicySpec,
)
from crossfade.safety.store import SafetyStore
from crossfade.safety.trial import try_policy
from crossfade.safety.violations import ViolationLog
from crossfade.settings import SafetySettings
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, changes, safety_policies
from tests.traffic.support import open_registry, publish_all

HIGH = RangeCheck(name="high", output="predict", maximum=10)
FINITE = FiniteCheck(name="finite", level=Level.WARNING)


def policy(*checks, **options):
    return SafetyPolicySpec(**({"model": "m", "checks": checks or (HIGH, FINITE)} | options))


def actions(database):
    with database.read() as connection:
        assert verify_audit(connection) > 0
        rows = connection.execute(select(audit).order_by(audit.c.seq)).all()
        return [(row.action, row.subject, row.principal) for row in rows if row.action.startswith("safety")]


def details(database):
    with database.read() as connection:
        return connection.execute(select(audit.c.details).order_by(audit.c.seq.desc()).limit(1)).scalar_one()


# --- policies ---


def test_a_policy_is_put_shown_replaced_and_removed(store, database, clock):
    made = store.put_policy(policy(), reason="first", principal="ann")
    assert (made.model, made.created_by, made.reason, made.created_at) == ("m", "ann", "first", clock.now)
    assert made.number == database.revision()
    assert store.policy("m") == made
    assert store.policies() == (made,)
    replaced = store.put_policy(policy(HIGH), principal="bob")
    assert [check.name for check in replaced.spec.checks] == ["high"]
    assert store.policies() == (replaced,)
    assert store.remove_policy("m", reason="over", principal="eve") == replaced
    assert store.policies() == ()
    assert actions(database) == [
        ("safety.policy", "m", "ann"),
        ("safety.policy", "m", "bob"),
        ("safety.policy.remove", "m", "eve"),
    ]
    assert "over" in details(database)


def test_a_version_that_a_policy_falls_back_to_is_not_deleted(store, registry):
    store.put_policy(policy(fallback=(LastSafe(max_age_seconds=60), OtherVersion(version="1.0.1"))))
    with pytest.raises(StillReferencedError, match="the safety policy of `m`"):
        registry.delete("m:1.0.1")
    registry.delete("m:1.0.2")
    store.remove_policy("m")
    registry.delete("m:1.0.1")


def test_the_same_policy_again_changes_nothing(store, database):
    made = store.put_policy(policy())
    revision = database.revision()
    assert store.put_policy(policy()) == made
    assert database.revision() == revision


def test_a_sample_is_kept_as_a_reference(store):
    usual = DistributionCheck(name="usual", output="predict", values=tuple(map(float, range(1000))))
    made = store.put_policy(policy(usual))
    assert made.spec.checks[0].values == ()
    assert store.policy("m").spec.checks[0].reference.size == 1000


@pytest.mark.parametrize(
    ("spec", "error", "problem"),
    [
        (policy(model="nobody"), ModelNotFoundError, "nobody"),
        (policy(RangeCheck(name="r", output="other", minimum=0)), InvalidSafetyPolicyError, "`m:1.0.0`"),
        (policy(ExpressionCheck(name="e", expression="y > 0")), InvalidSafetyPolicyError, "`y` is none of"),
        (policy(ExpressionCheck(name="e", expression="x.y > 0")), InvalidSafetyPolicyError, "Attribute"),
        (policy(fallback=(OtherVersion(version="9.9.9"),)), VersionNotFoundError, "9.9.9"),
        (policy(fallback=(Constant(outputs={"other": 1}),)), InvalidSafetyPolicyError, "no output `other`"),
        (policy(fallback=(Constant(outputs={"predict": "x"}),)), InvalidSafetyPolicyError, "constant for `predict`"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_and_nothing_changes(store, database, spec, error, problem):
    revision = database.revision()
    with pytest.raises(error, match=problem) as caught:
        store.put_policy(spec)
    assert caught.value.message.count("cannot be used") <= 1
    assert database.revision() == revision
    assert store.policies() == ()


def test_a_model_without_a_champion_may_have_a_policy(store):
    odd = ExpressionCheck(name="e", expression="not_yet > 0")
    assert store.put_policy(policy(odd, model="other")).model == "other"


def test_what_is_not_there_is_not_found(store):
    for ask in (store.policy, store.remove_policy):
        with pytest.raises(SafetyPolicyNotFoundError, match="`m` has no safety policy"):
            ask("m")


@pytest.mark.parametrize("text", ["x" * 2001, "nul \x00"])
def test_a_reason_that_no_history_can_hold_is_refused(store, text):
    with pytest.raises(MalformedRequestError):
        store.put_policy(policy(), reason=text)


# --- overrides ---


def test_a_check_is_turned_off_for_a_while_and_on_again(store, database, clock):
    store.put_policy(policy())
    made = store.override("m", seconds=60, reason="it is wrong", check="high", version="1.0.1", principal="ann")
    assert (made.model, made.check, made.version, made.reason) == ("m", "high", "1.0.1", "it is wrong")
    assert made.expires_at == clock.now + timedelta(seconds=60)
    assert made.holds(clock.now)
    assert store.status().overrides == (made,)
    ended = store.end_override(made.id, reason="mended", principal="bob")
    assert (ended.ended_by, ended.ended_because, ended.ended_at) == ("bob", "mended", clock.now)
    assert not ended.holds(clock.now)
    assert store.status().overrides == ()
    assert store.overrides().items == (ended,)
    assert [action for action, *_ in actions(database)][1:] == ["safety.override", "safety.override.end"]
    with pytest.raises(InvalidOverrideError, match="is over"):
        store.end_override(made.id, reason="again")


def test_an_override_ends_with_the_policy_and_stays_with_a_new_version_of_it(store):
    store.put_policy(policy())
    made = store.override("m", seconds=60, reason="why", check="high")
    store.put_policy(policy(HIGH))
    assert store.status().overrides == (made,)
    store.remove_policy("m", principal="eve")
    assert store.status().overrides == ()
    (ended,) = store.overrides().items
    assert (ended.ended_by, ended.ended_because) == ("eve", "its policy was removed")


def test_an_override_expires_by_itself(store, clock):
    store.put_policy(policy())
    made = store.override("m", seconds=60, reason="why")
    assert store.overrides(holding=True).items == (made,)
    clock.advance(60)
    assert store.overrides(holding=True).items == ()
    assert store.status().overrides == ()
    assert store.overrides().items == (made,), "the history stays"
    with pytest.raises(InvalidOverrideError, match="is over"):
        store.end_override(made.id, reason="too late")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"check": "nothing"}, InvalidOverrideError),
        ({"seconds": 0}, InvalidOverrideError),
        ({"seconds": -1}, InvalidOverrideError),
        ({"seconds": math.nan}, InvalidOverrideError),
        ({"seconds": math.inf}, InvalidOverrideError),
        ({"seconds": 31 * 86_400}, InvalidOverrideError),
        ({"reason": ""}, ReasonRequiredError),
        ({"reason": "  \n"}, ReasonRequiredError),
        ({"version": "9.9.9"}, VersionNotFoundError),
    ],
)
def test_an_override_that_means_nothing_is_refused(store, database, options, error):
    store.put_policy(policy())
    revision = database.revision()
    with pytest.raises(error):
        store.override("m", **({"seconds": 60.0, "reason": "why"} | options))
    assert database.revision() == revision


def test_only_checks_of_a_policy_are_turned_off(store):
    with pytest.raises(SafetyPolicyNotFoundError):
        store.override("m", seconds=60, reason="why")
    with pytest.raises(OverrideNotFoundError, match="there is no override `nothing`"):
        store.end_override("nothing", reason="why")


def test_overrides_are_listed_in_pages_newest_first(store):
    store.put_policy(policy())
    made = [store.override("m", seconds=60, reason=str(number)) for number in range(5)]
    first = store.overrides(limit=2)
    second = store.overrides(limit=3, cursor=first.next_cursor)
    assert [item.reason for item in (*first.items, *second.items)] == ["4", "3", "2", "1", "0"]
    assert second.next_cursor == ""
    assert store.overrides(model="other").items == ()
    assert store.overrides(model="m", limit=1).items == (made[-1],)
    for wrong in ({"limit": 0}, {"limit": 10_000}, {"cursor": "x"}):
        with pytest.raises(InvalidPageError):
            store.overrides(**wrong)


# --- emergencies ---


@pytest.mark.parametrize("model", ["", "m"])
@pytest.mark.parametrize("mode", ["block", "fall_back"])
def test_an_emergency_lasts_until_a_person_ends_it(store, database, clock, model, mode):
    begun = store.begin_emergency("it burns", mode=mode, model=model, principal="ann")
    assert begun.revision == database.revision()
    assert (begun.emergency.scope, begun.emergency.mode) == (model or "everything", mode)
    clock.advance(1e9)
    assert store.status().emergencies == (begun.emergency,)
    with pytest.raises(ReasonRequiredError):
        store.end_emergency(" ", model=model)
    ended = store.end_emergency("it is out", model=model, principal="bob")
    assert ended.emergency == begun.emergency
    assert store.status().emergencies == ()
    assert [(action, who) for action, _, who in actions(database)] == [
        ("safety.emergency", "ann"),
        ("safety.emergency.end", "bob"),
    ]


def test_the_same_emergency_again_is_the_same(store, database):
    begun = store.begin_emergency("first")
    revision = database.revision()
    again = store.begin_emergency("second")
    assert (again.emergency, again.revision) == (begun.emergency, 0)
    assert database.revision() == revision


def test_another_mode_replaces_it(store):
    store.begin_emergency("first")
    store.begin_emergency("second", mode="fall_back")
    (found,) = store.status().emergencies
    assert (found.mode, found.reason) == ("fall_back", "second")


def test_of_everything_and_of_a_model_are_two(store):
    store.begin_emergency("all")
    store.begin_emergency("one", model="m")
    store.end_emergency("all is well", model="")
    assert [item.model for item in store.status().emergencies] == ["m"]
    with pytest.raises(NoEmergencyError, match="everything"):
        store.end_emergency("again")
    with pytest.raises(NoEmergencyError, match="other"):
        store.end_emergency("never", model="other")


def test_what_does_not_exist_cannot_be_stopped(store):
    with pytest.raises(ModelNotFoundError):
        store.begin_emergency("why", model="nobody")
    with pytest.raises(ReasonRequiredError):
        store.begin_emergency("")


def test_who_does_not_follow_in_time_is_named(registry, database, tmp_path, clock):
    late = ProcessStatus("b", "host", 8, clock.now, clock.now, 1)
    waited = []

    def wait(revision, seconds):
        waited.append((revision, seconds))
        return (late,)

    store = SafetyStore(registry, database, tmp_path, lambda: (late, late, late), wait, clock)
    begun = store.begin_emergency("why")
    assert (begun.processes, begun.late) == (2, ("host/8",))
    assert waited == [(begun.revision, 5.0)]
    assert store.begin_emergency("why", model="m", wait=False).late == ()
    assert len(waited) == 1


def test_without_the_database_it_says_so(store, database):
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        store.begin_emergency("why")


# --- rehearsals ---


def test_rehearsals_change_nothing(store, database):
    store.put_policy(policy())
    override = store.override("m", seconds=60, reason="why")
    store.begin_emergency("why")
    before = database.revision(), store.status()
    store.put_policy(policy(HIGH), dry_run=True)
    store.remove_policy("m", dry_run=True)
    store.override("m", seconds=60, reason="why", dry_run=True)
    store.end_override(override.id, reason="why", dry_run=True)
    store.begin_emergency("why", model="m", dry_run=True)
    store.end_emergency("why", dry_run=True)
    assert (database.revision(), store.status()) == before
    assert len(store.policy("m").spec.checks) == 2


def test_a_rehearsal_refuses_what_the_change_would(store):
    with pytest.raises(InvalidSafetyPolicyError):
        store.put_policy(policy(RangeCheck(name="r", output="other", minimum=0)), dry_run=True)
    with pytest.raises(NoEmergencyError):
        store.end_emergency("why", dry_run=True)


# --- both databases ---


def test_on_either_database(tmp_path, database_url):
    registry = open_registry(tmp_path, database_url)
    publish_all(registry, "m", "1.0.0")
    database = registry.backend.database
    try:
        store = SafetyStore(registry, database, tmp_path, tuple, lambda _revision, _seconds: ())
        store.put_policy(policy(fallback=(LastSafe(),)))
        made = store.override("m", seconds=60, reason="why", check="high")
        store.begin_emergency("why", model="m")
        log = ViolationLog(database, SafetySettings())
        for _ in range(3):
            log.add("m", "1.0.0", Findings(Level.UNSAFE, (Finding("high", Level.UNSAFE, 2, "predict=11.0"),)), "refuse")
            log.flush()
        log.trim()
        status = store.status()
        assert status.models == ("m",)
        assert status.overrides == (made,)
        assert [item.model for item in status.emergencies] == ["m"]
        assert [(seen.check, seen.answers) for seen in status.violations] == [("high", 3)]
        (violation,) = store.violations(model="m", check="high", level="unsafe").items
        assert (violation.answers, violation.rows, violation.example) == (3, 6, "predict=11.0")
        with database.read() as connection:
            kinds = connection.scalars(select(changes.c.kind).order_by(changes.c.revision.desc()).limit(3)).all()
            assert kinds == ["safety"] * 3
            assert verify_audit(connection) > 0
            assert connection.scalar(select(safety_policies.c.model)) == "m"
    finally:
        database.close()


# --- trying ---


def test_a_policy_is_tried_row_by_row(store):
    report = try_policy(
        store, CheckRequest({"predict": [1.0, 11.0, None]}, {"x": [0.0, 0.0, 0.0]}, policy=policy(HIGH, FINITE))
    )
    assert [(row.level, row.checks) for row in report.rows] == [
        (Level.SAFE, ()),
        (Level.UNSAFE, ("high",)),
        (Level.UNSAFE, ("high", "finite")),
    ]
    assert report.level is Level.UNSAFE
    assert report.problems == {}
    assert store.policies() == ()


def test_the_policy_that_a_model_has_is_tried(store):
    store.put_policy(policy(HIGH))
    report = try_policy(store, CheckRequest({"predict": [11]}, model="m", version="1.0.1"))
    assert report.level is Level.UNSAFE


def test_what_cannot_be_asked_is_said(store):
    other = RangeCheck(name="r", output="nothing", minimum=0)
    report = try_policy(store, CheckRequest({"predict": [1]}, policy=policy(other)))
    assert report.level is Level.UNSAFE
    assert "nothing" in report.problems["r"]


@pytest.mark.parametrize(
    "request_",
    [
        CheckRequest({}),
        CheckRequest({}, policy=policy()),
        CheckRequest({"predict": []}, policy=policy()),
        CheckRequest({"predict": [1.0, 2.0]}, {"x": [1.0]}, policy=policy()),
        CheckRequest({"other": [1.0]}, policy=policy()),
        CheckRequest({"predict": [1.0]}, {"other": [1.0]}, policy=policy()),
        CheckRequest({"predict": ["many"]}, policy=policy()),
        CheckRequest({"predict": [[1.0], [1.0, 2.0]]}, policy=policy()),
        CheckRequest({"predict": [1.0] * 10_001}, policy=policy()),
    ],
)
def test_answers_that_are_none_are_refused(store, request_):
    with pytest.raises(MalformedRequestError):
        try_policy(store, request_)


@pytest.mark.parametrize("first", ["block", "fall_back"])
def test_what_acts_by_itself_softens_nothing(store, first):
    from crossfade.safety.rules import PRINCIPAL

    store.begin_emergency("a person said so", mode=first, model="m", principal="ann")
    store.begin_emergency("a critical answer", mode="fall_back", model="m", principal=PRINCIPAL)
    (found,) = store.status().emergencies
    assert (found.mode, found.reason) == (first, "a person said so")


def test_what_acts_by_itself_may_be_stricter(store):
    from crossfade.safety.rules import PRINCIPAL

    store.begin_emergency("a person said so", mode="fall_back", model="m", principal="ann")
    store.begin_emergency("a critical answer", mode="block", model="m", principal=PRINCIPAL)
    (found,) = store.status().emergencies
    assert (found.mode, found.started_by) == ("block", PRINCIPAL)
