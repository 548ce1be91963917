"""The specification of a registry backend. Subclass `RegistryContract` and give it a fixture `backend` that is empty.

Example:
    >>> class TestMine(RegistryContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def backend(self):
    ...         return MyBackend()
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.identity import Semver
from crossfade.errors import (
    AliasMovedError,
    AliasNotFoundError,
    ConflictError,
    CorruptBlobError,
    InvalidPageError,
    ModelNotFoundError,
    RejectedVersionError,
    StillReferencedError,
    VersionConflictError,
    VersionNotFoundError,
)
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Card, Page, Version
from crossfade.testing.drafts import STAGE, draft, leased, move, publish, store, walk


class RegistryContract:
    """What every backend must do."""

    @pytest.fixture
    def backend(self) -> RegistryBackend:
        """Return an empty backend."""
        raise NotImplementedError

    # --- publishing ---

    def test_a_published_version_is_found_whole(self, backend: RegistryBackend) -> None:
        """Nothing is lost between publishing and looking."""
        card = Card(description="who leaves", evaluation={"auc": 0.75}, tags={"team": "core"}, source="models:/x/9")
        version = publish(backend, "churn", "1.0.0", card=card)
        assert version == backend.find_version("churn", "1.0.0")
        assert (version.ref, version.number, version.stage, version.created_by) == ("churn:1.0.0", 1, STAGE, "ann")
        assert (version.evaluation, version.tags, version.source) == ({"auc": 0.75}, {"team": "core"}, "models:/x/9")
        assert version.size_bytes == sum(entry.size for entry in draft("churn", "1.0.0", card=card).files)
        assert version.created_at.utcoffset() is not None
        assert backend.card(version) == card
        assert backend.manifest(version) == draft("churn", "1.0.0", card=card)
        assert version.manifest_digest == backend.manifest(version).digest

    def test_publishing_the_same_manifest_again_returns_the_existing_version(self, backend: RegistryBackend) -> None:
        """Who lost the reply may simply try again."""
        first = publish(backend, "churn", "1.0.0")
        again = backend.publish(draft("churn", "1.0.0"), Card(), stage="staging", principal="eve")
        assert again == (first, False)
        assert len(backend.stage_history("churn").items) == 1

    def test_a_semver_is_never_given_to_other_content(self, backend: RegistryBackend) -> None:
        """A version never changes."""
        publish(backend, "churn", "1.4.9")
        with pytest.raises(VersionConflictError) as caught:
            publish(backend, "churn", "1.4.9", b"other")
        assert caught.value.facts["proposed"] == "churn:1.4.10"
        assert backend.find_version("churn", "1.4.9") == publish(backend, "churn", "1.4.9")

    @pytest.mark.parametrize("lost", ["model.bin", "card.json", "manifest"])
    def test_a_version_with_a_missing_blob_is_not_published(self, backend: RegistryBackend, lost: str) -> None:
        """Bytes come first; a version is complete or absent."""
        manifest = draft("churn", "1.0.0")
        store(backend, manifest)
        digests = {entry.path: entry.digest for entry in manifest.files} | {"manifest": manifest.digest}
        assert backend.blobs.delete(digests[lost])
        with leased(backend, manifest):
            with pytest.raises(CorruptBlobError, match="missing"):
                backend.publish(manifest, Card(), stage=STAGE, principal="ann")
            assert backend.find_model("churn") is None
            store(backend, manifest)
            assert backend.publish(manifest, Card(), stage=STAGE, principal="ann")[1]

    def test_a_version_whose_blobs_nobody_protects_is_not_published(self, backend: RegistryBackend) -> None:
        """They could be collected before it is visible. Those of other versions are protected by these."""
        manifest = draft("churn", "1.0.0")
        store(backend, manifest)
        with pytest.raises(CorruptBlobError, match="not protected"):
            backend.publish(manifest, Card(), stage=STAGE, principal="ann")
        assert backend.find_model("churn") is None
        publish(backend, "other", "1.0.0")
        backend.lease_blobs([manifest.digest], "only-the-manifest")
        assert backend.publish(manifest, Card(), stage=STAGE, principal="ann")[1]

    def test_concurrent_publications_get_numbers_without_gaps(self, backend: RegistryBackend) -> None:
        """Each writer decides on what the one before it left."""
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: publish(backend, "churn", f"1.0.{i}", b"%d" % i), range(24)))
        assert sorted(version.number for version in found) == list(range(1, 25))

    def test_of_two_writers_of_one_semver_one_wins(self, backend: RegistryBackend) -> None:
        """And everybody sees the same winner."""

        def attempt(content: bytes) -> object:
            try:
                return publish(backend, "churn", "1.0.0", content).manifest_digest
            except VersionConflictError:
                return None

        with ThreadPoolExecutor(8) as pool:
            won = {digest for digest in pool.map(attempt, [b"a", b"b"] * 8) if digest}
        winner = backend.find_version("churn", "1.0.0")
        assert winner is not None
        assert won == {winner.manifest_digest}

    # --- finding ---

    def test_what_is_unknown_is_none_or_not_found(self, backend: RegistryBackend) -> None:
        """Finding answers None; what needs a model says that there is none."""
        assert backend.find_model("churn") is None
        assert backend.find_version("churn", "1.0.0") is None
        assert backend.find_alias("churn", "champion") is None
        assert backend.find_in_stage("churn", STAGE) is None
        assert backend.find_numbered("churn", 1) is None
        assert backend.find_versions("churn", ["1.0.0"]) == {}
        assert backend.highest_version("churn") is None
        assert backend.list_models().items == ()
        for ask in (backend.list_versions, backend.alias_history, backend.stage_history, backend.history):
            with pytest.raises(ModelNotFoundError):
                ask("churn")
        with pytest.raises(ModelNotFoundError):
            move(backend, "1.0.0")
        publish(backend, "churn", "1.0.0")
        with pytest.raises(VersionNotFoundError):
            move(backend, "1.0.1")

    def test_precedence_decides_which_release_is_highest(self, backend: RegistryBackend) -> None:
        """Numbers are compared as numbers, and prereleases are no releases."""
        for version in ("1.9.0", "1.10.0", "2.0.0-rc.1", "1.2.0"):
            publish(backend, "churn", version)
        for below, expected in ((None, "1.10.0"), ("1.10.0", "1.9.0"), ("2.0.0-rc.1", "1.10.0"), ("1.5.0", "1.2.0")):
            found = backend.highest_version("churn", below=Semver.parse(below) if below else None)
            assert found is not None
            assert found.version == expected
        assert backend.highest_version("churn", below=Semver(1, 2, 0)) is None

    def test_a_foreign_number_goes_before_the_own(self, backend: RegistryBackend) -> None:
        """`models:/churn/3` keeps its meaning after an import."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "churn", "1.1.0", card=Card(source="models:/churn/1"))
        publish(backend, "churn", "1.2.0", card=Card(source="models:/other/3"))
        expected = {1: "1.1.0", 2: "1.1.0", 3: "1.2.0", 4: None}
        found = {number: backend.find_numbered("churn", number) for number in expected}
        assert {number: version and version.version for number, version in found.items()} == expected

    def test_a_model_knows_its_versions_and_aliases(self, backend: RegistryBackend) -> None:
        """The newest description is the model's; `latest` goes by registration."""
        publish(backend, "churn", "1.0.0", card=Card(description="first"))
        publish(backend, "churn", "0.9.0", card=Card(description="second"))
        publish(backend, "churn", "0.9.1")
        move(backend, "1.0.0")
        model = backend.find_model("churn")
        assert model is not None
        assert (model.version_count, model.latest_version, model.aliases) == (3, "0.9.1", {"champion": "1.0.0"})
        assert (model.description, model.created_by, model.unloaded) == ("second", "ann", False)
        backend.delete_version("churn", "0.9.1", principal="bob", reason="")
        again = backend.find_model("churn")
        assert again is not None
        assert (again.version_count, again.latest_version) == (2, "0.9.0")

    # --- aliases ---

    def test_an_alias_moves_and_remembers(self, backend: RegistryBackend) -> None:
        """Its history is complete, newest first."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "churn", "1.1.0")
        for target in ("1.0.0", "1.1.0", None):
            move(backend, target)
        moves = backend.alias_history("churn", "champion").items
        assert [(m.source, m.target) for m in moves] == [("1.1.0", None), ("1.0.0", "1.1.0"), (None, "1.0.0")]
        assert {(m.moved_by, m.reason, m.alias, m.model) for m in moves} == {("bob", "because", "champion", "churn")}
        assert backend.find_alias("churn", "champion") is None

    def test_moving_an_alias_to_where_it_is_changes_nothing(self, backend: RegistryBackend) -> None:
        """Not even the history."""
        publish(backend, "churn", "1.0.0")
        move(backend, "1.0.0")
        again = backend.move_alias("churn", "champion", "1.0.0", expected=None, principal="eve", reason="")
        assert (again,) == backend.alias_history("churn").items
        assert again.moved_by == "bob"

    def test_versions_list_the_aliases_that_point_to_them(self, backend: RegistryBackend) -> None:
        """In alphabetical order."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "churn", "1.1.0")
        for alias in ("challenger", "champion"):
            move(backend, "1.0.0", alias=alias)
        found = backend.list_versions("churn").items
        assert [version.aliases for version in found] == [(), ("challenger", "champion")]
        assert backend.find_alias("churn", "champion") == found[1]

    def test_an_alias_moves_only_from_where_it_is_expected(self, backend: RegistryBackend) -> None:
        """Two people who move it at once notice each other."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "churn", "1.1.0")
        with pytest.raises(AliasMovedError, match="nothing"):
            move(backend, "1.0.0", expected="1.1.0")
        move(backend, "1.0.0")
        with pytest.raises(AliasMovedError):
            move(backend, None, expected="1.1.0")
        move(backend, "1.1.0", expected="1.0.0")
        with pytest.raises(AliasNotFoundError):
            move(backend, None, alias="other")

    def test_no_alias_points_to_a_rejected_version(self, backend: RegistryBackend) -> None:
        """Whichever of the two comes first."""
        publish(backend, "churn", "1.0.0")
        move(backend, "1.0.0")
        with pytest.raises(StillReferencedError, match="champion"):
            self._transition(backend, STAGE, "rejected")
        move(backend, None)
        self._transition(backend, STAGE, "rejected")
        with pytest.raises(RejectedVersionError):
            move(backend, "1.0.0")

    # --- stages, deprecation, deletion ---

    @staticmethod
    def _transition(backend: RegistryBackend, source: str, target: str, version: str = "1.0.0") -> Version:
        return backend.change_stage("churn", version, target, source=source, principal="bob", reason="ready")

    def test_a_stage_changes_and_remembers(self, backend: RegistryBackend) -> None:
        """Its history is complete; the newest version in a stage is the one registered last."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "churn", "1.1.0")
        for version in ("1.1.0", "1.0.0"):
            assert self._transition(backend, STAGE, "staging", version).stage == "staging"
        found = backend.find_in_stage("churn", "staging")
        assert found is not None
        assert found.version == "1.1.0"
        changes = backend.stage_history("churn", "1.0.0").items
        assert [(c.source, c.target, c.changed_by) for c in changes] == [
            (STAGE, "staging", "bob"),
            (None, STAGE, "ann"),
        ]
        assert len(backend.stage_history("churn").items) == 4

    def test_a_stage_changes_only_from_where_it_is_expected(self, backend: RegistryBackend) -> None:
        """Two people who change it at once notice each other."""
        publish(backend, "churn", "1.0.0")
        with pytest.raises(ConflictError, match="no longer"):
            self._transition(backend, "staging", "production")

    def test_a_deprecated_version_stays(self, backend: RegistryBackend) -> None:
        """Deprecation is advice."""
        publish(backend, "churn", "1.0.0")
        version = backend.deprecate("churn", "1.0.0", principal="bob", reason="old")
        assert version.deprecated_at is not None
        assert version.deprecation_reason == "old"
        assert backend.find_version("churn", "1.0.0") == version

    def test_several_versions_are_found_in_one_go(self, backend: RegistryBackend) -> None:
        """Whoever is unknown is left out, however many are asked for."""
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            publish(backend, "churn", version)
        backend.move_alias("churn", "champion", "1.1.0", expected=None, principal="bob", reason="")
        publish(backend, "other", "1.3.0")
        wanted = ["1.2.0", "1.1.0", "1.3.0", *(f"9.0.{number}" for number in range(3000))]
        found = backend.find_versions("churn", wanted)
        assert found == {name: backend.find_version("churn", name) for name in ("1.1.0", "1.2.0")}
        assert found["1.1.0"].aliases == ("champion",)
        assert backend.find_versions("churn", []) == {}

    def test_a_deleted_version_is_gone_and_others_stay(self, backend: RegistryBackend) -> None:
        """Also when they share blobs."""
        publish(backend, "churn", "1.0.0")
        kept = publish(backend, "churn", "1.1.0")
        backend.delete_version("churn", "1.0.0", principal="bob", reason="")
        assert backend.find_version("churn", "1.0.0") is None
        assert backend.list_versions("churn").items == (kept,)
        assert backend.manifest(kept).version == "1.1.0"
        with pytest.raises(VersionNotFoundError):
            backend.delete_version("churn", "1.0.0", principal="bob", reason="")

    def test_what_is_referenced_cannot_be_deleted(self, backend: RegistryBackend) -> None:
        """The error names what refers to it."""
        publish(backend, "churn", "1.0.0")
        publish(backend, "tuned", "1.0.0", card=Card(parents=("churn:1.0.0",)))
        move(backend, "1.0.0")
        with pytest.raises(StillReferencedError, match=r"alias `champion`, its child `tuned:1\.0\.0`"):
            backend.delete_version("churn", "1.0.0", principal="bob", reason="")
        move(backend, None)
        backend.delete_version("tuned", "1.0.0", principal="bob", reason="")
        backend.delete_version("churn", "1.0.0", principal="bob", reason="")

    # --- lists ---

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_pages_hold_everything_once_in_order(self, backend: RegistryBackend, limit: int) -> None:
        """Whatever the size of the pages."""
        for number in range(5):
            publish(backend, f"model_{number}", "1.0.0")
            publish(backend, "churn", f"1.{number}.0")
            move(backend, f"1.{number}.0")
        versions = list(walk(lambda c: backend.list_versions("churn", cursor=c, limit=limit)))
        assert [version.number for version in versions] == [5, 4, 3, 2, 1]
        models = list(walk(lambda c: backend.list_models(cursor=c, limit=limit)))
        assert [model.name for model in models] == ["churn", *(f"model_{number}" for number in range(5))]
        moves = list(walk(lambda c: backend.alias_history("churn", cursor=c, limit=limit)))
        assert [entry.target for entry in moves] == [f"1.{number}.0" for number in (4, 3, 2, 1, 0)]
        changes = list(walk(lambda c: backend.stage_history("churn", cursor=c, limit=limit)))
        assert [entry.version for entry in changes] == [entry.target for entry in moves]
        both = list(walk(lambda c: backend.history("churn", cursor=c, limit=limit)))
        assert both == sorted([*moves, *changes], key=lambda entry: -entry.seq)  # type: ignore[attr-defined]

    def test_lists_select(self, backend: RegistryBackend) -> None:
        """`2.` does not mean `20.`, and `_` stands for itself."""
        for version in ("1.2.0", "2.1.0", "2.1.1", "2.10.0", "20.0.0"):
            publish(backend, "churn", version)
        publish(backend, "chair_x", "1.0.0")
        publish(backend, "chairyx", "1.0.0")
        self._transition(backend, STAGE, "staging", "2.1.0")
        for prefix, expected in (("2.", ["2.10.0", "2.1.1", "2.1.0"]), ("2.1.", ["2.1.1", "2.1.0"]), ("9.", [])):
            assert [v.version for v in backend.list_versions("churn", prefix=prefix).items] == expected
        assert [v.version for v in backend.list_versions("churn", stage="staging").items] == ["2.1.0"]
        assert [v.version for v in backend.list_versions("churn", stage="staging", prefix="1.").items] == []
        assert [m.name for m in backend.list_models(prefix="chair_").items] == ["chair_x"]

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_a_limit_has_bounds(self, backend: RegistryBackend, limit: int) -> None:
        """1 to 1000."""
        publish(backend, "churn", "1.0.0")
        for ask in self._lists(backend):
            with pytest.raises(InvalidPageError):
                ask(limit=limit)

    @pytest.mark.parametrize("cursor", ["x", "!", "\ud800", "dmVyc2lvbnM6", "dmVyc2lvbnM6LTE=", "AAAA", "=" * 500])
    def test_a_made_up_cursor_is_refused(self, backend: RegistryBackend, cursor: str) -> None:
        """Damaged, empty, or of another list."""
        publish(backend, "churn", "1.0.0")
        for ask in self._lists(backend):
            with pytest.raises(InvalidPageError):
                ask(cursor=cursor)

    @staticmethod
    def _lists(backend: RegistryBackend) -> list[Callable[..., Page[Any]]]:
        return [
            backend.list_models,
            lambda **page: backend.list_versions("churn", **page),
            lambda **page: backend.alias_history("churn", **page),
            lambda **page: backend.stage_history("churn", **page),
            lambda **page: backend.history("churn", **page),
        ]

    # --- content and garbage ---

    def test_lost_or_damaged_records_are_refused_and_named(self, backend: RegistryBackend) -> None:
        """The error says which file of which version."""
        version = publish(backend, "churn", "1.0.0")
        backend.blobs.delete(version.manifest_digest)
        with pytest.raises(CorruptBlobError, match=r"manifest\.json of `churn:1\.0\.0`.* missing"):
            backend.manifest(version)
        card = backend.find_version("churn", "1.0.0")
        assert card is not None
        backend.blobs.delete(sha256(canonical_json(Card())))
        with pytest.raises(CorruptBlobError, match=r"card\.json"):
            backend.card(card)

    def test_garbage_is_what_nothing_refers_to(self, backend: RegistryBackend) -> None:
        """A dry run tells the same and deletes nothing."""
        kept = publish(backend, "churn", "1.0.0", b"kept")
        publish(backend, "churn", "1.1.0", b"deleted")
        backend.delete_version("churn", "1.1.0", principal="ann", reason="")
        leased = backend.blobs.put([b"leased"], limit_bytes=10)
        loose = backend.blobs.put([b"loose"], limit_bytes=10)
        backend.lease_blobs([leased.digest], "upload-1")
        before = len(list(backend.blobs.list()))
        would = backend.collect_garbage(grace_seconds=0, dry_run=True)
        assert len(list(backend.blobs.list())) == before
        assert backend.collect_garbage(grace_seconds=0) == would
        assert would[0] == 3  # its model file, its manifest, and the loose one
        assert backend.blobs.find(loose.digest) is None
        assert backend.blobs.find(leased.digest) is not None
        assert backend.blobs.read(backend.manifest(kept).files_of("model")[0].digest) == b"kept"
        backend.release_blobs("upload-1")
        assert backend.collect_garbage(grace_seconds=0) == (1, leased.size)
        assert backend.collect_garbage(grace_seconds=0) == (0, 0)

    def test_young_garbage_is_spared(self, backend: RegistryBackend) -> None:
        """Somebody may be about to publish it."""
        blob = backend.blobs.put([b"young"], limit_bytes=10)
        for _ in range(2):
            assert backend.collect_garbage(grace_seconds=3600) == (0, 0)
        assert backend.blobs.find(blob.digest) is not None

    def test_records_survive_being_sent(self, backend: RegistryBackend) -> None:
        """Exactly, floats included."""
        version = publish(backend, "churn", "1.0.0", card=Card(evaluation={"auc": 0.1 + 0.2}))
        assert msgspec.json.decode(msgspec.json.encode(version), type=Version) == version
