"""Downloads: whole and as registered, or not there at all."""

import asyncio
import json

import httpx
import pytest

from crossfade import errors
from crossfade.client import AsyncClient, Client
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloading")
    with open_platform(Settings(home=folder / "home")) as platform, control.local_client(platform) as client:
        control.register(client, folder, "1.0.0")
    with control.running_server(folder / "home") as server:
        yield server.url


class Damaging(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Changes or cuts the files that pass, a number of times."""

    def __init__(self, times, *, cut=False):
        self.times, self.cut = times, cut
        self._carriers = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def handle_request(self, request):
        answer = self._carriers[0].handle_request(request)
        return self._damaged(request, answer, answer.read)

    async def handle_async_request(self, request):
        answer = await self._carriers[1].handle_async_request(request)
        if "/files/" in request.url.path:
            await answer.aread()
        return self._damaged(request, answer, lambda: answer.content)

    def _damaged(self, request, answer, read):
        if "/files/" not in request.url.path or self.times == 0:
            return answer
        self.times -= 1
        content = read()
        return httpx.Response(200, stream=Cut(content[:3])) if self.cut else httpx.Response(200, content=content + b"!")

    def close(self):
        self._carriers[0].close()

    async def aclose(self):
        await self._carriers[1].aclose()


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks."""

    def __init__(self, begin):
        self.begin = begin

    def __iter__(self):
        yield self.begin
        raise httpx.ReadError("broken")

    async def __aiter__(self):
        yield self.begin
        raise httpx.ReadError("broken")


@pytest.fixture(params=["sync", "async"])
def download(request, url):
    def run(*args, transport=None, **kwargs):
        if request.param == "sync":
            with Client(url, transport=transport) as client:
                return client.download(*args, **kwargs)

        async def run_async():
            async with AsyncClient(url, transport=transport) as client:
                return await client.download(*args, **kwargs)

        return asyncio.run(run_async())

    return run


def test_a_file_arrives_whole_with_progress(download, url, tmp_path):
    seen = []
    target = tmp_path / "deep" / "model.onnx"
    assert download("tiny:1.0.0", "model.onnx", target, progress=lambda *pair: seen.append(pair)) == target
    with Client(url) as client:
        assert target.read_bytes() == client.file("tiny:1.0.0", "model.onnx")
    assert seen[-1] == (target.stat().st_size,) * 2
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]


def test_the_manifest_is_a_file_too(download, tmp_path):
    manifest = json.loads(download("models:/tiny/1", "manifest.json", tmp_path / "manifest.json").read_bytes())
    assert manifest["version"] == "1.0.0"


def test_a_file_of_that_name_is_replaced_only_by_a_whole_one(download, tmp_path):
    target = tmp_path / "model.onnx"
    target.write_text("mine")
    with pytest.raises(errors.CorruptBlobError, match="changed"):
        download("tiny:1.0.0", "model.onnx", target, transport=Damaging(1))
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_a_broken_connection_begins_again(download, tmp_path, url):
    target = tmp_path / "model.onnx"
    download("tiny:1.0.0", "model.onnx", target, transport=Damaging(2, cut=True))
    with Client(url) as client:
        assert target.read_bytes() == client.file("tiny:1.0.0", "model.onnx")


def test_a_connection_that_stays_broken_leaves_nothing(download, tmp_path):
    with pytest.raises(errors.ServerUnreachableError, match="broken"):
        download("tiny:1.0.0", "model.onnx", tmp_path / "model.onnx", transport=Damaging(99, cut=True))
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_not_found(download, tmp_path):
    with pytest.raises(errors.NotFoundError, match=r"tiny:1\.0\.0/nothing"):
        download("tiny:1.0.0", "nothing", tmp_path / "nothing")
    with pytest.raises(errors.VersionNotFoundError):
        download("tiny:9.9.9", "model.onnx", tmp_path / "model.onnx")


class Refusing(httpx.MockTransport):
    """Answers for the version, and refuses its files."""

    def __init__(self, url):
        with httpx.Client(base_url=url) as client:
            version = client.get("/api/v1/versions/tiny:1.0.0").content

        def answer(request):
            if "/files/" not in request.url.path:
                return httpx.Response(200, content=version)
            return httpx.Response(412, json={"code": "unsafe", "facts": {"problem": "damaged"}})

        super().__init__(answer)


def test_a_refusal_is_the_servers_error(download, url, tmp_path):
    with pytest.raises(errors.UnsafeError, match="damaged"):
        download("tiny:1.0.0", "model.onnx", tmp_path / "model.onnx", transport=Refusing(url))
