"""`crossfade settings show`: values, sources, masks."""

import json

import pytest


@pytest.fixture
def shown(cli):
    def show(**settings):
        result = cli("settings", "show", "--sources", "--format", "json", **settings)
        assert result.exit_code == 0, result.output
        return {entry["setting"]: entry for entry in json.loads(result.stdout)}

    return show


def test_every_setting_is_shown_with_its_meaning(shown):
    entries = shown()
    assert len(entries) > 30
    assert all(entry["meaning"] for entry in entries.values())
    assert entries["http.port"]["value"] == 8000
    assert entries["registry.stages"]["value"]["production"] == ["staging", "archived"]


def test_sources_are_told_apart(shown, tmp_path):
    file = tmp_path / "crossfade.toml"
    file.write_text("[http]\nport = 9000\nmax_rows = 5\n[log]\nlevel = 'DEBUG'\n")
    entries = shown(CROSSFADE_CONFIG=str(file), CROSSFADE_HTTP__PORT="9001", CROSSFADE_SERVING='{"workers": 3}')
    assert (entries["http.port"]["value"], entries["http.port"]["source"]) == (9001, "environment")
    assert (entries["http.max_rows"]["value"], entries["http.max_rows"]["source"]) == (5, "file")
    assert (entries["serving.workers"]["value"], entries["serving.workers"]["source"]) == (3, "environment")
    assert (entries["log.level"]["source"], entries["http.host"]["source"]) == ("file", "default")
    assert entries["home"]["source"] == "environment"


def test_secrets_are_masked(cli):
    result = cli(
        "settings",
        "show",
        "--sources",
        CROSSFADE_STORAGE__S3_SECRET_ACCESS_KEY="hunter2",
        CROSSFADE_STORAGE__DATABASE_URL="postgresql://me:hunter2@db.example/x",
    )
    assert "hunter2" not in result.output
    assert "postgresql://me:**********@db.example/x" in result.stdout


def test_without_sources_only_the_values_are_shown(cli):
    result = cli("settings", "show")
    assert result.stdout.splitlines()[0].split() == ["setting", "value"]
    assert "default" not in result.stdout.splitlines()[3]
    assert "hint: change one with" in result.stderr


def test_a_setting_that_cannot_be_used_is_named(cli):
    result = cli("settings", "show", CROSSFADE_HTTP__PORT="many")
    assert result.exit_code == 2
    assert "error: setting `http.port`" in result.stderr
