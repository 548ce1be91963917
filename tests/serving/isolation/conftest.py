import numpy as np
import pytest

from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.packaging import pack
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.host import isolate
from crossfade.serving.isolation.nursery import Nursery
from crossfade.settings import ServingSettings

TRUSTING = TrustPolicy(allow_code=True)
MEMORY = 2**29
EXAMPLE = {"x": np.array([1.0])}


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

    def make(model, *, hang_seconds=5.0, load_seconds=20.0, example=EXAMPLE, signature=None):
        draft = pack(model, example=example, signature=signature, policy=TRUSTING)
        settings = ServingSettings(request_timeout_seconds=hang_seconds, ready_timeout_seconds=load_seconds)
        return isolate(draft.manifest("m", "1.0.0"), HandedBlobs(draft.contents), TRUSTING, settings, nursery)

    def isolated(model, *, start=True, **options):
        host = make(model, **options)
        hosts.append(host)
        if start:
            host.start()
        return host

    def forgotten(model):
        host = make(model)
        host.start()
        return host.pid

    isolated.forgotten = forgotten
    yield isolated
    for host in hosts:
        host.close()
