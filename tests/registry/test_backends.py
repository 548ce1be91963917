from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from crossfade.errors import SettingsError
from crossfade.registry import backends
from crossfade.registry.backends import open_registry
from crossfade.registry.native import NativeBackend
from crossfade.settings import RegistrySettings


class Other(NativeBackend):
    """A backend from another package."""


def test_the_native_backend_is_the_default(backend):
    registry = open_registry(RegistrySettings(lease_seconds=5), backend.database, backend.blobs)
    assert type(registry.backend) is NativeBackend
    assert registry.settings.lease_seconds == 5
    registry.backend.close()
    assert registry.list_models().items == ()  # the database belongs to whoever opened it


def test_an_installed_package_adds_a_backend(backend, monkeypatch):
    point = EntryPoint("other", f"{__name__}:Other", backends.GROUP)
    monkeypatch.setattr(backends, "entry_points", lambda group: [point] if group == backends.GROUP else [])
    monkeypatch.setattr(backends, "import_module", lambda name: __import__("types").SimpleNamespace(Other=Other))
    registry = open_registry(RegistrySettings(backend="other"), backend.database, backend.blobs)
    assert isinstance(registry.backend, Other)


def test_an_unknown_backend_is_named_with_those_that_exist(backend):
    with pytest.raises(SettingsError, match="there is no backend `mlflo`; installed: native"):
        open_registry(RegistrySettings(backend="mlflo"), backend.database, backend.blobs)
