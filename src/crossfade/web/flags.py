"""Experiments as feature flags: the OpenFeature Remote Evaluation Protocol (OFREP), one method per action.

Source: OFREP 0.3, https://github.com/open-feature/protocol
"""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.core.hashing import sha256
from crossfade.errors import MalformedRequestError
from crossfade.serving.flags import FlagService
from crossfade.traffic.allocation.evaluation import Flag, FlagFailure
from crossfade.web.calls import BodyReader, Call
from crossfade.web.exchange import JSON, Answer


class _Question(msgspec.Struct):
    context: dict[str, Any] = {}


class _Flags(msgspec.Struct):
    flags: list[Flag | FlagFailure]


_decode_question = msgspec.json.Decoder(_Question).decode


class Flags:
    """The actions of the data plane that evaluate flags.

    Args:
        flags: What evaluates.
        bodies: Reads the bodies of requests.
    """

    def __init__(self, flags: FlagService, bodies: BodyReader) -> None:
        self._flags = flags
        self._bodies = bodies

    async def evaluate_flag(self, call: Call) -> Answer:
        """Answer what one flag is for a context; whoever takes part in the experiment is exposed to it."""
        flag, decision_id = self._flags.evaluate(call.route.key, await self._context(call))
        if isinstance(flag, FlagFailure):
            status = 404 if flag.error_code == "FLAG_NOT_FOUND" else 400
            return Answer(msgspec.json.encode(flag), status)
        if decision_id:
            flag = msgspec.structs.replace(flag, metadata={**flag.metadata, "decision_id": decision_id})
        return Answer(msgspec.json.encode(flag))

    async def evaluate_flags(self, call: Call) -> Answer:
        """Answer what all flags are for a context; 304 when they are what the client has."""
        flags = self._flags.evaluate_all(await self._context(call))
        body = msgspec.json.encode(_Flags(sorted(flags, key=lambda flag: flag.key)))
        etag = f'"{sha256(body)}"'.encode()
        # weak or not: whoever packed the answer on its way says it is weak
        known = {tag.strip().removeprefix(b"W/") for tag in call.headers.get(b"if-none-match", b"").split(b",")}
        if etag in known:
            return Answer(b"", 304, ((b"etag", etag),))
        return Answer(body, 200, (JSON, (b"etag", etag)))

    async def _context(self, call: Call) -> dict[str, Any]:
        try:
            return _decode_question(await self._bodies.read(call) or b"{}").context
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MalformedRequestError(problem=str(error)) from error
        except RecursionError:
            raise MalformedRequestError(problem="the JSON is nested too deeply") from None
