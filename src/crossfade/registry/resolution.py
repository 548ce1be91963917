"""From any spelling of a reference to one version, with a suggestion when there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from typing import NoReturn

from crossfade.core.identity import ModelRef
from crossfade.errors import AliasNotFoundError, ModelNotFoundError, VersionNotFoundError
from crossfade.registry.pages import MAX_LIMIT
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Version

_SIMILAR = 0.6
_NEAR = 20
"""Versions of the same line, and as many of the newest, among which a suggestion is looked for."""


def resolve(backend: RegistryBackend, ref: str | ModelRef, *, stages: Collection[str] = ()) -> Version:
    """Return the version that a reference means.

    Args:
        backend: Where to look.
        ref: Any spelling that `ModelRef.parse` understands.
        stages: Names to suggest when a stage is misspelt.

    Raises:
        InvalidRefError: It is no reference.
        ModelNotFoundError, AliasNotFoundError, VersionNotFoundError: There is nothing there; suggests what is similar.
    """
    wanted = ModelRef.parse(ref) if isinstance(ref, str) else ref
    found = _find(backend, wanted)
    if found is not None:
        return found
    model = backend.find_model(wanted.name) or missing_model(backend, wanted.name)
    if wanted.alias is not None:
        similar = _suggest(wanted.alias, model.aliases, f"{wanted.name}@{{}}".format)
        raise AliasNotFoundError(name=wanted.name, alias=wanted.alias, suggestion=similar)
    if wanted.stage is not None:
        similar = _suggest(wanted.stage, [s for s in stages if s != wanted.stage], f"models:/{wanted.name}/{{}}".format)
        raise VersionNotFoundError(ref=str(wanted), name=wanted.name, suggestion=similar)
    similar = _suggest(wanted.version or "", _versions(backend, wanted), f"{wanted.name}:{{}}".format)
    raise VersionNotFoundError(ref=str(wanted), name=wanted.name, suggestion=similar)


def _find(backend: RegistryBackend, ref: ModelRef) -> Version | None:
    if ref.version is not None:
        return backend.find_version(ref.name, ref.version)
    if ref.alias is not None:
        return backend.find_alias(ref.name, ref.alias)
    if ref.stage is not None:
        return backend.find_in_stage(ref.name, ref.stage)
    return backend.find_numbered(ref.name, ref.number or 0)


def missing_model(backend: RegistryBackend, name: str) -> NoReturn:
    """Say that there is no such model, and which similar one there is.

    Raises:
        ModelNotFoundError: Always.
    """
    known = backend.list_models(limit=MAX_LIMIT).items
    raise ModelNotFoundError(name=name, suggestion=_suggest(name, [model.name for model in known], str))


@contextlib.contextmanager
def suggesting(backend: RegistryBackend, name: str) -> Iterator[None]:
    """Add a suggestion when the backend says that there is no such model.

    Raises:
        ModelNotFoundError: As raised inside.
    """
    try:
        yield
    except ModelNotFoundError:
        missing_model(backend, name)


def _versions(backend: RegistryBackend, ref: ModelRef) -> list[str]:
    if ref.version is None:
        return []
    minor_line = ref.version.rpartition(".")[0] if "-" not in ref.version else ""
    near = backend.list_versions(ref.name, prefix=minor_line, limit=_NEAR).items
    newest = backend.list_versions(ref.name, limit=_NEAR).items
    return [version.version for version in (*near, *newest)]


def _suggest(given: str, known: Collection[str], spell: Callable[[str], str]) -> str:
    similar = get_close_matches(given, known, n=1, cutoff=_SIMILAR)
    return f"did you mean `{spell(similar[0])}`? Or " if similar else ""
