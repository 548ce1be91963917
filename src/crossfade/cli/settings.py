"""`crossfade settings`: every setting, its value, and where the value comes from. Secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from crossfade.cli.output import Sheet
from crossfade.cli.session import Session, command

_MASK = "**********"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def settings() -> None:
    """See every setting and where its value comes from."""


@command(settings, remote=False)
@click.option("--sources", is_flag=True, help="Also say where each value comes from, and what it means.")
def show(session: Session, sources: bool) -> None:
    """Show every setting of this machine and folder."""
    entries = list(_entries())
    if sources:
        headings: tuple[str, ...] = ("setting", "value", "source", "meaning")
        rows = [(entry["setting"], str(entry["value"]), entry["source"], entry["meaning"]) for entry in entries]
        session.show(entries, Sheet(headings, rows))
    else:
        rows_of_two = [(entry["setting"], str(entry["value"])) for entry in entries]
        session.show(entries, Sheet(("setting", "value"), rows_of_two))
    session.hint("change one with `CROSSFADE_<SECTION>__<SETTING>` or in `crossfade.toml`")


def _entries() -> Iterator[dict[str, Any]]:
    from crossfade.settings import Settings, names

    loaded = Settings.load()
    environment, file = _given()
    for setting in names():
        path = tuple(setting.split("."))
        holder = getattr(loaded, path[0]) if len(path) > 1 else loaded
        field = type(holder).model_fields[path[-1]]
        source = "environment" if _has(environment, path) else "file" if _has(file, path) else "default"
        yield {
            "setting": setting,
            "value": _shown(path[-1], getattr(holder, path[-1])),
            "source": source,
            "meaning": field.description or "",
        }


def _given() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what the environment and the file say, section by section."""
    import os

    from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

    from crossfade.settings import Settings

    file = TomlConfigSettingsSource(Settings, os.environ.get("CROSSFADE_CONFIG", "crossfade.toml"))
    return EnvSettingsSource(Settings)(), file()


def _has(given: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = given
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _shown(name: str, value: object) -> Any:
    """Return a value as it may be seen: no secret, and no password inside of a URL."""
    from pydantic import BaseModel, SecretStr

    if isinstance(value, SecretStr):
        return _MASK if value.get_secret_value() else ""
    if name.endswith("_url") and isinstance(value, str) and "@" in value:
        scheme, separator, rest = value.partition("://")
        user, _, host = rest.rpartition("@")
        return f"{scheme}{separator}{user.partition(':')[0]}:{_MASK}@{host}"
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):  # secrets in it are masked
        return {
            key: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for key, part in value.items()
        }
    return value if isinstance(value, str | int | float | bool) else str(value)
