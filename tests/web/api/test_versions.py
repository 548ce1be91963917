"""Versions over REST: publish, show, compare, change, delete, verify, download."""

import hashlib

import msgspec
import pytest

from crossfade import errors
from crossfade.client import verbs
from crossfade.core.tensors import Signature, TensorSpec
from tests import control


def test_a_version_is_registered_once(client, tmp_path):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    first = client.register_draft("tiny", draft)
    again = client.register_draft("tiny", draft, version=first.version)
    assert (first.ref, first.stage, first.created_by) == ("tiny:1.0.0", "registered", "tester")
    assert again == first
    assert len(client.versions("tiny").items) == 1


def test_publishing_answers_201_then_200(client, http, tmp_path):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    client.register_draft("tiny", draft)
    body = {"manifest": msgspec.to_builtins(draft.manifest("tiny", "1.0.1"))}
    codes = [http.post("/api/v1/models/tiny/versions", json=body).status_code for _ in range(2)]
    assert codes == [201, 200]


def test_other_content_under_the_same_semver_is_a_conflict(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    with pytest.raises(errors.VersionConflictError) as caught:
        client.register_draft("tiny", control.tiny_draft(tmp_path / "other.onnx", 9.0), version="1.0.0")
    assert "tiny:1.0.1" in caught.value.hint


def test_a_manifest_must_be_published_under_its_own_name(client, http, tmp_path):
    manifest = control.tiny_draft(tmp_path / "model.onnx", 1.0).manifest("tiny", "1.0.0")
    answer = http.post("/api/v1/models/other/versions", json={"manifest": msgspec.to_builtins(manifest)})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_a_manifest_without_its_blobs_is_refused(client, tmp_path):
    manifest = control.tiny_draft(tmp_path / "model.onnx", 1.0).manifest("tiny", "1.0.0")
    with pytest.raises(errors.CorruptBlobError, match="missing"):
        client.publish(manifest)
    with pytest.raises(errors.ModelNotFoundError):
        client.model("tiny")


def test_the_server_proposes_the_next_semver(client, tmp_path):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    assert client.propose("tiny", draft.signature).version == "1.0.0"
    client.register_draft("tiny", draft)
    assert client.propose("tiny", draft.signature).version == "1.0.1"
    broken = Signature((TensorSpec("z", "FP32", (-1, 2)),), draft.signature.outputs)
    proposal = client.propose("tiny", broken)
    assert (proposal.version, proposal.required) == ("2.0.0", "major")
    assert "input `x` is gone" in proposal.changes


def test_compatibility_is_seen_from_a_version(client, tmp_path):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    client.register_draft("tiny", draft)
    assert client.check_compatibility("tiny:1.0.0", draft.signature).required == "patch"


def test_versions_are_listed_by_stage_and_line(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.1.0", "2.0.0")
    client.transition("tiny:1.1.0", "staging")
    assert [version.version for version in client.versions("tiny").items] == ["2.0.0", "1.1.0", "1.0.0"]
    assert [version.version for version in client.versions("tiny", stage="staging").items] == ["1.1.0"]
    assert [version.version for version in client.versions("tiny", prefix="1.").items] == ["1.1.0", "1.0.0"]
    page = client.versions("tiny", limit=2)
    assert [version.version for version in client.versions("tiny", cursor=page.next_cursor).items] == ["1.0.0"]


@pytest.mark.parametrize("ref", ["tiny:1.0.1", "tiny@champion", "tiny", "tiny:v1.0.1", "tiny/1.0.1", "models:/tiny/2"])
def test_every_spelling_of_a_reference_shows_the_version(client, tmp_path, ref):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.1")
    details = client.version(ref)
    assert details.version.ref == "tiny:1.0.1"
    assert details.card.evaluation == {"factor": 2.0}
    assert details.manifest.digest == details.version.manifest_digest


def test_a_stage_is_a_reference_too(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.transition("tiny:1.0.0", "staging")
    assert client.version("models:/tiny/Staging").version.ref == "tiny:1.0.0"


def test_an_unknown_version_is_not_found(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    with pytest.raises(errors.VersionNotFoundError):
        client.version("tiny:9.9.9")


def test_stages_have_a_history_and_rules(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.transition("tiny:1.0.0", "staging", reason="looks good")
    with pytest.raises(errors.IllegalTransitionError):
        client.transition("tiny:1.0.0", "validating")
    newest = client.stage_history("tiny:1.0.0").items[0]
    assert (newest.source, newest.target, newest.changed_by, newest.reason) == (
        "registered",
        "staging",
        "tester",
        "looks good",
    )


def test_a_deprecated_version_says_why(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    version = client.deprecate("tiny:1.0.0", reason="drifts")
    assert version.deprecated_at is not None
    assert version.deprecation_reason == "drifts"


def test_a_version_is_deleted_unless_something_refers_to_it(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.0")
    with pytest.raises(errors.StillReferencedError):
        client.delete("tiny:1.0.0")
    assert client.delete("tiny:1.0.1", reason="wrong data").ref == "tiny:1.0.1"
    assert [version.version for version in client.versions("tiny").items] == ["1.0.0"]


def test_two_versions_are_compared(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    report = client.compare("tiny:1.0.0", "tiny:1.0.1")
    (change,) = report.evaluation
    assert (change.name, change.difference, change.percent) == ("factor", 1.0, 100.0)


def test_verifying_reads_loads_and_asks(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    report = client.verify("tiny:1.0.0")
    assert (report.ref, report.golden_rows, report.golden_difference) == ("tiny:1.0.0", 2, 0.0)


def test_a_damaged_blob_fails_verification(client, platform, tmp_path):
    (version,) = control.register(client, tmp_path, "1.0.0")
    entry = next(entry for entry in client.version(version.ref).manifest.files if entry.role == "model")
    platform.registry.backend.blobs.delete(entry.digest)
    with pytest.raises(errors.CorruptBlobError, match=r"model\.onnx"):
        client.verify(version.ref)


# --- downloads -----------------------------------------------------------------------------------------------------


def test_files_are_downloaded_as_attachments(client, http, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    entry = next(entry for entry in client.version("tiny:1.0.0").manifest.files if entry.role == "model")
    answer = http.get(f"/api/v1/versions/tiny:1.0.0/files/{entry.path}")
    assert hashlib.sha256(answer.content).hexdigest() == entry.digest
    assert answer.headers["content-length"] == str(entry.size)
    assert answer.headers["etag"] == f'"{entry.digest}"'
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    cached = http.get(f"/api/v1/versions/tiny:1.0.0/files/{entry.path}", headers={"if-none-match": f'"{entry.digest}"'})
    assert (cached.status_code, cached.content) == (304, b"")


def test_the_manifest_is_a_file_too(client, tmp_path):
    (version,) = control.register(client, tmp_path, "1.0.0")
    content = client.file("tiny:1.0.0", "manifest.json")
    assert hashlib.sha256(content).hexdigest() == version.manifest_digest


@pytest.mark.parametrize(
    "path", ["nothing.bin", "../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", "a%00b", "/etc/passwd", "a\\b"]
)
def test_only_files_of_the_manifest_exist(client, http, tmp_path, path):
    control.register(client, tmp_path, "1.0.0")
    answer = http.get(f"/api/v1/versions/tiny:1.0.0/files/{path}")
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"


# --- dry runs ------------------------------------------------------------------------------------------------------


def changes(draft):
    return {
        "register tiny:1.0.2": verbs.publish(draft.manifest("tiny", "1.0.2")),
        "move tiny@champion from 1.0.0 to 1.0.1": verbs.move_alias("tiny", "champion", "1.0.1"),
        "change nothing: tiny@champion points to 1.0.0": verbs.move_alias("tiny", "champion", "1.0.0"),
        "move tiny@challenger from nowhere to 1.0.1": verbs.move_alias("tiny", "challenger", "1.0.1"),
        "remove tiny@champion, which points to 1.0.0": verbs.remove_alias("tiny", "champion"),
        "move tiny@second from 1.0.1 to 1.0.0": verbs.rollback("tiny", alias="second"),
        "move tiny:1.0.1 from stage registered to staging": verbs.transition("tiny:1.0.1", "staging"),
        "deprecate tiny:1.0.1": verbs.deprecate("tiny:1.0.1"),
        "delete tiny:1.0.2": verbs.delete("tiny:1.0.2"),
        "delete 0 blobs, 0 bytes": verbs.collect_garbage(),
    }


def trace(platform):
    """Everything that a change could touch."""
    with platform.database.read() as connection:
        tables = sorted(
            row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        )
        rows = {table: connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables}
    return rows, [blob.digest for blob in platform.registry.backend.blobs.list()]


def test_a_dry_run_says_what_would_happen_and_leaves_no_trace(client, platform, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.register_draft("tiny", control.tiny_draft(tmp_path / "third.onnx", 3.0), version="1.0.2")
    client.move_alias("tiny", "champion", "1.0.0")
    client.move_alias("tiny", "second", "1.0.0")
    client.move_alias("tiny", "second", "1.0.1")
    draft = control.tiny_draft(tmp_path / "fourth.onnx", 4.0)
    before = trace(platform)
    expected = changes(draft)
    expected["register tiny:1.0.3"] = verbs.publish(draft.manifest("tiny", "1.0.3"))
    del expected["register tiny:1.0.2"]
    for would, call in expected.items():
        assert client.send(verbs.dry_run(call)).would == would
    assert trace(platform) == before


def test_a_dry_run_refuses_what_the_change_would_refuse(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    with pytest.raises(errors.StillReferencedError):
        client.send(verbs.dry_run(verbs.delete("tiny:1.0.0")))
    with pytest.raises(errors.IllegalTransitionError):
        client.send(verbs.dry_run(verbs.transition("tiny:1.0.0", "nonsense")))
    with pytest.raises(errors.NoPreviousVersionError):
        client.send(verbs.dry_run(verbs.rollback("tiny")))
    with pytest.raises(errors.AliasMovedError):
        client.send(verbs.dry_run(verbs.move_alias("tiny", "champion", "1.0.0", expected="3.0.0")))
    other = control.tiny_draft(tmp_path / "other.onnx", 5.0).manifest("tiny", "1.0.0")
    with pytest.raises(errors.VersionConflictError):
        client.send(verbs.dry_run(verbs.publish(other)))


def test_registering_what_is_registered_would_change_nothing(client, tmp_path):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    client.register_draft("tiny", draft)
    assert client.rehearse_draft("tiny", draft, version="1.0.0").would == "change nothing: tiny:1.0.0 is registered"
    assert client.rehearse_draft("tiny", draft).would == "register tiny:1.0.1"
