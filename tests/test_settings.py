"""Where settings come from, and what a bad one says."""

from pathlib import Path

import pytest

from crossfade.errors import SettingsError
from crossfade.settings import HttpSettings, Settings


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CROSSFADE_CONFIG", "CROSSFADE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_live_in_the_working_directory():
    settings = Settings.load()
    assert settings.database_url == f"sqlite:///{Path.cwd()}/.crossfade/crossfade.db"
    assert settings.blobs_url == f"{Path.cwd()}/.crossfade/blobs"
    assert settings.http.host == "127.0.0.1"
    assert not settings.registry.allow_code_models


def test_arguments_beat_environment_beats_file(monkeypatch):
    Path("crossfade.toml").write_text('[http]\nport = 1\nhost = "127.0.0.2"\nmax_rows = 5\n')
    monkeypatch.setenv("CROSSFADE_HTTP__PORT", "2")
    assert (Settings.load().http.port, Settings.load().http.host) == (2, "127.0.0.2")
    assert Settings.load(http=HttpSettings(port=3)).http.port == 3
    assert Settings.load().http.max_rows == 5


def test_another_file(monkeypatch, tmp_path):
    (tmp_path / "prod.toml").write_text('home = "/srv/x"\n[storage]\nblobs_url = "s3://bucket/models"\n')
    monkeypatch.setenv("CROSSFADE_CONFIG", str(tmp_path / "prod.toml"))
    assert Settings.load().blobs_url == "s3://bucket/models"
    assert Settings.load().database_url == "sqlite:////srv/x/crossfade.db"


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("CROSSFADE_HTTP__PORT", "70000", "http.port"),
        ("CROSSFADE_HTTP__PORT", "x", "http.port"),
        ("CROSSFADE_HTTP__NOPE", "1", "http.nope"),
        ("CROSSFADE_SERVING__SNAPSHOT_POLL_SECONDS", "0", "serving.snapshot_poll_seconds"),
        ("CROSSFADE_SERVING__SNAPSHOT_POLL_SECONDS", "nan", "serving.snapshot_poll_seconds"),
        ("CROSSFADE_SERVING__SNAPSHOT_POLL_SECONDS", "inf", "serving.snapshot_poll_seconds"),
        ("CROSSFADE_LOG__LEVEL", "loud", "log.level"),
        ("CROSSFADE_REGISTRY__STAGES", '{"a": ["b"]}', "registry"),
        ("CROSSFADE_REGISTRY__STAGES", "{", "environment"),
    ],
)
def test_a_bad_value_names_its_field(monkeypatch, name, value, field):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert caught.value.facts["field"].startswith(field)
    assert "settings show" in caught.value.hint


def test_a_file_that_is_not_toml_is_a_settings_error():
    Path("crossfade.toml").write_text("[http\n")
    with pytest.raises(SettingsError):
        Settings.load()


def test_secrets_do_not_print(monkeypatch):
    monkeypatch.setenv("CROSSFADE_STORAGE__S3_SECRET_ACCESS_KEY", "hunter2")
    assert "hunter2" not in repr(Settings.load())


def test_a_secret_that_nothing_can_be_signed_with_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("CROSSFADE_RELEASES__WEBHOOK_SECRET", "hunter2")
    with pytest.raises(SettingsError, match=r"`releases.webhook_secret`: .*it needs at least 16 characters") as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)
    for enough in ("", "an example of a secret"):
        monkeypatch.setenv("CROSSFADE_RELEASES__WEBHOOK_SECRET", enough)
        assert Settings.load().releases.webhook_secret.get_secret_value() == enough


def test_teams_add_stages_of_their_own(monkeypatch):
    monkeypatch.setenv("CROSSFADE_REGISTRY__STAGES", '{"legal": ["staging"], "registered": ["legal", "rejected"]}')
    stages = Settings.load().registry.stages
    assert stages["legal"] == ("staging",)
    assert stages["registered"] == ("legal", "rejected")
    assert "production" in stages


def test_a_model_may_have_rules_of_its_own(tmp_path, monkeypatch):
    file = tmp_path / "crossfade.toml"
    file.write_text(
        "[serving]\nmax_batch_rows = 64\n[serving.models.churn]\nrequest_timeout_seconds = 0.25\nexecution = 'thread'\n"
    )
    monkeypatch.setenv("CROSSFADE_CONFIG", str(file))
    serving = Settings.load().serving
    churn, other = serving.of_model("churn"), serving.of_model("other")
    assert (churn.request_timeout_seconds, churn.execution, churn.max_batch_rows) == (0.25, "thread", 64)
    assert (other.request_timeout_seconds, other.execution, other.max_batch_rows) == (10.0, "auto", 64)


def test_unknown_rules_of_a_model_are_refused(monkeypatch):
    monkeypatch.setenv("CROSSFADE_SERVING__MODELS", '{"churn": {"execution": "gpu"}}')
    with pytest.raises(SettingsError, match=r"serving.models.churn.execution"):
        Settings.load()


def test_the_cache_is_off_unless_somebody_wants_it(monkeypatch):
    assert Settings().cache.mode == "off"
    monkeypatch.setenv("CROSSFADE_CACHE__MODE", "models")
    with pytest.raises(SettingsError, match=r"needs names in `cache.models`"):
        Settings.load()
    monkeypatch.setenv("CROSSFADE_CACHE__MODELS", '["churn"]')
    assert Settings.load().cache.models == ("churn",)


def test_one_answer_may_not_push_out_all_the_others(monkeypatch):
    monkeypatch.setenv("CROSSFADE_CACHE__MAX_BYTES", "1048576")
    assert Settings.load().cache.max_value_bytes == 65536
    monkeypatch.setenv("CROSSFADE_CACHE__MAX_BYTES", "1000")
    with pytest.raises(SettingsError):
        Settings.load()


def test_lengths_of_time_that_no_date_can_bear_are_refused():
    with pytest.raises(SettingsError, match="keep_seconds"):
        Settings.load(alerts={"keep_seconds": 1e20})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CROSSFADE_SERVNG__WORKERS", "CROSSFADE_SERVING__WORKERS"),
        ("CROSSFADE_HTTP_PORT", "CROSSFADE_HTTP__PORT"),
        ("crossfade_storage_pool_size", "CROSSFADE_STORAGE__POOL_SIZE"),
        ("CROSSFADE_STORAGE__BLOB_URL", "storage.blobs_url"),
        ("CROSSFADE__HOME", "CROSSFADE_HOME"),
        ("CROSSFADE_HOME__S", "CROSSFADE_HOME"),
    ],
)
def test_a_misspelt_variable_is_refused_with_what_is_close(monkeypatch, variable, meant):
    monkeypatch.setenv(variable, "4")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert f"there is no such setting; `{meant}` is close" in caught.value.message


def test_a_variable_that_is_like_nothing_is_refused_too(monkeypatch):
    monkeypatch.setenv("CROSSFADE_XYZZY__PLUGH", "4")
    with pytest.raises(SettingsError, match=r"`: there is no such setting\n"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CROSSFADE_HTTP_PORT", "tcp://10.0.0.1:8000"),  # of Kubernetes, where a service is called `crossfade-http`
        ("CROSSFADE_HTTP_PORT", "udp://10.0.0.1:8000"),
        ("CROSSFADE_SERVICE_HOST", "10.0.0.1"),
        ("CROSSFADE_EU__WEST_SERVICE_HOST", "10.0.0.1"),
        ("CROSSFADE_EU__WEST_PORT_80_TCP_PROTO", "tcp"),
        ("CROSSFADE_SERVER", "http://localhost:8000"),
        ("CROSSFADE_SERVING__MODELS__churn__EXECUTION", "thread"),
    ],
)
def test_variables_that_are_no_setting_of_ours_are_left_alone(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    Settings.load()


def test_a_misspelt_setting_of_the_file_is_refused_with_what_is_close():
    Path("crossfade.toml").write_text("[http]\nprot = 7\n")
    with pytest.raises(SettingsError, match=r"`http.prot`: there is no such setting; `http.port` is close"):
        Settings.load()
    Path("crossfade.toml").write_text("[htpp]\nport = 7\n")
    with pytest.raises(SettingsError, match=r"`htpp`: there is no such setting"):
        Settings.load()
