"""Which caches there are, and how a URL becomes one."""

from __future__ import annotations

from typing import Protocol, cast

from crossfade.errors import SettingsError
from crossfade.settings import Settings
from crossfade.storage.backends import Backend, load_backend
from crossfade.storage.cache.port import Cache


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
    opener = load_backend(BACKENDS, scheme, group="crossfade.cache", kind="the cache")
    if opener is None:
        known = ", ".join(f"`{name}`" for name in sorted(BACKENDS))
        raise SettingsError(field="cache.redis_url", problem=f"its scheme is unknown; there are {known}")
    return cast("Opener", opener)
