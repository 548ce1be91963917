"""Real serving processes that answer gRPC: start, several workers, draining, and what stands in the way."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from crossfade.errors import MissingExtraError, SettingsError
from crossfade.settings import GrpcSettings, HttpSettings, Settings
from crossfade.web.budget import BodyBudget
from crossfade.web.grpc_server import GrpcServer
from crossfade.web.server import check_grpc
from tests import control
from tests.servers import free_port
from tests.web.grpc.calls import call, grpc, pb
from tests.web.test_server import wait_until, workers_of

triton = pytest.importorskip("tritonclient.grpc")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry whose model `tiny` has a champion."""
    return control.registered_home(tmp_path_factory.mktemp("grpc"), "1.0.0")


def ask(client, **options):
    item = triton.InferInput("x", [2, 2], "FP32")
    item.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32))
    return client.infer("tiny", [item], **options).as_numpy("y").tolist()


def own_client(port):
    return triton.InferenceServerClient(
        f"127.0.0.1:{port}", channel_args=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    )


def test_predictions_metadata_and_unloading(home):
    port = free_port()
    with control.running_server(home, CROSSFADE_GRPC__PORT=str(port)) as server, own_client(port) as client:
        assert client.is_server_ready()
        assert ask(client, client_timeout=20) == [[3.0], [7.0]]
        assert client.get_model_metadata("tiny").platform == "onnx"
        assert [model.state for model in client.get_model_repository_index().models] == ["READY"]
        client.unload_model("tiny")
        with pytest.raises(triton.InferenceServerException) as caught:
            ask(client)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        assert "somebody asked not to serve it" in caught.value.message()
        client.load_model("tiny")
        assert ask(client) == [[3.0], [7.0]]
        statistics = client.get_inference_statistics("tiny").model_stats[0]
        assert statistics.inference_count == 2, "since it was loaded again"
        assert server.stop() == 0
    assert '"bug"' not in server.log.read_text()


class Load(threading.Thread):
    """Asks one question after the other until the server says that it is not ready."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.answered, self.failed = own_client(port), 0, []

    def run(self):
        with self.client:
            try:
                while self.client.is_server_ready():
                    ask(self.client)
                    self.answered += 1
            except triton.InferenceServerException as error:
                self.failed.append(str(error))


def test_sigterm_under_load_fails_no_request(home):
    port = free_port()
    with control.running_server(home, CROSSFADE_GRPC__PORT=str(port)) as server:
        loads = [Load(port) for _ in range(4)]
        for load in loads:
            load.start()
        wait_until(lambda: all(load.answered > 5 for load in loads))
        assert server.stop(signal.SIGTERM) == 0
        for load in loads:
            load.join(30)
    assert [load.failed for load in loads] == [[]] * len(loads)
    with socket.socket() as asking:
        assert asking.connect_ex(("127.0.0.1", port)) != 0


async def test_a_call_under_way_is_finished(home):
    """A message that is half sent when the process stops accepting is answered."""
    port = free_port()
    settings = {"CROSSFADE_GRPC__PORT": str(port), "CROSSFADE_SERVING__DRAIN_SECONDS": "0.1"}
    with control.running_server(home, **settings) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[np.ones(2, np.float32).tobytes()])
            request.inputs.add(name="x", datatype="FP32", shape=[1, 2])

            async def late():
                await asyncio.sleep(0.3)  # the call is there
                server.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(wait_until, lambda: not _listens(server.url))
                yield request.SerializeToString()

            assert (await call(channel, "ServerLive")).live
            stub = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            answer = pb.ModelInferResponse.FromString(await stub(late()))
            assert answer.model_version == "1.0.0"
        assert server.process.wait(30) == 0


def _listens(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as asking:
        return asking.connect_ex((host, int(port))) == 0


def test_workers_share_the_port(home):
    port = free_port()
    with control.running_server(home, "--workers", "2", CROSSFADE_GRPC__PORT=str(port)) as server:
        pids = workers_of(server.process.pid)
        assert len(pids) == 2
        for _ in range(12):
            with own_client(port) as client:
                assert ask(client) == [[3.0], [7.0]]
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: len(workers_of(server.process.pid)) == 2 and pids[0] not in workers_of(server.process.pid))
        time.sleep(0.1)
        for _ in range(6):
            with own_client(port) as client:
                assert ask(client) == [[3.0], [7.0]]
        assert server.stop() == 0


# --- what stands in the way ---


def serve(home, **settings):
    return subprocess.run(
        [sys.executable, "-m", "crossfade", "serve", "--port", "0"],
        env=control.environment(home, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(home, CROSSFADE_GRPC__PORT=str(port))
        assert done.returncode == SettingsError.exit_code
        assert "setting `grpc.port`" in done.stderr
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} cannot be used"):
            check_grpc(Settings(grpc=GrpcSettings(port=port)))
    check_grpc(Settings(grpc=GrpcSettings(port=port)))


def test_no_port_means_no_service():
    check_grpc(Settings(http=HttpSettings(host="192.0.2.1")))  # which is no address of any machine


async def test_a_port_that_is_taken_in_the_meantime():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(grpc=GrpcSettings(port=taken.getsockname()[1]))
        server = GrpcServer(None, settings, BodyBudget(settings.http))
        with pytest.raises(SettingsError, match=r"grpc\.port"):
            await server.start()
        await server.stop(1)


@pytest.mark.parametrize("package", ["grpc", "google"])
def test_without_the_extra_the_server_says_what_to_install(home, tmp_path, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError('absent')")
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = serve(home, CROSSFADE_GRPC__PORT=str(free_port()), PYTHONPATH=paths)
    assert done.returncode == MissingExtraError.exit_code
    assert "pip install 'crossfade[grpc]'" in done.stderr
