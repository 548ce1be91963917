"""Which registry backends there are. An installed package adds its own as an entry point in `crossfade.registry`."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import SettingsError
from crossfade.registry.registry import Registry
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.port import BlobStore
from crossfade.storage.database import Database

GROUP = "crossfade.registry"

BACKENDS: dict[str, str] = {"native": "crossfade.registry.native:NativeBackend"}
"""Name -> `module:Class`. It is called with database, blobs, `clock=` and `lease_seconds=`; see `registry.port`."""


def open_registry(
    settings: RegistrySettings, database: Database, blobs: BlobStore, *, clock: Clock = utc_now
) -> Registry:
    """Return the registry over the backend that the settings name.

    Raises:
        SettingsError: There is no backend with this name.
    """
    backend = _class(settings.backend)(database, blobs, clock=clock, lease_seconds=settings.lease_seconds)
    return Registry(backend, settings)


def _class(name: str) -> Any:
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    known = installed | BACKENDS
    if name not in known:
        problem = f"there is no backend `{name[:80]}`; installed: {', '.join(known)}"
        raise SettingsError(field="registry.backend", problem=problem)
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)
