"""The demo's own server: a real `crossfade serve` in a process of its own, always stopped by its pid."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from crossfade.errors import ServerUnreachableError, SettingsError

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
MARKER = ".crossfade-demo"
START_SECONDS = 60.0
STOP_SECONDS = 40.0
POLL_SECONDS = 1.0
"""How often the server looks at its experiments: their days pass in seconds here."""


@contextmanager
def own_home(home: Path) -> Iterator[Path]:
    """Give an empty folder that belongs to this demo alone; what an earlier demo left there is removed first.

    Raises:
        SettingsError: It holds something else, or another demo is using it.
    """
    marker = home / MARKER
    if home.exists() and not marker.is_file() and (not home.is_dir() or any(home.iterdir())):
        raise SettingsError(field="home", problem=f"{home} is not a demo's folder, so it is not emptied")
    home.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(field="home", problem=f"another demo is running in {home}") from error
        for entry in home.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        yield home


def free_port() -> int:
    """Return the usual port, or any free one when it is taken."""
    for port in (PREFERRED_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SettingsError(field="http.port", problem="no port is free")


@contextmanager
def running_server(home: Path, port: int, workers: int) -> Iterator[str]:
    """Run a server on this home until the context ends.

    Args:
        home: Its folder; `server.log` in it holds the log.
        port: Where it listens, on the loopback interface.
        workers: How many processes answer.

    Yields:
        Its address.

    Raises:
        ServerUnreachableError: It does not come up.
    """
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "crossfade", "serve"]
    with (home / "server.log").open("wb") as log:
        # a session of its own: Ctrl-C reaches only the demo, which then stops the server in the right order
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            env=_environment(home, port, workers),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await_ready(process, url, home / "server.log")
            yield url
        finally:
            _stop(process)


def _environment(home: Path, port: int, workers: int) -> dict[str, str]:
    """Return an environment without any setting of the user: a demo must never touch a real database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
    return kept | {
        "CROSSFADE_CONFIG": os.devnull,
        "CROSSFADE_HOME": str(home),
        "CROSSFADE_HTTP__HOST": HOST,
        "CROSSFADE_HTTP__PORT": str(port),
        "CROSSFADE_SERVING__WORKERS": str(workers),
        "CROSSFADE_EXPERIMENTS__POLL_SECONDS": str(POLL_SECONDS),
    }


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise ServerUnreachableError(url=url, problem=f"{lines[-1] if lines else 'it says nothing'} (see {log})")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
