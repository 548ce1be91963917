"""What tests of the registry share."""

from __future__ import annotations

import msgspec

from crossfade.core.hashing import canonical_json, sha256
from crossfade.registry.native import NativeBackend
from crossfade.registry.registry import Registry
from crossfade.registry.versions import Card, FileEntry, Manifest
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from tests.registry import toy


def open_backend(home, url=None, **options):
    database = open_database(url or f"sqlite:///{home / 'registry.db'}")
    migrate(database)
    return NativeBackend(database, FolderBlobStore(home / "blobs"), **options)


def open_toy_registry(home, **settings):
    """Open a registry in a folder, for a process that was just started."""
    toy.install()
    return Registry(open_backend(home), RegistrySettings(**settings))


def toy_manifest(name, version, model, *, card=None, extra=(), **changes):
    """Return a manifest and the contents of its files; `extra` holds (path, role, bytes)."""
    files = [
        (toy.FILE, "model", msgspec.json.encode(model)),
        ("card.json", "card", canonical_json(card or Card())),
        *extra,
    ]
    entries = [
        FileEntry(path, sha256(data), len(data), "application/octet-stream", role) for path, role, data in sorted(files)
    ]
    manifest = Manifest(name, version, "toy", tuple(entries), model.signature())
    return msgspec.structs.replace(manifest, **changes), [data for _, _, data in files]


def upload(registry, contents):
    for data in contents:
        registry.store_blob([data], None, "tests")
    registry.release("tests")
