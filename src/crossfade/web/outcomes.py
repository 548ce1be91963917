"""`POST /api/v1/outcomes`: a bare ASGI application in front of the control plane, for whoever may ask for predictions.

Outcomes come from other machines and by the thousand, so the route is neither control, which is for callers on this
machine, nor a route of the framework, which would cost a small batch more than recording it. It exists with and without
a data plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from crossfade.core.decoding import problem_of
from crossfade.core.identity import new_id
from crossfade.errors import (
    DeniedError,
    InvalidInputError,
    InvalidOutcomesError,
    MalformedRequestError,
    UnavailableError,
)
from crossfade.ledger.events import Outcome
from crossfade.ledger.known import KnownExperiments
from crossfade.ledger.ledger import Ledger, now_us
from crossfade.ledger.requests import SEE_OUTCOMES, Recorded, RecordRequest, as_outcomes
from crossfade.settings import HttpSettings
from crossfade.web.api.contract import READING_A_BODY, refusals, schema_of
from crossfade.web.budget import BodyBudget
from crossfade.web.callers import CallerCheck
from crossfade.web.compression import unpack_body
from crossfade.web.guard import ClientGoneError, read_body
from crossfade.web.problems import SEE_ROUTES, plain_problem, problem_for, problem_response

PATH = "/api/v1/outcomes"
_JSON = "application/json"
_HEADERS = [(b"content-type", _JSON.encode()), (b"x-content-type-options", b"nosniff")]
_decoder = msgspec.json.Decoder(RecordRequest)


class OutcomeIntake:
    """ASGI application: records outcomes, and hands every other request on.

    Args:
        ledger: Where to.
        known: Which experiments and rollouts there are.
        settings: Limits, and the names this server answers for.
        app: What answers everything else.
        bodies: Counts the large bodies of the process.
    """

    def __init__(
        self, ledger: Ledger, known: KnownExperiments, settings: HttpSettings, app: ASGIApp, bodies: BodyBudget
    ) -> None:
        self._ledger = ledger
        self._known = known
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds
        self._callers = CallerCheck(settings)
        self._app = app
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        instance = f"urn:uuid:{new_id()}"
        headers, method = dict(scope["headers"]), scope["method"]
        try:
            self._callers.check(method, headers)
            if method != "POST":
                text = f"{method[:16]} is not allowed here, only POST"
                problem = plain_problem(405, "method_not_allowed", "Method Not Allowed", text, instance, SEE_ROUTES)
                await problem_response(problem, {"allow": "POST"})(scope, receive, send)
                return
            recorded = await self._record(headers, receive)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - the last resort of the process: a bug is logged and answered
            await problem_response(problem_for(error, instance, PATH))(scope, receive, send)
            return
        body = msgspec.json.encode(Recorded(recorded))
        sent = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    async def _record(self, headers: dict[bytes, bytes], receive: Receive) -> int:
        body = await read_body(receive, headers.get(b"content-length"), self._limit, self._seconds, self._bodies)
        held = len(body)
        try:
            if (encoding := headers.get(b"content-encoding")) is not None:
                body = unpack_body(body, encoding, self._limit)
                self._bodies.grow(held, len(body))
                held = len(body)
            outcomes = as_outcomes(_decode(body).outcomes, now_us())
            await self._refuse_strangers(outcomes)
            return await self._ledger.record_async(outcomes)
        finally:
            self._bodies.release(held)

    async def _refuse_strangers(self, outcomes: Sequence[Outcome]) -> None:
        """Refuse outcomes of what does not exist; those that name a decision cannot be judged here."""
        missing = await self._known.missing(each.experiment for each in outcomes if each.experiment)
        for index, each in enumerate(outcomes if missing else ()):
            if each.experiment in missing:
                problem = f"there is no experiment or rollout `{each.experiment[:80]}`"
                raise InvalidOutcomesError(index=index, problem=problem)


def _decode(body: bytes) -> RecordRequest:
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRequestError(problem=problem_of(error, RecordRequest), see=SEE_OUTCOMES) from error
    except RecursionError:
        raise MalformedRequestError(problem="the JSON is nested too deeply", see=SEE_OUTCOMES) from None


def outcome_paths() -> dict[str, Any]:
    """Return the OpenAPI path of this application."""
    refuses = (DeniedError, InvalidInputError, UnavailableError, *READING_A_BODY)
    operation = {
        "tags": ["outcomes"],
        "summary": "Record Outcomes",
        "description": "Record what became of decisions or units: the whole batch, durably, or nothing of it. "
        "Recording an outcome again, by its id, changes nothing.",
        "operationId": "record_outcomes",
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema_of(RecordRequest)}}},
        "responses": {
            "200": {"description": "Durable", "content": {_JSON: {"schema": schema_of(Recorded)}}},
            **refusals(refuses),
        },
    }
    return {PATH: {"post": operation}}
