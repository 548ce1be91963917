"""Predicting by reference: the data plane is enough, and the answer is right when an alias moves between two calls."""

import asyncio

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from crossfade import errors
from crossfade.client import AsyncClient, Client
from crossfade.client.predicting import KnownSignatures
from crossfade.core.tensors import Signature, TensorSpec
from tests import control

X = pd.DataFrame(np.random.default_rng(3).standard_normal((40, 3)), columns=["age", "income", "visits"])
Y = np.where(X["age"] - X["visits"] > 0, "stays", "leaves")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    home = tmp_path_factory.mktemp("predicting") / "home"
    with control.running_server(home) as server:
        with Client(server.url) as client:
            model = LogisticRegression().fit(X, Y)
            client.register("churn", model, example=X, version="1.0.0")
            client.transition("churn:1.0.0", "staging")
            client.move_alias("churn", "champion", "1.0.0")
        yield server.url


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests to the server, keeps their paths, and cuts the registry off when it shall be away."""

    def __init__(self):
        self.paths = []
        self.registry_is_away = False
        self._carriers = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def handle_request(self, request):
        return self._refusal(request) or self._carriers[0].handle_request(request)

    async def handle_async_request(self, request):
        return self._refusal(request) or await self._carriers[1].handle_async_request(request)

    def _refusal(self, request):
        self.paths.append(request.url.path)
        if self.registry_is_away and request.url.path.startswith("/api/v1/"):
            return httpx.Response(503, json={"code": "database_unavailable", "facts": {"problem": "away"}})
        return None

    def close(self):
        self._carriers[0].close()

    async def aclose(self):
        await self._carriers[1].aclose()


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture(params=["sync", "async"])
def predict(request, url, wire):
    """Predict with one client, which lives as long as the test."""
    if request.param == "sync":
        with Client(url, transport=wire) as client:
            yield client.predict
        return
    with asyncio.Runner() as runner:
        client = AsyncClient(url, transport=wire)
        yield lambda *args, **kwargs: runner.run(client.predict(*args, **kwargs))
        runner.run(client.close())


@pytest.fixture
def owner(url):
    with Client(url) as client:
        yield client


@pytest.mark.parametrize("ref", ["churn", "churn@champion", "churn:1.0.0", "models:/churn/1"])
def test_predictions_go_on_while_the_registry_is_away(predict, wire, ref):
    wire.registry_is_away = True
    assert list(predict(ref, X)) == list(LogisticRegression().fit(X, Y).predict(X))
    assert predict(ref, X, probabilities=True).shape == (40, 2)


def test_after_the_first_a_prediction_is_one_call(predict, wire):
    predict("churn", X)
    wire.paths.clear()
    predict("churn", X)
    predict("churn", X, probabilities=True)
    assert wire.paths == ["/v2/models/churn@champion/infer"] * 2


def test_a_stage_is_looked_up_in_the_registry(predict):
    assert predict("models:/churn/Staging", X).shape == (40,)


def test_wrong_inputs_stay_wrong_while_the_registry_is_away(predict, wire):
    wire.registry_is_away = True
    with pytest.raises(errors.SignatureMismatchError) as caught:
        predict("churn", X[["age", "income"]])
    assert caught.value.facts["field"] == "visits"


def test_missing_values_are_refused_by_the_server(predict):
    with pytest.raises(errors.SignatureMismatchError, match="finite"):
        predict("churn", X.assign(age=np.nan))


@pytest.fixture
def two(owner, request):
    """A model for each test: its champion, and a second version that takes its columns in another order."""
    name = f"m{abs(hash(request.node.name))}"
    first, second = X, X[["visits", "age", "income"]]
    owner.register(name, LinearRegression().fit(first, first @ [1.0, 2.0, 3.0]), example=first, version="1.0.0")
    owner.register(name, LinearRegression().fit(second, second @ [5.0, 0.0, 0.0]), example=second, version="2.0.0")
    owner.move_alias(name, "champion", "1.0.0")
    return name


def test_columns_by_position_mean_those_of_the_version_that_answers(predict, owner, two):
    rows = X.to_numpy()
    np.testing.assert_allclose(predict(two, rows), rows @ [1.0, 2.0, 3.0])
    owner.move_alias(two, "champion", "2.0.0")
    for _ in range(2):
        np.testing.assert_allclose(predict(two, rows), rows @ [5.0, 0.0, 0.0])


@pytest.mark.parametrize("away", [False, True])
def test_an_alias_that_moved_to_other_inputs_is_asked_for_those(predict, wire, owner, two, away):
    predict(two, X)
    narrow = X[["age"]]
    owner.register(two, LinearRegression().fit(narrow, narrow @ [7.0]), example=narrow, version="3.0.0")
    owner.move_alias(two, "champion", "3.0.0")
    wire.registry_is_away = away
    np.testing.assert_allclose(predict(two, narrow), narrow @ [7.0])
    with pytest.raises(errors.SignatureMismatchError):
        predict(two, X)


def test_what_is_known_is_bounded(monkeypatch):
    monkeypatch.setattr("crossfade.client.predicting._MOST_KNOWN", 2)
    known, signature = KnownSignatures(), Signature((TensorSpec("x", "FP64", (-1,)),), ())
    for number in range(5):
        known.remember(f"m:{number}.0.0", signature)
        known.answered(f"m{number}@champion", f"m:{number}.0.0")
    assert known.find("m4@champion") == signature
    assert known.find("m0@champion") is None
