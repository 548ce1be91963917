"""Ensembles: a document, and the files of the versions that it names, each loaded by its own flavor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal, NoReturn

from crossfade.core.hashing import sha256
from crossfade.errors import InvalidEnsembleError, InvalidInputError, LoadFailedError, UnknownFlavorError
from crossfade.registry.acceptance import read_manifest
from crossfade.registry.ensembles.agreement import agree
from crossfade.registry.ensembles.document import DOCUMENT_PATH, FLAVOR, EnsembleDocument, Part, folder, is_nested
from crossfade.registry.ensembles.running import Ensemble
from crossfade.registry.flavors.backends import flavor_named
from crossfade.registry.flavors.port import Runnable, Trust, TrustPolicy
from crossfade.registry.loading import PREPROCESSOR_FOLDER, load_runnable, load_transformer
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import ANYWHERE, Placement
from crossfade.registry.versions import MANIFEST_PATH, FileEntry, Manifest


class Ensembles:
    """The flavor of ensembles. Its files are collected by the registry, so no object and no file is taken for one."""

    name: ClassVar[str] = FLAVOR
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    trust: ClassVar[Trust] = Trust.CONSTRAINED
    """Of the document alone: how far the parts are trusted is up to their own flavors, see `registry/trust.py`."""

    def recognises(self, model: object) -> bool:  # noqa: ARG002 - none is
        """Tell that no object is an ensemble by itself."""
        return False

    def detects(self, path: str, head: bytes) -> bool:  # noqa: ARG002 - none is
        """Tell that no single file is an ensemble."""
        return False

    def wrap(self, model: object) -> NoReturn:
        """Refuse.

        Raises:
            UnknownFlavorError: Always: an ensemble is made of registered versions.
        """
        self.save(model)

    def save(self, model: object) -> NoReturn:
        """Refuse.

        Raises:
            UnknownFlavorError: Always: an ensemble is made of registered versions.
        """
        raise UnknownFlavorError(given=f"a `{type(model).__name__}` as an ensemble", supported="registered versions")

    def inspect(self, files: Mapping[str, bytes], policy: TrustPolicy) -> None:
        """Check that every part is the version that it is said to be, that they fit, and that all may be loaded.

        Raises:
            DeniedError: The policy forbids the files of a part.
            LoadFailedError: The document or a part is damaged or does not fit.
        """
        document, manifests = _read(files)
        expected = {DOCUMENT_PATH}
        for position, manifest in enumerate(manifests):
            expected.add(folder(position) + MANIFEST_PATH)
            for entry in _loaded(manifest):
                path = folder(position) + entry.path
                expected.add(path)
                if path not in files or sha256(files[path]) != entry.digest:
                    _fail(f"`{path}` is not what `{manifest.ref}` has")
            with _naming(manifest.ref):
                flavor_named(manifest.flavor).inspect(_files(files, position, manifest, "model"), policy)
                if manifest.preprocessor:
                    inner = _files(files, position, manifest, "preprocessor")
                    flavor_named(manifest.preprocessor).inspect(inner, policy)
        if extra := sorted(set(files) - expected):
            _fail(f"`{extra[0]}` belongs to no part")
        _agreed(document, manifests)

    def load(self, files: Mapping[str, bytes], policy: TrustPolicy, placement: Placement = ANYWHERE) -> Runnable:
        """Load every part; each runs where it declares, as far as `placement` says nothing.

        Raises:
            DeniedError: The policy forbids the files of a part.
            LoadFailedError: The document or a part is damaged or does not fit.
            MissingExtraError: The package of a part is not installed.
        """
        return assemble(files, lambda position, manifest: load_part(files, position, manifest, policy, placement))


def assemble(files: Mapping[str, bytes], open_part: Callable[[int, Manifest], Pipeline]) -> Ensemble:
    """Make an ensemble of its files, whoever loads its parts.

    Args:
        files: Path -> bytes.
        open_part: Its place among the parts, and its manifest -> the loaded part.

    Raises:
        LoadFailedError: The document or a part is damaged or does not fit.
    """
    document, manifests = _read(files)
    _agreed(document, manifests)
    pipelines = {manifest.ref: open_part(position, manifest) for position, manifest in enumerate(manifests)}
    return Ensemble(document.spec, pipelines)


class _Files(Mapping[str, bytes]):
    """Some files of a folder, under the names that they have in it, each read when somebody looks into it."""

    def __init__(self, files: Mapping[str, bytes], folder: str, paths: tuple[str, ...]) -> None:
        self._files = files
        self._folder = folder
        self._paths = paths

    def __getitem__(self, path: str) -> bytes:
        if path not in self._paths:
            raise KeyError(path)
        return self._files[self._folder + path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _read(files: Mapping[str, bytes]) -> tuple[EnsembleDocument, tuple[Manifest, ...]]:
    try:
        document = EnsembleDocument.decode(files[DOCUMENT_PATH])
    except KeyError:
        _fail(f"it has no `{DOCUMENT_PATH}`")
    except InvalidEnsembleError as error:
        _fail(str(error.facts["problem"]))
    return document, tuple(_manifest(files, position, part) for position, part in enumerate(document.parts))


def _manifest(files: Mapping[str, bytes], position: int, part: Part) -> Manifest:
    path = folder(position) + MANIFEST_PATH
    content = files.get(path)
    if content is None or sha256(content) != part.digest:
        _fail(f"`{path}` is not the manifest of `{part.ref}`")
    try:
        manifest = read_manifest(content)
    except InvalidInputError as error:
        _fail(f"`{path}` cannot be accepted ({error})")
    if manifest.ref != part.ref or is_nested(entry.path for entry in manifest.files):
        _fail(f"`{path}` is of `{manifest.ref}` or is nested too deeply")
    return manifest


def _agreed(document: EnsembleDocument, manifests: tuple[Manifest, ...]) -> None:
    try:
        agree(document.spec, {manifest.ref: manifest.signature for manifest in manifests})
    except InvalidEnsembleError as error:
        _fail(str(error.facts["problem"]))


def load_part(
    files: Mapping[str, bytes], position: int, manifest: Manifest, policy: TrustPolicy, placement: Placement
) -> Pipeline:
    """Load a part by its own flavor, in this process."""
    place = placement.over(manifest.placement or ANYWHERE)
    with _naming(manifest.ref):
        model = load_runnable(manifest.flavor, _files(files, position, manifest, "model"), policy, place)
        preprocessor = None
        if manifest.preprocessor:
            inner = _files(files, position, manifest, "preprocessor")
            preprocessor = load_transformer(manifest.preprocessor, inner, policy)
    return Pipeline(manifest.signature, model, preprocessor, manifest.ref)


@contextmanager
def _naming(ref: str) -> Iterator[None]:
    """Say which member cannot be loaded; the name of the ensemble is added further out."""
    try:
        yield
    except LoadFailedError as error:
        raise LoadFailedError(ref=FLAVOR, problem=f"member `{ref}`: {error.facts['problem']}") from error


def _loaded(manifest: Manifest) -> tuple[FileEntry, ...]:
    """Return the files that loading a version takes; its card and golden requests stay with it."""
    return (*manifest.files_of("model"), *manifest.files_of("preprocessor"))


def _files(
    files: Mapping[str, bytes], position: int, manifest: Manifest, role: Literal["model", "preprocessor"]
) -> Mapping[str, bytes]:
    inner = PREPROCESSOR_FOLDER if role == "preprocessor" else ""
    paths = tuple(entry.path.removeprefix(inner) for entry in manifest.files_of(role))
    return _Files(files, folder(position) + inner, paths)


def _fail(problem: str) -> NoReturn:
    raise LoadFailedError(ref=FLAVOR, problem=problem)
