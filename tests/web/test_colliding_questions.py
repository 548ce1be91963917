"""Whoever asks what, over HTTP and at the same moment: nobody gets the answer to another question.

Two processes with a common second level are asked questions whose encodings look alike, by models that answer with the
question itself and their own name. Meanwhile answers are invalidated and aliases move.
"""

import asyncio
import json
import math
from collections import Counter

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import DTYPES, Signature, TensorSpec, row_count
from crossfade.registry.versions import Card
from crossfade.serving.protocol.binary import pack_tensor
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import CacheSettings, HttpSettings, Settings
from crossfade.testing.drafts import STAGE, draft, leased, store
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.invalidation import AnswerInvalidation
from crossfade.web.budget import BodyBudget
from crossfade.web.dataplane import DataPlane
from tests.serving.fakes import Openings
from tests.traffic.support import FAST, move, open_registry, soon
from tests.web.small_server import control

WHO = TensorSpec("who", "BYTES", (-1,))
COPY = TensorSpec("copy", "BYTES", (-1,))


def taking(*specs):
    return Signature(tuple(TensorSpec(*spec, missing=True) for spec in specs), (WHO, COPY))


SIGNATURES = {
    "columns": taking(("a", "FP64", (-1,)), ("b", "FP64", (-1,))),
    "swapped": taking(("b", "FP64", (-1,)), ("a", "FP64", (-1,))),
    "matrix": taking(("x", "FP64", (-1, -1))),
    "narrow": taking(("x", "FP32", (-1, -1))),
    "whole": taking(("x", "INT64", (-1, -1))),
    "texts": taking(("a", "BYTES", (-1,)), ("b", "BYTES", (-1,))),
}
VERSIONS = ("1.0.0", "1.0.1")
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 256.0, math.nan, 5e-324])
TEXTS = st.sampled_from(["", "a", "ta", "at", "t", "ab", "b", "a\x00", ",", "a,b", "n", None, "\x01" + "\x00" * 7, "ä"])

PAIRS = [("", "at"), ("ta", ""), ("a", "b"), ("ab", ""), ("", "ab")]
"""Texts that would be one text if it were not known where one ends."""


def shown(value):
    """What a value is, in a way in which only equal values are shown alike."""
    if isinstance(value, list):
        return "[" + " ".join(map(shown, value)) + "]"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)
    return repr(value)


def right_answers(ref, tensors, signature):
    rows = zip(*(tensors[spec.name].tolist() for spec in signature.inputs), strict=True)
    names = [f"{spec.name}:{spec.datatype}" for spec in signature.inputs]
    return [f"{ref} {name} {' '.join(map(shown, row))}" for row in rows for name in [" ".join(names)]]


class Parrot:
    """Answers every row with itself, and with who says it."""

    def __init__(self, ref, signature):
        self._ref, self._signature = ref, signature

    def __call__(self, tensors, wanted):
        who = np.array(right_answers(self._ref, tensors, self._signature), dtype=object)
        copy = np.array([text.partition(" ")[2] for text in who], dtype=object)
        return {name: value for name, value in (("who", who), ("copy", copy)) if name in wanted}


class Parrots(Openings):
    """Opens every version as a parrot."""

    def __call__(self, name, wish):
        found = self._backend.manifest(self._backend.find_version(name, wish.version))
        self.plans[wish.version] = lambda: Parrot(found.ref, found.signature)
        return super().__call__(name, wish)


@pytest.fixture
async def world(tmp_path, sqlite_url, redis_url):
    """Two serving processes on one registry, with one Redis."""
    registry = open_registry(tmp_path, sqlite_url)
    backend = registry.backend
    for name, signature in SIGNATURES.items():
        for version in VERSIONS:
            manifest = msgspec.structs.replace(draft(name, version), signature=signature)
            with leased(backend, manifest):
                store(backend, manifest)
                backend.publish(manifest, Card(), stage=STAGE, principal="ann")
        move(registry, name, "1.0.0")
        move(registry, name, "1.0.1", alias="challenger")
    cache = CacheSettings(mode="on", redis_url=redis_url, redis_timeout_seconds=5.0)
    chosen = Settings(home=tmp_path, serving=FAST, cache=cache)
    runtimes = [ServingRuntime(backend, backend.database, chosen, Parrots(backend)) for _ in range(2)]
    for runtime in runtimes:
        runtime.start()
        runtime.await_ready(20)
    yield World(registry, runtimes)
    for runtime in runtimes:
        await runtime.predictions.close()
        runtime.close()
    backend.database.close()


class World:
    """The processes, and what may happen to them."""

    def __init__(self, registry, runtimes):
        self.registry, self.runtimes = registry, runtimes
        fleet = Fleet(registry.backend.database, FAST)
        self._invalidation = AnswerInvalidation(registry, registry.backend.database, fleet)
        http = HttpSettings()
        self.clients = [
            httpx.AsyncClient(
                transport=httpx.ASGITransport(
                    DataPlane(runtime.predictions, runtime.flags, http, control, BodyBudget(http))
                ),
                base_url="http://localhost",
            )
            for runtime in runtimes
        ]

    async def turn(self, event, name):
        """Let something happen, and every process learn of it."""
        if event == "invalidate":
            self._invalidation._commit(name, None, {}, "ann")
        elif event == "move":
            now = self.registry.model(name).aliases["champion"]
            move(self.registry, name, VERSIONS[now == VERSIONS[0]])
        revision = self.registry.backend.database.revision()
        await soon(lambda: all(runtime.follower.snapshot.revision >= revision for runtime in self.runtimes))

    def lookups(self):
        return sum((Counter(runtime.cache_status().lookups) for runtime in self.runtimes), Counter())


@st.composite
def questions(draw):
    """A model, how it is called, inputs, outputs, and whether they travel as JSON."""
    name = draw(st.sampled_from(list(SIGNATURES)))
    rows, width = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1), (0, 2), (2, 0)]))
    tensors = {}
    for spec in SIGNATURES[name].inputs:
        shape = (rows, width) if len(spec.shape) > 1 else (rows * width,)
        elements = TEXTS if spec.datatype == "BYTES" else FLOATS
        cells = [draw(elements) for _ in range(math.prod(shape))]
        if spec.datatype == "INT64":  # what has the bits of a float
            array = np.array(cells, dtype=np.float64).view(np.int64)
        else:
            array = np.array(cells, dtype=DTYPES[spec.datatype])
        tensors[spec.name] = array.reshape(shape)
    called = draw(st.sampled_from(["", "@champion", "@challenger", ":1.0.0", ":1.0.1"]))
    wanted = draw(st.sampled_from([(), ("who",), ("copy",), ("copy", "who")]))
    return name, called, tensors, wanted, draw(st.booleans())


def body_of(tensors, signature, wanted, *, as_json):
    inputs, tails = [], []
    for spec in signature.inputs:
        array = tensors[spec.name]
        item = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        if as_json or None in array.ravel().tolist():
            data = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in array.ravel().tolist()]
            item["data"] = data
        else:
            tails.append(pack_tensor(array))
            item["parameters"] = {"binary_data_size": len(tails[-1])}
        inputs.append(item)
    head = json.dumps({"inputs": inputs, "outputs": [{"name": output} for output in wanted]}).encode()
    return head + b"".join(tails), {"inference-header-content-length": str(len(head))} if tails else {}


async def ask(client, question):
    """Ask, and tell what is wrong with the answer, if anything."""
    name, called, tensors, wanted, as_json = question
    signature = SIGNATURES[name]
    body, headers = body_of(tensors, signature, wanted, as_json=as_json)
    answer = await client.post(f"/v2/models/{name}{called}/infer", content=body, headers=headers)
    if not row_count(tensors):
        assert (answer.status_code, "there is no row" in answer.text) == (422, True)
        return None
    assert answer.status_code == 200, answer.text
    document = answer.json()
    given = {output["name"]: output["data"] for output in document["outputs"]}
    who = right_answers(f"{name}:{document['model_version']}", tensors, signature)
    right = {"who": who, "copy": [text.partition(" ")[2] for text in who]}
    assert given == {output: right[output] for output in wanted or ("who", "copy")}
    if called.startswith(":"):
        assert document["model_version"] == called[1:]
    return document["model_version"]


ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(questions(), st.integers(0, 1), st.integers(1, 3)), min_size=2, max_size=10),
        st.sampled_from(["", "", "invalidate", "move"]),
        st.sampled_from(list(SIGNATURES)),
    ),
    min_size=1,
    max_size=4,
)


async def test_nobody_gets_the_answer_to_another_question(world):
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(ROUNDS)
    def collected(rounds):
        plans.append(rounds)

    plans = []
    await asyncio.to_thread(collected)  # questions are made up on a thread, because a loop runs here
    asked = 0
    for rounds in plans:
        for asking, event, name in rounds:
            calls = [ask(world.clients[process], question) for question, process, times in asking for _ in range(times)]
            asked += len(await asyncio.gather(*calls))
            await world.turn(event, name)
            champion = world.registry.model(name).aliases["champion"]
            assert await ask(world.clients[0], (name, "", *asking_of(name), True)) == champion
    found = world.lookups()
    assert asked > 500
    assert all(found[kind] for kind in ("memory", "joined", "shared", "computed")), found


async def test_texts_that_end_elsewhere_are_another_question(world):
    for client in world.clients:
        for pair in PAIRS:
            texts = np.array(pair, dtype=object)
            for wanted in ((), ("who",)):
                await ask(client, ("texts", "", {"a": texts, "b": texts}, wanted, True))


def asking_of(name):
    """The same simple question to a model, every time: the one that is most likely to be known."""
    tensors = {
        spec.name: np.array([None] if spec.datatype == "BYTES" else [0], DTYPES[spec.datatype]).reshape(
            (1,) * len(spec.shape)
        )
        for spec in SIGNATURES[name].inputs
    }
    return tensors, ()


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1], [2], [3]]])
async def test_rows_that_are_cut_elsewhere_are_another_question_or_none(world, rows):
    http = world.clients[0]
    for body in ([[1], [2], [3]], [[1, 2, 3]]):
        assert (await http.post("/api/v1/predict/matrix", json=body)).status_code == 200
    answer = await http.post("/api/v1/predict/matrix", json=rows)
    if len(set(map(len, rows))) > 1:
        assert answer.status_code == 422
    else:
        predictions = answer.json()["predictions"]
        assert predictions == [f"matrix:1.0.0 x:FP64 {shown([float(cell) for cell in row])}" for row in rows]
