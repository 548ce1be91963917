"""Safety through every front door: what is given, what is said about it where, and emergencies on every answer."""

import io

import httpx
import msgspec
import numpy as np
import pytest

from crossfade.client import Client
from crossfade.errors import EmergencyError, UnsafeAnswerError
from crossfade.platform import open_platform
from crossfade.safety.levels import Level
from crossfade.safety.specs import Constant, ExpressionCheck, LastSafe, RangeCheck, SafetyPolicySpec
from crossfade.serving.protocol.messages import message_class
from crossfade.settings import CacheSettings, ServingSettings, Settings
from crossfade.web.app import create_app
from crossfade.web.documentation import RowsAnswer, ServerHealth
from crossfade.web.grpc_service import GrpcService, RemoteCall
from crossfade.web.inprocess import InProcessTransport
from tests import control

HIGH = RangeCheck(name="high", output="y", maximum=10)
ODD = ExpressionCheck(name="whole", expression="y[0] % 1 == 0", level=Level.WARNING)
NINE = Constant(outputs={"y": [9]})
SAFE, WARNED, UNSAFE = [[1.0, 2.0]], [[1.0, 2.5]], [[10.0, 20.0]]
BOTH = [[1.0, 2.0], [10.0, 20.0]]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A server with the models `tiny` and `other`, which answer the sum of their two inputs, and a response cache."""
    folder = tmp_path_factory.mktemp("safety")
    quick = ServingSettings(snapshot_poll_seconds=0.02, heartbeat_seconds=0.5)
    settings = Settings(home=folder / "home", serving=quick, cache=CacheSettings(mode="on"))
    with open_platform(settings, serve=True) as opened, control.local_client(opened) as client:
        for name in ("tiny", "other"):
            control.register(client, folder, "1.0.0", name=name)
            client.move_alias(name, "champion", "1.0.0")
        opened.runtime.await_ready(20)
        yield opened


@pytest.fixture
def http(platform):
    with httpx.Client(base_url="http://localhost", transport=InProcessTransport(create_app(platform))) as client:
        client.headers["accept-encoding"] = "identity"
        yield client


@pytest.fixture
def safety(platform):
    """The rules of the server; there are none afterwards."""
    yield platform.safety
    for policy in platform.safety.policies():
        platform.safety.remove_policy(policy.model)
    for item in platform.safety.status().emergencies:
        platform.safety.end_emergency("the test is over", model=item.model)
    platform.runtime.follower.refresh()


def put(platform, *checks, fallback=(NINE,), **options):
    platform.safety.put_policy(SafetyPolicySpec(model="tiny", checks=checks, fallback=fallback, **options))
    platform.runtime.follower.refresh()


def stop(platform, **options):
    platform.safety.begin_emergency("it burns", **options)
    platform.runtime.follower.refresh()


def predict(http, rows, model="tiny", **options):
    return http.post(f"/api/v1/predict/{model}", json=rows, **options)


def infer(http, rows, model="tiny", **document):
    tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": rows}
    return http.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], **document})


def invoke(http, rows, model="tiny"):
    return http.post(f"/models/{model}/invocations", json={"inputs": rows})


# --- plain rows ---


def test_plain_rows_say_nothing_when_they_are_safe(http, platform, safety):
    put(platform, HIGH, ODD)
    assert "safety" not in predict(http, SAFE).json()


@pytest.mark.parametrize(
    ("rows", "said", "given"),
    [
        (WARNED, {"level": "warning", "checks": ["whole"]}, [[3.5]]),
        (UNSAFE, {"level": "unsafe", "checks": ["high"], "instead": "constant"}, [[9.0]]),
        (BOTH, {"level": "unsafe", "checks": ["high"], "instead": "constant"}, [[3.0], [9.0]]),
    ],
)
def test_plain_rows_say_what_was_found(http, platform, safety, rows, said, given):
    put(platform, HIGH, ODD)
    for _ in range(2):  # the second is kept
        document = predict(http, rows).json()
        assert document["safety"] == said
        assert document["predictions"] == given
        msgspec.convert(document, RowsAnswer)


@pytest.mark.parametrize("kind", ["application/x-npy", "application/vnd.apache.arrow.stream"])
def test_answers_without_a_place_for_it_say_it_in_headers(http, platform, safety, kind):
    if "arrow" in kind:
        pytest.importorskip("pyarrow")
    put(platform, HIGH, ODD)
    answer = predict(http, UNSAFE, headers={"accept": kind})
    assert answer.headers["x-crossfade-safety"] == "unsafe"
    assert answer.headers["x-crossfade-safety-checks"] == "high"
    assert answer.headers["x-crossfade-safety-fallback"] == "constant"
    assert "x-crossfade-emergency" not in answer.headers
    if kind == "application/x-npy":
        assert np.load(io.BytesIO(answer.content)).tolist() == [[9.0]]


def test_a_refusal_is_a_problem_with_a_code(http, platform, safety):
    put(platform, HIGH, fallback=())
    answer = predict(http, UNSAFE)
    assert answer.status_code == 412
    problem = answer.json()
    assert problem["code"] == "unsafe_answer"
    assert problem["facts"]["checks"] == "`high`"
    assert "crossfade safety violations --model tiny" in problem["hint"]


def test_the_unit_of_a_request_is_known(http, platform, safety):
    put(platform, HIGH, fallback=(LastSafe(), NINE))
    predict(http, {"rows": SAFE, "unit_id": "a"})
    predict(http, [[2.0, 2.0]], headers={"X-Unit-ID": "b"})
    assert predict(http, {"rows": UNSAFE, "unit_id": "a"}).json()["predictions"] == [[3.0]]
    assert predict(http, UNSAFE, headers={"X-Unit-ID": "b"}).json()["predictions"] == [[4.0]]
    assert predict(http, UNSAFE).json()["predictions"] == [[9.0]]
    assert "experiment" not in predict(http, {"rows": SAFE, "unit_id": "a"}).json()


# --- the Open Inference Protocol ---


def test_tensors_say_it_in_parameters(http, platform, safety):
    put(platform, HIGH, ODD)
    assert "parameters" not in infer(http, SAFE).json()
    document = infer(http, UNSAFE).json()
    assert document["outputs"][0]["data"] == [9.0]
    assert document["parameters"] == {"safety": "unsafe", "safety_checks": "high", "safety_fallback": "constant"}
    assert infer(http, WARNED).json()["parameters"] == {"safety": "warning", "safety_checks": "whole"}


def test_tensors_know_their_unit(http, platform, safety):
    put(platform, HIGH, fallback=(LastSafe(), NINE))
    infer(http, SAFE, parameters={"unit_id": "c"})
    assert infer(http, UNSAFE, parameters={"unit_id": "c"}).json()["outputs"][0]["data"] == [3.0]


def test_a_refusal_is_in_the_words_of_the_protocol(http, platform, safety):
    put(platform, HIGH, fallback=())
    answer = infer(http, UNSAFE)
    assert answer.status_code == 412
    assert "the answer of `tiny:1.0.0` is unsafe and not given" in answer.json()["error"]


def test_a_whole_reply_that_was_remembered_is_not_given_when_it_is_unsafe(http, platform, safety):
    for _ in range(2):
        assert infer(http, UNSAFE).json()["outputs"][0]["data"] == [30.0]
    put(platform, HIGH)
    assert infer(http, UNSAFE).json()["outputs"][0]["data"] == [9.0]
    stop(platform)
    assert infer(http, UNSAFE).status_code == 503


async def test_grpc_says_it_in_parameters(platform, safety):
    put(platform, HIGH)
    service = GrpcService(platform.runtime.predictions, platform.settings.http)
    request_class = message_class("ModelInferRequest")
    message = request_class(model_name="tiny")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend(UNSAFE[0])
    answer = await service.methods()["ModelInfer"](RemoteCall(message, {}))
    said = {name: value.string_param for name, value in answer.parameters.items()}
    assert said == {"safety": "unsafe", "safety_checks": "high", "safety_fallback": "constant"}
    stop(platform)
    with pytest.raises(EmergencyError):
        await service.methods()["ModelInfer"](RemoteCall(message, {}))


# --- MLflow's routes ---


def test_invocations_say_it_in_headers(http, platform, safety):
    put(platform, HIGH)
    safe = invoke(http, SAFE)
    assert not [name for name in safe.headers if "crossfade" in name]
    answer = invoke(http, UNSAFE)
    assert answer.json()["predictions"] == [[9.0]]
    assert answer.headers["x-crossfade-safety"] == "unsafe"
    put(platform, HIGH, fallback=())
    refused = invoke(http, UNSAFE)
    assert (refused.status_code, refused.json()["error_code"]) == (412, "BAD_REQUEST")


# --- overrides ---


def test_overrides_are_on_every_answer(http, platform, safety):
    put(platform, HIGH)
    platform.safety.override("tiny", seconds=60, reason="why", check="high")
    platform.runtime.follower.refresh()
    assert predict(http, UNSAFE).json()["safety"] == {"overrides": ["high"]}
    assert predict(http, UNSAFE).json()["predictions"] == [[30.0]]
    assert infer(http, SAFE).json()["parameters"] == {"safety": "safe", "safety_overrides": "high"}
    assert invoke(http, SAFE).headers["x-crossfade-safety-overrides"] == "high"


# --- emergencies ---


@pytest.mark.parametrize("ask", [predict, infer, invoke])
def test_a_blocked_server_refuses_every_way_of_asking_and_says_so(http, platform, safety, ask):
    assert ask(http, SAFE).status_code == 200
    stop(platform)
    answer = ask(http, SAFE)
    assert answer.status_code == 503
    assert answer.headers["x-crossfade-emergency"] == "everything=block"
    assert "retry-after" in answer.headers
    assert "it burns" in answer.text
    platform.safety.end_emergency("it is out")
    platform.runtime.follower.refresh()
    answer = ask(http, SAFE)
    assert answer.status_code == 200
    assert "x-crossfade-emergency" not in answer.headers


@pytest.mark.parametrize("ask", [predict, infer, invoke])
def test_answers_that_fall_back_say_so(http, platform, safety, ask):
    put(platform, HIGH)
    stop(platform, mode="fall_back", model="tiny")
    answer = ask(http, SAFE)
    assert answer.status_code == 200
    assert answer.headers["x-crossfade-emergency"] == "tiny=fall_back"
    assert "9.0" in answer.text
    other = ask(http, SAFE, model="other")
    assert other.status_code == 200
    assert "x-crossfade-emergency" not in other.headers


def test_bodies_with_a_place_for_it_say_the_mode(http, platform, safety):
    put(platform, HIGH)
    stop(platform, mode="fall_back")
    assert predict(http, SAFE).json()["safety"] == {"instead": "constant", "emergency": "fall_back"}
    said = infer(http, SAFE).json()["parameters"]
    assert (said["emergency"], said["safety_fallback"]) == ("fall_back", "constant")


@pytest.mark.parametrize("path", ["/health", "/ping", "/healthz", "/readyz", "/v2", "/v2/health/ready", "/metrics"])
def test_the_process_stays_ready_and_says_it(http, platform, safety, path):
    before = http.get(path)
    assert "x-crossfade-emergency" not in before.headers
    stop(platform, model="tiny")
    after = http.get(path)
    assert after.status_code == before.status_code == 200, "no orchestrator should end what a person has stopped"
    assert after.headers["x-crossfade-emergency"] == "tiny=block"


def test_health_and_status_name_it(http, platform, safety):
    assert http.get("/health").text == "\n"
    stop(platform)
    stop(platform, model="tiny", mode="fall_back")
    assert http.get("/health").text == "emergency: everything=block, tiny=fall_back\n"
    ready = http.get("/readyz").json()
    assert ready["emergency"] == "everything=block, tiny=fall_back"
    msgspec.convert(ready, ServerHealth)
    assert http.get("/api/v1/status").json()["emergencies"] == {"everything": "block", "tiny": "fall_back"}
    assert 'crossfade_emergency{model="tiny"} 1.0' in http.get("/metrics").text


def test_paths_that_exist_nowhere_do_not_fail_in_an_emergency(http, platform, safety):
    stop(platform)
    for path in ("/v2/models/%00/ready", "/v2/nothing", "/v2/models/nobody", "/api/v1/predict/"):
        assert http.get(path).status_code in {404, 405}


def test_the_client_raises_what_the_server_did(platform, safety):
    with Client("http://localhost", transport=InProcessTransport(create_app(platform))) as client:
        put(platform, HIGH, fallback=())
        with pytest.raises(UnsafeAnswerError):
            client.predict("tiny", np.array(UNSAFE, np.float32))
        stop(platform)
        with pytest.raises(EmergencyError):
            client.predict("tiny", np.array(SAFE, np.float32))
