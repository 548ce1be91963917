"""From a model object or file to everything a version consists of, checked by loading it again."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from crossfade.core.conversion import to_tensors
from crossfade.core.examples import infer_inputs
from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.identity import check_file_path
from crossfade.core.tensors import DTYPES, MAX_RANK, Array, Layout, Signature, Tensors, TensorSpec, datatype_of
from crossfade.errors import CodeNotAllowedError, ManifestError, SignatureMismatchError, SignatureRequiredError
from crossfade.registry.flavors.backends import flavor_for, flavor_for_file, flavor_named
from crossfade.registry.flavors.port import Flavor, Runnable, Transformer, TrustPolicy
from crossfade.registry.golden import MAX_ROWS, GoldenRequests, verify
from crossfade.registry.loading import PREPROCESSOR_FOLDER, load_runnable, load_transformer
from crossfade.registry.model import Model
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import Placement, check_placement
from crossfade.registry.versions import Card, FileEntry, Manifest, Role

HEAD_BYTES = 4096
_CHUNK_BYTES = 2**20
_MEDIA_TYPES = {".json": "application/json", ".txt": "text/plain", ".skops": "application/zip"}


class Draft(msgspec.Struct, frozen=True):
    """A version that has no name yet: what its manifest will say, and the bytes of its files.

    Args:
        contents: Digest -> bytes, or the path of a file that is streamed when it is stored.
    """

    flavor: str
    signature: Signature
    files: tuple[FileEntry, ...]
    contents: dict[str, bytes | Path]
    card: Card
    preprocessor: str = ""
    placement: Placement | None = None

    def manifest(self, name: str, version: str) -> Manifest:
        """Return the manifest of this draft under a name."""
        parts = (self.flavor, self.files, self.signature, self.preprocessor)
        return Manifest(name, version, *parts, placement=self.placement)


class _Part(msgspec.Struct, frozen=True):
    """A model or a preprocessor on its way into a draft: the object if there is one, its files, its source file."""

    flavor: Flavor
    files: dict[str, bytes]
    item: object = None
    source: Path | None = None


def pack(  # noqa: PLR0913 - everything that belongs to a version, by name
    model: object,
    *,
    preprocessor: object = None,
    signature: Signature | None = None,
    example: object = None,
    golden: GoldenRequests | None = None,
    flavor: str | None = None,
    card: Card | None = None,
    policy: TrustPolicy | None = None,
    placement: Placement | None = None,
) -> Draft:
    """Turn a model into a draft that is known to load and to answer.

    The packed bytes are loaded again, on the CPU, and asked the first rows of the example. Their answers are stored as
    golden requests and, when an object was given, must equal the object's own.

    Args:
        model: A model object, or the path of a model file.
        preprocessor: A fitted transformer (object or path) that every request passes through first.
        signature: The typed schema; by default read from the format, or inferred from the example.
        example: Rows of raw input, before the preprocessor: a frame, an array, a dict of arrays, or rows as dicts.
        golden: Golden requests of your own; they must be met.
        flavor: The format, when it should not be detected.
        card: Evaluation, tags, parameters and so on. An empty `environment` is filled in.
        policy: What may be packed.
        placement: On which device and with how many threads it wants to be served.

    Raises:
        UnknownFlavorError: No flavor recognises the model.
        DeniedError: The policy forbids the format, or types in it.
        LoadFailedError: The file is damaged.
        SignatureRequiredError: Neither the format, an example nor the caller says what the inputs are.
        SignatureMismatchError: The example does not fit the signature.
        PredictionError: The model fails on the example.
        GoldenMismatchError: The packed model gives other answers than the object, or than `golden`.
        ManifestError: The signature, the card or the placement is inconsistent.
        MissingExtraError: A package is not installed.
    """
    policy = policy or TrustPolicy()
    main = _part(model, flavor, policy)
    first = _part(preprocessor, None, policy) if preprocessor is not None else None
    if signature is not None:
        check_signature(signature)
    if signature is None or example is not None or golden is not None:
        signature, golden = _try_out(main, first, (signature, example, golden), policy)
    card = _complete(card or Card(), [part for part in (main, first) if part])
    draft = _draft(main, first, signature, golden, card)
    return draft if placement is None else msgspec.structs.replace(draft, placement=check_placement(placement))


def check_signature(signature: Signature) -> None:
    """Check that a signature describes something that can be served.

    Raises:
        ManifestError: Names repeat, a datatype is unknown, or a shape does not start with -1.
    """
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        names = [spec.name for spec in specs]
        if not names or len(set(names)) != len(names):
            raise ManifestError(ref="signature", problem=f"{kind}s must have names that differ, got {names[:20]}")
        for spec in specs:
            shape = spec.shape
            if spec.datatype not in DTYPES or not 0 < len(shape) <= MAX_RANK or shape[0] != -1 or min(shape) < -1:
                raise ManifestError(ref="signature", problem=f"{kind} `{spec.name}` cannot be {spec.describe()}")
    if signature.layout != "tensors" and any(len(spec.shape) != 1 for spec in signature.inputs):
        problem = f"layout `{signature.layout}` needs columns, inputs of shape [-1]"
        raise ManifestError(ref="signature", problem=problem)


# --- parts ---------------------------------------------------------------------------------------------------------


def _part(item: object, name: str | None, policy: TrustPolicy) -> _Part:
    if isinstance(item, (str, Path)):
        source = Path(item)
        with source.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        flavor = flavor_named(name) if name else flavor_for_file(source.name, head)
        path = check_file_path(f"model{source.suffix.lower()}")
        part = _Part(flavor, {path: source.read_bytes()}, source=source)
    else:
        flavor = flavor_named(name) if name else flavor_for(item)
        try:
            part = _Part(flavor, flavor.save(item), item)
        except CodeNotAllowedError:
            if name or not policy.allow_code:
                raise
            flavor = flavor_named("code")
            part = _Part(flavor, flavor.save(item), item)
    flavor.inspect(part.files, policy)
    return part


def _try_out(
    main: _Part,
    first: _Part | None,
    given: tuple[Signature | None, object, GoldenRequests | None],
    policy: TrustPolicy,
) -> tuple[Signature, GoldenRequests | None]:
    """Load the packed bytes, complete the signature, and answer the golden requests."""
    signature, example, golden = given
    model = load_runnable(main.flavor.name, main.files, policy)
    transformer = load_transformer(first.flavor.name, first.files, policy) if first else None
    tensors: Tensors = {}
    if signature is None:
        inputs, layout = _inputs(model, transformer, example)
        provisional = Signature(inputs, model.outputs, layout, model.classes)
        tensors = _rows(example, provisional)
        answers = Pipeline(provisional, model, transformer).answer(tensors, _names(model.outputs)) if tensors else {}
        declared = {spec.name: spec for spec in model.outputs}
        outputs = tuple(_observed(name, value, declared.get(name)) for name, value in answers.items()) or model.outputs
        signature = Signature(inputs, outputs, layout, model.classes)
        check_signature(signature)
    elif example is not None:
        tensors = _rows(example, signature)
    pipeline = Pipeline(signature, model, transformer)
    if golden is not None:
        verify(pipeline, golden, "the model")
    elif tensors:
        golden = GoldenRequests(tensors, pipeline.predict(tensors, _names(signature.outputs)))
        _compare_with_objects(main, first, signature, golden)
    return signature, golden


def _compare_with_objects(main: _Part, first: _Part | None, signature: Signature, golden: GoldenRequests) -> None:
    """Ask the objects themselves, so that what got lost in saving is noticed now."""
    if main.item is None or (first and first.item is None):
        return
    transformer: Any = first.flavor.wrap(first.item) if first else None
    original = Pipeline(signature, main.flavor.wrap(main.item), transformer)
    verify(original, golden, "the packed model")


# --- signature -----------------------------------------------------------------------------------------------------


def _inputs(model: Runnable, transformer: Transformer | None, example: object) -> tuple[tuple[TensorSpec, ...], Layout]:
    if transformer is None and model.inputs:
        return model.inputs, "tensors"
    if example is None:
        raise SignatureRequiredError(name="the model")
    inputs, layout = infer_inputs(example)
    if layout == "tensors":
        return inputs, layout
    target = transformer or model
    if columns := getattr(target, "columns", ()):
        inputs = _ordered(inputs, columns)
    numeric = all(spec.datatype != "BYTES" for spec in inputs)
    return inputs, "matrix" if numeric and getattr(target, "matrix", False) else layout


def _ordered(inputs: tuple[TensorSpec, ...], columns: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in inputs}
    for name in columns:
        if name not in by_name:
            given = f"an example with the columns {', '.join(list(by_name)[:20])}"
            raise SignatureMismatchError(field=name, expected="the columns that the model was fitted on", given=given)
    return tuple(by_name[name] for name in columns)


def _rows(example: object, signature: Signature) -> Tensors:
    if example is None:
        return {}
    known = {spec.name for spec in signature.inputs}
    tensors = {name: value for name, value in to_tensors(example, signature.inputs).items() if name in known}
    return {name: value[:MAX_ROWS] for name, value in signature.check(tensors).items()}


def _observed(name: str, answer: Array, declared: TensorSpec | None) -> TensorSpec:
    """Return what the model really answers; a dimension that is declared variable stays variable."""
    tail = answer.shape[1:]
    if declared and len(declared.shape) == answer.ndim:
        tail = tuple(-1 if want == -1 else have for want, have in zip(declared.shape[1:], tail, strict=True))
    return TensorSpec(name, datatype_of(answer.dtype), (-1, *tail))


def _names(specs: Iterable[TensorSpec]) -> frozenset[str]:
    return frozenset(spec.name for spec in specs)


# --- files ---------------------------------------------------------------------------------------------------------


def _complete(card: Card, parts: list[_Part]) -> Card:
    for name, value in card.evaluation.items():
        if not math.isfinite(value):
            raise ManifestError(ref="card", problem=f"evaluation `{name}` is {value}, not a finite number")
    if isinstance(parts[0].item, Model):
        card = msgspec.structs.replace(card, parameters={**parts[0].item.info(), **card.parameters})
    if not card.environment:
        packages = sorted({package for part in parts for package in part.flavor.packages})
        installed = {package: found for package in packages if (found := _version(package))}
        card = msgspec.structs.replace(card, environment={"python": platform.python_version(), **installed})
    return card


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _draft(main: _Part, first: _Part | None, signature: Signature, golden: GoldenRequests | None, card: Card) -> Draft:
    contents: dict[str, bytes | Path] = {}
    entries: list[FileEntry] = []

    def add(path: str, role: Role, content: bytes | Path) -> None:
        digest, size = _measure(content)
        contents[digest] = content
        media_type = _MEDIA_TYPES.get(Path(path).suffix, "application/octet-stream")
        entries.append(FileEntry(path, digest, size, media_type, role))

    for path, data in main.files.items():
        add(path, "model", main.source or data)
    for path, data in (first.files if first else {}).items():
        add(PREPROCESSOR_FOLDER + path, "preprocessor", (first.source if first else None) or data)
    if golden is not None:
        add("golden.json", "golden", golden.encode())
    add("card.json", "card", canonical_json(card))
    return Draft(
        flavor=main.flavor.name,
        signature=signature,
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
        contents=contents,
        card=card,
        preprocessor=first.flavor.name if first else "",
    )


def _measure(content: bytes | Path) -> tuple[str, int]:
    if isinstance(content, bytes):
        return sha256(content), len(content)
    digest, size = hashlib.sha256(), 0
    with content.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
