from __future__ import annotations

import pytest

from crossfade.testing.registry import RegistryContract
from tests.registry.support import open_backend


class TestNative(RegistryContract):
    @pytest.fixture
    def backend(self, tmp_path, database_url):
        backend = open_backend(tmp_path, database_url)
        yield backend
        backend.database.close()
