"""Names of things: model and alias slugs, semantic versions, `ModelRef`, sortable ids."""

from __future__ import annotations

import os
import re
import time
from functools import total_ordering
from typing import Literal, Self
from urllib.parse import unquote

import msgspec

from crossfade.errors import InvalidNameError, InvalidPathError, InvalidRefError, InvalidSemverError

CHAMPION = "champion"
"""The alias that a bare model name means."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_LABEL = r"(?:0|[1-9][0-9]{0,17}|[0-9]{0,17}[A-Za-z-][0-9A-Za-z-]{0,31})"
_SEMVER = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_LABEL}(?:\.{_LABEL}){{0,7}}))?")
_FOREIGN_NUMBER = re.compile(r"[0-9]{1,9}")
_FILE_PATH = re.compile(r"[A-Za-z0-9._-]{1,128}(/[A-Za-z0-9._-]{1,128}){0,7}")


def check_name(name: str, kind: str = "model") -> str:
    """Return `name` when it is a slug.

    Raises:
        InvalidNameError: It is not.
    """
    if not _SLUG.fullmatch(name):
        raise InvalidNameError(name=name[:80], kind=kind)
    return name


def check_file_path(path: str) -> str:
    """Return `path` when it may label a file inside a version. It is never joined to a file system path.

    Raises:
        InvalidPathError: It is empty, absolute, has `..`, escapes, a backslash, NUL or more than 8 levels.
    """
    if not _FILE_PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise InvalidPathError(path=path[:80])
    return path


@total_ordering
class Semver(msgspec.Struct, frozen=True):
    """A semantic version, ordered as semver.org 2.0.0 says (build metadata is not supported).

    Example:
        >>> Semver.parse("2.1.0-rc.1") < Semver.parse("2.1.0")
        True
    """

    major: int
    minor: int
    patch: int
    prerelease: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `2.1.0`, `v2.1.0` or `2.1.0-rc.1`.

        Raises:
            InvalidSemverError: `text` is none of these.
        """
        match = _SEMVER.fullmatch(text)
        if match is None:
            raise InvalidSemverError(version=text[:80])
        major, minor, patch, prerelease = match.groups()
        return cls(int(major), int(minor), int(patch), prerelease or "")

    def bump(self, part: Literal["major", "minor", "patch"]) -> Semver:
        """Return the next version of that kind, without prerelease."""
        if part == "major":
            return Semver(self.major + 1, 0, 0)
        if part == "minor":
            return Semver(self.major, self.minor + 1, 0)
        return Semver(self.major, self.minor, self.patch + 1)

    def _precedence(self) -> tuple[object, ...]:
        # semver.org 11: a release follows its prereleases; numbers sort before words and numerically
        labels = tuple(
            (0, int(label), "") if label.isdigit() else (1, 0, label)
            for label in (self.prerelease.split(".") if self.prerelease else ())
        )
        return (self.major, self.minor, self.patch, not self.prerelease, labels)

    def __lt__(self, other: Semver) -> bool:
        """Order by precedence."""
        return self._precedence() < other._precedence()

    def __str__(self) -> str:
        """Return the plain spelling, without `v`."""
        plain = f"{self.major}.{self.minor}.{self.patch}"
        return f"{plain}-{self.prerelease}" if self.prerelease else plain


class ModelRef(msgspec.Struct, frozen=True):
    """Which version somebody means: exactly one of a semver, an alias, a stage or a foreign number.

    A bare name means `@champion`. Other tools' spellings are understood: `name/2.1.0`, `name:v2.1.0`, `models:/name/3`
    (the version whose `source` number is 3), `models:/name/Production` (the newest version in that stage),
    `models:/name@alias`.

    Example:
        >>> str(ModelRef.parse("models:/lead_scoring/v2.1.0"))
        'lead_scoring:2.1.0'
    """

    name: str
    version: str | None = None
    alias: str | None = None
    stage: str | None = None
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse any spelling.

        Raises:
            InvalidRefError: It is no spelling of a reference.
        """
        body = text.strip()
        foreign = body.startswith("models:/")
        body = unquote(body.removeprefix("models:/").lstrip("/")) if foreign else body
        try:
            return cls._parse(body)
        except (InvalidNameError, InvalidSemverError) as error:
            raise InvalidRefError(ref=text[:120]) from error

    @classmethod
    def _parse(cls, body: str) -> Self:
        if "@" in body:
            name, _, alias = body.partition("@")
            return cls(check_name(name), alias=check_name(alias, "alias"))
        name, separator, rest = body.partition(":") if ":" in body else body.partition("/")
        check_name(name)
        if not separator:
            return cls(name, alias=CHAMPION)
        if _FOREIGN_NUMBER.fullmatch(rest):
            return cls(name, number=int(rest))
        if _SEMVER.fullmatch(rest):
            return cls(name, version=str(Semver.parse(rest)))
        return cls(name, stage=check_name(rest.lower(), "stage"))

    def __str__(self) -> str:
        """Return the canonical spelling."""
        if self.version is not None:
            return f"{self.name}:{self.version}"
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return f"models:/{self.name}/{self.number if self.stage is None else self.stage}"


_MARKS = 0x7 << 76 | 0x2 << 62
"""The version and the variant of an id."""
_RANDOM_BITS = (1 << 80) - 1 & ~(0xF << 76 | 0x3 << 62)


def new_id() -> str:
    """Return a new id that sorts by time: the hexadecimal layout of UUID version 7 (RFC 9562, section 5.7)."""
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_BITS
    text = ((time.time_ns() // 1_000_000) << 80 | random | _MARKS).to_bytes(16, "big").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def first_id(milliseconds: int) -> str:
    """Return what sorts before every id of `new_id` that is made at this time (since 1970) or later.

    Example:
        >>> first_id(0x0123456789AB)
        '01234567-89ab'
    """
    text = f"{max(milliseconds, 0):012x}"
    return f"{text[:8]}-{text[8:12]}"


def milliseconds_of(text: str) -> int:
    """Return when an id of `new_id` was made, in milliseconds since 1970.

    Example:
        >>> milliseconds_of("01234567-89ab-7000-8000-000000000000") == 0x0123456789AB
        True
    """
    return int(text[:8] + text[9:13], 16)
