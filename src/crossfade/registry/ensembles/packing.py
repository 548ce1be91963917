"""From a specification to a draft: members pinned and checked, their files collected, the whole tried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.tensors import Array, Signature, Tensors
from crossfade.errors import InvalidEnsembleError
from crossfade.registry.ensembles.agreement import agree
from crossfade.registry.ensembles.document import (
    DOCUMENT_PATH,
    FLAVOR,
    EnsembleDocument,
    EnsembleSpec,
    Part,
    folder,
    is_nested,
)
from crossfade.registry.ensembles.running import Ensemble
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.loading import load_golden, load_runnable, read_files
from crossfade.registry.packaging import Draft
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import (
    MANIFEST_MEDIA_TYPE,
    MANIFEST_PATH,
    REJECTED,
    Card,
    FileEntry,
    Manifest,
    Role,
    Version,
)
from crossfade.storage.blobs.port import BlobStore

_JSON = "application/json"


class _Taken(NamedTuple):
    """A version that takes part."""

    version: Version
    manifest: Manifest

    @property
    def part(self) -> Part:
        return Part(self.version.ref, self.version.manifest_digest)


def pack_ensemble(
    backend: RegistryBackend,
    policy: TrustPolicy,
    spec: EnsembleSpec,
    resolve: Callable[[str], Version],
    card: Card,
) -> Draft:
    """Turn a specification into a draft that holds everything the ensemble takes, and is known to load and to answer.

    The members' own golden requests, as far as they go together, become those of the ensemble.

    Args:
        backend: Where the members are.
        policy: What may be loaded.
        spec: Which versions, and how they work together; any spelling of references.
        resolve: From a reference to a version.
        card: Of the ensemble; its parents become the versions that take part.

    Raises:
        InvalidEnsembleError: The members do not fit the method or each other, or cannot be members.
        NotFoundError: A reference leads nowhere.
        UnsafeError, DeniedError, PredictionError: A version cannot be loaded, or fails on its own golden requests.
    """
    spec.check()
    versions = {ref: resolve(ref) for ref in spec.refs()}
    spec = _pinned(spec, versions)
    spec.check()
    taken = {version.ref: _take(backend, version) for version in versions.values()}
    parts = [taken[ref] for ref in spec.refs()]
    signature = agree(spec, {ref: each.manifest.signature for ref, each in taken.items()})
    document = EnsembleDocument(spec, tuple(each.part for each in parts)).encode()
    voices = [each for each in parts if each.version.ref != spec.stacker]
    tensors = _rows([load_golden(each.manifest, backend.blobs) for each in voices], signature)
    golden = _try_out(_load(document, parts, backend.blobs, policy), signature, tensors) if tensors else None
    card = msgspec.structs.replace(card, parents=tuple(sorted(taken)))
    contents = {DOCUMENT_PATH: document, "card.json": canonical_json(card)}
    if golden is not None:
        contents["golden.json"] = golden.encode()
    roles: dict[str, Role] = {DOCUMENT_PATH: "model", "card.json": "card", "golden.json": "golden"}
    own = [FileEntry(path, sha256(data), len(data), _JSON, roles[path]) for path, data in contents.items()]
    files = [*own, *(entry for place, each in enumerate(parts) for entry in _entries(place, each))]
    return Draft(
        flavor=FLAVOR,
        signature=signature,
        files=tuple(sorted(files, key=lambda entry: entry.path)),
        contents={sha256(data): data for data in contents.values()},
        card=card,
    )


def _pinned(spec: EnsembleSpec, versions: dict[str, Version]) -> EnsembleSpec:
    members = tuple(
        msgspec.structs.replace(
            member,
            ref=versions[member.ref].ref,
            substitute=versions[member.substitute].ref if member.substitute else "",
        )
        for member in spec.members
    )
    stacker = versions[spec.stacker].ref if spec.stacker else ""
    return msgspec.structs.replace(spec, members=members, stacker=stacker)


def _take(backend: RegistryBackend, version: Version) -> _Taken:
    if version.stage == REJECTED:
        raise InvalidEnsembleError(problem=f"`{version.ref}` is in the stage `{REJECTED}`")
    manifest = backend.manifest(version)
    if is_nested(entry.path for entry in manifest.files):
        raise InvalidEnsembleError(
            problem=f"`{version.ref}` is an ensemble of ensembles, which goes one level too deep"
        )
    return _Taken(version, manifest)


def _entries(place: int, taken: _Taken) -> list[FileEntry]:
    """Return the files of a part as files of the ensemble. They are stored already, so nothing is stored twice."""
    manifest = taken.manifest
    size = len(manifest.encode())
    own = FileEntry(folder(place) + MANIFEST_PATH, manifest.digest, size, MANIFEST_MEDIA_TYPE, "model")
    return [
        own,
        *(
            msgspec.structs.replace(entry, path=folder(place) + entry.path, role="model")
            for entry in (*manifest.files_of("model"), *manifest.files_of("preprocessor"))
        ),
    ]


def _load(document: bytes, parts: Sequence[_Taken], blobs: BlobStore, policy: TrustPolicy) -> Ensemble:
    files = {DOCUMENT_PATH: document}
    for place, each in enumerate(parts):
        files[folder(place) + MANIFEST_PATH] = each.manifest.encode()
        stored = read_files(each.manifest, blobs, "model") | read_files(each.manifest, blobs, "preprocessor")
        files |= {folder(place) + path: data for path, data in stored.items()}
    return cast("Ensemble", load_runnable(FLAVOR, files, policy))


def _rows(golden: Sequence[GoldenRequests | None], signature: Signature) -> Tensors:
    """Return the rows of golden requests that fit the ensemble; what several members have is taken from the first."""
    found: Tensors = {}
    for requests in golden:
        if requests is not None:
            found = {**requests.inputs, **found}
    if any(spec.name not in found for spec in signature.inputs):
        return {}
    rows = min(len(found[spec.name]) for spec in signature.inputs)
    usable = np.ones(rows, bool)
    for spec in signature.inputs:
        if not spec.missing:  # one member can do without this value, and another one cannot
            usable &= _present(found[spec.name][:rows])
    tensors = signature.check({spec.name: found[spec.name][:rows][usable] for spec in signature.inputs})
    return tensors if usable.any() else {}


def _present(values: Array) -> Array:
    inner = tuple(range(1, values.ndim))
    if values.dtype.kind == "O":
        present: Array = np.vectorize(lambda item: item is not None, otypes=[bool])(values)
    else:
        present = np.isfinite(values)
    return np.asarray(present.all(axis=inner))


def _try_out(ensemble: Ensemble, signature: Signature, tensors: Tensors) -> GoldenRequests:
    """Ask the whole; whoever takes part has to answer, even if the ensemble could do without."""
    names = frozenset(spec.name for spec in signature.outputs)
    answers = Pipeline(signature, ensemble, ref="the ensemble").predict(tensors, names)
    for voice in ensemble.voices.values():
        if voice.error is not None:
            raise voice.error
    return GoldenRequests(tensors, answers)
