"""`crossfade serve`: start the server."""

from __future__ import annotations

import sys
from typing import Any

import click

from crossfade.cli.output import facts
from crossfade.cli.session import Session, command

_REMOTE = {
    False: "other machines may ask for predictions; models are changed from this machine only",
    True: "every machine that reaches this address may change and delete models: nobody is authenticated yet",
}
"""What `http.allow_remote_control` means for an address that other machines reach."""


@command(name="serve", remote=False)
@click.option("--host", default=None, help="Address to bind; default: the setting `http.host`.")
@click.option("--port", type=int, default=None, help="Port to bind; 0 takes a free one; default: `http.port`.")
@click.option("--workers", type=int, default=None, help="Processes that share the port; default: `serving.workers`.")
def serve(session: Session, host: str | None, port: int | None, workers: int | None) -> None:
    """Start the server; SIGTERM drains it, Ctrl-C stops it.

    The address is printed once every champion answers.
    """
    from crossfade.core.processors import bound_threads
    from crossfade.settings import Settings

    settings = Settings.load(**_overrides(host, port, workers))
    bound_threads(settings.serving.workers)  # before the first library with a pool is loaded
    from crossfade.web import server
    from crossfade.web.callers import is_loopback
    from crossfade.web.workers import Supervisor

    server.check_grpc(settings)
    listener = server.bind(settings.http)
    url = server.url_of(listener)

    def announce() -> None:
        if not is_loopback(settings.http.host):  # before the address, so that nobody uses it without the warning
            session.output.note(_REMOTE[settings.http.allow_remote_control])
        session.output.show(
            lambda: b'{"url":"%s"}' % url.encode(), lambda: facts([(f"crossfade is ready at {url}", " ")], name=url)
        )
        session.hint(f"see every route at {url}/docs")
        if settings.grpc.port:
            session.hint(f"gRPC is answered at port {settings.grpc.port}")

    if settings.serving.workers > 1:
        sys.exit(Supervisor(settings, listener, announce).run())
    server.serve(settings, listener, announce)


def _overrides(host: str | None, port: int | None, workers: int | None) -> dict[str, Any]:
    http = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    serving = {} if workers is None else {"workers": workers}
    return {name: section for name, section in (("http", http), ("serving", serving)) if section}
