"""What the documents of a version must look like before it may be published: manifest, card, golden requests."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec
import numpy as np

from crossfade.core.decoding import problem_of
from crossfade.core.hashing import canonical_json, is_digest
from crossfade.core.identity import ModelRef, Semver, check_file_path, check_name
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import (
    InvalidInputError,
    LoadFailedError,
    MalformedRequestError,
    ManifestError,
    ReasonRequiredError,
    SignatureMismatchError,
)
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.packaging import check_signature
from crossfade.registry.versions import MANIFEST_FORMAT, MANIFEST_PATH, Card, FileEntry, Manifest

T = TypeVar("T")

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_CARD_BYTES = 2**20
MAX_GOLDEN_BYTES = 16 * 2**20
MAX_FILES = 1_000
MAX_TENSORS = 20_000
MAX_CLASSES = 100_000
MAX_DIMENSION = 2**31 - 1
MAX_LABEL = 200
"""Characters of a tensor name, a measurement, a tag, a source."""
MAX_TEXT = 20_000
"""Characters of a description, a dataset or code reference, the value of a tag."""
MAX_PRINCIPAL = 128
MAX_REASON = 2_000

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9.+-]{0,62}")


def read_manifest(content: bytes | Manifest) -> Manifest:
    """Parse and check a manifest by itself, without looking at what is stored.

    Raises:
        ManifestError: It cannot be read, or something in it is missing, repeated or out of bounds.
        InvalidNameError, InvalidSemverError, InvalidPathError: A name in it is not one.
    """
    try:
        encoded = content.encode() if isinstance(content, Manifest) else content
    except TypeError as error:
        raise ManifestError(ref="MANIFEST", problem="it holds numbers beyond 64 bits") from error
    manifest = _parse(encoded, Manifest, "MANIFEST", MAX_MANIFEST_BYTES)
    check_name(manifest.name)
    if str(Semver.parse(manifest.version)) != manifest.version:
        raise ManifestError(ref=manifest.ref, problem=f"write the version as `{Semver.parse(manifest.version)}`")
    if manifest.format != MANIFEST_FORMAT:
        raise ManifestError(ref=manifest.ref, problem=f"format {manifest.format} is not {MANIFEST_FORMAT}")
    if problem := _first(_problems_of_files(manifest)) or _first(_problems_of_signature(manifest.signature)):
        raise ManifestError(ref=manifest.ref, problem=problem)
    check_signature(manifest.signature)
    return manifest


def read_card(content: bytes, ref: str) -> Card:
    """Parse and check a card.

    Raises:
        ManifestError: It cannot be read, or something in it is out of bounds.
    """
    card = _parse(content, Card, ref, MAX_CARD_BYTES)
    if problem := _first(_problems_of_card(card)):
        raise ManifestError(ref=ref, problem=problem)
    return card


def check_text(what: str, text: str, limit: int = MAX_TEXT) -> str:
    """Return a text that goes into the histories, when every database can store it.

    Raises:
        MalformedRequestError: It is too long, or holds a NUL or half a surrogate pair.
    """
    if not _is_text(text) or len(text) > limit:
        raise MalformedRequestError(problem=f"`{what}` is longer than {limit} characters, or has unusable characters")
    return text


def attribution(principal: str, reason: str) -> dict[str, str]:
    """Return who changes something and why, as every change is told, when the histories can hold both.

    Raises:
        MalformedRequestError: One is too long, or holds a NUL or half a surrogate pair.
    """
    return {
        "principal": check_text("principal", principal, MAX_PRINCIPAL),
        "reason": check_text("reason", reason, MAX_REASON),
    }


def explained(principal: str, reason: str, what: str) -> dict[str, str]:
    """Return who changes something and why, where nobody may do `what` without saying why.

    Raises:
        ReasonRequiredError: There is no reason.
        MalformedRequestError: As by `attribution`.
    """
    if not reason.strip():
        raise ReasonRequiredError(what=what)
    return attribution(principal, reason)


def check_golden(content: bytes, manifest: Manifest) -> None:
    """Check that golden requests can be put to a version with this signature.

    Raises:
        ManifestError: They cannot be read, do not fit the signature, or hold infinities.
    """
    try:
        golden = GoldenRequests.decode(content)
        manifest.signature.check(golden.inputs)
        specs = [manifest.signature.output(name) for name in golden.outputs]
    except (LoadFailedError, SignatureMismatchError) as error:
        raise ManifestError(ref=manifest.ref, problem=f"its golden requests do not fit: {error.message}") from error
    if not (math.isfinite(golden.tolerance) and golden.tolerance >= 0):
        raise ManifestError(ref=manifest.ref, problem=f"its golden tolerance is {golden.tolerance}")
    for spec in specs:
        answer = golden.outputs[spec.name]
        if answer.dtype.kind == "f" and np.isinf(answer).any():
            raise ManifestError(ref=manifest.ref, problem=f"its golden output `{spec.name}` is infinite")


def _parse(content: bytes, kind: type[T], ref: str, limit: int) -> T:
    if len(content) > limit:
        raise ManifestError(ref=ref, problem=f"its {kind.__name__.lower()} is larger than {limit} bytes")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = f"its {kind.__name__.lower()} cannot be read ({problem_of(error, kind)})"
        raise ManifestError(ref=ref, problem=problem) from error


def _first(problems: Iterable[str]) -> str:
    return next(iter(problems), "")


def _problems_of_files(manifest: Manifest) -> Iterable[str]:
    paths = [check_file_path(entry.path) for entry in manifest.files]
    roles = [entry.role for entry in manifest.files]
    if len(paths) > MAX_FILES:
        yield f"more than {MAX_FILES} files"
    if paths != sorted(set(paths)):
        yield "its files must be in the order of their paths, each once"
    if MANIFEST_PATH in paths or "manifest" in roles:
        yield f"`{MANIFEST_PATH}` is the manifest's own place"
    if "model" not in roles:
        yield "it has no model file"
    if roles.count("card") > 1 or roles.count("golden") > 1:
        yield "it has more than one card or more than one file of golden requests"
    if bool(manifest.preprocessor) != ("preprocessor" in roles):
        yield "a preprocessor needs both a flavor and files"
    for entry in manifest.files:
        yield from _problems_of_entry(entry)


def _problems_of_entry(entry: FileEntry) -> Iterable[str]:
    if not is_digest(entry.digest):
        yield f"`{entry.path}` has no SHA-256 digest"
    if entry.size < 0:
        yield f"`{entry.path}` has a negative size"
    if not _MEDIA_TYPE.fullmatch(entry.media_type):
        yield f"`{entry.path}` has no media type"


def _problems_of_signature(signature: Signature) -> Iterable[str]:
    if len(signature.inputs) + len(signature.outputs) > MAX_TENSORS or len(signature.classes) > MAX_CLASSES:
        yield f"its signature has more than {MAX_TENSORS} tensors or more than {MAX_CLASSES} classes"
    for spec in (*signature.inputs, *signature.outputs):
        yield from _problems_of_spec(spec)
    for label in signature.classes:
        if isinstance(label, str) and not _is_label(label):
            yield f"the class {label[:40]!r} is empty, longer than {MAX_LABEL} characters or has control characters"


def _problems_of_spec(spec: TensorSpec) -> Iterable[str]:
    if not _is_label(spec.name):
        yield f"the tensor name {spec.name[:40]!r} is empty, longer than {MAX_LABEL} characters or has odd characters"
    if any(size > MAX_DIMENSION for size in spec.shape):
        yield f"the tensor `{spec.name}` is larger than {MAX_DIMENSION} along one dimension"


def _is_label(text: str) -> bool:
    return 0 < len(text) <= MAX_LABEL and text.isprintable()


def _problems_of_card(card: Card) -> Iterable[str]:
    for name, value in card.evaluation.items():
        if not _is_label(name) or not math.isfinite(value):
            yield f"evaluation {name[:40]!r} is not a short name with a finite number"
    for key, text in (*card.tags.items(), *card.environment.items()):
        if not _is_label(key) or len(text) > MAX_TEXT:
            yield f"tag or package {key[:40]!r} is not a short name with a text"
    if not all(map(_is_text, (card.description, card.dataset, card.code))):
        yield f"its description, dataset or code is longer than {MAX_TEXT} characters, or has a NUL character"
    if card.source and not _is_label(card.source):
        yield f"its source {card.source[:40]!r} is longer than {MAX_LABEL} characters or has odd characters"
    yield from (f"its parent {p[:80]!r} is not written as `name:1.0.0`" for p in card.parents if not _is_version(p))
    if not _is_plain_json(card):
        yield "its parameters hold numbers beyond 64 bits, or nest too deeply"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return False
    return len(text) <= MAX_TEXT and "\0" not in text


def _is_version(parent: str) -> bool:
    try:
        ref = ModelRef.parse(parent)
    except InvalidInputError:
        return False
    return ref.version is not None and str(ref) == parent


def _is_plain_json(card: Card) -> bool:
    try:
        canonical_json(card)
    except (TypeError, RecursionError):
        return False
    return True
