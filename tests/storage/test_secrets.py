"""Every process of a deployment has the same secret, and no two deployments do."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from crossfade.storage.secrets import SECRET_BYTES, deployment_secret


@pytest.fixture
def opened(database_url):
    database = open_database(database_url)
    migrate(database)
    yield database
    database.close()


def test_a_secret_is_made_once(opened, database_url):
    first = deployment_secret(opened, "response_cache")
    assert len(first) == SECRET_BYTES
    other = open_database(database_url)
    assert deployment_secret(other, "response_cache") == first
    other.close()


def test_purposes_have_secrets_of_their_own(opened):
    assert deployment_secret(opened, "a") != deployment_secret(opened, "b")


def test_who_comes_first_decides_for_all(opened):
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: deployment_secret(opened, "response_cache"), range(16)))
    assert len(found) == 1


def test_deployments_differ(tmp_path):
    found = set()
    for name in "ab":
        database = open_database(f"sqlite:///{tmp_path / name}.db")
        migrate(database)
        found.add(deployment_secret(database, "response_cache"))
        database.close()
    assert len(found) == 2


def test_a_secret_is_no_change(opened):
    before = opened.revision()
    deployment_secret(opened, "response_cache")
    assert opened.revision() == before
