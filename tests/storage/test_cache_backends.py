import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from crossfade.errors import MissingExtraError, SettingsError
from crossfade.settings import Settings
from crossfade.storage import backends as shared
from crossfade.storage.cache import backends
from crossfade.storage.cache.memory import MemoryCache
from crossfade.storage.cache.redis import RedisCache

OPEN = Settings()


def test_schemes_name_backends():
    assert isinstance(backends.open_cache("memory://", OPEN), MemoryCache)
    for url in ("redis://localhost:1/0", "rediss://user:password@example.com"):
        assert isinstance(backends.open_cache(url, OPEN), RedisCache), "it is not contacted yet"


@pytest.mark.parametrize("url", ["gopher://hole", "localhost:6379", "x"])
def test_an_unknown_scheme_names_the_known_ones(url):
    with pytest.raises(SettingsError, match="there are `memory`, `redis`, `rediss`") as raised:
        backends.open_cache(url, OPEN)
    assert raised.value.facts["field"] == "cache.redis_url"


@pytest.mark.parametrize("url", ["gopher://:s3cret@hole", "redis://:s3cret@localhost:port/0"])
def test_a_url_that_cannot_be_used_is_not_quoted(url):
    with pytest.raises(SettingsError) as raised:
        backends.open_cache(url, OPEN)
    assert "s3cret" not in str(raised.value) + raised.value.hint


def test_other_packages_add_schemes(monkeypatch):
    entry = EntryPoint("shelf", "crossfade.storage.cache.memory:MemoryCache", "crossfade.cache")

    def entry_points(*, group, name):
        return [entry] if (group, name) == ("crossfade.cache", "shelf") else []

    monkeypatch.setattr(shared, "entry_points", entry_points)
    assert isinstance(backends.open_cache("shelf://x", OPEN), MemoryCache)


def test_a_missing_package_says_which_extra_has_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "crossfade.storage.cache.redis", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match="needs the package `redis`") as raised:
        backends.open_cache("redis://localhost", OPEN)
    assert raised.value.hint == "pip install 'crossfade[redis]'"


def test_a_module_of_our_own_that_is_missing_is_a_bug(monkeypatch):
    for backend in (backends.Backend("crossfade.nowhere:Cache"), backends.Backend("crossfade.nowhere:Cache", "x", "x")):
        monkeypatch.setitem(backends.BACKENDS, "broken", backend)
        with pytest.raises(ModuleNotFoundError):
            backends.open_cache("broken://x", OPEN)


def test_memory_needs_no_package_of_redis():
    program = (
        "import sys; from crossfade.settings import Settings; from crossfade.storage.cache.backends import open_cache;"
        "open_cache('memory://', Settings()); assert 'redis' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
