"""The local runner keeps what runners promise."""

import os
import signal

import pytest

from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.packaging import pack
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.replicas.local import LocalRunner
from crossfade.settings import Settings
from crossfade.testing.runner import RunnerContract
from tests.serving.isolation import poison
from tests.serving.isolation.conftest import EXAMPLE, HandedBlobs

TRUSTING = TrustPolicy(allow_code=True)


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery(Limits(2**30))
    yield nursery
    nursery.close()


class TestLocalRunner(RunnerContract):
    @pytest.fixture
    def draft(self):
        return pack(poison.Harmless(), example=EXAMPLE, policy=TRUSTING)

    @pytest.fixture
    def manifest(self, draft):
        return draft.manifest("m", "1.0.0")

    @pytest.fixture
    def runner(self, draft, nursery, tmp_path):
        return LocalRunner(HandedBlobs(draft.contents), TRUSTING, Settings(home=tmp_path), nursery)

    def end(self, replica):
        os.kill(replica.pid, signal.SIGKILL)
