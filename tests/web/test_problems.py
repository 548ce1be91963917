"""Every error as a problem document, and back again in the client."""

import httpx
import msgspec
import pytest

from crossfade import errors
from crossfade.client.calls import error_classes, refusal
from crossfade.web.problems import MEDIA_TYPE, Problem, error_response
from tests.test_errors import LEAVES, facts_of


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_error_arrives_at_the_client_as_itself(kind):
    error = kind(**facts_of(kind))
    response = error_response(error, "urn:uuid:1")
    arrived = refusal(
        httpx.Response(response.status_code, content=response.body, request=httpx.Request("GET", "http://localhost/x"))
    )
    assert type(arrived) is kind
    assert (str(arrived), arrived.hint, arrived.facts) == (str(error), error.hint, error.facts)
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.status_code == kind.http_status


def test_codes_name_classes():
    assert error_classes()["draining"] is errors.DrainingError
    assert len(error_classes()) >= len(LEAVES)


def test_what_is_unavailable_may_be_asked_again():
    assert error_response(errors.DrainingError()).headers["retry-after"] == "1"
    assert "retry-after" not in error_response(errors.StorageFullError(where="/")).headers


def test_facts_become_json():
    error = errors.InvalidInputError(problem="x", where=object, path={1: (2,)})
    problem = Problem.of(error, "")
    assert msgspec.json.decode(msgspec.json.encode(problem))["facts"]["path"] == {"1": [2]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (422, b'{"code": "from_the_future", "detail": "no such thing"}', errors.InvalidInputError, "no such thing"),
        (404, b"<html>proxy</html>", errors.NotFoundError, "`GET /x` does not exist"),
        (409, b"", errors.ConflictError, "the server answered 409"),
        (400, b'{"error": "bad tensor"}', errors.InvalidInputError, "bad tensor"),
        (500, b'{"code": "internal_error", "detail": "a fault"}', errors.UnavailableError, "a fault"),
        (502, b"Bad Gateway", errors.UnavailableError, "the server answered 502"),
        (
            404,
            b'{"code": "model_not_found", "detail": "d", "facts": {"other": 1}}',
            errors.NotFoundError,
            "`GET /x`",
        ),
    ],
)
def test_answers_of_other_servers_still_have_a_family(status, body, kind, message):
    error = refusal(httpx.Response(status, content=body, request=httpx.Request("GET", "http://localhost/x")))
    assert type(error) is kind
    assert message in str(error)


def test_an_unknown_code_keeps_its_hint():
    body = b'{"code": "from_the_future", "detail": "d", "hint": "do this"}'
    error = refusal(httpx.Response(409, content=body, request=httpx.Request("GET", "http://localhost/x")))
    assert error.hint == "do this"
