"""The routes of the response cache."""

import pytest

from crossfade.client import verbs
from crossfade.errors import ModelNotFoundError
from tests import control


def test_the_status_tells_what_is_set(client):
    status = client.cache_status()
    assert (status.mode, status.shared, status.entries) == ("off", False, 0)
    assert status.max_bytes == 64 * 2**20


def test_a_version_and_a_model_are_invalidated(client, platform, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    done = client.invalidate_answers("tiny:1.0.0", reason="why")
    assert (done.model, done.version, done.generation) == ("tiny", "1.0.0", platform.database.revision())
    assert client.invalidate_answers("tiny").version is None


def test_what_is_not_there_is_refused(client):
    with pytest.raises(ModelNotFoundError):
        client.invalidate_answers("nothing")


def test_it_can_be_rehearsed(client, platform, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    before = platform.database.revision()
    rehearsal = client.send(verbs.dry_run(verbs.invalidate_answers("tiny")))
    assert rehearsal.would == "forget the kept answers of tiny in 0 processes"
    assert platform.database.revision() == before


def test_secrets_are_not_told(http):
    text = http.get("/api/v1/cache").text
    assert "secret" not in text
    assert "redis_url" not in text
