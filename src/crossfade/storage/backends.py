"""What the ports of storage share: a table of backends by the scheme of a URL, each imported when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from crossfade.errors import MissingExtraError


class Backend(NamedTuple):
    """Where a backend is, and the package that it needs, installed with the extra of that name."""

    target: str
    package: str = ""
    extra: str = ""


def load_backend(backends: Mapping[str, Backend], scheme: str, *, group: str, kind: str) -> Any | None:
    """Import the class of a backend, from the table or from an installed package; None when nobody has the scheme.

    Args:
        backends: Scheme of a URL -> backend.
        scheme: The one that is wanted.
        group: The entry points with which other packages add schemes.
        kind: What errors call such a backend: `the blob store`.

    Raises:
        MissingExtraError: The backend's package is not installed.
    """
    backend = backends.get(scheme)
    if backend is None:
        return next((entry.load() for entry in entry_points(group=group, name=scheme)), None)
    module, _, name = backend.target.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if not backend.package or (error.name or "").startswith("crossfade"):
            raise
        feature = f"{kind} `{scheme}`"
        raise MissingExtraError(feature=feature, package=backend.package, extra=backend.extra) from error
