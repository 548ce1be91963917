from __future__ import annotations

import pytest

from crossfade.registry.registry import Registry
from tests.registry import toy
from tests.registry.support import open_backend


@pytest.fixture
def backend(tmp_path):
    backend = open_backend(tmp_path)
    yield backend
    backend.database.close()


@pytest.fixture
def registry(backend):
    toy.install()
    return Registry(backend)
