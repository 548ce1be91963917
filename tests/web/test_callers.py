from __future__ import annotations

import pytest

from crossfade.errors import HostNotAllowedError, OriginNotAllowedError, RemoteControlError
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck, is_loopback


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
        b"localhost/x",
        b"evil.example@localhost",
        b"localhost:x",
        "localhost:٣".encode(),
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
        {b"origin": b"http://localhost"},
        {b"origin": b"https://localhost:8000"},
        {b"origin": b"ftp://localhost:8000"},
        {b"origin": b"http://localhost:8000/"},
        {b"origin": b"http://evil@localhost:8000"},
        {b"origin": b"localhost:8000"},
        {b"origin": b"http://["},
        {b"origin": b"http://\xff\xfe"},
        {b"origin": "http://localhost:\uff18000".encode()},
        {b"origin": b"\x00"},
        {b"origin": b""},
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


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"http://LOCALHOST:8000", b"localhost:8000"),
        (b"http://localhost", b"localhost:80"),
        (b"http://localhost:80", b"localhost"),
        (b"http://[::1]:8000", b"[::1]:8000"),
        (b"http://models.example.org", b"models.example.org"),
        (b"https://models.example.org", b"models.example.org"),
        (b"https://models.example.org:443", b"models.example.org"),
        (b"https://models.example.org:8443", b"Models.example.org:8443"),
    ],
)
def test_own_pages_have_the_host_of_the_request_behind_tls_too_where_the_name_is_listed(callers, origin, host):
    callers.check("POST", {b"host": host, b"origin": origin})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"https://10.0.0.7", b"10.0.0.7"),
        (b"https://localhost", b"localhost"),
        (b"https://models.example.org:80", b"models.example.org"),
        (b"http://models.example.org:443", b"models.example.org"),
        (b"https://models.example.org", b"models.example.org:80"),
    ],
)
def test_another_scheme_or_port_is_another_site(callers, origin, host):
    with pytest.raises(OriginNotAllowedError):
        callers.check("POST", {b"host": host, b"origin": origin})


def test_an_empty_host_to_bind_makes_no_name_known():
    with pytest.raises(HostNotAllowedError):
        CallerCheck(HttpSettings(host="")).check("GET", {b"host": b"evil example"})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_has_control(callers, address):
    callers.check_local((address, 1), {b"host": b"localhost"})


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.1", "fd00::2", "fe80::1%eth0", "0.0.0.0", "", "unknown"])
def test_other_machines_have_no_control(callers, address):
    with pytest.raises(RemoteControlError):
        callers.check_local((address, 1), {})
    CallerCheck(HttpSettings(allow_remote_control=True)).check_local((address, 1), {})


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False), ("box.lan", False)],
)
def test_addresses_that_only_this_machine_reaches(host, local):
    assert is_loopback(host) is local


def test_remembering_hosts_is_bounded(callers):
    for number in range(1000):
        callers.check("GET", {b"host": b"localhost:%d" % number})
    assert len(callers._remembered) == 256
