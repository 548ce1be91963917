"""`References`: whether what a document names exists: models, their versions and aliases, other configs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import select

from crossfade.configs.checking import Finding, Reference
from crossfade.core.identity import ModelRef
from crossfade.errors import InvalidInputError, NotFoundError
from crossfade.ledger.admission import is_slug
from crossfade.registry.registry import Registry
from crossfade.registry.versions import REJECTED
from crossfade.storage.database import Database
from crossfade.storage.tables import configs


class References:
    """Looks up what documents refer to.

    Args:
        registry: Where models are.
        database: Where configs are.
    """

    def __init__(self, registry: Registry, database: Database) -> None:
        self._registry = registry
        self._database = database

    def missing(self, references: Iterable[Reference]) -> tuple[Finding, ...]:
        """Return what is wrong with references; nothing when all they name is there."""
        return tuple(self._missing(references))

    def _missing(self, references: Iterable[Reference]) -> Iterator[Finding]:
        known: dict[tuple[str, str], str] = {}
        for reference in references:
            key = reference.kind, reference.target
            if key not in known:
                known[key] = self._problem(*key)
            if known[key]:
                yield Finding(reference.path, known[key], "reference")

    def _problem(self, kind: str, target: str) -> str:
        if kind == "config":
            return self._config(target)
        try:
            if kind == "model":
                self._registry.model(target)
                return ""
            ref = ModelRef.parse(target)
            if getattr(ref, kind) is None:
                return f"`{target[:80]}` is no {kind}, such as `churn{'@champion' if kind == 'alias' else ':1.2.0'}`"
            version = self._registry.resolve(ref)
        except (NotFoundError, InvalidInputError) as error:
            return error.message
        return f"`{version.ref}` was rejected" if version.stage == REJECTED else ""

    def _config(self, name: str) -> str:
        with self._database.read() as connection:
            query = select(configs.c.active).where(configs.c.name == name)
            row = connection.execute(query).one_or_none() if is_slug(name) else None
        if row is None:
            return f"there is no config `{name[:80]}`"
        return "" if row.active is not None else f"no version of config `{name[:80]}` is active"
