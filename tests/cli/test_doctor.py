"""`crossfade doctor`: what it finds, and its exit code."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from crossfade.cli import examination
from crossfade.platform import open_platform
from crossfade.registry.requests import ProcessStatus, ServerStatus
from crossfade.settings import Settings
from crossfade.traffic.last_known_good import LastKnownGood
from crossfade.traffic.snapshot import Snapshot


@pytest.fixture
def examine(cli):
    def run(**settings):
        result = cli("doctor", "--format", "json", **settings)
        return result, {check["name"]: check for check in json.loads(result.stdout)}

    return run


def test_an_untouched_folder_is_in_order(examine, cli):
    result, checks = examine()
    assert result.exit_code == 0
    assert list(checks) == ["settings", "packages", "disk", "isolation", "platform"]
    assert not cli.home.exists(), "looking creates nothing"


def test_a_used_platform_is_in_order(examine, cli):
    cli.register(1.0)
    result, checks = examine()
    assert result.exit_code == 0
    assert {check["outcome"] for check in checks.values()} == {"ok"}
    assert checks["blobs"]["detail"].startswith("all 4 ")
    assert "the chain is intact" in checks["audit log"]["detail"]
    assert "scikit-learn" in checks["packages"]["detail"]


def test_findings_are_readable(cli):
    cli.register(1.0)
    result = cli("doctor")
    assert "blob store" in result.stdout
    assert "hint: see the models with" in result.stderr
    assert cli("doctor", "--format", "quiet").stdout.splitlines()[0] == "ok settings"


def test_names_in_the_settings_that_nothing_has_are_a_warning(examine, cli):
    cli.register(1.0)
    cli("models", "alias", "tiny", "champion", "1.0.0")
    assert examine()[1]["names"]["outcome"] == "ok"
    capture = '{"tiny": {"ratio": 1.0, "hashed": ["distrct"]}, "tinny": {"ratio": 1.0}}'
    _, checks = examine(CROSSFADE_CAPTURE__MODELS=capture)
    assert checks["names"]["outcome"] == "warning"
    assert "`capture.models` names `tinny`, and no model has this name" in checks["names"]["detail"]
    assert "nothing of `tiny:1.0.0` is captured: `capture.models` names `distrct`" in checks["names"]["detail"]


def test_a_lost_database_fails_and_looking_makes_none(examine, cli):
    cli.register(1.0)
    with open_platform(Settings(home=cli.home)) as platform:
        url, revision = platform.settings.database_url, platform.database.revision()
    LastKnownGood(cli.home, url).keep(Snapshot(revision))
    for path in cli.home.glob("crossfade.db*"):
        path.unlink()
    result, checks = examine()
    assert result.exit_code == 7
    assert "the database is lost" in checks["database"]["detail"]
    assert "delete" in checks["database"]["hint"]
    assert not (cli.home / "crossfade.db").exists()


def test_a_missing_blob_is_found(examine, cli):
    cli.register(1.0)
    blob = next(path for path in (cli.home / "blobs").rglob("*") if path.is_file())
    blob.chmod(0o600)
    blob.unlink()
    result, checks = examine()
    assert result.exit_code == 6
    assert checks["blobs"]["outcome"] == "failed"
    assert "missing" in checks["blobs"]["detail"]
    assert "tiny:1.0.0" in checks["blobs"]["detail"]
    readable = cli("doctor")
    assert "FAILED  blobs" in readable.stdout
    assert "hint: blobs: register the version again" in readable.stderr


def test_a_tampered_audit_log_is_found(examine, cli):
    cli.register(1.0)
    with sqlite3.connect(cli.home / "crossfade.db") as database:
        database.execute("UPDATE audit SET principal = 'somebody else'")
    result, checks = examine()
    assert result.exit_code == 6
    assert checks["audit log"]["outcome"] == "failed"
    assert checks["blobs"]["outcome"] == "ok", "what can still be examined is examined"


def test_a_clock_that_went_back_is_a_warning(examine, cli, monkeypatch):
    cli.register(1.0)

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(examination, "datetime", Past)
    result, checks = examine()
    assert (result.exit_code, checks["clock"]["outcome"]) == (0, "warning")


def test_a_database_without_tables_is_a_warning(examine, cli, tmp_path):
    result, checks = examine(CROSSFADE_STORAGE__DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")
    assert (result.exit_code, checks["database"]["outcome"]) == (0, "warning")
    assert "audit log" not in checks


def test_an_old_schema_is_a_warning(examine, cli):
    cli.register(1.0)
    with sqlite3.connect(cli.home / "crossfade.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    _, checks = examine()
    assert checks["database"]["outcome"] == "warning"
    assert "0000" in checks["database"]["detail"]


def test_a_damaged_database_fails(examine, cli):
    cli.register(1.0)
    path = cli.home / "crossfade.db"
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    result, checks = examine()
    assert result.exit_code == 7
    assert checks["database"]["outcome"] == "failed"


def test_settings_that_cannot_be_used_end_the_examination(examine):
    result, checks = examine(CROSSFADE_HTTP__PORT="many")
    assert result.exit_code == 2
    assert list(checks) == ["settings"]


def test_a_database_out_of_reach_fails(examine, cli):
    cli.register(1.0)
    result, checks = examine(CROSSFADE_STORAGE__DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    assert result.exit_code == 7
    assert checks["database"]["outcome"] == "failed"
    assert checks["blob store"]["outcome"] == "ok"


def test_a_blob_store_out_of_reach_fails(examine, cli, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    result, checks = examine(CROSSFADE_STORAGE__BLOBS_URL=str(tmp_path / "file" / "blobs"))
    assert result.exit_code == 7
    assert checks["blob store"]["outcome"] == "failed"


def test_little_space_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(examination, "_LITTLE_SPACE", 2**80)
    assert examination._disk(tmp_path / "not" / "there")[0] == "warning"


def test_missing_packages_are_listed(monkeypatch):
    def version(name):
        if name == "boto3":
            raise examination.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(examination, "version", version)
    outcome, detail = examination._packages()
    assert outcome == "ok"
    assert "extras not complete: all, s3" in detail


# --- a server ------------------------------------------------------------------------------------------------------


def process(revision, **slots):
    now = datetime.now(UTC)
    return ProcessStatus("p", "here", 1, now, now, revision, slots)


@pytest.mark.parametrize(
    ("processes", "outcome", "words"),
    [
        ([process(7)], "ok", "1 running"),
        ([process(7), process(6)], "warning", "1 behind"),
        ([process(7, a=("failed", "golden mismatch"))], "warning", "a: golden mismatch"),
        ([], "warning", "it cannot write to the database"),
    ],
)
def test_processes_are_examined(processes, outcome, words):
    found = examination._processes(ServerStatus("1", 7, tuple(processes)))
    assert found[0] == outcome
    assert words in found[1]


def test_what_a_server_does_without_is_a_warning():
    assert examination._warnings(ServerStatus("1", 7))[0] == "ok"
    assert examination._warnings(ServerStatus("1", 7, warnings=("this", "that"))) == ("warning", "this; that")


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {"date": "Wed, 21 Oct 2015 07:28:00 GMT"}, "warning"),
        (200, {}, "ok"),
        (200, {"date": f"{datetime.now(UTC) + timedelta(seconds=1):%a, %d %b %Y %H:%M:%S} GMT"}, "ok"),
    ],
)
def test_clocks_are_compared(monkeypatch, status, headers, outcome):
    monkeypatch.setattr(examination.httpx, "get", lambda *_, **__: httpx.Response(status, headers=headers))
    if "2015" not in str(headers) and headers:
        headers["date"] = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT"
    assert examination._server_clock("http://x")[0] == outcome


def test_a_server_that_is_not_ready_is_a_warning(monkeypatch):
    answer = httpx.Response(503, text='{"status":"waiting"}')
    monkeypatch.setattr(examination.httpx, "get", lambda *_, **__: answer)
    assert examination._readiness("http://x") == ("warning", '{"status":"waiting"}')


def test_a_server_out_of_reach_fails(cli):
    result = cli("doctor", "--server", "http://127.0.0.1:1", "--format", "json")
    assert result.exit_code == 7
    assert [check["name"] for check in json.loads(result.stdout)] == ["server"]
