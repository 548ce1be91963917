"""What reading a version costs the process that does it: nothing that it need not read, nothing beyond its memory."""

from __future__ import annotations

import pytest

from crossfade.core import memory
from crossfade.errors import CorruptBlobError, LoadFailedError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.loading import inspect_version
from tests.registry.support import toy_manifest, upload
from tests.registry.toy import Linear, Toy

WEIGHTS = b"w" * 5_000


@pytest.fixture
def manifest(registry):
    """A version with a large file that its format does not look into before it is loaded."""
    built, contents = toy_manifest("churn", "1.0.0", Linear((1.0,)), extra=[("weights.bin", "model", WEIGHTS)])
    upload(registry, contents)
    return built


def harm(registry, manifest, path):
    digest = next(entry.digest for entry in manifest.files if entry.path == path)
    stored = registry.backend.blobs.root / "sha256" / digest[:2] / digest
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")


def test_inspecting_reads_only_what_the_format_looks_into(registry, manifest, monkeypatch):
    seen = []
    read = registry.backend.blobs.read
    monkeypatch.setattr(registry.backend.blobs, "read", lambda digest: seen.append(digest) or read(digest))
    inspect_version(manifest, registry.backend.blobs, TrustPolicy())
    assert seen == [entry.digest for entry in manifest.files if entry.path == "model.toy"]


def test_what_the_format_does_not_look_into_is_checked_all_the_same(registry, manifest):
    harm(registry, manifest, "weights.bin")
    with pytest.raises(CorruptBlobError, match=r"weights\.bin of `churn:1\.0\.0`.* damaged"):
        registry.publish(manifest)


def test_a_format_sees_every_file(registry, manifest, monkeypatch):
    seen = {}
    monkeypatch.setattr(Toy, "inspect", lambda self, files, policy: seen.update(files))
    inspect_version(manifest, registry.backend.blobs, TrustPolicy())
    assert list(seen) == ["model.toy", "weights.bin"]
    assert seen["weights.bin"] == WEIGHTS


def test_a_damaged_file_that_no_format_reads_is_not_published(registry):
    built, contents = toy_manifest("churn", "1.0.0", Linear((1.0,)), extra=[("train.py", "code", b"print()")])
    upload(registry, contents)
    harm(registry, built, "train.py")
    with pytest.raises(CorruptBlobError, match=r"train\.py"):
        registry.publish(built)


@pytest.mark.parametrize("limit", ["meminfo", "container"])
def test_a_file_larger_than_the_memory_that_is_left_is_refused_before_it_is_read(
    registry, manifest, monkeypatch, tmp_path, limit
):
    registry.publish(manifest)
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:  9 kB\n" if limit == "meminfo" else "")
    (tmp_path / "max").write_text("max\n" if limit == "meminfo" else "9216\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (tmp_path / "nowhere", tmp_path / "max"))
    with pytest.raises(LoadFailedError) as caught:
        registry.load("churn:1.0.0")
    said = "`churn:1.0.0` cannot be loaded: `weights.bin` has 5000 bytes, and 9216 bytes of memory are available"
    assert str(caught.value) == said


def test_where_the_system_does_not_tell_its_memory_everything_is_read(registry, manifest, monkeypatch, tmp_path):
    registry.publish(manifest)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nothing")
    assert registry.load("churn:1.0.0").model.model == Linear((1.0,))
