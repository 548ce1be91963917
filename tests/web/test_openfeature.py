"""OpenFeature's own SDK, with its provider for OFREP, asks a real server."""

import httpx
import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from crossfade.client import Client
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.traffic.allocation.segments import Segment
from tests import control

KINDS = {
    "boolean": (False, True),
    "integer": (1, 2),
    "float": (1.0, 2.5),
    "string": ("grey", "green"),
    "object": ({"size": [1, 2]}, {"size": [3]}),
}
OTHERWISE = {"boolean": True, "integer": 7, "float": 7.5, "string": "none", "object": {}}


def flag(name, values, **changes):
    return ExperimentSpec(name, tuple(Variant(f"v{i}", 0.5, value=value) for i, value in enumerate(values)), **changes)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("openfeature") / "home"
    with control.running_server(home) as running:
        with Client(running.url) as client:
            for spec in (
                *(flag(kind, values) for kind, values in KINDS.items()),
                flag("abroad", KINDS["string"], segment=Segment({"country": {"$ne": "US"}})),
                flag("paused", KINDS["string"]),
                flag("ended", KINDS["string"]),
            ):
                client.create_experiment(spec)
                client.start_experiment(spec.name)
            client.pause_experiment("paused")
            client.stop_experiment("ended", reason="nobody looks at it")
        yield running


@pytest.fixture(scope="module")
def flags(server):
    api.set_provider_and_wait(OFREPProvider(server.url))
    yield api.get_client()
    api.shutdown()


def ask(flags, kind, name, unit="u-1", **context):
    details = getattr(flags, f"get_{kind}_details")
    return details(name, OTHERWISE[kind], EvaluationContext(unit, context))


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_each_kind_arrives_as_it_is(flags, kind):
    answers = [ask(flags, kind, kind, f"u-{number}") for number in range(40)]
    assert {answer.reason for answer in answers} == {Reason.SPLIT}
    assert {answer.variant for answer in answers} == {"v0", "v1"}
    for answer in answers:
        expected = KINDS[kind][int(answer.variant[1])]
        assert (answer.value, type(answer.value)) == (expected, type(expected))
        assert (answer.error_code, answer.flag_metadata["enrolled"]) == (None, True)


def test_a_unit_gets_the_same_again_as_from_our_own_client(flags, server):
    with httpx.Client(base_url=server.url) as http:
        for unit in ("u-1", "ü 2", "3"):
            ours = http.post("/ofrep/v1/evaluate/flags/string", json={"context": {"targetingKey": unit}}).json()
            assert ours["value"] == ask(flags, "string", "string", unit).value


def test_the_context_decides_who_takes_part(flags):
    assert ask(flags, "string", "abroad", country="DE").reason is Reason.SPLIT
    at_home = ask(flags, "string", "abroad", country="US")
    assert (at_home.reason, at_home.value, at_home.flag_metadata["enrolled"]) == (Reason.DEFAULT, "grey", False)


def test_what_is_paused_answers_with_the_control(flags):
    paused = ask(flags, "string", "paused")
    assert (paused.reason, paused.value, paused.error_code) == (Reason.DISABLED, "grey", None)


@pytest.mark.parametrize(
    ("kind", "name", "unit", "code"),
    [
        ("string", "nobody", "u-1", ErrorCode.FLAG_NOT_FOUND),
        ("string", "ended", "u-1", ErrorCode.FLAG_NOT_FOUND),
        ("string", "string", None, ErrorCode.TARGETING_KEY_MISSING),
        ("string", "string", "u" * 2_000, ErrorCode.INVALID_CONTEXT),
        ("boolean", "string", "u-1", ErrorCode.TYPE_MISMATCH),
    ],
    ids=["unknown", "ended", "no unit", "hostile unit", "another kind"],
)
def test_what_cannot_be_told_is_the_default_of_the_code_with_a_reason(flags, kind, name, unit, code):
    answer = ask(flags, kind, name, unit)
    assert (answer.value, answer.reason, answer.error_code) == (OTHERWISE[kind], Reason.ERROR, code)


def test_outcomes_may_name_the_decision(flags, server):
    decision_id = ask(flags, "string", "string").flag_metadata["decision_id"]
    outcome = {"id": "click-1", "name": "clicked", "value": 1.0, "decision": decision_id}
    with Client(server.url) as client:
        assert client.record_outcomes([outcome]).recorded == 1
