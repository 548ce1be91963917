"""Every cache against the one specification."""

import pytest
from pydantic import SecretStr

from crossfade.settings import CacheSettings, Settings
from crossfade.storage.cache.backends import open_cache
from crossfade.storage.cache.memory import MemoryCache
from crossfade.storage.cache.redis import RedisCache
from crossfade.testing.cache import CacheContract
from tests.storage.support import FakeTime


class TestMemoryCache(CacheContract):
    @pytest.fixture
    async def cache(self):
        self.time = FakeTime()
        cache = MemoryCache(2**23, self.max_value_bytes, monotonic=self.time)
        yield cache
        await cache.close()
        assert cache.usage().entries == 0

    async def wait(self, seconds):
        self.time.now += seconds


class TestRedisCache(CacheContract):
    @pytest.fixture
    async def cache(self, redis_url):
        chosen = CacheSettings(
            max_bytes=16 * self.max_value_bytes, redis_url=SecretStr(redis_url), redis_timeout_seconds=5
        )
        cache = open_cache(redis_url, Settings(cache=chosen))
        assert isinstance(cache, RedisCache)
        yield cache
        await cache.close()
