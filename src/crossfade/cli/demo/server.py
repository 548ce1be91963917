"""The demo's own server: a real `crossfade serve` in a process of its own, always stopped by its pid."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossfade.errors import ServerUnreachableError, SettingsError

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
ANY_PORT = 0
LOG = "server.log"
MARKER = ".crossfade-demo"
START_SECONDS = 60.0
STOP_SECONDS = 40.0
POLL_SECONDS = 1.0
"""How often the server looks at its experiments: their days pass in seconds here."""
_READY = re.compile(r"^crossfade is ready at (\S+)\n", re.MULTILINE)


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


@contextmanager
def running_server(home: Path, port: int | None, workers: int) -> Iterator[str]:
    """Run a server on this home until the context ends.

    Args:
        home: Its folder; `server.log` in it holds the log.
        port: Where it listens, on the loopback interface; None takes the usual one, or any free one when that is taken.
        workers: How many processes answer.

    Yields:
        Its address.

    Raises:
        ServerUnreachableError: It does not come up.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        for choice in (PREFERRED_PORT, ANY_PORT) if port is None else (port,):
            process = _start(home, choice, workers)
            url = _await_ready(process, home / LOG, choice)
            if url or "cannot be used" not in (home / LOG).read_text(errors="replace"):
                break
        if url is None:
            raise _silent(home / LOG, choice)
        yield url
    finally:
        if process is not None:
            _stop(process)


def _start(home: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    with (home / LOG).open("wb") as log:
        # a session of its own: Ctrl-C reaches only the demo, which then stops the server in the right order
        return subprocess.Popen(
            [sys.executable, "-m", "crossfade", "serve"],
            env=_environment(home, port, workers),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _environment(home: Path, port: int, workers: int) -> dict[str, str]:
    """Return an environment without any setting of the user: a demo must never touch a real database."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("CROSSFADE_")}
    return kept | {
        "CROSSFADE_CONFIG": os.devnull,
        "CROSSFADE_HOME": str(home),
        "CROSSFADE_HTTP__HOST": HOST,
        "CROSSFADE_HTTP__PORT": str(port),
        "CROSSFADE_SERVING__WORKERS": str(workers),
        "CROSSFADE_EXPERIMENTS__POLL_SECONDS": str(POLL_SECONDS),
    }


def _await_ready(process: subprocess.Popen[bytes], log: Path, port: int) -> str | None:
    """Return the address that the server itself says it answers at; None when it has ended before.

    Asking a port instead could find the server of somebody else, who took it a moment earlier.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if said := _READY.search(log.read_text(errors="replace")):
            return said[1]
        if ended:
            return None
        time.sleep(0.05)
    raise _silent(log, port)


def _silent(log: Path, port: int) -> ServerUnreachableError:
    lines = log.read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("error: ")] or lines or ["it says nothing"]
    return ServerUnreachableError(url=f"http://{HOST}:{port}", problem=f"{told[-1]} (see {log})")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
