"""What people do with configs: each change is one transaction, audited; whatever cannot be changes nothing."""

import threading

import msgspec
import pytest
from sqlalchemy import select

from crossfade.configs.record import ConfigStatus
from crossfade.configs.rules import ConfigRule
from crossfade.configs.spec import MAX_SCHEMA_BYTES, AffectedSpec, ConfigSpec, ReplaySpec
from crossfade.errors import (
    ConfigConflictError,
    ConfigNotFoundError,
    ConfigVersionNotFoundError,
    FourEyesError,
    InvalidConfigError,
    InvalidNameError,
    InvalidPageError,
    MalformedRequestError,
    StillReferencedError,
    UnfitConfigError,
    UnnamedApproverError,
)
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, changes, config_versions
from crossfade.traffic.allocation.segments import Segment
from tests.configs.support import SCHEMA, SPEC, halves, make_active, make_approved, open_configs
from tests.traffic.support import move, open_registry, publish_all

NAMES = ("", "Limits", "a/b", "a\0b", "\ud800", "x" * 65, "..", "%00", "' OR 1=1 --")


def statuses(configs, name="limits"):
    return {version.number: version.status.value for version in configs.versions(name).items}


def newest_change(database):
    with database.read() as connection:
        verify_audit(connection)
        said = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1)).one()
        change = connection.execute(select(changes).order_by(changes.c.revision.desc()).limit(1)).one()
    assert change.revision == said.seq
    return change.kind, said.subject, said.action, said.principal, msgspec.json.decode(said.details)


def changes_nothing(database, act, *errors):
    before = database.revision()
    with pytest.raises(errors) as caught:
        act()
    assert database.revision() == before
    return caught.value


# --- writing down ---


def test_a_version_is_written_down_as_it_was_said(configs, database, clock):
    made, new = configs.draft("limits", '{"max": 5}', spec=SPEC, principal="ann", reason="a first one")
    assert new
    assert (made.name, made.number, made.status, made.spec) == ("limits", 1, ConfigStatus.DRAFT, 1)
    assert (made.document, made.created_by, made.created_at, made.reason) == (
        {"max": 5},
        "ann",
        clock.now,
        "a first one",
    )
    assert made.validation is None
    assert configs.version("limits", 1) == made
    kind, subject, action, principal, details = newest_change(database)
    assert (kind, subject, action, principal) == ("config_version", "limits:1", "config.draft", "ann")
    assert details == {"digest": made.digest, "spec": SPEC.checked("limits").digest, "reason": "a first one"}
    found = configs.find("limits")
    assert (found.active, found.versions, found.rollout, found.spec.schema) == (None, 1, {}, SCHEMA)


def test_the_same_document_again_changes_nothing(configs, database):
    first, _ = configs.draft("limits", '{"max": 5}', spec=SPEC)
    before = database.revision()
    assert configs.draft("limits", '{ "max" : 5 }', principal="bob") == (first, False)
    assert configs.draft("limits", {"max": 5}, spec=SPEC) == (first, False)
    assert database.revision() == before
    assert configs.draft("limits", {"max": 5}, spec=ConfigSpec())[0].number == 2, "under other rules it is another"
    assert configs.draft("limits", {"max": 6})[0].number == 3


def test_a_specification_stays_until_another_is_said(configs):
    configs.draft("limits", {"max": 5}, spec=SPEC)
    second, _ = configs.draft("limits", {"max": 6})
    third, _ = configs.draft("limits", {"max": 7}, spec=ConfigSpec({"required": ["other"]}))
    fourth, _ = configs.draft("limits", {"max": 8})
    assert [second.spec, third.spec, fourth.spec] == [1, 2, 2]
    assert configs.validate("limits", 2).validation.valid, "each version is held to its own"
    assert not configs.validate("limits", 4).validation.valid


def test_trying_it_out_keeps_nothing(configs, database):
    made, new = configs.draft("limits", {"max": 5}, spec=SPEC, dry_run=True)
    assert (made.number, new, database.revision()) == (1, True, 0)
    with pytest.raises(ConfigNotFoundError):
        configs.find("limits")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_none(configs, database, name):
    changes_nothing(database, lambda: configs.draft(name, {}), InvalidNameError)
    for act in (configs.find, configs.versions, configs.rollback):
        changes_nothing(database, lambda act=act: act(name), ConfigNotFoundError)
    for act in (configs.version, configs.validate, configs.approve, configs.activate, configs.diff):
        changes_nothing(database, lambda act=act: act(name, 1), ConfigNotFoundError)


@pytest.mark.parametrize("number", [0, -1, 2, 2**31, 2**63, 10**30])
def test_numbers_that_are_none(configs, database, number):
    configs.draft("limits", {"max": 5})
    for act in (configs.version, configs.validate, configs.approve, configs.activate, configs.diff):
        changes_nothing(database, lambda act=act: act("limits", number), ConfigVersionNotFoundError)


def test_a_name_that_is_nearly_right_is_suggested(configs):
    configs.draft("limits", {})
    with pytest.raises(ConfigNotFoundError) as caught:
        configs.find("limit")
    assert "did you mean `limits`?" in caught.value.hint


@pytest.mark.parametrize(
    "spec",
    [
        ConfigSpec({"type": "objekt"}),
        ConfigSpec({"pattern": "(?=a)b"}),
        ConfigSpec({"$ref": "#/nowhere"}),
        ConfigSpec({"$ref": "https://example.org/schema"}),
        ConfigSpec({"properties": {"a": {"allOf": [{"$dynamicRef": "file:///etc/passwd"}]}}}),
        ConfigSpec({"$schema": "http://json-schema.org/draft-04/schema#"}),
        ConfigSpec({"$schema": 5}),
        ConfigSpec({"properties": {"a": {"x-crossfade-ref": "planet"}}}),
        ConfigSpec({"properties": {"a": {"x-crossfade-ref": ["model"]}}}),
        ConfigSpec({"description": "x" * MAX_SCHEMA_BYTES}),
        ConfigSpec({"minimum": float("nan")}),
        ConfigSpec(rules=(ConfigRule("a", {"b": 1}), ConfigRule("a", {"c": 1}))),
        ConfigSpec(rules=tuple(ConfigRule(f"r{number}", {"b": 1}) for number in range(101))),
        ConfigSpec(rules=(ConfigRule("a", {"b": {"$nope": 1}}),)),
        ConfigSpec(replays=(ReplaySpec("no reference", {"x": "/max"}),)),
        ConfigSpec(replays=(ReplaySpec("m", {}),)),
        ConfigSpec(replays=(ReplaySpec("m", {"x": "max"}),)),
        ConfigSpec(replays=(ReplaySpec("m", {"x": "/max"}, tolerance=-1.0),)),
        ConfigSpec(replays=(ReplaySpec("m", {"x": "/max"}, tolerance=float("inf")),)),
        ConfigSpec(replays=(ReplaySpec("m", {"x": "/max"}),) * 11),
        ConfigSpec(affects=AffectedSpec(days=0)),
        ConfigSpec(affects=AffectedSpec(Segment({"a": {"$regex": "(a+)+$"}}))),
    ],
    ids=range(22),
)
def test_specifications_that_cannot_be(configs, database, spec):
    changes_nothing(database, lambda: configs.draft("limits", {"max": 5}, spec=spec), InvalidConfigError)


# --- checks ---


def test_checks_say_everything_that_is_wrong(configs, clock):
    rule = ConfigRule("small", {"max": {"$lt": 3}})
    configs.draft("limits", {"max": -5}, spec=ConfigSpec(SCHEMA, (rule, ConfigRule("tiny", {"max": {"$gt": 0}}))))
    found = configs.validate("limits", 1)
    assert found.status is ConfigStatus.DRAFT
    assert [(each.check, each.path) for each in found.validation.problems] == [("schema", "/max"), ("rule", "")]
    assert "(and 1 more)" in found.validation.problem
    assert found.validation.at == clock.now
    assert configs.version("limits", 1) == found, "it is kept"


def test_a_draft_that_passes_waits_for_approval(configs, database):
    configs.draft("limits", {"max": 5}, spec=SPEC)
    assert configs.validate("limits", 1, dry_run=True).status is ConfigStatus.VALIDATING
    assert statuses(configs) == {1: "draft"}
    assert configs.validate("limits", 1, reason="please look").status is ConfigStatus.VALIDATING
    assert newest_change(database)[2] == "config.validating"
    assert configs.validate("limits", 1).status is ConfigStatus.VALIDATING


def test_what_a_document_names_has_to_exist(registry, configs):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    move(registry, "churn", "1.0.0")
    make_active(configs, "other", {"max": 1}, spec=SPEC)
    configs.draft("idle", {"max": 1}, spec=SPEC)
    good = {"max": 1, "model": "churn", "alias": "churn@champion", "version": "churn:1.1.0", "other": "other"}
    configs.draft("limits", good, spec=SPEC)
    found = configs.validate("limits", 1)
    assert found.validation.valid
    assert {each.path for each in found.validation.references} == {"/model", "/alias", "/version", "/other"}
    bad = {"max": 1, "model": "chum", "alias": "churn:1.0.0", "version": "churn:9.0.0", "other": "idle"}
    configs.draft("limits", bad)
    problems = {each.path: each.problem for each in configs.validate("limits", 2).validation.problems}
    assert problems["/model"].startswith("there is no model `chum`") or "chum" in problems["/model"]
    assert problems["/alias"] == "`churn:1.0.0` is no alias, such as `churn@champion`"
    assert problems["/version"] == "`churn:9.0.0` is not registered"
    assert problems["/other"] == "no version of config `idle` is active"
    configs.draft("limits", {"max": 1, "other": "n\0ne", "version": "", "alias": "\x00@b", "model": "x" * 5000})
    assert len(configs.validate("limits", 3).validation.problems) == 4


def test_of_a_version_that_is_read_checks_only_tell(registry, configs, database):
    publish_all(registry, "churn", "1.0.0")
    make_active(configs, document={"max": 1, "version": "churn:1.0.0"}, spec=SPEC)
    registry.transition("churn:1.0.0", "rejected", reason="wrong on Sundays")
    before = database.revision()
    found = configs.validate("limits", 1)
    assert (found.status, found.validation.valid) == (ConfigStatus.ACTIVE, False)
    assert configs.version("limits", 1).validation.valid
    assert database.revision() == before


# --- approval ---


def test_somebody_without_a_name_is_not_somebody_else(registry, configs, database):
    configs.draft("limits", {"max": 5}, principal="ann")
    configs.validate("limits", 1)
    error = changes_nothing(database, lambda: configs.approve("limits", 1), UnnamedApproverError)
    assert "X-Principal" in error.hint
    alone = open_configs(registry, four_eyes=False)
    assert alone.approve("limits", 1).approved_by == "local"


def test_somebody_else_has_to_approve(configs, database):
    configs.draft("limits", {"max": 5}, principal="ann")
    changes_nothing(database, lambda: configs.approve("limits", 1, principal="bob"), ConfigConflictError)
    configs.validate("limits", 1)
    error = changes_nothing(database, lambda: configs.approve("limits", 1, principal="ann"), FourEyesError)
    assert "CROSSFADE_CONFIGS__FOUR_EYES=false" in error.hint
    assert configs.approve("limits", 1, principal="bob", dry_run=True).approved_by == "bob"
    assert statuses(configs) == {1: "validating"}
    approved = configs.approve("limits", 1, principal="bob", reason="fine")
    assert (approved.status, approved.approved_by, approved.reason) == (ConfigStatus.APPROVED, "bob", "fine")
    assert configs.approve("limits", 1, principal="carl") == approved, "again changes nothing"
    assert newest_change(database)[2:4] == ("config.approved", "bob")


def test_what_did_not_pass_cannot_be_approved(configs, database):
    configs.draft("limits", {"max": -1}, spec=SPEC, principal="ann")
    configs.validate("limits", 1)
    error = changes_nothing(database, lambda: configs.approve("limits", 1, principal="bob"), UnfitConfigError)
    assert "at `/max`" in error.message


def test_what_is_on_its_way_is_not_approved_again(configs, database):
    make_active(configs)
    number = make_approved(configs, document={"max": 6})
    with database.write() as connection:
        configs._store.mark(connection, "limits", number, ConfigStatus.DEPLOYING, principal="controller", reason="")
    with pytest.raises(ConfigConflictError, match="on its way"):
        configs.approve("limits", number, principal="bob")
    assert configs.version("limits", number).status is ConfigStatus.DEPLOYING


def test_alone_one_may_approve_oneself(registry):
    configs = open_configs(registry, four_eyes=False)
    configs.draft("limits", {"max": 5}, principal="ann")
    configs.validate("limits", 1)
    assert configs.approve("limits", 1, principal="ann").status is ConfigStatus.APPROVED


def test_checks_that_fail_later_take_the_approval_away(registry, configs):
    publish_all(registry, "churn", "1.0.0")
    make_approved(configs, document={"max": 1, "version": "churn:1.0.0"}, spec=SPEC)
    assert configs.validate("limits", 1).status is ConfigStatus.APPROVED
    registry.delete("churn:1.0.0", reason="gone")
    after = configs.validate("limits", 1)
    assert (after.status, after.approved_by) == (ConfigStatus.DRAFT, "")


# --- activation ---


def test_everybody_reads_what_is_activated(configs, database, clock):
    make_approved(configs, spec=SPEC)
    assert configs.activate("limits", 1, dry_run=True).active == 1
    assert configs.find("limits").active is None
    clock.advance(60)
    after = configs.activate("limits", 1, principal="ann", reason="now")
    assert (after.active, statuses(configs)) == (1, {1: "active"})
    assert configs.version("limits", 1).changed_at == clock.now
    kind, subject, action, principal, details = newest_change(database)
    assert (kind, subject, action, principal) == ("config", "limits:1", "config.activate", "ann")
    assert details == {"from": None, "to": 1, "reason": "now"}
    before = database.revision()
    assert configs.activate("limits", 1) == after
    assert database.revision() == before, "again changes nothing"


def test_a_version_takes_the_place_of_another(configs):
    make_active(configs, document={"max": 1})
    make_active(configs, document={"max": 2})
    assert statuses(configs) == {1: "deprecated", 2: "active"}
    configs.activate("limits", 1, reason="the former one again")
    assert statuses(configs) == {1: "active", 2: "deprecated"}


@pytest.mark.parametrize("status", ["draft", "validating", "rolled_back"])
def test_only_what_was_approved_is_activated(configs, database, status):
    make_active(configs, document={"max": 1})
    make_active(configs, document={"max": 2})
    configs.rollback("limits")
    number = 2
    if status != "rolled_back":
        number = configs.draft("limits", {"max": 3})[0].number
    if status == "validating":
        configs.validate("limits", number)
    assert statuses(configs)[number] == status
    error = changes_nothing(database, lambda: configs.activate("limits", number), ConfigConflictError)
    assert f"which is {status} and cannot become deploying" in error.message


def test_nobody_overwrites_what_they_have_not_seen(configs, database):
    make_approved(configs, document={"max": 1})
    changes_nothing(database, lambda: configs.activate("limits", 1, expected=3), ConfigConflictError)
    configs.activate("limits", 1, expected=0)
    make_approved(configs, document={"max": 2})
    changes_nothing(database, lambda: configs.activate("limits", 2, expected=0), ConfigConflictError)
    assert configs.activate("limits", 2, expected=1).active == 2


def test_references_that_were_deleted_meanwhile_stop_it(registry, configs, database):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0")
    make_active(configs, document={"max": 1, "version": "churn:1.1.0"}, spec=SPEC)
    make_approved(configs, document={"max": 2, "version": "churn:1.0.0"})
    registry.delete("churn:1.0.0", reason="gone")
    error = changes_nothing(database, lambda: configs.activate("limits", 2), UnfitConfigError)
    assert "at `/version`: `churn:1.0.0` is not registered" in error.message
    made, _ = configs.draft("limits", {"max": 3, "version": "churn:1.2.0"}, principal="ann")
    configs.validate("limits", made.number)
    registry.delete("churn:1.2.0", reason="gone, too")
    changes_nothing(database, lambda: configs.approve("limits", made.number, principal="bob"), UnfitConfigError)


def test_a_version_that_programs_read_of_is_not_deleted(registry, configs):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    make_active(configs, document={"max": 1, "version": "models:/churn/v1.0.0"}, spec=SPEC)
    with pytest.raises(StillReferencedError, match="version 1 of config `limits`"):
        registry.delete("churn:1.0.0")
    registry.delete("churn:1.1.0")
    make_active(configs, document={"max": 2})
    registry.delete("churn:1.0.0")


# --- taking back ---


def test_rolling_back_goes_the_way_that_was_come(configs, database):
    for number in (1, 2, 3):
        make_active(configs, document={"max": number})
    after = configs.rollback("limits", principal="ann", reason="errors")
    assert (after.active, statuses(configs)) == (2, {1: "deprecated", 2: "active", 3: "rolled_back"})
    assert newest_change(database)[1:3] == ("limits:2", "config.rollback")
    assert configs.rollback("limits", dry_run=True).active == 1
    assert configs.rollback("limits").active == 1
    changes_nothing(database, lambda: configs.rollback("limits"), ConfigConflictError)
    assert statuses(configs) == {1: "active", 2: "rolled_back", 3: "rolled_back"}


def test_what_was_taken_back_comes_back_by_a_new_approval_only(configs):
    make_active(configs, document={"max": 1})
    make_active(configs, document={"max": 2})
    configs.rollback("limits")
    assert configs.validate("limits", 2).status is ConfigStatus.VALIDATING
    configs.approve("limits", 2, principal="bob")
    assert configs.activate("limits", 2).active == 2


def test_going_back_to_what_names_the_deleted_is_refused(registry, configs, database):
    publish_all(registry, "churn", "1.0.0")
    make_active(configs, document={"max": 1, "version": "churn:1.0.0"}, spec=SPEC)
    make_active(configs, document={"max": 2})
    registry.delete("churn:1.0.0", reason="gone")
    changes_nothing(database, lambda: configs.rollback("limits"), UnfitConfigError)


# --- rollouts ---


def test_a_rollout_goes_through_the_store(configs, database):
    make_active(configs, document={"max": 1})
    make_approved(configs, document={"max": 2})
    make_approved(configs, document={"max": 3})
    store = configs._store
    said = {"principal": "controller", "reason": "10 %"}
    with database.write() as connection:
        store.mark(connection, "limits", 2, ConfigStatus.DEPLOYING, **said)
        store.route(connection, "limits", halves(1, 2, weight=0.1), **said)
    assert configs.find("limits").rollout == {"old": 1, "new": 2}
    assert newest_change(database)[1:] == (
        "limits",
        "config.route",
        "controller",
        {"weights": {"old": 0.9, "new": 0.1}, "reason": "10 %"},
    )
    for act in (lambda: configs.activate("limits", 3), lambda: configs.rollback("limits")):
        changes_nothing(database, act, ConfigConflictError)

    def activate(number):
        with database.write() as connection:
            store.activate(connection, "limits", number, **said)

    changes_nothing(database, lambda: activate(3), ConfigConflictError)
    activate(2)
    found = configs.find("limits")
    assert (found.active, found.rollout, statuses(configs)) == (2, {}, {1: "deprecated", 2: "active", 3: "approved"})


def test_a_rollout_that_fails_leaves_the_active_version(configs, database):
    make_active(configs, document={"max": 1})
    make_approved(configs, document={"max": 2})
    store, said = configs._store, {"principal": "controller", "reason": "errors"}
    with database.write() as connection:
        store.mark(connection, "limits", 2, ConfigStatus.DEPLOYING, **said)
        store.route(connection, "limits", halves(1, 2), **said)
    with database.write() as connection:
        store.route(connection, "limits", None, **said)
        store.mark(connection, "limits", 2, ConfigStatus.ROLLED_BACK, **said)
    assert (configs.find("limits").active, configs.find("limits").rollout) == (1, {})
    changes_nothing(database, lambda: configs.activate("limits", 2), ConfigConflictError)

    def route_nowhere():
        with database.write() as connection:
            store.route(connection, "limits", halves(1, 9), **said)

    changes_nothing(database, route_nowhere, ConfigVersionNotFoundError)


def test_a_transaction_that_fails_later_has_changed_nothing(configs, database):
    make_approved(configs)
    before = database.revision()

    def act():
        with database.write() as connection:
            configs._store.activate(connection, "limits", 1, principal="ann", reason="")
            raise KeyboardInterrupt

    changes_nothing(database, act, KeyboardInterrupt)
    assert (configs.find("limits").active, statuses(configs), database.revision()) == (None, {1: "approved"}, before)


# --- at the same time ---


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_two_who_activate_at_once_one_wins(kind, tmp_path, request):
    registry = open_registry(tmp_path, request.getfixturevalue(f"{kind}_url"))
    configs = open_configs(registry)
    make_active(configs, document={"max": 0})
    numbers = [make_approved(configs, document={"max": number}) for number in range(1, 7)]
    ready, outcomes = threading.Barrier(len(numbers)), []

    def act(number):
        ready.wait()
        try:
            outcomes.append(configs.activate("limits", number, expected=1).active)
        except ConfigConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=act, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number in outcomes if number is not None]
    assert len(winners) == 1
    found = statuses(configs)
    assert [number for number, status in found.items() if status == "active"] == winners
    assert found[1] == "deprecated"
    registry.backend.database.close()


def test_drafts_written_at_once_get_numbers_of_their_own(configs, database):
    threads = [threading.Thread(target=configs.draft, args=("limits", {"max": number})) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses(configs)) == list(range(1, 9))
    with database.read() as connection:
        verify_audit(connection)


def test_checks_that_took_long_do_not_overrule_what_happened_meanwhile(registry, database):
    quick = open_configs(registry)

    def slowly(name, spec, document):
        if document is not None and statuses(quick) == {1: "validating"}:
            quick.approve("limits", 1, principal="bob")
        return quick._check(name, spec, document)

    quick.draft("limits", {"max": 5}, principal="ann")
    quick.validate("limits", 1)
    slow = open_configs(registry, check=slowly)
    with pytest.raises(ConfigConflictError, match="meanwhile"):
        slow.validate("limits", 1)
    assert statuses(quick) == {1: "approved"}


# --- looking ---


def test_lists_come_in_pages(configs):
    for number in range(5):
        configs.draft(f"config-{number}", {})
        configs.draft("limits", {"max": number})
    first = configs.list(limit=4)
    assert [each.name for each in first.items] == ["config-4", "config-3", "config-2", "config-1"]
    rest = configs.list(limit=4, cursor=first.next_cursor)
    assert [each.name for each in rest.items] == ["limits", "config-0"]
    page = configs.versions("limits", limit=2)
    assert [each.number for each in page.items] == [5, 4]
    assert all(each.document is None for each in page.items)
    assert [each.number for each in configs.versions("limits", limit=9, cursor=page.next_cursor).items] == [3, 2, 1]
    configs.validate("limits", 3)
    assert [each.number for each in configs.versions("limits", status="validating").items] == [3]
    for cursor, limit in ((first.next_cursor, 5), ("nonsense", 5), ("", 0), ("", 1001)):
        with pytest.raises(InvalidPageError):
            configs.versions("limits", cursor=cursor, limit=limit)


def test_what_a_version_changes(configs):
    configs.draft("limits", {"max": 1, "min": 0})
    assert [each.words for each in configs.diff("limits", 1)] == ["/max: 1 is new", "/min: 0 is new"]
    make_active(configs, document={"max": 1})
    configs.draft("limits", {"max": 2})
    assert [each.words for each in configs.diff("limits", 3)] == ["/max: 1 -> 2"]
    assert [each.words for each in configs.diff("limits", 3, 1)] == ["/max: 1 -> 2", "/min: 0 is gone"]
    assert configs.diff("limits", 3, 3) == ()


@pytest.mark.parametrize("text", ["x" * 2001, "a\0b", "\ud800"])
def test_reasons_and_names_of_people_can_be_stored(configs, database, text):
    act = [lambda: configs.draft("limits", {}, reason=text), lambda: configs.draft("limits", {}, principal=text)]
    act += [lambda: configs.rollback("limits", reason=text), lambda: configs.activate("limits", 1, principal=text)]
    for each in act:
        changes_nothing(database, each, MalformedRequestError)


def test_a_document_never_changes(configs, database):
    make_active(configs, document={"max": 1})
    with database.read() as connection:
        first = connection.execute(select(config_versions.c.document, config_versions.c.digest)).one()
    make_active(configs, document={"max": 2})
    configs.rollback("limits")
    with database.read() as connection:
        rows = connection.execute(select(config_versions.c.document, config_versions.c.digest)).all()
    assert rows[0] == first
