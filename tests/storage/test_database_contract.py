"""Both databases against the one specification."""

import pytest

from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from crossfade.testing.database import DatabaseContract


class TestDatabase(DatabaseContract):
    @pytest.fixture
    def database(self, database_url):
        database = open_database(database_url, pool_size=5)
        migrate(database)
        yield database
        database.close()
