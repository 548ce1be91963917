"""Fixtures of the ledger tests."""

import pytest

from tests.ledger.support import Ledger


@pytest.fixture
def ledger(database):
    """Raw events and roll-ups, once for each kind of database."""
    return Ledger(database)
