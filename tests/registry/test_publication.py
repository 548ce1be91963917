"""The policy that every manifest meets, wherever it comes from."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.tensors import TensorSpec
from crossfade.errors import (
    CodeNotAllowedError,
    CorruptBlobError,
    CrossfadeError,
    InvalidInputError,
    InvalidNameError,
    InvalidPathError,
    InvalidSemverError,
    LoadFailedError,
    ManifestError,
    UnknownFlavorError,
    VersionConflictError,
)
from crossfade.registry import acceptance
from crossfade.registry.acceptance import read_card, read_manifest
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.registry import Registry
from crossfade.registry.versions import Card, FileEntry, Manifest
from crossfade.settings import RegistrySettings
from tests.registry.support import toy_manifest, upload
from tests.registry.toy import Linear, columns

MODEL = Linear((1.0, 2.0))


def manifest(**changes):
    return msgspec.structs.replace(toy_manifest("churn", "1.0.0", MODEL)[0], **changes)


def entry(path="model.toy", data=b"{}", role="model", **changes):
    return msgspec.structs.replace(FileEntry(path, sha256(data), len(data), "text/plain", role), **changes)


def publish(registry, card=None, extra=(), model=MODEL, **changes):
    built, contents = toy_manifest("churn", "1.0.0", model, extra=extra, **changes)
    if card is not None:
        card_bytes = card if isinstance(card, bytes) else json.dumps(card).encode()
        contents.append(card_bytes)
        files = tuple(
            entry("card.json", card_bytes, "card", media_type="a/b") if e.path == "card.json" else e
            for e in built.files
        )
        built = msgspec.structs.replace(built, files=files)
    upload(registry, contents)
    return registry.publish(built.encode())


# --- the manifest by itself ---


@pytest.mark.parametrize(
    "path",
    [
        "../model.toy",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "a\\b",
        "%2e%2e/model.toy",
        "a\0b",
        "./a",
        "a/.",
        "",
        "a/b/c/d/e/f/g/h/i",
        "x" * 129,
        "C:/x",
        "m\u00f6del",
        "a\n",
        "con:",
        "a b",
    ],
)
def test_hostile_paths_are_refused(path):
    with pytest.raises(InvalidPathError):
        read_manifest(manifest(files=(entry(path),)))


@pytest.mark.parametrize("name", ["..", ".hidden", "A", "a/b", "a\\b", "a%2fb", "a\0", "", "x" * 65, "a\n", "\u0430bc"])
def test_hostile_names_are_refused(name):
    with pytest.raises(InvalidNameError):
        read_manifest(manifest(name=name))


@pytest.mark.parametrize("version", ["1.0", "1.0.0+a", "01.0.0", "1.0.0-", "-1.0.0", "1.0.0\n", "9999999999.0.0"])
def test_hostile_versions_are_refused(version):
    with pytest.raises(InvalidSemverError):
        read_manifest(manifest(version=version))


def many(count):
    return tuple(entry(f"f{i:05d}") for i in range(count))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": "v1.0.0"}, "write the version as `1.0.0`"),
        ({"format": 2}, "format 2"),
        ({"files": ()}, "no model file"),
        ({"files": (entry(), entry())}, "order of their paths, each once"),
        ({"files": (entry("b"), entry("a"))}, "order of their paths"),
        ({"files": many(1001)}, "more than 1000 files"),
        ({"files": (entry("manifest.json"),)}, "own place"),
        ({"files": (entry("a"), entry("b", role="manifest"))}, "own place"),
        ({"files": (entry("a", role="card"), entry("b", role="card"), entry("c"))}, "more than one card"),
        ({"files": (entry("a", role="golden"), entry("b", role="golden"), entry("c"))}, "more than one card"),
        ({"preprocessor": "toy"}, "both a flavor and files"),
        ({"files": (entry("a"), entry("b", role="preprocessor"))}, "both a flavor and files"),
        ({"files": (entry(digest="A" * 64),)}, "no SHA-256 digest"),
        ({"files": (entry(digest="../../x"),)}, "no SHA-256 digest"),
        ({"files": (entry(size=-1),)}, "negative size"),
        ({"files": (entry(media_type="text/html; x"),)}, "no media type"),
        ({"signature": columns("a", "a")}, "names that differ"),
        ({"signature": columns()}, "names"),
        ({"signature": columns("")}, "tensor name"),
        ({"signature": columns("a\n")}, "tensor name"),
        ({"signature": columns("a\u202eb")}, "tensor name"),
        ({"signature": columns("x" * 201)}, "tensor name"),
    ],
)
def test_inconsistent_manifests_are_refused(changes, problem):
    with pytest.raises(ManifestError, match=problem):
        read_manifest(manifest(**changes))


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "FP128", (-1,)),
        TensorSpec("x", "FP64", ()),
        TensorSpec("x", "FP64", (3,)),
        TensorSpec("x", "FP64", (-1, -2)),
        TensorSpec("x", "FP64", (-1, 2**31)),
        TensorSpec("x", "FP64", (-1, *[1] * 16)),
    ],
)
def test_tensors_that_cannot_be_are_refused(spec):
    signature = msgspec.structs.replace(columns("x"), inputs=(spec,), layout="tensors")
    with pytest.raises(ManifestError):
        read_manifest(manifest(signature=signature))


def test_signatures_are_bounded():
    wide = columns(*(f"x{i}" for i in range(acceptance.MAX_TENSORS)))
    with pytest.raises(ManifestError, match="more than"):
        read_manifest(manifest(signature=wide))
    with pytest.raises(ManifestError, match="the class"):
        read_manifest(manifest(signature=msgspec.structs.replace(columns("x"), classes=("a", "b\0"))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"\xff"',
        b"[" * 100_000,
        b'{"name":' + b'{"a":' * 100_000,
        manifest().encode().replace(b'"flavor"', b'"flavour"'),
        manifest().encode().replace(b'"model"', b'"kernel"'),
        manifest().encode()[:-1] + b',"layuot":"pandas"}',
        manifest().encode().replace(b'"files":[', b'"files":[1e999,'),
        b" " * (acceptance.MAX_MANIFEST_BYTES + 1),
    ],
)
def test_malformed_manifests_are_refused(content):
    with pytest.raises(ManifestError):
        read_manifest(content)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 10**6))
def test_a_damaged_manifest_is_refused_with_a_typed_error_or_is_another_valid_one(noise, position):
    encoded = manifest().encode()
    position %= len(encoded)
    try:
        read = read_manifest(encoded[:position] + noise + encoded[position + len(noise) :])
    except InvalidInputError:
        return
    assert isinstance(read, Manifest)


# --- what it names ---


def test_a_manifest_with_a_lost_blob_is_refused_and_the_file_named(registry):
    built, contents = toy_manifest("churn", "1.0.0", MODEL)
    upload(registry, contents[1:])
    with pytest.raises(CorruptBlobError, match=r"model\.toy of `churn:1\.0\.0`\) is missing"):
        registry.publish(built)
    assert registry.list_models().items == ()


def test_a_manifest_that_lies_about_a_size_is_refused(registry):
    built, contents = toy_manifest("churn", "1.0.0", MODEL)
    upload(registry, contents)
    files = tuple(msgspec.structs.replace(e, size=e.size + 1) for e in built.files)
    with pytest.raises(CorruptBlobError, match="bytes long, not"):
        registry.publish(msgspec.structs.replace(built, files=files))


def test_a_file_over_the_limit_is_refused(registry):
    built, contents = toy_manifest("churn", "1.0.0", Linear((1.0,) * 100))
    upload(registry, contents)
    strict = Registry(registry.backend, RegistrySettings(max_blob_bytes=100))
    with pytest.raises(ManifestError, match="larger than 100 bytes"):
        strict.publish(built)


def test_the_flavor_has_its_say(registry):
    with pytest.raises(UnknownFlavorError):
        publish(registry, flavor="pickled")
    with pytest.raises(LoadFailedError, match=r"churn:1\.0\.0"):
        publish(registry, extra=[("other.bin", "preprocessor", b"{")], preprocessor="toy")
    with pytest.raises(CodeNotAllowedError):
        publish(registry, model=Linear((1.0,), runs_code=True))
    assert registry.list_models().items == ()


def test_the_policy_of_the_settings_decides(registry):
    bold = Registry(registry.backend, RegistrySettings(allow_code_models=True, trusted_types=("a.B",)))
    assert publish(bold, model=Linear((1.0,), runs_code=True))[1]
    assert bold.policy.trusted_types == {"a.B"}
    with pytest.raises(CodeNotAllowedError):
        registry.load("churn:1.0.0")


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"[]",
        b'{"evaluation":{"auc":NaN}}',
        b'{"evaluation":{"auc":1e999}}',
        b'{"evaluation":{"auc":"0.5"}}',
        b'{"evaluation":{"auc":null}}',
        {"evaluation": {"": 1.0}},
        {"tags": {"a\n": "b"}},
        {"tags": {"a": "b" * 20_001}},
        {"environment": {"x" * 201: "1"}},
        {"description": "\0"},
        {"description": "x" * 20_001},
        {"dataset": "\0"},
        {"code": "x" * 20_001},
        {"source": "\u202e"},
        {"source": "x" * 201},
        {"parents": ["churn"]},
        {"parents": ["churn@champion"]},
        {"parents": ["models:/churn/1"]},
        {"parents": ["churn:v1.0.0"]},
        {"parents": ["../x"]},
        {"parameters": {"n": 2**70}},
        b'{"parameters":' + b'{"a":' * 300 + b"1" + b"}" * 301,
        b'{"parameters":' + b"[" * 100_000,
        {"unknown": 1},
        b" " * (acceptance.MAX_CARD_BYTES + 1),
    ],
)
def test_bad_cards_are_refused(registry, card):
    with pytest.raises(ManifestError, match=r"churn:1\.0\.0"):
        publish(registry, card=card)
    assert registry.list_models().items == ()


def test_a_card_survives_publication(registry):
    card = {"evaluation": {"auc": 1}, "parents": ["base:1.0.0"], "parameters": {"deep": [{"x": None}]}, "source": "s"}
    publish(registry, card=card)
    assert registry.card("churn:1.0.0").evaluation == {"auc": 1.0}
    assert registry.resolve("churn:1.0.0").source == "s"


def test_a_version_needs_no_card(registry):
    built, contents = toy_manifest("churn", "1.0.0", MODEL)
    upload(registry, contents)
    registry.publish(msgspec.structs.replace(built, files=built.files_of("model")))
    assert registry.card("churn:1.0.0") == Card()


def golden(**changes):
    inputs = {name: np.array([1.0]) for name in ("x0", "x1")}
    return msgspec.structs.replace(GoldenRequests(inputs, {"predict": np.array([3.0])}), **changes)


def test_golden_requests_that_fit_are_accepted_and_met(registry):
    publish(registry, extra=[("golden.json", "golden", golden().encode())])
    assert registry.verify("churn:1.0.0").golden_difference == 0.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        golden(inputs={"x0": np.array([1.0])}).encode(),
        golden(inputs={"x0": np.array([1.0]), "x1": np.array([np.inf])}).encode(),
        golden(outputs={"other": np.array([1.0])}).encode(),
        golden(outputs={"predict": np.array([-np.inf])}).encode(),
        golden(tolerance=-1.0).encode(),
        golden().encode().replace(b"0.00001", b'"nan"'),
        golden().encode().replace(b'"shape":[1]', b'"shape":[1000000000000,1000000000000]'),
        golden().encode().replace(b'"shape":[1]', b'"shape":[-1,-1]'),
        golden().encode().replace(b'"shape":[1]', b'"shape":"x"'),
        golden().encode().replace(b'"FP64"', b'"FP128"'),
    ],
)
def test_bad_golden_requests_are_refused(registry, content):
    with pytest.raises(ManifestError, match="golden"):
        publish(registry, extra=[("golden.json", "golden", content)])
    assert registry.list_models().items == ()


def test_golden_requests_are_bounded(registry, monkeypatch):
    monkeypatch.setattr("crossfade.registry.publication.MAX_GOLDEN_BYTES", 10)
    with pytest.raises(ManifestError, match="larger than 10 bytes"):
        publish(registry, extra=[("golden.json", "golden", golden().encode())])


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=8,
    )
)
def test_any_json_for_a_card_is_read_or_refused_with_a_typed_error(value):
    try:
        card = read_card(json.dumps(value).encode(), "churn:1.0.0")
    except CrossfadeError as error:
        assert isinstance(error, ManifestError)  # noqa: PT017
        return
    assert canonical_json(card)


# --- a damaged past ------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(registry):
    """A registry whose only release has lost its manifest."""
    version, _ = publish(registry)
    registry.backend.blobs.delete(version.manifest_digest)
    return registry


def test_a_lost_manifest_does_not_stop_later_versions_that_say_what_they_are(damaged, caplog):
    model = Linear((1.0, 2.0, 3.0))
    found = damaged.register("churn", model, signature=model.signature(), version="1.0.1")
    assert damaged.verify(found.ref).files == 2
    assert "churn:1.0.1 was not compared with the release before it" in caplog.text


def test_a_lost_manifest_is_named_when_a_version_has_to_be_proposed(damaged):
    model = Linear((1.0, 2.0, 3.0))
    with pytest.raises(CorruptBlobError, match=r"manifest\.json of `churn:1\.0\.0`.* no version can be proposed"):
        damaged.register("churn", model, signature=model.signature())


def test_a_lost_manifest_does_not_hide_a_conflict(damaged):
    model = Linear((9.0,))
    with pytest.raises(VersionConflictError) as caught:
        damaged.register("churn", model, signature=model.signature(), version="1.0.0")
    assert caught.value.facts["proposed"] == "churn:2.0.0"
