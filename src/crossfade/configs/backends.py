"""Which boards there are, and how a URL becomes one."""

from __future__ import annotations

from typing import Protocol, cast

from crossfade.configs.database import DatabaseBoard
from crossfade.configs.port import Board
from crossfade.configs.publishing import Copy
from crossfade.errors import SettingsError
from crossfade.settings import Settings
from crossfade.storage.backends import Backend, load_backend
from crossfade.storage.database import Database

_ETCD = Backend("crossfade.configs.etcd:EtcdBoard")

BACKENDS = {"etcd": _ETCD, "etcds": _ETCD}
"""Scheme of a URL -> backend. `etcds` is etcd over TLS."""


class Opener(Protocol):
    """What a backend's class offers."""

    def from_url(self, url: str, settings: Settings) -> Copy:
        """Open the board that `url` names."""


def open_board(settings: Settings, database: Database) -> Board:
    """Open the board that readers of configs read from: by default the platform database itself.

    Raises:
        SettingsError: No backend has this scheme, or the URL cannot be used.
    """
    return open_copy(settings) or own_board(settings, database)


def own_board(settings: Settings, database: Database) -> DatabaseBoard:
    """Open the platform database as a board."""
    return DatabaseBoard(database, settings.serving.snapshot_poll_seconds)


def open_copy(settings: Settings) -> Copy | None:
    """Open the server that configs are copied to; None when they are read where they are decided.

    Raises:
        SettingsError: No backend has this scheme, or the URL cannot be used.
    """
    url = settings.configs.board_url.get_secret_value()
    if not url:
        return None
    opener = load_backend(BACKENDS, url.partition("://")[0], group="crossfade.configs", kind="the board of configs")
    if opener is None:
        known = ", ".join(f"`{name}`" for name in sorted(BACKENDS))
        raise SettingsError(field="configs.board_url", problem=f"its scheme is unknown; there are {known}")
    return cast("Opener", opener).from_url(url, settings)
