"""The Python SDK over HTTP, sync and async; the command line's only way to a server."""

from crossfade.client.asynchronous import AsyncClient
from crossfade.client.predictor import AsyncPredictor
from crossfade.client.synchronous import Client

__all__ = ["AsyncClient", "AsyncPredictor", "Client"]
