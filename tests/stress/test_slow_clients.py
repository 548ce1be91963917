"""A shorter `make stress ARGS=slow`."""

import pytest

from tests.stress.__main__ import serving
from tests.stress.poisoned import prepare
from tests.stress.slow_clients import KINDS, besiege

pytestmark = pytest.mark.slow


@pytest.mark.timeout(120)
def test_clients_that_misbehave_take_neither_memory_nor_answers():
    with serving(lambda platform: prepare(platform, [])) as (_, port, pid):
        outcome = besiege(port, pid, clients=20 * len(KINDS), seconds=8)
    assert outcome.violations == []
    assert outcome.connections > 20 * len(KINDS), "nobody was cut off"
