"""The routes of safety: what they take, what they refuse, and that rehearsals change nothing."""

import asyncio

import httpx
import pytest

from crossfade.client import AsyncClient, safety_verbs, verbs
from crossfade.errors import (
    InvalidInputError,
    InvalidOverrideError,
    InvalidPageError,
    InvalidSafetyPolicyError,
    MalformedRequestError,
    ModelNotFoundError,
    NoEmergencyError,
    OverrideNotFoundError,
    ReasonRequiredError,
    SafetyPolicyNotFoundError,
)
from crossfade.safety.levels import Level
from crossfade.safety.requests import CheckRequest
from crossfade.safety.specs import Constant, ExpressionCheck, RangeCheck, SafetyPolicySpec
from crossfade.web.app import create_app
from tests import control

HIGH = RangeCheck(name="high", output="y", maximum=10)
POLICY = SafetyPolicySpec(model="tiny", checks=(HIGH,), fallback=(Constant(outputs={"y": [9]}),))


@pytest.fixture
def tiny(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    return client


def test_the_life_of_a_policy(tiny):
    assert tiny.safety_policies() == ()
    made = tiny.put_safety_policy(POLICY, reason="first")
    assert (made.spec, made.reason, made.created_by) == (POLICY, "first", "tester")
    assert tiny.safety_policy("tiny") == made
    assert tiny.put_safety_policy(POLICY) == made
    assert tiny.safety_status().models == ("tiny",)
    assert tiny.remove_safety_policy("tiny", reason="over") == made
    with pytest.raises(SafetyPolicyNotFoundError):
        tiny.safety_policy("tiny")


def test_the_life_of_an_override(tiny):
    tiny.put_safety_policy(POLICY)
    made = tiny.override_safety("tiny", seconds=60, reason="why", check="high")
    assert tiny.overrides(holding=True).items == (made,)
    assert tiny.safety_status().overrides == (made,)
    ended = tiny.end_override(made.id, reason="mended")
    assert ended.ended_because == "mended"
    assert tiny.overrides(holding=True).items == ()
    assert tiny.overrides(model="tiny").items == (ended,)


def test_the_life_of_an_emergency(tiny):
    begun = tiny.begin_emergency("it burns", model="tiny")
    assert begun.revision > 0
    assert tiny.begin_emergency("again", model="tiny").revision == 0
    assert tiny.safety_status().emergencies == (begun.emergency,)
    assert tiny.status().emergencies == {"tiny": "block"}
    assert tiny.end_emergency("it is out", model="tiny").emergency == begun.emergency
    assert tiny.status().emergencies == {}


def test_nothing_was_violated_yet(tiny):
    assert tiny.violations().items == ()
    assert tiny.violations(model="tiny", check="high", level="critical").items == ()


def test_a_policy_is_tried_without_being_put(tiny):
    report = tiny.check_safety(CheckRequest({"y": [[1.0], [11.0]]}, policy=POLICY))
    assert [row.level for row in report.rows] == [Level.SAFE, Level.UNSAFE]
    assert tiny.safety_policies() == ()


REFUSED = [
    (safety_verbs.safety_policy("tiny"), SafetyPolicyNotFoundError),
    (safety_verbs.remove_safety_policy("tiny"), SafetyPolicyNotFoundError),
    (safety_verbs.put_safety_policy(SafetyPolicySpec(model="nobody", checks=(HIGH,))), ModelNotFoundError),
    (safety_verbs.put_safety_policy(SafetyPolicySpec(model="tiny", checks=())), InvalidSafetyPolicyError),
    (
        safety_verbs.put_safety_policy(
            SafetyPolicySpec(model="tiny", checks=(ExpressionCheck(name="e", expression="().__class__"),))
        ),
        InvalidSafetyPolicyError,
    ),
    (safety_verbs.override_safety("tiny", seconds=60, reason="why"), SafetyPolicyNotFoundError),
    (safety_verbs.end_override("nothing", reason="why"), OverrideNotFoundError),
    (safety_verbs.end_emergency("why"), NoEmergencyError),
    (safety_verbs.begin_emergency(" "), ReasonRequiredError),
    (safety_verbs.begin_emergency("why", model="nobody"), ModelNotFoundError),
    (safety_verbs.check_safety(CheckRequest({})), MalformedRequestError),
    (safety_verbs.overrides(limit=10_000), InvalidInputError),
    (safety_verbs.overrides(cursor="x"), InvalidPageError),
    (safety_verbs.violations(cursor="x"), InvalidPageError),
]


def test_refusals_have_their_class(tiny):
    for call, error in REFUSED:
        with pytest.raises(error):
            tiny.send(call)


def test_a_check_that_the_policy_has_not(tiny):
    tiny.put_safety_policy(POLICY)
    with pytest.raises(InvalidOverrideError, match="no check `low`, only high"):
        tiny.override_safety("tiny", seconds=60, reason="why", check="low")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/policies/tiny", b'{"model": "other", "checks": []}', 422),
        ("PUT", "/policies/tiny", b"{}", 422),
        ("PUT", "/policies/tiny", b"[" * 5000, 422),
        ("PUT", "/policies/tiny", b'{"model": "tiny", "checks": [{"kind": "eval"}]}', 422),
        ("PUT", "/policies/tiny", b'{"model": "tiny", "checks": [], "extra": 1}', 422),
        ("GET", "/policies/%00", b"", 404),
        ("POST", "/emergency/on", b'{"reason": "why", "mode": "sing"}', 422),
        ("POST", "/emergency/on", b"{}", 422),
        ("POST", "/emergency/off", b'{"reason": 7}', 422),
        ("POST", "/overrides", b'{"model": "tiny", "reason": "why", "seconds": "long"}', 422),
        ("POST", "/overrides", b'{"model": "tiny", "reason": "why", "seconds": 1e999}', 422),
        ("GET", "/violations?level=fatal", b"", 422),
        ("GET", "/violations?limit=0", b"", 422),
        ("DELETE", "/status", b"", 405),
    ],
)
def test_what_cannot_be_read_is_refused(http, method, path, body, status):
    answer = http.request(method, f"/api/v1/safety{path}", content=body)
    assert answer.status_code == status
    assert answer.json()["code"]


def test_rehearsals_say_what_would_happen_and_change_nothing(tiny, platform):
    tiny.put_safety_policy(POLICY)
    override = tiny.override_safety("tiny", seconds=60, reason="why")
    tiny.begin_emergency("why")
    before = platform.database.revision(), tiny.safety_status()
    other = SafetyPolicySpec(model="tiny", checks=(HIGH, RangeCheck(name="low", output="y", minimum=0)))
    would = {
        "look at the answers of tiny with 2 checks": safety_verbs.put_safety_policy(other),
        "let tiny answer without its 1 checks": safety_verbs.remove_safety_policy("tiny"),
        "turn every check of tiny on again": safety_verbs.end_override(override.id, reason="why"),
        "stop tiny (fall_back)": safety_verbs.begin_emergency("why", mode="fall_back", model="tiny"),
        "let everything answer again": safety_verbs.end_emergency("why"),
    }
    for said, call in would.items():
        assert tiny.send(verbs.dry_run(call)).would == said
    off = safety_verbs.override_safety("tiny", seconds=60, reason="why", check="high", version="1.0.0")
    assert tiny.send(verbs.dry_run(off)).would.startswith("turn off high of tiny:1.0.0 until 2")
    assert (platform.database.revision(), tiny.safety_status()) == before


def test_the_asynchronous_client_has_the_same_verbs(tiny, platform):
    async def run():
        transport = httpx.ASGITransport(create_app(platform))
        async with AsyncClient("http://localhost", transport=transport) as client:
            await client.put_safety_policy(POLICY)
            made = await client.override_safety("tiny", seconds=60, reason="why")
            await client.end_override(made.id, reason="why")
            await client.begin_emergency("why")
            await client.end_emergency("over")
            return await client.safety_status()

    assert asyncio.run(run()).models == ("tiny",)
