"""etcd as a board, through the JSON gateway of its version 3 interface.

Under the prefix, `active/NAME` says which versions of a config are read, and `documents/NAME/DIGEST` is what one of
them says. A config is replaced by a transaction that compares what it replaces, so a newer state is never overwritten
by an older one, whoever is late. Documents are checked against their digest when they are read.

Source: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec

from crossfade.configs.active import Published, PublishedVersion
from crossfade.configs.port import News
from crossfade.core.hashing import sha256
from crossfade.errors import ConfigBoardUnavailableError, SettingsError
from crossfade.ledger.admission import is_slug
from crossfade.settings import Settings
from crossfade.traffic.routing import ExperimentRoute

_log = logging.getLogger(__name__)

_SCHEMES = {"etcd": "http", "etcds": "https"}
_ATTEMPTS = 10
"""How often a change is tried again that others were faster than."""
_PLACE = re.compile(r"[A-Za-z0-9_.-]+(?::\d{1,5})?")


class _Pointer(msgspec.Struct, frozen=True):
    """What `active/NAME` holds: (number, digest) of each version that is read, and who reads which."""

    revision: int
    active: int | None
    versions: tuple[tuple[int, str], ...]
    routing: ExperimentRoute | None = None


class _Entry(NamedTuple):
    """A pointer, and the revision of etcd that it is from; 0 when there is none."""

    name: str
    pointer: _Pointer | None
    changed: int


class _DamageError(Exception):
    """Something here cannot be read, and whoever has the original may write it again."""


class EtcdBoard:
    """Reads from, and copies to, a cluster of etcd.

    Args:
        endpoints: Addresses; the next one is asked when one does not answer.
        prefix: Of all keys, without slashes around it.
        timeout_seconds: For one answer.
    """

    def __init__(self, endpoints: tuple[str, ...], prefix: str, timeout_seconds: float) -> None:
        self._endpoints = list(endpoints)
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout = httpx.Timeout(timeout_seconds)
        self._http = httpx.Client(timeout=self._timeout, trust_env=False)

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> EtcdBoard:
        """Open a board from `etcd://host:2379,other:2379/prefix`; nothing is asked yet.

        Raises:
            SettingsError: It is no such URL.
        """
        parts = urlsplit(url)
        places = parts.netloc.split(",")
        if not all(map(_PLACE.fullmatch, places)):
            problem = "write `etcd://host:2379/prefix`; users and passwords are not supported"
            raise SettingsError(field="configs.board_url", problem=problem)
        endpoints = tuple(f"{_SCHEMES[parts.scheme]}://{place}" for place in places)
        return cls(endpoints, parts.path.strip("/") or "crossfade", settings.configs.board_timeout_seconds)

    # --- reading ---

    def find(self, name: str) -> Published | None:
        """Return one config, or None when it is not there."""
        with self._translated():
            return self._whole(self._entry(name)) if is_slug(name) else None

    def since(self, position: int) -> News:
        """Return what changed after a revision of etcd; what is damaged there is told, and left out."""
        request = self._all() | {"min_mod_revision": str(position + 1)}
        found = self._ask("/v3/kv/range", request)
        changed = [self._readable(item) for item in found.get("kvs", ())]
        return News(int(found["header"]["revision"]), tuple(each for each in changed if each is not None))

    def wait(self, position: int, seconds: float) -> bool:
        """Watch from a revision on, at most so long."""
        request = {"create_request": self._all() | {"start_revision": str(position + 1)}}
        timeout = httpx.Timeout(self._timeout.connect, read=seconds)
        with self._translated():
            try:
                with self._http.stream("POST", f"{self._endpoints[0]}/v3/watch", json=request, timeout=timeout) as told:
                    for line in told.iter_lines():
                        result = msgspec.json.decode(line).get("result", {})
                        if result.get("events") or result.get("canceled"):  # it no longer knows what was so long ago
                            return True
            except httpx.ReadTimeout:
                return False
        return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- copying ---

    def lacking(self, everything: Iterable[Published]) -> list[Published]:
        """Return those of which something is missing here, or cannot be read; looks at no text of a document."""
        pointers = {entry.name: entry.pointer for entry in map(self._replaceable, self._items(self._all()))}
        documents = {item["key"] for item in self._items(self._all("documents") | {"keys_only": True})}

        def lacks(each: Published) -> bool:
            pointer = pointers.get(each.name)
            return pointer is None or any(
                self._document(each.name, old) not in documents for _, old in pointer.versions
            )

        return [each for each in everything if lacks(each)]

    def publish(self, published: Published, *, anew: bool = False) -> bool:
        """Keep a config, unless there is one as new (or `anew`) or newer; tell whether it was kept."""
        name = published.name
        versions = {version.digest: version for version in published.versions}
        numbers = tuple((version.number, version.digest) for version in published.versions)
        pointer = _Pointer(published.revision, published.active, numbers, published.routing)
        for _ in range(_ATTEMPTS):
            known = self._replaceable_entry(name)
            if known.pointer is not None and known.pointer.revision >= published.revision + anew:
                return False
            for digest, version in versions.items():  # each on its own: together they may be more than etcd takes
                self._ask("/v3/kv/put", {"key": self._document(name, digest), "value": _packed(version.document)})
            former = {digest for _, digest in known.pointer.versions} if known.pointer is not None else set()
            key = self._active(name)
            same = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(known.changed)}
            writes: list[dict[str, Any]] = [
                {"request_put": {"key": key, "value": _packed(msgspec.json.encode(pointer).decode())}},
                *({"request_delete_range": {"key": self._document(name, old)}} for old in former - versions.keys()),
            ]
            if self._ask("/v3/kv/txn", {"compare": [same], "success": writes}).get("succeeded"):
                return True
        raise ConfigBoardUnavailableError(problem=f"`{name}` changes faster than it can be copied")

    # --- parts ---

    def _items(self, request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        items: Sequence[Mapping[str, Any]] = self._ask("/v3/kv/range", request).get("kvs", ())
        return items

    def _entry(self, name: str) -> _Entry:
        found = self._items({"key": self._active(name)})
        return self._read(found[0]) if found else _Entry(name, None, 0)

    def _replaceable_entry(self, name: str) -> _Entry:
        found = self._items({"key": self._active(name)})
        return self._replaceable(found[0]) if found else _Entry(name, None, 0)

    def _replaceable(self, item: Mapping[str, Any]) -> _Entry:
        """Read an entry that may be overwritten: what nobody can read is as if it were not there."""
        try:
            return self._read(item)
        except _DamageError:
            return _Entry(self._name(item), None, int(item["mod_revision"]))

    def _readable(self, item: Mapping[str, Any]) -> Published | None:
        try:
            return self._whole(self._read(item))
        except _DamageError as error:
            _log.error("a config is left out until it is mended: %s", error)
            return None

    def _name(self, item: Mapping[str, Any]) -> str:
        return _unpacked(item["key"], errors="replace").removeprefix(f"{self._prefix}active/")

    def _read(self, item: Mapping[str, Any]) -> _Entry:
        name = self._name(item)
        try:
            pointer = msgspec.json.decode(base64.b64decode(item.get("value", "")), type=_Pointer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _DamageError(f"what it has of `{name}` was not written by this release ({error})") from error
        return _Entry(name, pointer, int(item["mod_revision"]))

    def _whole(self, entry: _Entry) -> Published | None:
        """Fetch the documents of a config; what was replaced on the way is read again."""
        for _ in range(_ATTEMPTS):
            if entry.pointer is None:
                return None
            versions = [self._version(entry.name, *version) for version in entry.pointer.versions]
            found = tuple(version for version in versions if version is not None)
            if len(found) == len(versions):
                pointer = entry.pointer
                return Published(entry.name, pointer.revision, pointer.active, found, pointer.routing)
            entry = self._entry(entry.name)
        raise _DamageError(f"documents of `{entry.name}` are missing")

    def _version(self, name: str, number: int, digest: str) -> PublishedVersion | None:
        found = self._ask("/v3/kv/range", {"key": self._document(name, digest)}).get("kvs")
        if not found:
            return None
        document = _unpacked(found[0].get("value", ""), errors="replace")
        if sha256(document.encode()) != digest:
            raise _DamageError(
                f"version {number} of `{name}` there is not what was copied; delete it, and it is copied again"
            )
        return PublishedVersion(number, digest, document)

    def _active(self, name: str) -> str:
        return _packed(f"{self._prefix}active/{name}")

    def _document(self, name: str, digest: str) -> str:
        return _packed(f"{self._prefix}documents/{name}/{digest}")

    def _all(self, kind: str = "active") -> dict[str, Any]:
        """Return the range of all pointers, or documents: `0` comes after `/`."""
        return {"key": _packed(f"{self._prefix}{kind}/"), "range_end": _packed(f"{self._prefix}{kind}0")}

    def _ask(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._translated():
            for left in reversed(range(len(self._endpoints))):
                try:
                    answer = self._http.post(f"{self._endpoints[0]}{path}", json=request)
                except httpx.TransportError:
                    if not left:
                        raise
                    self._endpoints.append(self._endpoints.pop(0))  # the others may do better
                else:
                    answer.raise_for_status()
                    found: dict[str, Any] = answer.json()
                    return found
        raise AssertionError("there is at least one endpoint")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            problem = f"{error.response.status_code}, {error.response.text[:200]}"
            raise ConfigBoardUnavailableError(problem=problem) from error
        except (httpx.HTTPError, ValueError, RuntimeError, _DamageError) as error:  # no answer, no JSON, closed
            raise ConfigBoardUnavailableError(problem=str(error) or type(error).__name__) from error


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unpacked(text: str, errors: str = "strict") -> str:
    return base64.b64decode(text).decode(errors=errors)
