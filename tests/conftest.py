"""Fixtures that several folders of tests share: databases and blob stores, each fresh and empty."""

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from crossfade.settings import StorageSettings
from crossfade.storage.database import Database, open_database
from crossfade.storage.migrate import migrate
from tests import servers

_numbers = itertools.count(1)

hypothesis_settings.register_profile("crossfade", deadline=None)  # a busy machine is no finding
hypothesis_settings.load_profile("crossfade")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what lives as long as the tests do: a tenth of their time would go there."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the maintenance database of a running PostgreSQL server."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3Server]:
    """A running S3-compatible server."""
    with servers.s3() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a running Redis server."""
    with servers.redis() as url:
        yield url


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[str]:
    """URL of a running server of etcd, without a prefix."""
    with servers.etcd() as url:
        yield url


@pytest.fixture
def etcd_url(etcd_server: str) -> str:
    """URL of an empty place on a server of etcd."""
    return f"{etcd_server}/test-{next(_numbers)}"


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis database."""
    from redis import Redis

    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_server.rpartition('/')[0]}/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'database' / 'crossfade.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a new, empty database, once for each kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database, once for each kind."""
    database = open_database(database_url, pool_size=5)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """A migrated, empty SQLite database."""
    database = open_database(sqlite_url, pool_size=5)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def s3_settings(s3_server: servers.S3Server) -> StorageSettings:
    """Settings that name a prefix in a new, empty bucket."""
    import boto3.session

    bucket = f"test-{os.getpid()}-{next(_numbers)}"
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=s3_server.secret_access_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    return StorageSettings(
        blobs_url=f"s3://{bucket}/some/prefix",
        s3_endpoint_url=s3_server.endpoint_url,
        s3_access_key_id=s3_server.access_key_id,
        s3_secret_access_key=SecretStr(s3_server.secret_access_key),
    )


@pytest.fixture
def folder_settings(tmp_path: Path) -> StorageSettings:
    """Settings that name a folder that does not exist yet."""
    return StorageSettings(blobs_url=str(tmp_path / "blobs"))


@pytest.fixture(params=["folder", "s3"])
def blob_store(request: pytest.FixtureRequest):
    """A new, empty blob store, once for each kind."""
    from crossfade.settings import Settings
    from crossfade.storage.blobs.backends import open_blobs

    storage = request.getfixturevalue(f"{request.param}_settings")
    store = open_blobs(Settings(storage=storage))
    yield store
    store.close()
