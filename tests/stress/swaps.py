"""Hot swaps under constant open-loop load against a real server, some of them to broken versions.

Every answer tells by which version it was given, and for which row; see `open_loop`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

import crossfade
from crossfade.errors import NotReadyError
from crossfade.platform import Platform
from crossfade.registry import registration
from crossfade.registry.packaging import Draft, pack
from crossfade.settings import RegistrySettings
from tests.stress.open_loop import Seen, answer_of
from tests.stress.slow import SLOW_SECONDS, Crashing, Slow
from tests.stress.traffic import Traffic

BREAKAGES = ("corrupt", "golden", "crash", "slow")
"""Slow is slow, not broken: it has to be promoted."""
EXAMPLE = np.arange(6.0).reshape(3, 2)
_LAST_SECONDS = 2.0
"""Traffic after the last swap: so long the last version forms batches that can be counted."""


def register(platform: Platform, number: int, breakage: str = "") -> str:
    """Register the version that answers `number`, broken in one way or not at all."""
    from sklearn.linear_model import LinearRegression

    version = f"1.0.{number}"
    model: object = LinearRegression().fit(EXAMPLE, [answer_of(version, row) for row in EXAMPLE[:, 0]])
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


@dataclass
class Outcome:
    """What became of each swap, and what the traffic saw."""

    moved: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: int = 0
    versions: int = 0
    requests_per_call: float = 0.0

    def judge(self, traffic: Seen, broken: set[str]) -> None:
        """Note everything that must not happen."""
        self.requests = traffic.requests
        self.versions = len(traffic.versions)
        self.violations += [f"failed: {failure}" for failure in traffic.failed]
        self.violations += [f"mixed: {mixture}" for mixture in traffic.mixed]
        self.violations += [f"{version} is broken and was promoted" for version in self.moved if version in broken]
        self.violations += [f"{version} is sound and was refused" for version in self.refused if version not in broken]
        self.violations += [f"{version} is broken and answered" for version in traffic.versions if version in broken]
        if self.requests_per_call <= 1.0:
            self.violations.append("no two requests shared a call, so that nothing could have been mixed")


def settings(home: Path) -> crossfade.Settings:
    """Code is allowed, because two of the breakages need it."""
    return crossfade.Settings(home=home, registry=RegistrySettings(allow_code_models=True))


def campaign(platform: Platform, url: str, *, swaps: int, broken: int, rate: float) -> Outcome:
    """Swap the champion `swaps` times, `broken` of them to versions that are broken, or slow to load, spread evenly."""
    every = swaps // broken
    outcome, refusable = Outcome(), set()
    with Traffic(f"{url}/v2/models/m/infer", rate) as traffic:
        for number in range(1, swaps + 1):
            breakage = BREAKAGES[number // every % len(BREAKAGES)] if number % every == 0 else ""
            version = register(platform, number, breakage)
            if breakage not in {"", "slow"}:
                refusable.add(version)
            try:
                report = platform.switch.move("m", "champion", version, reason="campaign")
            except NotReadyError:
                outcome.refused.append(version)
                continue
            outcome.moved.append(version)
            if breakage == "slow" and report.seconds < SLOW_SECONDS:
                outcome.violations.append(f"{version} was promoted before it can have been loaded")
        time.sleep(_LAST_SECONDS)
        outcome.requests_per_call = requests_per_call(url)
    outcome.judge(traffic, refusable)
    return outcome


def requests_per_call(url: str) -> float:
    """How many requests shared one call of a model, on average, of the versions that are loaded now."""
    text = httpx.get(f"{url}/metrics", timeout=20).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    answered = sum(s.value for s in samples if s.name == "crossfade_requests_total" and s.labels["code"] == "2xx")
    calls = sum(s.value for s in samples if s.name == "crossfade_batch_rows_count")
    return answered / calls
