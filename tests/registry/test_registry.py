from __future__ import annotations

import numpy as np
import pytest

from crossfade.core.hashing import sha256
from crossfade.core.identity import ModelRef
from crossfade.errors import (
    AliasMovedError,
    BodyTooLargeError,
    BreakingChangeError,
    ConflictError,
    CorruptBlobError,
    IllegalTransitionError,
    InvalidNameError,
    InvalidPageError,
    InvalidSemverError,
    MalformedRequestError,
    ModelNotFoundError,
    NoPreviousVersionError,
    NotFoundError,
    RejectedVersionError,
    StillReferencedError,
    VersionConflictError,
    VersionNotFoundError,
)
from crossfade.registry.registry import Registry
from crossfade.settings import RegistrySettings
from tests.registry.support import toy_manifest, upload
from tests.registry.toy import Linear, columns

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


def register(registry, name="churn", weights=(1.0, 2.0), bias=0.0, **options):
    model = Linear(weights, bias)
    return registry.register(name, model, signature=options.pop("signature", None) or model.signature(), **options)


def targets(registry, alias="champion"):
    return [move.target for move in registry.alias_history("churn", alias).items]


# --- registering ---


def test_register_keeps_everything_that_is_known_about_a_version(registry):
    register(registry, "base")
    version = registry.register(
        "churn",
        Linear((1.0, 2.0)),
        preprocessor=Linear((1.0, 1.0), 1.0),
        example=ROWS,
        evaluation={"auc": 0.75},
        tags={"team": "core"},
        parameters={"depth": 3, "grid": [1, None]},
        dataset="rows of May",
        code="commit 1",
        description="who leaves",
        parents=["models:/base/1"],
        principal="ann",
    )
    card = registry.card(version.ref)
    assert (version.ref, version.created_by, version.flavor, version.stage) == (
        "churn:1.0.0",
        "ann",
        "toy",
        "registered",
    )
    assert (card.evaluation, card.tags, card.parameters) == (
        {"auc": 0.75},
        {"team": "core"},
        {"depth": 3, "grid": [1, None]},
    )
    assert (card.dataset, card.code, card.description) == ("rows of May", "commit 1", "who leaves")
    assert card.parents == ("base:1.0.0",)
    assert registry.manifest("churn:1.0.0").preprocessor == "toy"
    pipeline = registry.load("churn:1.0.0")
    assert pipeline.predict({"x": ROWS}, frozenset({"predict"}))["predict"].tolist() == [8.0, 14.0]
    assert registry.model("churn").description == "who leaves"


def test_register_proposes_versions_and_never_repeats_itself(registry):
    assert register(registry).version == "1.0.0"
    assert register(registry).version == "1.0.0"
    assert register(registry, bias=1.0).version == "1.0.1"
    assert register(registry, weights=(1.0, 2.0, 3.0)).version == "2.0.0"
    assert register(registry, weights=(1.0, 2.0, 3.0)).version == "2.0.0"
    assert register(registry, bias=1.0, version="v1.0.1").version == "1.0.1"
    assert registry.model("churn").version_count == 3


def test_a_breaking_signature_before_one_needs_only_a_minor_version(registry):
    register(registry, version="0.1.0")
    with pytest.raises(BreakingChangeError) as caught:
        register(registry, weights=(1.0,), version="0.1.1")
    assert caught.value.facts["proposed"] == "churn:0.2.0"
    assert register(registry, weights=(1.0,)).version == "0.2.0"


@pytest.mark.parametrize(
    ("version", "fits"), [("1.0.1", False), ("1.9.0", False), ("2.0.0", True), ("2.0.0-rc.1", True)]
)
def test_a_version_may_not_understate_a_breaking_signature(registry, version, fits):
    register(registry)
    if fits:
        assert register(registry, weights=(1.0,), version=version).version == version
        return
    with pytest.raises(BreakingChangeError) as caught:
        register(registry, weights=(1.0,), version=version)
    assert "input `x1` is gone" in str(caught.value)
    assert caught.value.hint == "register it as `churn:2.0.0`"
    assert registry.model("churn").version_count == 1


def test_an_old_line_is_compared_with_itself(registry):
    register(registry)
    register(registry, weights=(1.0,), version="2.0.0")
    assert register(registry, bias=2.0, version="1.0.1").version == "1.0.1"
    with pytest.raises(BreakingChangeError) as caught:
        register(registry, weights=(1.0, 2.0, 3.0), version="1.1.0")
    assert caught.value.facts["proposed"] == "churn:3.0.0"


def test_other_content_under_the_same_semver_is_a_conflict_with_a_way_out(registry):
    register(registry)
    register(registry, bias=1.0)
    with pytest.raises(VersionConflictError) as caught:
        register(registry, bias=5.0, version="1.0.0")
    assert caught.value.hint == "a version never changes; register it as `churn:1.0.2`"


def test_propose_version_follows_the_highest_release(registry):
    assert str(registry.propose_version("churn", columns("a"))) == "1.0.0"
    register(registry, weights=(1.0,), signature=columns("a"), version="1.4.0")
    register(registry, weights=(1.0, 1.0), signature=columns("a", "b"), version="2.0.0-rc.1")
    assert str(registry.propose_version("churn", columns("a"))) == "1.4.1"
    assert str(registry.propose_version("churn", columns("a", "b"))) == "2.0.0"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "../etc"}, InvalidNameError),
        ({"name": "Churn"}, InvalidNameError),
        ({"version": "1.0"}, InvalidSemverError),
        ({"version": "1.0.0+build"}, InvalidSemverError),
        ({"parents": ["churn:9.9.9"]}, ModelNotFoundError),
        ({"principal": "x" * 129}, MalformedRequestError),
        ({"principal": "nul\0"}, MalformedRequestError),
    ],
)
def test_register_refuses_what_it_cannot_use(registry, options, error):
    with pytest.raises(error):
        register(registry, **options)
    assert registry.list_models().items == ()


def test_a_model_file_is_registered_as_it_is(registry, tmp_path):
    path = tmp_path / "some.toy"
    path.write_bytes(b'{"weights":[2.0]}')
    version = registry.register("churn", str(path), signature=columns("a"), version="1.0.0")
    assert version.flavor == "toy"
    entry, stream = registry.open_file("churn:1.0.0", "model.toy")
    with stream:
        assert stream.read() == path.read_bytes()
    assert entry.size == path.stat().st_size


def test_the_first_stage_of_the_settings_is_where_versions_start(backend, registry):
    registry = Registry(backend, RegistrySettings(stages={"fresh": ("done",), "done": ()}))
    assert register(registry).stage == "fresh"
    assert registry.transition("churn:1.0.0", "done").stage == "done"
    with pytest.raises(IllegalTransitionError) as caught:
        registry.transition("churn:1.0.0", "fresh")
    assert caught.value.hint == "legal from `done`: nothing"


# --- remote publishing ---


def test_publishing_a_manifest_twice_gives_the_same_version(registry):
    manifest, contents = toy_manifest("churn", "1.0.0", Linear((1.0,)))
    upload(registry, contents)
    version, created = registry.publish(manifest.encode(), principal="ann")
    assert created
    assert registry.publish(manifest.encode(), principal="eve") == (version, False)
    assert version.created_by == "ann"


def test_an_uploaded_blob_is_protected_until_it_is_released(registry):
    late = registry.store_blob([b"digest known afterwards"], None, "upload")
    early = registry.store_blob([b"digest known before"], sha256(b"digest known before"), "upload")
    assert registry.backend.collect_garbage(grace_seconds=0) == (0, 0)
    registry.release("upload")
    assert registry.backend.collect_garbage(grace_seconds=0) == (2, late.size + early.size)


def test_an_upload_is_bounded_and_checked(backend):
    registry = Registry(backend, RegistrySettings(max_blob_bytes=10))
    with pytest.raises(BodyTooLargeError):
        registry.store_blob([b"x" * 6, b"x" * 6], None, "upload")
    with pytest.raises(CorruptBlobError):
        registry.store_blob([b"x"], "0" * 64, "upload")
    assert list(backend.blobs.list()) == []


# --- aliases ---


def test_an_alias_moves_to_any_spelling_of_a_version(registry):
    for bias in range(3):
        register(registry, bias=float(bias))
    for target in ("1.0.0", "v1.0.1", "churn:1.0.2", "models:/churn/1", ModelRef("churn", version="1.0.1")):
        registry.move_alias("churn", "champion", target)
    registry.move_alias("churn", "challenger", "churn@champion", reason="why", principal="ann")
    assert targets(registry) == ["1.0.1", "1.0.0", "1.0.2", "1.0.1", "1.0.0"]
    assert registry.resolve("churn@challenger").version == "1.0.1"
    newest = registry.history("churn").items[0]
    assert (newest.reason, newest.moved_by) == ("why", "ann")


def test_an_alias_does_not_leave_its_model(registry):
    register(registry)
    register(registry, "other")
    with pytest.raises(ConflictError, match="not a version of `churn`"):
        registry.move_alias("churn", "champion", "other:1.0.0")
    with pytest.raises(VersionNotFoundError):
        registry.move_alias("churn", "champion", "3.0.0")
    with pytest.raises(ModelNotFoundError):
        registry.move_alias("chum", "champion", None)
    with pytest.raises(InvalidNameError):
        registry.move_alias("churn", "../x", "1.0.0")


def test_an_alias_moves_only_from_where_the_caller_saw_it(registry):
    register(registry)
    register(registry, bias=1.0)
    registry.move_alias("churn", "champion", "1.0.0")
    with pytest.raises(AliasMovedError):
        registry.move_alias("churn", "champion", "1.0.1", expected="v1.0.1")
    registry.move_alias("churn", "champion", "1.0.1", expected="v1.0.0")


@pytest.mark.parametrize("reason", ["x" * 2001, "nul \0", "half \ud800"])
def test_a_reason_is_a_text_that_every_database_can_keep(registry, reason):
    register(registry)
    for change in (
        lambda: registry.move_alias("churn", "champion", "1.0.0", reason=reason),
        lambda: registry.transition("churn:1.0.0", "staging", reason=reason),
        lambda: registry.deprecate("churn:1.0.0", reason=reason),
        lambda: registry.delete("churn:1.0.0", reason=reason),
    ):
        with pytest.raises(MalformedRequestError):
            change()


# --- going back ---


def test_rollback_goes_back_step_by_step_and_forward_again_by_moving(registry):
    for bias, version in enumerate(("1.0.0", "1.0.1", "1.0.2")):
        register(registry, bias=float(bias))
        registry.move_alias("churn", "champion", version)
    assert registry.previous_version("churn").version == "1.0.1"
    move = registry.rollback("churn", principal="ann")
    assert (move.source, move.target, move.reason, move.moved_by) == ("1.0.2", "1.0.1", "rollback", "ann")
    assert registry.rollback("churn", reason="worse").target == "1.0.0"
    with pytest.raises(NoPreviousVersionError):
        registry.rollback("churn")
    registry.move_alias("churn", "champion", "1.0.2")
    assert registry.rollback("churn").target == "1.0.0"


def test_rollback_passes_over_versions_that_are_gone_or_rejected(registry):
    for bias, version in enumerate(("1.0.0", "1.0.1", "1.0.2", "1.0.3")):
        register(registry, bias=float(bias))
        registry.move_alias("churn", "champion", version)
    registry.transition("churn:1.0.2", "rejected")
    registry.delete("churn:1.0.1")
    assert registry.rollback("churn").target == "1.0.0"
    with pytest.raises(NoPreviousVersionError):
        registry.rollback("churn")


def test_rollback_needs_an_alias(registry):
    with pytest.raises(ModelNotFoundError):
        registry.rollback("churn")
    register(registry)
    with pytest.raises(NotFoundError, match="has no alias `champion`"):
        registry.rollback("churn")
    registry.move_alias("churn", "champion", "1.0.0")
    with pytest.raises(NoPreviousVersionError):
        registry.previous_version("churn")


# --- stages ---


def test_transitions_follow_the_settings(registry):
    register(registry)
    for stage in ("validating", "staging", "production", "archived"):
        assert registry.transition("churn:1.0.0", stage, reason="next").stage == stage
    assert registry.transition("churn:1.0.0", "archived").stage == "archived"
    with pytest.raises(IllegalTransitionError) as caught:
        registry.transition("churn:1.0.0", "validating")
    assert caught.value.hint == "legal from `archived`: registered, staging, production"
    with pytest.raises(IllegalTransitionError):
        registry.transition("churn:1.0.0", "no such stage")
    assert len(registry.backend.stage_history("churn").items) == 5


def test_a_stage_that_the_settings_dropped_is_no_dead_end(backend, registry):
    register(registry)
    registry.transition("churn:1.0.0", "staging")
    other = Registry(backend, RegistrySettings(stages={"fresh": ("done",), "done": ()}))
    assert other.transition("churn:1.0.0", "done").stage == "done"


def test_a_rejected_version_is_never_behind_an_alias(registry):
    register(registry)
    registry.move_alias("churn", "champion", "1.0.0")
    with pytest.raises(StillReferencedError):
        registry.transition("churn:1.0.0", "rejected")
    registry.move_alias("churn", "champion", None)
    registry.transition("churn:1.0.0", "rejected")
    with pytest.raises(RejectedVersionError) as caught:
        registry.move_alias("churn", "champion", "1.0.0")
    assert "transition churn:1.0.0" in caught.value.hint


# --- the rest ---


def test_deprecate_and_delete(registry):
    register(registry)
    assert registry.deprecate("churn:1.0.0", reason="old").deprecation_reason == "old"
    assert registry.delete("churn:1.0.0", principal="ann").ref == "churn:1.0.0"
    with pytest.raises(VersionNotFoundError):
        registry.resolve("churn:1.0.0")


def test_lists_check_what_they_are_asked(registry):
    register(registry)
    assert registry.list_versions("churn", stage="registered", prefix="1.").items[0].version == "1.0.0"
    assert registry.list_models(prefix="ch").items[0].name == "churn"
    with pytest.raises(InvalidNameError):
        registry.list_models(prefix="%")
    with pytest.raises(InvalidNameError):
        registry.list_versions("churn", stage="\0")
    with pytest.raises(InvalidSemverError):
        registry.list_versions("churn", prefix="x")
    with pytest.raises(InvalidPageError):
        registry.history("churn", limit=0)
    for ask in (registry.list_versions, registry.history, lambda name: registry.alias_history(name, "champion")):
        with pytest.raises(ModelNotFoundError):
            ask("chum")


def test_open_file_gives_every_file_and_the_manifest_and_nothing_else(registry):
    register(registry)
    manifest = registry.manifest("churn:1.0.0")
    for path in [entry.path for entry in manifest.files] + ["manifest.json"]:
        entry, stream = registry.open_file("churn:1.0.0", path)
        with stream:
            assert len(stream.read()) == entry.size
    for path in ("../model.toy", "/etc/passwd", "", "model.toy\0"):
        with pytest.raises(NotFoundError):
            registry.open_file("churn:1.0.0", path)


def test_compatibility_is_seen_from_the_first(registry):
    register(registry, weights=(1.0,))
    register(registry, weights=(1.0, 2.0))
    diff = registry.check_compatibility("churn:1.0.0", "churn:2.0.0")
    assert diff.required == "major"
    assert diff.changes == ("input `x1` is new and required",)


def test_verify_reports_what_it_checked(registry):
    registry.register("churn", Linear((1.0, 2.0)), example=ROWS)
    report = registry.verify("churn:1.0.0")
    assert (report.ref, report.files, report.golden_rows, report.golden_difference) == ("churn:1.0.0", 3, 2, 0.0)
    register(registry, "plain")
    assert registry.verify("plain:1.0.0").golden_difference is None


def test_garbage_waits_for_the_grace_period_of_the_settings(registry):
    registry.backend.blobs.put([b"loose"], limit_bytes=10)
    assert registry.collect_garbage(dry_run=True) == (0, 0)
    assert registry.collect_garbage() == (0, 0)
