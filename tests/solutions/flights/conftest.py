"""The real flights, read once, and a sample that trains in a second."""

from __future__ import annotations

import pytest

from crossfade.solutions.flights.dataset import Flights, Split, load_flights, split_by_time


@pytest.fixture(scope="session")
def flights() -> Flights:
    return load_flights()


@pytest.fixture(scope="session")
def split(flights: Flights) -> Split:
    return split_by_time(flights)


@pytest.fixture(scope="session")
def sample(split: Split) -> Split:
    """Every twentieth flight of each window, still in time order."""
    return Split(*(Flights(part.frame.iloc[::20]) for part in (split.training, split.evaluation, split.replay)))
