"""What stands before the control plane, without the control plane."""

import orjson
import pytest
from structlog.testing import capture_logs

from crossfade.settings import HttpSettings
from crossfade.web.security import ControlGuard


class Exchange:
    """One request: what the application saw of it, and what was answered."""

    def __init__(self, app=None, **settings):
        self.sent = []
        self.seen = False
        self.app = app or self.answer
        self.guard = ControlGuard(self.app, HttpSettings(**settings))

    async def answer(self, scope, receive, send):
        self.seen = True
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def send(self, message):
        self.sent.append(message)

    async def __call__(self, method="GET", path="/api/v1/models", client=("127.0.0.1", 1), **headers):
        given = [(b"host", b"localhost"), *((name.replace("_", "-").encode(), v) for name, v in headers.items())]
        scope = {"type": "http", "method": method, "path": path, "headers": given, "client": client}
        await self.guard(scope, None, self.send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def problem(self):
        assert self.headers[b"content-type"] == b"application/problem+json"
        return orjson.loads(self.sent[1]["body"])


async def broken(scope, receive, send):
    raise RuntimeError("secret in a message")


async def test_a_fault_of_any_layer_is_answered_and_logged_once():
    with capture_logs() as logs:
        exchange = await Exchange(broken)()
    assert exchange.status == 500
    assert exchange.problem["code"] == "internal_error"
    assert exchange.problem["instance"] == exchange.headers[b"x-request-id"].decode() == logs[0]["request_id"]
    assert "secret" not in str(exchange.problem)
    assert [log["event"] for log in logs] == ["bug"]


async def test_a_fault_after_the_beginning_of_an_answer_is_the_server_s_to_cut():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    exchange = Exchange(app)
    with pytest.raises(RuntimeError):
        await exchange()
    assert len(exchange.sent) == 1


@pytest.mark.parametrize("origin", [b"http://[", b"http://\xff\xfe", b"", b"null", b"https://localhost"])
async def test_odd_origins_are_refused(origin):
    exchange = await Exchange()("POST", origin=origin)
    assert (exchange.status, exchange.problem["code"], exchange.seen) == (403, "origin_not_allowed", False)


async def test_what_is_not_http_passes():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await ControlGuard(app, HttpSettings())({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]


# --- other machines --------------------------------------------------------------------------------------------------

ELSEWHERE = ("10.1.2.3", 1234)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"])
@pytest.mark.parametrize(
    "caller", [{"client": ELSEWHERE}, {"client": None}, {"x_forwarded_for": b"127.0.0.1"}], ids=str
)
@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/versions/a:1.0.0/files/model", "/docs", "/"])
async def test_other_machines_are_refused(method, caller, path):
    exchange = await Exchange(host="0.0.0.0")(method, path, **caller)
    assert (exchange.status, exchange.problem["code"], exchange.seen) == (403, "remote_control", False)
    assert "CROSSFADE_HTTP__ALLOW_REMOTE_CONTROL=true" in exchange.problem["hint"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_other_machines_may_read_what_a_prediction_needs(method):
    assert (await Exchange()(method, "/api/v1/versions/tiny@champion", ELSEWHERE)).seen


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "QUERY"])
async def test_other_machines_change_nothing_there(method):
    assert not (await Exchange()(method, "/api/v1/versions/tiny@champion", ELSEWHERE)).seen


@pytest.mark.parametrize("caller", [{"client": ELSEWHERE}, {"forwarded": b"for=10.1.2.3"}], ids=str)
async def test_other_machines_do_everything_when_they_may(caller):
    assert (await Exchange(allow_remote_control=True)("DELETE", "/api/v1/versions/tiny:1.0.0", **caller)).seen
