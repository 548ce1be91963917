"""The control plane in this process, over an empty registry."""

import httpx
import pytest

from crossfade.platform import open_platform
from crossfade.settings import Settings
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests import control


@pytest.fixture
def platform(tmp_path):
    with open_platform(Settings(home=tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def client(platform):
    with control.local_client(platform) as opened:
        yield opened


@pytest.fixture
def http(platform):
    """The same application for requests that no client would make."""
    transport = InProcessTransport(create_app(platform))
    with httpx.Client(base_url="http://localhost", transport=transport) as opened:
        yield opened
