"""Experiments through every front door: who answered and why is said in each, and hostile askers hurt nobody."""

import io
import json

import httpx
import numpy as np
import pytest

from crossfade.experiments.requests import DecideRequest
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.platform import open_platform
from crossfade.serving.protocol.messages import message_class
from crossfade.settings import HttpSettings, ServingSettings, Settings
from crossfade.storage.tables import exposures
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import LayerSpec
from crossfade.web.app import create_app
from crossfade.web.grpc_service import GrpcService, RemoteCall
from crossfade.web.inprocess import InProcessTransport
from tests import control

HALVES = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "2.0.0"))
FACTORS = {"old": 1.0, "new": 2.0}
ROWS = [[1.0, 2.0]]
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
UNITS = [f"u-{number}" for number in range(20)]
DECIDED = {"name", "variant", "reason", "why", "decision_id"}
FLAG = (Variant("grey", 0.5, value="#888"), Variant("green", 0.5, value={"color": "green"}))


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A server whose model `tiny` is in the experiment `late`, and flags; `other` is in none."""
    folder = tmp_path_factory.mktemp("experiments")
    quick = ServingSettings(snapshot_poll_seconds=0.02, heartbeat_seconds=0.5)
    settings = Settings(home=folder / "home", serving=quick, http=HttpSettings(max_body_bytes=4 * 2**20))
    with open_platform(settings, serve=True) as opened, control.local_client(opened) as client:
        for name in ("tiny", "other"):
            control.register(client, folder, "1.0.0", "2.0.0", name=name)
            client.move_alias(name, "champion", "1.0.0")
        client.create_layer(LayerSpec("web", unit="session"))
        for spec in (
            ExperimentSpec("late", HALVES, model="tiny", metrics=(MetricSpec("paid", loss="squared"),)),
            ExperimentSpec("second", HALVES, model="tiny", segment=Segment({"carrier": "UA"})),
            ExperimentSpec("drawn", HALVES, model="tiny", sticky=False),
            ExperimentSpec("button", FLAG),
            ExperimentSpec("session", FLAG, layer="web", share=0.9),
        ):
            client.create_experiment(spec)
            client.start_experiment(spec.name)
        opened.runtime.follower.refresh()
        opened.runtime.await_ready(20)
        yield opened


@pytest.fixture
def http(platform):
    with httpx.Client(base_url="http://localhost", transport=InProcessTransport(create_app(platform))) as client:
        client.headers["accept-encoding"] = "identity"
        yield client


def unit_of(platform, variant, name="late"):
    decide = platform.runtime.follower.snapshot.router.decide
    return next(unit for unit in UNITS if decide(name, unit).variant == variant)


def predict(http, document, model="tiny", **headers):
    return http.post(f"/api/v1/predict/{model}", json=document, headers=headers)


def infer(http, model="tiny", headers=None, **document):
    return http.post(f"/v2/models/{model}/infer", json={"inputs": [TENSOR], **document}, headers=headers)


def assert_answered(variant, answer, value):
    assert answer == {"old": "1.0.0", "new": "2.0.0"}[variant]
    assert value == 3.0 * FACTORS[variant]


# --- each front door says who answered, and why ---


@pytest.mark.parametrize("variant", FACTORS)
def test_plain_rows(http, platform, variant):
    unit = unit_of(platform, variant)
    document = predict(http, {"rows": ROWS, "unit_id": unit}).json()
    decided = document["experiment"]
    assert set(decided) == DECIDED
    assert (decided["name"], decided["variant"], decided["reason"]) == ("late", variant, "split")
    assert variant in decided["why"]
    assert_answered(variant, document["version"], document["predictions"][0][0])
    assert predict(http, {"rows": ROWS}, **{"X-Unit-ID": unit}).json()["experiment"]["variant"] == variant
    assert predict(http, ROWS, **{"X-Unit-ID": unit}).json()["experiment"]["variant"] == variant


@pytest.mark.parametrize("variant", FACTORS)
def test_the_open_inference_protocol_in_json(http, platform, variant):
    unit = unit_of(platform, variant)
    document = infer(http, id="mine", parameters={"unit_id": unit}).json()
    said = document["parameters"]
    assert set(said) == {"experiment", "variant", "reason", "why", "decision_id"}
    assert (said["experiment"], said["variant"], document["id"]) == ("late", variant, "mine")
    assert_answered(variant, document["model_version"], document["outputs"][0]["data"][0])


@pytest.mark.parametrize("variant", FACTORS)
def test_the_open_inference_protocol_with_binary_tensors(http, platform, variant):
    data = np.array([1.0, 2.0], "<f4").tobytes()
    tensor = {k: v for k, v in TENSOR.items() if k != "data"} | {"parameters": {"binary_data_size": len(data)}}
    parameters = {"unit_id": unit_of(platform, variant), "binary_data_output": True}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = http.post("/v2/models/tiny/infer", content=head + data, headers=length)
    at = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:at])
    assert document["parameters"]["variant"] == variant
    assert_answered(variant, document["model_version"], np.frombuffer(answer.content[at:], "<f4")[0])


@pytest.mark.parametrize("variant", FACTORS)
@pytest.mark.parametrize("kind", ["application/x-npy", "application/vnd.apache.arrow.stream"])
def test_answers_without_a_place_for_it_say_it_in_headers(http, platform, variant, kind):
    pa = pytest.importorskip("pyarrow")
    body = io.BytesIO()
    np.save(body, np.array(ROWS, np.float32))
    headers = {"Content-Type": "application/x-npy", "Accept": kind, "X-Unit-ID": unit_of(platform, variant)}
    answer = http.post("/api/v1/predict/tiny", content=body.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text
    said = {name.removeprefix("x-crossfade-"): value for name, value in answer.headers.items() if "crossfade" in name}
    assert (said["experiment"], said["variant"], said["reason"]) == ("late", variant, "split")
    assert len(said["decision"]) == 36
    if kind == "application/x-npy":
        value = np.load(io.BytesIO(answer.content)).flat[0]
    else:
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.num_columns == 1, "what a score is made of is not sent"
        value = table.column(0)[0].as_py()
        value = value[0] if isinstance(value, list) else value
    assert_answered(variant, said["version"], value)


@pytest.mark.parametrize("variant", FACTORS)
def test_the_routes_of_mlflow(http, platform, variant):
    headers = {"X-Unit-ID": unit_of(platform, variant)}
    answer = http.post("/models/tiny/invocations", json={"inputs": ROWS}, headers=headers)
    assert answer.headers["x-crossfade-variant"] == variant
    assert_answered(variant, answer.headers["x-crossfade-version"], answer.json()["predictions"][0][0])
    assert "x-crossfade-variant" not in http.post("/models/other/invocations", json={"inputs": ROWS}).headers


@pytest.mark.parametrize("variant", FACTORS)
async def test_grpc(platform, variant):
    pytest.importorskip("google.protobuf")
    infer = GrpcService(platform.runtime.predictions, HttpSettings()).methods()["ModelInfer"]

    def message(**parameters):
        request = message_class("ModelInferRequest")(model_name="tiny", id="mine")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
        for name, value in parameters.items():
            setattr(request.parameters[name], f"{type(value).__name__}_param".replace("str", "string"), value)
        return request

    unit = unit_of(platform, variant)
    for call in (
        RemoteCall(message(unit_id=unit), {}),
        RemoteCall(message(), {b"x-unit-id": unit.encode()}),
    ):
        answer = await infer(call)
        said = {name: answer.parameters[name].string_param for name in answer.parameters}
        assert (said["experiment"], said["variant"], said["reason"]) == ("late", variant, "split")
        assert len(said["decision_id"]) == 36
        assert_answered(variant, answer.model_version, answer.outputs[0].contents.fp32_contents[0])


def test_what_is_in_no_experiment_says_nothing_of_one(http):
    assert "experiment" not in predict(http, {"rows": ROWS, "unit_id": "u"}, "other").json()
    assert "parameters" not in infer(http, "other", parameters={"unit_id": "u"}).json()
    for ref in ("tiny@champion", "tiny"):
        assert "experiment" in predict(http, {"rows": ROWS, "unit_id": "u"}, ref).json()
    assert "experiment" not in predict(http, {"rows": ROWS, "unit_id": "u"}, "tiny:1.0.0").json()


def test_exposures_arrive_in_the_database_under_the_decision_that_was_told(http, platform):
    document = predict(http, {"rows": ROWS, "unit_id": "somebody"}).json()
    platform.ledger.flush(20)
    with platform.database.read() as connection:
        found = connection.execute(exposures.select().where(exposures.c.unit == "somebody")).one()
    assert found.id == document["experiment"]["decision_id"]
    assert (found.variant, found.version) == (document["experiment"]["variant"], document["version"])
    assert found.score == document["predictions"][0][0]


# --- one that is named ---


def test_the_experiment_that_a_request_names_decides_alone(http, platform):
    named = {"X-Experiment-ID": "second"}
    told = predict(http, {"rows": ROWS, "unit_id": "u", "context": {"carrier": "UA"}}, **named).json()["experiment"]
    assert (told["name"], told["reason"]) == ("second", "split")
    told = predict(http, {"rows": ROWS, "unit_id": "u", "experiment": "second", "context": {"carrier": "AA"}}).json()
    assert (told["experiment"]["reason"], told["version"]) == ("not_targeted", "1.0.0")
    assert "decision_id" not in told["experiment"]
    said = infer(http, parameters={"unit_id": "u", "experiment": "second"}, headers={"X-Context": '{"carrier":"UA"}'})
    assert said.json()["parameters"]["experiment"] == "second"
    drawn = [predict(http, {"rows": ROWS}, **{"X-Experiment-ID": "drawn"}).json()["version"] for _ in range(30)]
    assert set(drawn) == {"1.0.0", "2.0.0"}


@pytest.mark.parametrize("model", ["tiny", "other"])
@pytest.mark.parametrize("name", ["nobody", "button", "x" * 3000, "a\r\nSet-Cookie: a=b", "a\0", "é☃", "\t", " "])
def test_one_that_does_not_run_here_leaves_the_champion_and_no_answer_is_hurt(http, model, name):
    document = predict(http, {"rows": ROWS, "unit_id": "u", "experiment": name}, model).json()
    if "experiment" in document:
        assert (document["experiment"]["reason"], document["version"]) == ("not_running", "1.0.0")
    body = json.dumps({"rows": ROWS, "unit_id": "u", "experiment": name})
    answer = http.post(f"/api/v1/predict/{model}", content=body, headers={"Accept": "application/x-npy"})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    for header, value in answer.headers.items():
        assert header != "x-crossfade-experiment" or value in {"", name[:80]}
        assert value.isascii()
        assert value.isprintable()


# --- hostile askers ---


@pytest.mark.parametrize(
    "fields",
    [
        {"unit_id": 1.5},
        {"unit_id": ["u"]},
        {"unit_id": {"a": 1}},
        {"unit_id": True},
        {"context": [1]},
        {"context": "x"},
        {"experiment": [7]},
    ],
)
def test_a_wrong_type_is_refused_by_each_protocol_in_its_words(http, fields):
    answer = predict(http, {"rows": ROWS, **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
    if "context" not in fields:
        answer = infer(http, parameters=fields)
        assert answer.status_code == 422
        assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("unit", ["", "a\0b", "x" * 600, "tab\t"])
def test_a_unit_that_cannot_be_recorded_gets_the_champion(http, unit):
    document = predict(http, {"rows": ROWS, "unit_id": unit, "experiment": "late"}).json()
    assert (document["version"], document["experiment"]["reason"]) == ("1.0.0", "missing_unit")
    assert "decision_id" not in document["experiment"]


def test_a_large_context_and_a_deep_one(http):
    large = {f"a{number}": "x" * 90 for number in range(10_000)}
    answer = predict(http, {"rows": ROWS, "unit_id": "u", "context": large})
    assert answer.json()["experiment"]["reason"] == "split"
    deep = b'{"rows": [[1, 2]], "context": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001
    answer = http.post("/api/v1/predict/tiny", content=deep)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
    answer = predict(http, {"rows": ROWS}, **{"X-Context": '{"a":' * 3_000 + "1" + "}" * 3_000})
    assert answer.status_code == 422
    for broken in (b"{", b'{"rows": [[1, 2]], "unit_id": "\\ud800"}', b'{"unit_id": "\xff"}', b""):
        assert http.post("/api/v1/predict/tiny", content=broken).status_code == 422


@pytest.mark.parametrize("length", ["-1", "99999", "x", ""])
def test_a_json_length_that_cannot_be(http, length):
    answer = http.post(
        "/v2/models/tiny/infer", content=b'{"inputs": []}', headers={"Inference-Header-Content-Length": length}
    )
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]


# --- flags ---


def evaluate(http, key="button", **context):
    return http.post(f"/ofrep/v1/evaluate/flags/{key}", json={"context": context})


def test_a_flag_in_the_shape_of_openfeature(http, platform):
    answer = evaluate(http, targetingKey="u-1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    flag = answer.json()
    assert set(flag) == {"key", "reason", "variant", "value", "metadata"}
    assert (flag["key"], flag["reason"]) == ("button", "SPLIT")
    assert flag["value"] == {"grey": "#888", "green": {"color": "green"}}[flag["variant"]]
    assert all(isinstance(value, str | bool | int | float) for value in flag["metadata"].values())
    platform.ledger.flush(20)
    with platform.database.read() as connection:
        found = connection.execute(exposures.select().where(exposures.c.id == flag["metadata"]["decision_id"])).one()
    assert (found.experiment, found.unit, found.variant, found.model) == ("button", "u-1", flag["variant"], "")


@pytest.mark.parametrize("key", ["nobody", "x" * 160])
def test_a_flag_that_is_not_there(http, key):
    answer = evaluate(http, key, targetingKey="u")
    assert answer.status_code == 404
    assert answer.json()["errorCode"] == "FLAG_NOT_FOUND"
    assert answer.json()["key"] == key


@pytest.mark.parametrize(("wanted", "value"), [("ship", {"color": "green"}), ("keep", "#888")])
def test_a_decided_flag_is_answered_to_everybody_and_exposes_nobody(http, platform, wanted, value):
    name = f"button_{wanted}"
    platform.experiments.create(ExperimentSpec(name, FLAG))
    platform.experiments.start(name)
    platform.judge.decide(name, DecideRequest(wanted, "green" if wanted == "ship" else ""))
    platform.runtime.follower.refresh()
    one = evaluate(http, name, targetingKey="u-1").json()
    assert one == evaluate(http, name).json()
    assert (one["value"], one["reason"], one["metadata"]["code"]) == (value, "STATIC", "static")
    assert one["metadata"]["words"] == f"it was decided: everybody gets `{one['variant']}`"
    assert "decision_id" not in one["metadata"]
    assert one in http.post("/ofrep/v1/evaluate/flags", json={"context": {}}).json()["flags"]
    platform.ledger.flush(20)
    with platform.database.read() as connection:
        assert connection.execute(exposures.select().where(exposures.c.experiment == name)).all() == []


@pytest.mark.parametrize("key", ["no%20body", "a%00", "%C3%A9", "x" * 500, "..%2F"])
def test_a_flag_that_cannot_be(http, key):
    answer = evaluate(http, key, targetingKey="u")
    assert answer.status_code == 404
    assert answer.json()["errorCode"] == "FLAG_NOT_FOUND"
    assert answer.json()["errorDetails"]


@pytest.mark.parametrize(
    ("targeting", "problem"),
    [
        (7, "`targetingKey` is no text"),
        (["u"], "`targetingKey` is no text"),
        ("u" * 1000, "`targetingKey` has 1,000 characters, at most 512"),
        ("a\0", "`targetingKey` has characters that cannot be shown"),
    ],
)
def test_a_targeting_key_that_is_none(http, targeting, problem):
    answer = evaluate(http, "button", targetingKey=targeting)
    assert answer.status_code == 400
    assert answer.json() == {"key": "button", "errorCode": "INVALID_CONTEXT", "errorDetails": problem}


@pytest.mark.parametrize("context", [{}, {"targetingKey": None}, {"targetingKey": ""}])
@pytest.mark.parametrize("key", ["button", "session"])
def test_a_flag_without_a_targeting_key(http, key, context):
    answer = evaluate(http, key, **context)
    assert answer.status_code == 400
    assert answer.json()["errorCode"] == "TARGETING_KEY_MISSING"
    assert set(answer.json()) == {"key", "errorCode", "errorDetails"}


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"7", b'{"context": 7}', b'{"context": []}', b"\xff", b"null", b'{"context":' + b"[" * 100_000],
)
@pytest.mark.parametrize("path", ["/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/button"])
def test_a_body_that_cannot_be_read(http, path, body):
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["errorCode"] == "PARSE_ERROR"
    assert answer.json()["errorDetails"]
    assert answer.headers["content-type"] == "application/json"


def test_a_body_that_is_too_large_and_a_method_that_is_wrong(http):
    answer = http.post("/ofrep/v1/evaluate/flags", content=b" " * (5 * 2**20))
    assert (answer.status_code, answer.json()["errorCode"]) == (413, "PARSE_ERROR")
    answer = http.get("/ofrep/v1/evaluate/flags")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["errorCode"] == "GENERAL"


def test_all_flags_at_once_and_304_while_they_are_the_same(http):
    path, asked = "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "u-1", "session": "s-1"}}
    answer = http.post(path, json=asked)
    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    assert set(flags) >= {"button", "drawn", "late", "second", "session"}
    assert flags["session"]["reason"] in {"SPLIT", "DEFAULT"}
    assert "decision_id" not in flags["button"]["metadata"]
    etag = answer.headers["etag"]
    assert etag.startswith('"')
    for known in (etag, f"W/{etag}", f'"x", {etag}'):
        again = http.post(path, json=asked, headers={"If-None-Match": known})
        if again.status_code == 200:  # `drawn` draws every request anew
            assert again.headers["etag"] != etag


def test_304_says_nothing_but_the_tag(http, platform):
    platform.experiments.pause("drawn")
    platform.runtime.follower.refresh()
    path, asked = "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "u-1"}}
    etag = http.post(path, json=asked).headers["etag"]
    assert http.post(path, json=asked).headers["etag"] == etag
    for known in (etag, f"W/{etag}", f'"x", {etag}'):
        again = http.post(path, json=asked, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = http.post(path, json={"context": {"targetingKey": "u-2"}}, headers={"If-None-Match": '"x"'})
    assert other.status_code == 200
    failed = next(flag for flag in other.json()["flags"] if flag["key"] == "session")
    assert failed == {
        "key": "session",
        "errorCode": "TARGETING_KEY_MISSING",
        "errorDetails": "the request does not say which `session` asks",
    }
    platform.experiments.start("drawn")
    platform.runtime.follower.refresh()
