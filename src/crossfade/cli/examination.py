"""What `crossfade doctor` examines. Each examination returns what it found, or raises what is wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import httpx
from sqlalchemy import func, select

from crossfade.core.memory import size
from crossfade.errors import CorruptBlobError, DatabaseDamagedError, ModelNotFoundError
from crossfade.platform import open_known_database
from crossfade.registry.backends import open_registry
from crossfade.registry.requests import ServerStatus
from crossfade.serving.naming import unfit_policy, unknown_fields, unknown_models
from crossfade.settings import Settings
from crossfade.storage.blobs.backends import open_blobs
from crossfade.storage.blobs.port import BlobStore
from crossfade.storage.changes import verify_audit
from crossfade.storage.database import Database
from crossfade.storage.migrate import CURRENT, stored_revision
from crossfade.storage.tables import audit, version_files
from crossfade.storage.times import from_text

Finding = tuple[Literal["ok", "warning"], str]
Examination = tuple[str, Callable[[], Finding]]

_LITTLE_SPACE = 2**30
_CLOCK_SECONDS = 5.0
_PROBE = b"crossfade doctor"


def examine_platform() -> Iterator[Examination]:
    """Yield the examinations of the local platform. It ends where nothing more can be examined."""
    yield "settings", _settings
    settings = Settings.load()
    yield "packages", _packages
    yield "disk", lambda: _disk(settings.home)
    yield "isolation", lambda: _isolation(settings)
    if _is_untouched(settings):
        yield "platform", lambda: ("ok", "nothing here yet; the first command that needs it creates it")
        return
    with ExitStack() as opened:
        yield "blob store", lambda: _blob_store(settings)
        yield "database", lambda: _database(settings)
        database = open_known_database(settings, pool_size=1)
        opened.callback(database.close)
        if stored_revision(database) is None:
            return
        yield "audit log", lambda: _audit(database)
        yield "clock", lambda: _clock(database)
        blobs = open_blobs(settings)
        opened.callback(blobs.close)
        yield "blobs", lambda: _blobs(database, blobs)
        yield "names", lambda: _names(settings, database, blobs)


def examine_server(url: str) -> Iterator[Examination]:
    """Yield the examinations of a running server."""
    from crossfade.client import Client

    with Client(url, timeout=10.0) as client:
        yield "server", lambda: ("ok", f"Crossfade {client.status().release} answers at {url}")
        status = client.status()
        yield "processes", lambda: _processes(status)
        yield "readiness", lambda: _readiness(url)
        yield "warnings", lambda: _warnings(status)
        yield "clock", lambda: _server_clock(url)


# --- here ----------------------------------------------------------------------------------------------------------


def _settings() -> Finding:
    settings = Settings.load()
    return "ok", f"home is {settings.home.absolute()}"


def _packages() -> Finding:
    """List the optional packages; which of them are needed, only the models know."""
    installed: list[str] = []
    missing: set[str] = set()
    for requirement in requires("crossfade") or ():
        name, _, extra = requirement.partition("; extra == ")
        if not extra or name.startswith("crossfade"):
            continue
        distribution = re.split(r"[^A-Za-z0-9_.-]", name, maxsplit=1)[0]
        try:
            installed.append(f"{distribution} {version(distribution)}")
        except PackageNotFoundError:
            missing.add(extra.strip("'\""))
    absent = f"; extras not complete: {', '.join(sorted(missing))}" if missing else ""
    return "ok", f"{', '.join(sorted(set(installed))) or 'no optional packages'}{absent}"


def _disk(home: Path) -> Finding:
    folder = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return ("ok" if free > _LITTLE_SPACE else "warning"), f"{size(free)} free at {folder}"


def _isolation(settings: Settings) -> Finding:
    """Start a process as models that bring code get one, and ask what it could not be confined by."""
    from crossfade.serving.isolation.nursery import open_nursery

    lacking = open_nursery(settings).examine()
    if lacking:
        return "warning", f"models that bring code would be confined without {', '.join(lacking)}"
    return "ok", "models that bring code are confined by everything there is"


def _is_untouched(settings: Settings) -> bool:
    return not settings.storage.database_url and not settings.storage.blobs_url and not settings.home.exists()


def _database(settings: Settings) -> Finding:
    database = open_known_database(settings, pool_size=1)
    try:
        found = stored_revision(database)
        if found is None:
            return "warning", "it has no tables yet; the first command that needs them makes them"
        if found != CURRENT:
            return "warning", f"its schema is {found}, this Crossfade has {CURRENT}; the next start migrates it"
        if database.dialect == "sqlite":
            with database.read() as connection:
                damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if damage != "ok":
                raise DatabaseDamagedError(problem=f"the file is damaged ({damage})", where=database.where)
        return "ok", f"{database.dialect}, schema {found}, revision {database.revision()}"
    finally:
        database.close()


def _audit(database: Database) -> Finding:
    with database.read() as connection:
        return "ok", f"{verify_audit(connection)} entries, the chain is intact"


def _clock(database: Database) -> Finding:
    with database.read() as connection:
        newest = connection.execute(select(func.max(audit.c.at))).scalar_one()
    if newest is None:
        return "ok", "nothing was recorded yet"
    ahead = (from_text(newest) - datetime.now(UTC)).total_seconds()
    if ahead > _CLOCK_SECONDS:
        return "warning", f"the newest audit entry is {ahead:.0f} s in the future; set the clock of this machine"
    return "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, after everything recorded"


def _blob_store(settings: Settings) -> Finding:
    blobs = open_blobs(settings)
    try:
        stored = blobs.put([_PROBE], limit_bytes=len(_PROBE))
        blobs.read(stored.digest)
        blobs.delete(stored.digest)
    finally:
        blobs.close()
    return "ok", f"{settings.blobs_url}: written, read and deleted"


def _blobs(database: Database, blobs: BlobStore) -> Finding:
    columns = version_files.c
    with database.read() as connection:
        entries = connection.execute(
            select(columns.digest, columns.size, columns.path, columns.model, columns.semver).order_by(columns.digest)
        ).all()
    seen = ""
    count = 0
    for entry in entries:
        if entry.digest == seen:
            continue
        seen, count = entry.digest, count + 1
        found = blobs.find(entry.digest)
        if found is None or found.size != entry.size:
            damage = "missing" if found is None else f"{found.size} bytes long, not {entry.size}"
            ref = f"{entry.model}:{entry.semver}"
            raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=ref, damage=damage)
    return "ok", f"all {count} that versions refer to are there, complete in size"


def _names(settings: Settings, database: Database, blobs: BlobStore) -> Finding:
    """Look whether models, and fields of what their aliases mean, are called as settings call them."""
    registry = open_registry(settings.registry, database, blobs)
    with closing(registry.backend):
        known = {}
        for name in {*settings.capture.models, *settings.cache.models}:
            with suppress(ModelNotFoundError):
                known[name] = registry.model(name)
        problems = unknown_models(settings, known)
        for name in known.keys() & settings.capture.models.keys():
            for semver in sorted(set(known[name].aliases.values())):
                ref = f"{name}:{semver}"
                fields = unknown_fields(settings.capture.models[name], registry.manifest(ref).signature)
                problems += [unfit_policy(ref, fields)] if fields else []
    return ("warning", "; ".join(problems)) if problems else ("ok", "settings name models and fields that are there")


# --- a server ------------------------------------------------------------------------------------------------------


def _processes(status: ServerStatus) -> Finding:
    failed = sorted(
        f"{ref}: {problem or state}"
        for process in status.processes
        for ref, (state, problem) in process.slots.items()
        if state == "failed"
    )
    behind = [process for process in status.processes if process.revision < status.revision]
    text = f"{len(status.processes)} running, revision {status.revision}"
    if not status.processes:
        return "warning", f"{text}; this server answers, so it cannot write to the database, or does not serve yet"
    if failed:
        return "warning", f"{text}; failed: {'; '.join(failed)}"
    return ("warning" if behind else "ok"), f"{text}{f', {len(behind)} behind it' if behind else ''}"


def _warnings(status: ServerStatus) -> Finding:
    return ("warning", "; ".join(status.warnings)) if status.warnings else ("ok", "none")


def _readiness(url: str) -> Finding:
    answer = httpx.get(f"{url}/readyz", timeout=10.0)
    return ("ok" if answer.is_success else "warning"), answer.text[:300]


def _server_clock(url: str) -> Finding:
    answer = httpx.get(f"{url}/healthz", timeout=10.0)
    given = answer.headers.get("date")
    if given is None:
        return "ok", "the server does not say what time it has"
    difference = abs((parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    if difference > _CLOCK_SECONDS:
        return "warning", f"this machine and the server differ by {difference:.0f} s"
    return "ok", "this machine and the server agree"
