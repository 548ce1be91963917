from __future__ import annotations

import pytest

from crossfade.errors import HostNotAllowedError, OriginNotAllowedError
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck


@pytest.fixture
def callers() -> CallerCheck:
    return CallerCheck(HttpSettings(host="0.0.0.0", allowed_hosts=("Models.Example.org",)))


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:8000",
        b"LOCALHOST:1",
        b"127.0.0.1:8000",
        b"[::1]:8000",
        b"10.2.3.4",
        b"0.0.0.0:8000",
        b"models.example.org",
        b"models.example.ORG:443",
    ],
)
def test_known_hosts_are_answered(callers, host):
    for _ in range(2):
        callers.check("POST", {b"host": host})


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example:8000",
        b"evil@localhost.example",
        b"models.example.org.evil",
        b"[::1",
        b"[evil]",
        b"\xff\xfe",
        b"local host",
    ],
)
def test_foreign_hosts_are_refused(callers, host):
    for method in ("GET", "POST"):
        with pytest.raises(HostNotAllowedError):
            callers.check(method, {b"host": host})


def test_a_missing_host_is_refused(callers):
    with pytest.raises(HostNotAllowedError):
        callers.check("GET", {})


def test_the_configured_host_is_known():
    CallerCheck(HttpSettings(host="box.lan")).check("GET", {b"host": b"box.lan:80"})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
@pytest.mark.parametrize(
    "headers",
    [
        {b"origin": b"https://evil.example"},
        {b"origin": b"null"},
        {b"origin": b"http://localhost:9999"},
        {b"sec-fetch-site": b"cross-site"},
    ],
)
def test_changes_by_pages_of_other_sites_are_refused(callers, method, headers):
    with pytest.raises(OriginNotAllowedError):
        callers.check(method, {b"host": b"localhost:8000"} | headers)


def test_reading_and_own_pages_are_answered(callers):
    host = {b"host": b"localhost:8000"}
    callers.check("GET", host | {b"origin": b"https://evil.example"})
    callers.check("POST", host | {b"origin": b"http://localhost:8000", b"sec-fetch-site": b"same-origin"})


def test_remembering_hosts_is_bounded(callers):
    for number in range(1000):
        callers.check("GET", {b"host": b"localhost:%d" % number})
    assert len(callers._remembered) == 256
