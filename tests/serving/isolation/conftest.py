import cloudpickle
import numpy as np
import pytest

from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.packaging import pack
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.host import isolate
from crossfade.serving.isolation.nursery import Nursery
from crossfade.settings import ServingSettings
from tests.serving.isolation import poison

cloudpickle.register_pickle_by_value(poison)  # `tests` is no package that a model process could import
TRUSTING = TrustPolicy(allow_code=True)
MEMORY = 2**29


class HandedBlobs:
    """The blobs of a draft, as a store would hand them out."""

    def __init__(self, files):
        self._files = files

    def read(self, digest):
        return self._files[digest]


@pytest.fixture(scope="session")
def nursery():
    nursery = Nursery(Limits(MEMORY))
    yield nursery
    nursery.close()


@pytest.fixture
def isolated(nursery):
    """Isolates models, and ends their processes."""
    hosts = []

    def isolated(model, *, start=True, hang_seconds=5.0, nursery=nursery, version="1.0.0"):
        draft = pack(model, example={"x": np.array([1.0])}, policy=TRUSTING)
        manifest = draft.manifest("m", version)
        settings = ServingSettings(request_timeout_seconds=hang_seconds, ready_timeout_seconds=20)
        host = isolate(manifest, HandedBlobs(draft.contents), TRUSTING, settings, nursery)
        hosts.append(host)
        if start:
            host.start()
        return host

    yield isolated
    for host in hosts:
        host.close()
