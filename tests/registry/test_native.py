from __future__ import annotations

from contextlib import contextmanager

import pytest
from sqlalchemy import event, insert, select

from crossfade.core.clock import utc_now
from crossfade.core.identity import Semver
from crossfade.errors import StillReferencedError
from crossfade.registry import native_changes
from crossfade.registry.registry import Registry
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, candidates, changes
from crossfade.storage.times import to_text
from crossfade.testing.drafts import move, publish
from crossfade.testing.registry import RegistryContract
from tests.registry import toy
from tests.registry.support import open_backend


class TestNative(RegistryContract):
    @pytest.fixture
    def backend(self, tmp_path, database_url):
        backend = open_backend(tmp_path, database_url)
        yield backend
        backend.database.close()


@contextmanager
def statements(database):
    """Record the statements that are executed, with their parameters."""
    recorded = []

    def record(connection, cursor, statement, parameters, context, executemany):
        recorded.append((statement, parameters))

    event.listen(database._reader, "before_cursor_execute", record)
    yield recorded
    event.remove(database._reader, "before_cursor_execute", record)


@pytest.mark.parametrize(
    "ask",
    [
        lambda b: b.list_versions("churn"),
        lambda b: b.list_versions("churn", cursor=b.list_versions("churn", limit=1).next_cursor),
        lambda b: b.list_versions("churn", stage="registered"),
        lambda b: b.list_versions("churn", prefix="1.0."),
        lambda b: b.find_version("churn", "1.0.0"),
        lambda b: b.find_alias("churn", "champion"),
        lambda b: b.find_in_stage("churn", "registered"),
        lambda b: b.find_numbered("churn", 1),
        lambda b: b.highest_version("churn"),
        lambda b: b.highest_version("churn", below=Semver(1, 0, 1)),
        lambda b: b.history("churn"),
        lambda b: b.alias_history("churn", "champion"),
        lambda b: b.stage_history("churn", "1.0.0"),
        lambda b: b.list_models(),
        lambda b: b.card(b.find_version("churn", "1.0.0")),
    ],
)
def test_a_model_with_many_versions_is_read_along_indexes(backend, ask):
    for version in ("1.0.0", "1.0.1"):
        publish(backend, "churn", version)
        move(backend, version)
    with statements(backend.database) as recorded:
        ask(backend)
    selects = [(text, values) for text, values in recorded if text.startswith("SELECT")]
    assert selects
    with backend.database.read() as connection:
        for text, values in selects:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            assert not [step for step in plan if step.startswith("SCAN") and "models" not in step], (text, plan)
            assert not [step for step in plan if "TEMP B-TREE" in step], (text, plan)


def test_a_publication_is_one_transaction(backend, monkeypatch):
    """What fails at its very end leaves nothing: no model, no change, no audit entry."""
    publish(backend, "churn", "1.0.0")
    revision = backend.database.revision()

    def fail(*_):
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(native_changes, "unmark", fail)
    for name in ("churn", "fraud"):
        with pytest.raises(RuntimeError):
            publish(backend, name, "1.1.0")
    assert backend.database.revision() == revision
    assert backend.find_model("fraud") is None
    assert [version.version for version in backend.list_versions("churn").items] == ["1.0.0"]


def test_every_change_is_audited_with_who_and_what(backend):
    publish(backend, "churn", "1.0.0")
    move(backend, "1.0.0")
    move(backend, None)
    backend.change_stage("churn", "1.0.0", "staging", source="registered", principal="bob", reason="ok")
    backend.deprecate("churn", "1.0.0", principal="bob", reason="old")
    backend.delete_version("churn", "1.0.0", principal="bob", reason="gone")
    backend.collect_garbage(grace_seconds=0)
    with backend.database.read() as connection:
        assert verify_audit(connection) == backend.database.revision() == 7
        found = [(row.action, row.principal, row.subject) for row in connection.execute(select(audit))]
        kinds = [(row.kind, row.model) for row in connection.execute(select(changes))]
    assert found == [
        ("version.publish", "ann", "churn:1.0.0"),
        ("alias.move", "bob", "churn@champion"),
        ("alias.remove", "bob", "churn@champion"),
        ("version.transition", "bob", "churn:1.0.0"),
        ("version.deprecate", "bob", "churn:1.0.0"),
        ("version.delete", "bob", "churn:1.0.0"),
        ("blobs.collect", "garbage-collection", ""),
    ]
    assert kinds == [
        ("version", "churn"),
        ("alias", "churn"),
        ("alias", "churn"),
        ("stage", "churn"),
        ("version", "churn"),
        ("version", "churn"),
        ("blobs", ""),
    ]


def test_a_version_that_an_alias_is_about_to_move_to_cannot_be_deleted(backend):
    publish(backend, "churn", "1.0.0")
    with backend.database.write() as connection:
        connection.execute(insert(candidates).values(model="churn", semver="1.0.0", requested_at=to_text(utc_now())))
    with pytest.raises(StillReferencedError, match="an alias move under way"):
        backend.delete_version("churn", "1.0.0", principal="bob", reason="")


def test_versions_live_in_any_blob_store(tmp_path, blob_store):
    toy.install()
    backend = open_backend(tmp_path)
    backend._blobs = blob_store
    registry = Registry(backend)
    for bias in (0.0, 1.0):
        model = toy.Linear((1.0, 2.0), bias)
        registry.register("churn", model, example=[{"x0": 1.0, "x1": 2.0}])
    registry.delete("churn:1.0.0")
    assert backend.collect_garbage(grace_seconds=0)[0] == 3
    assert registry.verify("churn:1.0.1").golden_rows == 1
    backend.database.close()
