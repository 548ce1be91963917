"""Hot swaps under constant open-loop load against a real server, some of them to broken versions.

Version `1.0.N` answers N to everything, so an answer whose number is not the patch of its version was predicted by the
wrong version: a mixed batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import msgspec
import numpy as np

import crossfade
from crossfade.errors import NotReadyError
from crossfade.platform import Platform
from crossfade.registry import registration
from crossfade.registry.packaging import Draft, pack
from crossfade.settings import RegistrySettings
from tests.stress.slow import Crashing, Slow

BREAKAGES = ("corrupt", "golden", "crash", "slow")
EXAMPLE = np.arange(6.0).reshape(3, 2)


@dataclass
class Traffic:
    """Sends requests at fixed times, whatever the answers do, from a thread of its own."""

    url: str
    rate: float
    versions: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    @property
    def requests(self) -> int:
        return sum(self.versions.values()) + len(self.failed)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(limits=limits, timeout=20) as client, asyncio.TaskGroup() as tasks:
            start, sent = loop.time(), 0
            while not self._ending.is_set():
                tasks.create_task(self._ask(client))
                sent += 1
                await asyncio.sleep(max(0.0, start + sent / self.rate - loop.time()))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}
        try:
            answer = await client.post(self.url, json=body)
            document = answer.json()
            version, value = document["model_version"], document["outputs"][0]["data"][0]
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self.failed.append(repr(error))
            return
        self.versions[version] += 1
        if round(float(value)) != int(version.rsplit(".", 1)[1]):
            self.mixed.append(f"{version} answered {value}")


def register(platform: Platform, number: int, breakage: str = "") -> str:
    """Register the version that answers `number`, broken in one way or not at all."""
    from sklearn.linear_model import LinearRegression

    version = f"1.0.{number}"
    model: object = LinearRegression().fit(EXAMPLE, np.full(3, float(number)))
    if breakage == "slow":
        model = Slow(number)
    elif breakage == "crash":
        model = Crashing(number)
    draft = pack(model, example=EXAMPLE, policy=platform.registry.policy)
    if breakage == "golden":
        draft = with_golden_of(draft, pack(LinearRegression().fit(EXAMPLE, np.full(3, -1.0)), example=EXAMPLE))
    backend, settings = platform.registry.backend, platform.settings.registry
    registration.register(backend, settings, draft, draft.manifest("m", version), principal="stress")
    if breakage == "corrupt":
        damage(platform, version)
    return version


def with_golden_of(draft: Draft, other: Draft) -> Draft:
    """Put another version's golden answers into a draft; `pack` would have noticed."""
    kept = [entry for entry in draft.files if entry.role != "golden"]
    wrong = [entry for entry in other.files if entry.role == "golden"]
    contents = {**draft.contents, **other.contents}
    return msgspec.structs.replace(
        draft,
        files=tuple(sorted(kept + wrong, key=lambda entry: entry.path)),
        contents={entry.digest: contents[entry.digest] for entry in kept + wrong},
    )


def damage(platform: Platform, version: str) -> None:
    """Change one byte in the middle of the model's blob, behind the registry's back."""
    manifest = platform.registry.manifest(f"m:{version}")
    digest = manifest.files_of("model")[0].digest
    path = next(Path(platform.settings.blobs_url).glob(f"sha256/*/{digest}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)


@dataclass(frozen=True)
class Outcome:
    """What happened: how many swaps took place, how many were refused, and what the traffic saw."""

    moved: int
    refused: int
    requests: int
    failed: list[str]
    mixed: list[str]
    versions: int


def settings(home: Path) -> crossfade.Settings:
    """Code is allowed, because two of the breakages need it."""
    return crossfade.Settings(home=home, registry=RegistrySettings(allow_code_models=True))


def campaign(platform: Platform, url: str, *, swaps: int, broken: int, rate: float) -> Outcome:
    """Swap the champion `swaps` times, `broken` of them to broken versions, spread evenly."""
    every = swaps // broken
    moved = refused = 0
    with Traffic(f"{url}/v2/models/m/infer", rate) as traffic:
        for number in range(1, swaps + 1):
            breakage = BREAKAGES[number // every % len(BREAKAGES)] if number % every == 0 else ""
            version = register(platform, number, breakage)
            try:
                platform.switch.move("m", "champion", version, reason="campaign")
            except NotReadyError:
                refused += 1
            else:
                moved += 1
    return Outcome(moved, refused, traffic.requests, traffic.failed, traffic.mixed, len(traffic.versions))
