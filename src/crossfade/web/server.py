"""One serving process: uvicorn with both planes, readiness, draining, and an orderly end.

SIGTERM drains: the process says that it is not ready, keeps answering for `drain_seconds` while every answer asks the
client to connect anew (elsewhere), stops accepting, finishes what is in flight, and closes everything in reverse order.
A second SIGTERM ends it at once. SIGINT skips the waiting. What hangs does not keep the process: some seconds after the
time for draining is over, it ends with a trace of every thread on stderr.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from crossfade.errors import SettingsError
from crossfade.jobs.runner import JobRunner
from crossfade.platform import open_platform
from crossfade.serving.prediction import PredictionService
from crossfade.settings import HttpSettings, ServingSettings, Settings
from crossfade.web.app import create_app, warm_up
from crossfade.web.budget import BodyBudget
from crossfade.web.dataplane import DataPlane
from crossfade.web.logs import configure_logs, get_logger
from crossfade.web.protocol import guarded_protocol

if TYPE_CHECKING:
    from crossfade.web.grpc_server import GrpcServer

BACKLOG = 2048
MAX_CONNECTIONS = 4096
"""Beyond it new requests get 503: the last resort of a process that is flooded."""
KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers keep idle connections (60 s), so that they, not we, end them."""
CLOSING_SECONDS = 10.0
"""For closing everything once requests have ended; then the process ends whatever hangs in it."""
_SPARE_FILES = 512
_TICK_SECONDS = 0.05
_WAITING_LOG_SECONDS = 10.0

Announce = Callable[[str], None]


def bind(settings: HttpSettings) -> socket.socket:
    """Return a socket that has its address and does not listen yet.

    Whoever asks before anybody answers is refused at once, and may ask another server. A socket that listened would
    keep them waiting until the first worker has its models.

    Raises:
        SettingsError: The address cannot be used; another process has it, or it is not this machine's.
    """
    try:
        return _bound(settings.host, settings.port)
    except OSError as error:
        raise _unusable(settings.host, settings.port, "http.port", error) from error


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(_family(host))
    try:
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            bound.bind((host, port))  # alone: a second server for the address is refused before it loads anything
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # connections of a server that has ended are no hindrance; one that listens, or will, is
            socket.create_server((host, port), family=bound.family).close()
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def check_grpc(settings: Settings) -> None:
    """Find out before anything is started whether the gRPC service could listen.

    Its processes share a port, and could do so with those of another server, which nobody means.

    Raises:
        SettingsError: The address cannot be used.
    """
    if settings.grpc.port:
        _listen(settings.http.host, settings.grpc.port, "grpc.port").close()


def _listen(host: str, port: int, field: str) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
    except OSError as error:
        raise _unusable(host, port, field, error) from error


def _begin_listening(bound: socket.socket) -> None:
    try:
        # connections inherit it, and then do not keep the next server from the address
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.listen(BACKLOG)
    except OSError as error:  # somebody else, who had the address as well, began first
        host, port = bound.getsockname()[:2]
        raise _unusable(host, port, "http.port", error) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _unusable(host: str, port: int, field: str, error: OSError) -> SettingsError:
    return SettingsError(field=field, problem=f"{host}:{port} cannot be used: {error.strerror or error}")


def url_of(listener: socket.socket) -> str:
    """Return an address under which this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


class Place(NamedTuple):
    """One of the workers of a server.

    Attributes:
        lifeline: A file descriptor that becomes readable when the process that started this one is gone.
        number: Which of them; who takes the place of one that died gets its number.
        folder: Where the workers add up their metrics.
    """

    lifeline: int
    number: int
    folder: Path


def serve(
    settings: Settings, listener: socket.socket, on_ready: Callable[[], None], *, place: Place | None = None
) -> None:
    """Serve in this process until a signal ends it.

    Args:
        settings: All of them.
        listener: From `bind`; other processes may share it.
        on_ready: Called once, when every champion answers.
        place: Among the workers, when this is one of several.
    """
    configure_logs(settings.log)
    _allow_many_files()
    with open_platform(settings, serve=True) as platform:
        runtime = platform.runtime
        assert runtime is not None  # noqa: S101 - `serve=True` opens it
        if place is not None:
            runtime.share_measurements(place.folder, str(place.number))
        bodies = BodyBudget(settings.http)
        remote = _open_grpc(runtime.predictions, settings, bodies)
        app = create_app(platform, bodies)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=guarded_protocol(settings.http, app if isinstance(app, DataPlane) else None),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.serving.drain_timeout_seconds)),
        )
        conductor, evaluator = platform.conductor(), platform.evaluator()
        jobs = platform.job_runner()
        lifeline = place and place.lifeline
        release = platform.configs.readers.release  # those who wait for news are answered
        server = DrainingServer(
            config, runtime.predictions, jobs, settings.serving, on_ready, lifeline, remote, release
        )
        with platform.messenger(), conductor, platform.controller(), platform.deployment_keeper(), evaluator:
            server.run([listener])
        get_logger().info("stopped", pid=os.getpid())


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains before it stops."""

    def __init__(
        self,
        config: uvicorn.Config,
        predictions: PredictionService,
        jobs: JobRunner,
        settings: ServingSettings,
        on_ready: Callable[[], None],
        lifeline: int | None,
        remote: GrpcServer | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._release = release
        self._remote = remote
        self._predictions = predictions
        self._jobs = jobs
        self._settings = settings
        self._on_ready = on_ready
        self._lifeline = lifeline
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, then tell when the process is ready.

        A worker first waits until its champions have settled: until then its siblings answer better than it could.
        """
        patience = time.monotonic() + self._settings.ready_timeout_seconds
        while self._lifeline is not None and not (self._predictions.settled() or self._draining or self.should_exit):
            if time.monotonic() > patience:
                break
            await asyncio.sleep(_TICK_SECONDS)
        if self._remote is not None:
            await self._remote.start()
        await warm_up(self.config.app)  # type: ignore[arg-type]  # it was given as an application, not as its name
        try:
            for bound in sockets or ():
                _begin_listening(bound)
        except SettingsError:
            if self._remote is not None:
                await self._remote.stop(0)
            raise
        await super().startup(sockets)
        if self._lifeline is not None:
            asyncio.get_running_loop().add_reader(self._lifeline, self._orphaned)
        self._announcing = asyncio.create_task(self._announce())
        self._jobs.start(asyncio.get_running_loop())

    async def main_loop(self) -> None:
        """Run until a signal; on SIGTERM, drain."""
        ticks = 0
        drain_until = float("inf")
        while not await self.on_tick(ticks % 864_000) and time.monotonic() < drain_until:
            if self._draining and drain_until == float("inf"):
                drain_until = time.monotonic() + self._settings.drain_seconds
                self._begin_draining()
            if self._announcing.done():
                self._announcing.result()  # a fault in it must not go unseen
            await asyncio.sleep(_TICK_SECONDS)
            ticks += 1
        self._announcing.cancel()
        if self._lifeline is not None:
            asyncio.get_running_loop().remove_reader(self._lifeline)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is in flight, then release what the event loop holds."""
        self._release()
        await asyncio.to_thread(self._jobs.close)
        async with asyncio.TaskGroup() as ending:
            ending.create_task(super().shutdown(sockets))
            if self._remote is not None:
                ending.create_task(self._remote.stop(self._settings.drain_timeout_seconds))
        await self._predictions.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's protocol
        """Drain on SIGTERM, stop on SIGINT, end at once when asked again."""
        if self.should_exit or (self._draining and sig == signal.SIGTERM):
            os._exit(128 + sig)
        self._end_in_time()
        if sig == signal.SIGTERM:
            self._draining = True
        else:
            self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving; unlike uvicorn's, do not die of them afterwards: the end was orderly."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline or -1)
        self._lifeline = None
        get_logger().warning("orphaned", pid=os.getpid())
        self._end_in_time()
        self._draining = True

    def _end_in_time(self) -> None:
        # no thread of Python's: it has to work while foreign code hangs and lets no other code run
        seconds = self._settings.drain_seconds + self._settings.drain_timeout_seconds + CLOSING_SECONDS
        faulthandler.dump_traceback_later(seconds, exit=True)

    def _begin_draining(self) -> None:
        get_logger().info("draining", pid=os.getpid(), seconds=self._settings.drain_seconds)
        self._predictions.begin_draining()
        self._release()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]

    async def _announce(self) -> None:
        log_at = time.monotonic() + _WAITING_LOG_SECONDS
        while waiting := self._predictions.unready():
            if time.monotonic() > log_at:
                get_logger().warning("not_ready", waiting_for=list(waiting))
                log_at = float("inf")
            await asyncio.sleep(_TICK_SECONDS)
        get_logger().info("ready", pid=os.getpid())
        self._on_ready()


def _open_grpc(predictions: PredictionService, settings: Settings, bodies: BodyBudget) -> GrpcServer | None:
    if not settings.grpc.port:
        return None
    from crossfade.web.grpc_server import GrpcServer  # a server without gRPC starts faster without it

    return GrpcServer(predictions, settings, bodies)


def _allow_many_files() -> None:
    """Lift the soft limit of open files to what the connections need, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
