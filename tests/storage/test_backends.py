import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from crossfade.errors import MissingExtraError, SettingsError
from crossfade.settings import Settings, StorageSettings
from crossfade.storage import backends as shared
from crossfade.storage.blobs import backends
from crossfade.storage.blobs.folder import FolderBlobStore


def settings(url: str) -> Settings:
    return Settings(storage=StorageSettings(blobs_url=url))


def test_the_default_is_a_folder_at_home(tmp_path):
    store = backends.open_blobs(Settings(home=tmp_path))
    assert isinstance(store, FolderBlobStore)
    assert store.root == tmp_path / "blobs"


def test_a_folder_is_named_by_path_or_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("a b%20c", str(tmp_path / "a b%20c"), f"file://{tmp_path / 'a b%20c'}"):
        assert backends.open_blobs(settings(url)).root == tmp_path / "a b%20c"


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(SettingsError, match="`gopher` is unknown; there are `file`, `s3`") as raised:
        backends.open_blobs(settings("gopher://hole"))
    assert raised.value.facts["field"] == "storage.blobs_url"


def test_other_packages_add_schemes(monkeypatch, tmp_path):
    entry = EntryPoint("shelf", "crossfade.storage.blobs.folder:FolderBlobStore", "crossfade.blobs")

    def entry_points(*, group, name):
        return [entry] if (group, name) == ("crossfade.blobs", "shelf") else []

    monkeypatch.setattr(shared, "entry_points", entry_points)
    monkeypatch.chdir(tmp_path)
    assert isinstance(backends.open_blobs(settings("shelf://x")), FolderBlobStore)


def test_a_missing_package_says_which_extra_has_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "crossfade.storage.blobs.s3", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "boto3"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match="needs the package `boto3`") as raised:
        backends.open_blobs(settings("s3://bucket"))
    assert raised.value.hint == "pip install 'crossfade[s3]'"


def test_a_module_of_our_own_that_is_missing_is_a_bug(monkeypatch):
    for backend in (backends.Backend("crossfade.nowhere:Store"), backends.Backend("crossfade.nowhere:Store", "x", "x")):
        monkeypatch.setitem(backends.BACKENDS, "broken", backend)
        with pytest.raises(ModuleNotFoundError):
            backends.open_blobs(settings("broken://x"))


def test_a_folder_needs_no_package_of_s3(tmp_path):
    program = (
        "import sys; from crossfade.settings import Settings, StorageSettings;"
        "from crossfade.storage.blobs.backends import open_blobs;"
        f"open_blobs(Settings(storage=StorageSettings(blobs_url={str(tmp_path)!r})));"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
