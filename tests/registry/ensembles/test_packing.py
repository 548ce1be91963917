"""Registering ensembles: pinned, complete, tried out, and safe from what happens to their members."""

import threading

import numpy as np
import pytest

from crossfade.errors import (
    AliasNotFoundError,
    BreakingChangeError,
    CodeNotAllowedError,
    CorruptBlobError,
    InvalidEnsembleError,
    InvalidNameError,
    InvalidRefError,
    ModelNotFoundError,
    PredictionError,
    StillReferencedError,
    VersionConflictError,
    VersionNotFoundError,
)
from crossfade.registry import registration
from crossfade.registry.ensembles.document import EnsembleDocument, EnsembleSpec, Member
from crossfade.registry.registry import Registry
from crossfade.registry.versions import Card
from crossfade.settings import RegistrySettings
from tests.registry import toy
from tests.registry.toy import Linear, columns

ROWS = {"x0": np.array([1.0, 2.0, 3.0])}


def add(registry, name, factor, *, version=None, names=("x0",), example=True, **options):
    rows = {each: np.arange(1.0, 4.0) for each in names} if example else None
    model = Linear((float(factor),) * len(names), **options)
    return registry.register(name, model, version=version, signature=columns(*names), example=rows)


@pytest.fixture
def registry(backend):
    toy.install()
    registry = Registry(backend)
    add(registry, "a", 1)
    add(registry, "b", 3)
    return registry


def average(*members):
    return EnsembleSpec("average", tuple(m if isinstance(m, Member) else Member(m) for m in members))


def predicted(registry, ref, rows=ROWS):
    return registry.load(ref).predict(rows, frozenset({"predict"}))["predict"].tolist()


def test_an_ensemble_is_a_version_like_any_other(registry):
    version = registry.register_ensemble(
        "ab", average("a:1.0.0", "b:1.0.0"), card=Card(evaluation={"rmse": 0.5}, tags={"team": "risk"})
    )
    assert (version.ref, version.flavor, version.evaluation) == ("ab:1.0.0", "ensemble", {"rmse": 0.5})
    assert predicted(registry, "ab:1.0.0") == [2.0, 4.0, 6.0]
    assert registry.verify("ab:1.0.0").golden_rows == 3
    assert registry.card("ab:1.0.0").parents == ("a:1.0.0", "b:1.0.0")
    registry.move_alias("ab", "champion", "1.0.0")
    assert registry.resolve("ab").version == "1.0.0"


def test_doing_it_again_changes_nothing(registry):
    spec = average("a:1.0.0", Member("b:1.0.0", weight=0.1))
    first = registry.register_ensemble("ab", spec)
    assert registry.register_ensemble("ab", spec) == first
    assert registry.register_ensemble("ab", spec, version="1.0.0") == first
    with pytest.raises(VersionConflictError):
        registry.register_ensemble("ab", average("a:1.0.0"), version="1.0.0")


def test_an_alias_is_pinned_to_the_version_that_it_means_now(registry):
    registry.move_alias("a", "champion", "1.0.0")
    registry.register_ensemble("ab", average("a", "models:/b/1"))
    add(registry, "a", 100)
    registry.move_alias("a", "champion", "1.0.1")
    assert predicted(registry, "ab:1.0.0") == [2.0, 4.0, 6.0]
    _, stream = registry.open_file("ab:1.0.0", "ensemble.json")
    with stream:
        document = EnsembleDocument.decode(stream.read())
    assert [(part.ref, part.digest) for part in document.parts] == [
        (ref, registry.resolve(ref).manifest_digest) for ref in ("a:1.0.0", "b:1.0.0")
    ]
    later = registry.register_ensemble("ab", average("a", "b:1.0.0"))
    assert later.version == "1.0.1"
    assert predicted(registry, later.ref) == [51.5, 103.0, 154.5]


def test_nothing_is_stored_twice(registry, backend):
    before = {blob.digest for blob in backend.blobs.list()}
    registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))
    added = {blob.digest for blob in backend.blobs.list()} - before
    manifest = registry.manifest("ab:1.0.0")
    own = {entry.digest for entry in manifest.files if not entry.path.startswith("members/")}
    assert added == own | {manifest.digest}


@pytest.mark.parametrize(
    ("member", "error"),
    [
        ("nobody:1.0.0", ModelNotFoundError),
        ("a:9.0.0", VersionNotFoundError),
        ("a@challenger", AliasNotFoundError),
        ("A b", InvalidRefError),
    ],
)
def test_members_that_do_not_exist(registry, member, error):
    with pytest.raises(error):
        registry.register_ensemble("ab", average(member))
    with pytest.raises(InvalidNameError):
        registry.register_ensemble("A b", average("a:1.0.0"))


def test_one_version_under_two_names_is_a_duplicate(registry):
    registry.move_alias("a", "champion", "1.0.0")
    with pytest.raises(InvalidEnsembleError, match=r"`a:1.0.0` is a member twice"):
        registry.register_ensemble("ab", average("a", "a:1.0.0"))
    with pytest.raises(InvalidEnsembleError, match="stand in for itself"):
        registry.register_ensemble("ab", average(Member("a", on_failure="substitute", substitute="a:1.0.0")))


def test_members_that_do_not_fit(registry):
    add(registry, "wide", 1, names=("x0", "x1"))
    registry.register_ensemble("joined", average("a:1.0.0", "wide:1.0.0"))
    assert predicted(registry, "joined:1.0.0", ROWS | {"x1": np.ones(3)}) == [1.5, 2.5, 3.5]
    with pytest.raises(InvalidEnsembleError, match="gives no labels"):
        registry.register_ensemble("ab", EnsembleSpec("hard_vote", (Member("a:1.0.0"), Member("b:1.0.0"))))


def test_rejected_versions_are_no_members(registry):
    registry.transition("a:1.0.0", "rejected")
    with pytest.raises(InvalidEnsembleError, match=r"`a:1.0.0` is in the stage `rejected`"):
        registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))


def test_a_signature_that_breaks_callers_asks_for_a_major_version(registry):
    registry.register_ensemble("ab", average("a:1.0.0"))
    add(registry, "wide", 1, names=("x0", "x1"))
    with pytest.raises(BreakingChangeError):
        registry.register_ensemble("ab", average("wide:1.0.0"), version="1.0.1")
    assert registry.register_ensemble("ab", average("wide:1.0.0")).version == "2.0.0"


# --- of ensembles ---


def test_an_ensemble_of_ensembles_and_no_deeper(registry):
    registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))  # 2
    registry.register_ensemble("mix", EnsembleSpec("first", (Member("ab:1.0.0"), Member("a:1.0.0"))))
    registry.register_ensemble("both", average("ab:1.0.0", "b:1.0.0"))
    assert predicted(registry, "mix:1.0.0") == [2.0, 4.0, 6.0]
    assert predicted(registry, "both:1.0.0") == [2.5, 5.0, 7.5]
    with pytest.raises(InvalidEnsembleError, match="one level too deep"):
        registry.register_ensemble("deep", average("both:1.0.0"))


def test_an_ensemble_cannot_hold_itself(registry):
    with pytest.raises(VersionNotFoundError):
        registry.register_ensemble("a", average("a:1.0.0", "a:2.0.0"), version="2.0.0")
    first = registry.register_ensemble("a", average("a:1.0.0", "b:1.0.0"))
    assert first.ref == "a:1.0.1"  # of an older version of the same model it can
    second = registry.register_ensemble("a", average("a:1.0.1", "b:1.0.0"))
    assert predicted(registry, second.ref) == [2.5, 5.0, 7.5]
    with pytest.raises(InvalidEnsembleError, match="too deep"):
        registry.register_ensemble("a", average(second.ref))


# --- tried out ---


def test_golden_rows_come_from_the_members_that_have_them(registry):
    add(registry, "silent", 5, example=False)
    registry.register_ensemble("one", average("silent:1.0.0", "b:1.0.0"))
    assert registry.verify("one:1.0.0").golden_rows == 3
    registry.register_ensemble("none", average("silent:1.0.0"))
    assert registry.verify("none:1.0.0").golden_difference is None
    assert predicted(registry, "none:1.0.0") == [5.0, 10.0, 15.0]


def test_everybody_has_to_answer_at_registration_whatever_the_policy(registry):
    add(registry, "loud", 1e308, example=False)  # its answer overflows
    for spec in (
        average("a:1.0.0", Member("loud:1.0.0", on_failure="drop")),
        average(Member("a:1.0.0", on_failure="substitute", substitute="loud:1.0.0")),
        EnsembleSpec("first", (Member("a:1.0.0"), Member("loud:1.0.0"))),
    ):
        with pytest.raises(PredictionError, match=r"`loud:1.0.0`.*overflow"):
            registry.register_ensemble("ab", spec)
    assert not registry.list_models(prefix="ab").items


def test_code_is_for_servers_that_allow_it(registry, backend):
    open_minded = Registry(backend, RegistrySettings(allow_code_models=True))
    add(open_minded, "coded", 7, runs_code=True)
    spec = average("a:1.0.0", "coded:1.0.0")
    with pytest.raises(CodeNotAllowedError):
        registry.register_ensemble("ab", spec)
    open_minded.register_ensemble("ab", spec)
    assert predicted(open_minded, "ab:1.0.0") == [4.0, 8.0, 12.0]
    with pytest.raises(CodeNotAllowedError):
        registry.load("ab:1.0.0")


# --- later ---


def test_a_member_cannot_be_deleted_while_an_ensemble_is_made_of_it(registry):
    registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))
    with pytest.raises(StillReferencedError, match=r"ab:1.0.0"):
        registry.delete("a:1.0.0")
    registry.delete("ab:1.0.0")
    registry.delete("a:1.0.0")


def test_an_ensemble_outlives_its_members(registry, backend):
    """Even when the record of a member is gone, the ensemble holds every byte that it takes."""
    from sqlalchemy import delete

    from crossfade.storage.tables import version_parents

    registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))
    with backend.database.write() as connection:
        connection.execute(delete(version_parents))
    registry.delete("a:1.0.0")
    backend.collect_garbage(grace_seconds=0)
    backend.collect_garbage(grace_seconds=0)
    assert predicted(registry, "ab:1.0.0") == [2.0, 4.0, 6.0]
    assert registry.verify("ab:1.0.0").golden_rows == 3


def test_members_that_are_deleted_meanwhile_are_held_on_to(registry, backend):
    """Until it is registered, nothing but the lease of the registration protects what the members had."""
    draft = registry.pack_ensemble(average("a:1.0.0", "b:1.0.0"))
    registry.delete("a:1.0.0")
    manifest = draft.manifest("ab", "1.0.0")
    registration.register(backend, registry.settings, draft, manifest, principal="tests")
    backend.collect_garbage(grace_seconds=0)
    backend.collect_garbage(grace_seconds=0)
    assert predicted(registry, "ab:1.0.0") == [2.0, 4.0, 6.0]


def test_members_that_are_gone_altogether_are_missed(registry, backend):
    draft = registry.pack_ensemble(average("a:1.0.0", "b:1.0.0"))
    registry.delete("a:1.0.0")
    backend.collect_garbage(grace_seconds=0)
    backend.collect_garbage(grace_seconds=0)
    with pytest.raises(CorruptBlobError, match=r"members/0/.* is missing"):
        registration.register(backend, registry.settings, draft, draft.manifest("ab", "1.0.0"), principal="tests")
    assert not registry.list_models(prefix="ab").items


def test_a_damaged_member_is_named(registry, backend):
    registry.register_ensemble("ab", average("a:1.0.0", "b:1.0.0"))
    entry = next(e for e in registry.manifest("ab:1.0.0").files if e.path == "members/1/model.toy")
    next(backend.blobs.root.rglob(entry.digest)).unlink()
    with pytest.raises(CorruptBlobError, match=r"members/1/model.toy of `ab:1.0.0`"):
        registry.load("ab:1.0.0")
    with pytest.raises(CorruptBlobError, match=r"model.toy of `b:1.0.0`"):
        registry.register_ensemble("again", average("a:1.0.0", "b:1.0.0"))


def test_many_at_once_register_the_same_version(registry):
    spec = average("a:1.0.0", "b:1.0.0")
    found, barrier = [], threading.Barrier(4)

    def register():
        barrier.wait(10)
        found.append(registry.register_ensemble("ab", spec).manifest_digest)

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert registry.model("ab").version_count == 1
