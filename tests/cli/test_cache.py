"""`crossfade cache`: what is kept, and letting go of it."""

import json

import pytest


@pytest.fixture
def one(cli):
    assert cli.register(1.0).exit_code == 0
    return cli


def test_what_is_set_is_shown_with_how_to_switch_it_on(cli):
    result = cli("cache", "show")
    assert result.exit_code == 0, result.output
    assert "off" in result.stdout
    assert "hint: switch it on with `CROSSFADE_CACHE__MODE=on crossfade serve`" in result.stderr
    assert json.loads(cli("cache", "show", "--format", "json").stdout)["mode"] == "off"


def test_where_it_is_on_the_next_step_is_another(cli, monkeypatch):
    monkeypatch.setenv("CROSSFADE_CACHE__MODE", "on")
    monkeypatch.setenv("CROSSFADE_CACHE__REDIS_URL", "redis://:s3cret@localhost:1/0")
    result = cli("cache", "show")
    assert "crossfade cache invalidate" in result.stderr
    assert "s3cret" not in result.output
    assert "s3cret" not in cli("settings", "show").output


def test_a_model_is_invalidated(one):
    result = one("cache", "invalidate", "tiny", "--reason", "wrong features")
    assert result.exit_code == 0, result.output
    assert "computed anew" in result.stdout
    assert one("cache", "invalidate", "tiny:1.0.0", "--format", "quiet").stdout == "tiny:1.0.0\n"


def test_a_rehearsal_says_what_would_happen(one):
    result = one("cache", "invalidate", "tiny:1.0.0", "--dry-run")
    assert "would forget the kept answers of tiny:1.0.0" in result.stdout


def test_what_is_not_there_is_refused(cli):
    result = cli("cache", "invalidate", "nothing")
    assert result.exit_code == 3
    assert "is not registered" in result.stderr


def test_a_mode_without_models_is_refused(cli, monkeypatch):
    monkeypatch.setenv("CROSSFADE_CACHE__MODE", "models")
    result = cli("cache", "show")
    assert result.exit_code == 2
    assert "needs names in `cache.models`" in result.stderr
