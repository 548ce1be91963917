"""A request on its way through the data plane, and what is sent back."""

from __future__ import annotations

import msgspec
import orjson
from starlette.types import Receive

from crossfade.core.identity import ModelRef
from crossfade.settings import HttpSettings
from crossfade.web.compression import pack_body, unpack_body
from crossfade.web.guard import read_body
from crossfade.web.paths import Route

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request on its way through the data plane."""

    route: Route
    headers: dict[bytes, bytes]
    query: bytes
    receive: Receive
    client: tuple[str, int] | None = None

    @property
    def ref(self) -> ModelRef:
        """The model that the path names."""
        assert self.route.ref is not None  # noqa: S101 - only paths with a model lead to actions that need one
        return self.route.ref


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is sent back."""

    body: bytes
    status: int = 200
    headers: tuple[Header, ...] = (JSON,)


class BodyReader:
    """Reads the bodies of requests within the limits of the settings."""

    def __init__(self, settings: HttpSettings) -> None:
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds

    async def read(self, call: Call) -> bytes:
        """Return the body, unpacked.

        Raises:
            BodyTooLargeError, BodyTooSlowError, MalformedRequestError: It cannot be accepted.
            ClientGoneError: There is nobody to answer.
        """
        headers = call.headers
        body = await read_body(call.receive, headers.get(b"content-length"), self._limit, self._seconds)
        encoding = headers.get(b"content-encoding")
        return body if encoding is None else unpack_body(body, encoding, self._limit)


def json_answer(document: object, status: int = 200) -> Answer:
    """Return a document as an answer."""
    return Answer(orjson.dumps(document), status)


def packed_answer(call: Call, body: bytes, headers: tuple[Header, ...]) -> Answer:
    """Return a body as an answer, compressed when the client wants that."""
    accepted = call.headers.get(b"accept-encoding")
    if accepted is None:
        return Answer(body, 200, headers)
    packed, coding = pack_body(body, accepted)
    if coding is None:
        return Answer(body, 200, headers)
    return Answer(packed, 200, (*headers, (b"content-encoding", coding), (b"vary", b"accept-encoding")))
