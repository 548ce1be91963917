"""A shorter `make stress ARGS=faults`: every fault of every server, for a moment."""

import pytest

from tests.faults import FAULTS
from tests.stress.faulty import faulty_server, outages

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_predictions_go_on_whatever_becomes_of_database_and_cache(tmp_path, postgres_url, redis_url):
    with faulty_server(tmp_path, postgres_url, redis_url) as (port, proxies):
        found = list(outages(port, proxies, 0.8))
    assert len(found) == 2 * len(FAULTS)
    assert [violation for outcome in found for violation in outcome.violations] == []
    assert all(outcome.requests > 50 for outcome in found)
