"""Ensembles on real servers: every front door, hot swaps under load, kept answers, members that hang."""

import threading

import httpx
import numpy as np
import pytest

from crossfade.client import Client
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.platform import open_platform
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.model import Model
from crossfade.settings import Settings
from tests import control

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2), missing=True),), (TensorSpec("y", "FP32", (-1, 1)),))
HANGS, FAILS = 13.0, 14.0
CODE = {"CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true"}


class Moody(Model):
    """Answers 100 times the sum, unless the first number tells it to hang or to fail."""

    def predict(self, inputs):
        import time

        rows = inputs["x"]
        if (rows[:, 0] == HANGS).any():
            time.sleep(3600)
        if (rows[:, 0] == FAILS).any():
            raise ValueError("not this one")
        return {"y": (100 * rows.sum(axis=1, keepdims=True)).astype(np.float32)}

    def required_inputs(self):
        return SIGNATURE.inputs


def average(*members):
    return EnsembleSpec("average", members)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`mix:1.0.0` is the mean of the factors 1 and 3; `mix:1.0.1` has the moody model too, and does without it."""
    folder = tmp_path_factory.mktemp("ensembles")
    settings = Settings(home=folder / "home", registry={"allow_code_models": True})
    with open_platform(settings) as platform, control.local_client(platform) as client:
        control.register(client, folder, "1.0.0", "1.0.1", "1.0.2")
        rows = {"x": np.array([[1, 2], [3, 4]], np.float32)}
        platform.registry.register("moody", Moody(), signature=SIGNATURE, example=rows, flavor="code")
        tiny = Member("tiny:1.0.0"), Member("tiny:1.0.2")
        client.register_ensemble("mix", average(*tiny))
        client.register_ensemble("mix", average(*tiny, Member("moody:1.0.0", budget_seconds=0.3, on_failure="drop")))
        client.register_ensemble("strict", average(*tiny, Member("moody:1.0.0", budget_seconds=0.3)))
        chain = Member("moody:1.0.0", budget_seconds=0.3), Member("tiny:1.0.0")
        client.register_ensemble("chain", EnsembleSpec("first", chain))
        for name in ("mix", "strict", "chain"):
            client.move_alias(name, "champion", "1.0.0")
    return folder / "home"


@pytest.fixture(scope="module")
def server(home):
    """One server for the tests in their order; the last of them leaves members that hang, and it ends all the same."""
    with control.running_server(home, **CODE) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        server.http = http
        yield server
        http.close()
        assert server.stop() == 0


@pytest.fixture
def move(server):
    """Moves the champion of `mix`, and back at the end."""
    with Client(server.url) as client:
        yield lambda version: client.move_alias("mix", "champion", version)
        client.move_alias("mix", "champion", "1.0.0")


def infer(http, *rows, model="mix"):
    tensor = {
        "name": "x",
        "shape": [len(rows), 2],
        "datatype": "FP32",
        "data": [value for row in rows for value in row],
    }
    return http.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})


def answered(http, *rows, model="mix"):
    answer = infer(http, *rows, model=model)
    assert answer.status_code == 200, answer.text
    return answer.json()["model_version"], answer.json()["outputs"][0]["data"]


def test_every_front_door_asks_the_whole(server):
    http = server.http
    assert answered(http, [1.0, 2.0], [3.0, 4.0]) == ("1.0.0", [6.0, 14.0])
    described = http.get("/v2/models/mix").json()
    assert (described["platform"], described["inputs"][0]["name"]) == ("ensemble", "x")
    invoked = http.post("/models/mix/invocations", json={"inputs": [[1.0, 2.0]]})
    assert invoked.status_code == 200, invoked.text
    assert "6.0" in invoked.text
    plain = http.post("/api/v1/predict/mix", json={"rows": [[1.0, 2.0], [3.0, 4.0]]}).json()
    assert (plain["version"], plain["predictions"]) == ("1.0.0", [[6.0], [14.0]])
    with Client(server.url) as client:
        assert client.predict("mix", np.array([[1, 2]], np.float32)).tolist() == [[6.0]]
        assert client.load("mix:1.0.0").predict(np.array([[1, 2]], np.float32)).tolist() == [[6.0]]
        assert client.verify("mix:1.0.1").golden_rows == 2


def test_an_ensemble_never_holds_up_the_event_loop(server):
    assert "`mix:1.0.0` is ready" in server.log.read_text()
    ready = [line for line in server.log.read_text().splitlines() if ":1.0.0` is ready" in line]
    assert all("of its own" in line for line in ready if "`mix" in line or "`chain" in line)


def test_versions_are_swapped_under_load_and_back(server, move):
    """The answer says which version gave it: 2 times the sum, or 104 thirds."""
    expected = {"1.0.0": 2.0, "1.0.1": 104.0 / 3.0}
    problems, seen, done = [], set(), threading.Event()

    def ask():
        with httpx.Client(base_url=server.url, timeout=60) as http:
            number = 1.0
            while not done.is_set():
                version, (answer,) = answered(http, [number, 1.0])
                seen.add(version)
                if answer != pytest.approx(expected[version] * (number + 1.0), rel=1e-6):
                    problems.append((version, number, answer))
                number = number % 10 + 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in ("1.0.1", "1.0.0") * 2:
            move(version)
            assert answered(server.http, [1.0, 1.0])[0] == version
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not problems
    assert seen == {"1.0.0", "1.0.1"}


def test_what_members_do_wrong_follows_their_policy(server, move):
    http = server.http
    move("1.0.1")
    assert answered(http, [FAILS, 1.0], [1.0, 2.0])[1] == pytest.approx([2 * 15.0, 104.0])
    failed = infer(http, [FAILS, 1.0], model="strict")
    assert failed.status_code == 500
    assert "`moody:1.0.0` failed" in failed.json()["error"]
    assert answered(http, [FAILS, 1.0], [1.0, 2.0], model="chain")[1] == [15.0, 300.0]


def test_a_member_that_hangs_is_left_alone(server, move):
    http = server.http
    move("1.0.1")
    assert answered(http, [1.0, 2.0])[1] == pytest.approx([104.0])
    for number in (HANGS, 1.0, 2.0):  # from the first on it counts as slow at once
        assert answered(http, [number, 1.0])[1] == [2 * (number + 1.0)]
        assert answered(http, [number, 1.0], model="chain")[1] == [number + 1.0]
    slow = infer(http, [HANGS, 1.0], model="strict")
    assert slow.status_code == 503
    assert "`moody:1.0.0` did not answer within 0.3 s" in slow.json()["error"]
    assert "member moody:1.0.0 did not answer" in server.log.read_text()
    move("1.0.0")
    assert answered(http, [1.0, 2.0])[1] == [6.0]


def test_kept_answers_are_those_of_one_version(home):
    cache = {"CROSSFADE_CACHE__MODE": "on"}
    with control.running_server(home, **CODE, **cache) as server, httpx.Client(base_url=server.url) as http:
        with Client(server.url) as client:
            for version, expected in (("1.0.0", 6.0), ("1.0.1", 104.0), ("1.0.0", 6.0)):
                client.move_alias("mix", "champion", version)
                for _ in range(3):
                    assert answered(http, [1.0, 2.0]) == (version, [pytest.approx(expected)])
        lookups = http.get("/api/v1/cache").json()["lookups"]
        assert lookups["computed"] == 2
        assert lookups["memory"] == 7
