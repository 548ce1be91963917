"""Which caches there are, and how a URL becomes one."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol, cast

from crossfade.errors import MissingExtraError, SettingsError
from crossfade.settings import Settings
from crossfade.storage.cache.port import Cache


class Backend(NamedTuple):
    """Where a backend is, and the package that it needs, installed with the extra of that name."""

    target: str
    package: str = ""
    extra: str = ""


class Opener(Protocol):
    """What a backend's class offers."""

    def from_url(self, url: str, settings: Settings) -> Cache:
        """Open the cache that `url` names."""


_REDIS = Backend("crossfade.storage.cache.redis:RedisCache", package="redis", extra="redis")

BACKENDS = {
    "memory": Backend("crossfade.storage.cache.memory:MemoryCache"),
    "redis": _REDIS,
    "rediss": _REDIS,
}
"""Scheme of a URL -> backend. `rediss` is Redis over TLS."""


def open_cache(url: str, settings: Settings) -> Cache:
    """Open a cache, loading only its backend. A server is contacted by the first call.

    Other packages add schemes with entry points in the group `crossfade.cache`.

    Raises:
        SettingsError: No backend has this scheme, or the URL cannot be used.
        MissingExtraError: The backend's package is not installed.
    """
    return _load(url.partition("://")[0]).from_url(url, settings)


def _load(scheme: str) -> Opener:
    backend = BACKENDS.get(scheme)
    if backend is None:
        for entry in entry_points(group="crossfade.cache", name=scheme):
            return cast("Opener", entry.load())
        known = ", ".join(f"`{name}`" for name in sorted(BACKENDS))
        raise SettingsError(field="cache.redis_url", problem=f"its scheme is unknown; there are {known}")
    module, _, name = backend.target.partition(":")
    try:
        return cast("Opener", getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        if not backend.package or (error.name or "").startswith("crossfade"):
            raise
        feature = f"the cache `{scheme}`"
        raise MissingExtraError(feature=feature, package=backend.package, extra=backend.extra) from error
