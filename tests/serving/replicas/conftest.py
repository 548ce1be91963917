import pytest

from tests.serving.replicas.runners import Bench, quick
from tests.traffic.support import eventually


@pytest.fixture
def bench(monkeypatch):
    """Makes sets of fake replicas, all ready, and closes them."""
    quick(monkeypatch)
    made = []

    def bench(*args, **options):
        made.append(Bench(*args, **options))
        eventually(lambda: made[-1].set.width == made[-1].set.wanted)
        return made[-1]

    yield bench
    for each in made:
        each.batcher.close()
        each.set.close()
