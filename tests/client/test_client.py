"""Both clients against a real server: pandas, polars, numpy and rows, registration, errors."""

import gc

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import crossfade
from crossfade import errors
from crossfade.client import AsyncClient, Client
from crossfade.registry.packaging import pack
from crossfade.registry.versions import Card
from tests import control

X = pd.DataFrame(np.random.default_rng(1).standard_normal((60, 3)), columns=["age", "income", "visits"]).assign(
    city=["Bern", "Oslo", "Rome"] * 20
)
NUMBERS = ["age", "income", "visits"]
Y = np.where(X["age"] + X["income"] > 0, "stays", "leaves")


@pytest.fixture(scope="module")
def classifier():
    return LogisticRegression().fit(X[NUMBERS], Y)


@pytest.fixture(scope="module")
def url(tmp_path_factory, classifier):
    home = tmp_path_factory.mktemp("client") / "home"
    with control.running_server(home) as server:
        with Client(server.url) as client:
            card = Card(evaluation={"accuracy": 0.9})
            client.register("churn", classifier, example=X[NUMBERS], version="1.0.0", card=card)
            client.move_alias("churn", "champion", "1.0.0")
        yield server.url


@pytest.fixture
def client(url):
    with Client(url) as opened:
        yield opened


async def both(url, verb, *args, **kwargs):
    """Call a verb of both clients; the answers must be the same."""
    with Client(url) as client:
        first = getattr(client, verb)(*args, **kwargs)
    async with AsyncClient(url) as client:
        second = await getattr(client, verb)(*args, **kwargs)
    return first, second


INPUTS = {
    "pandas": X[NUMBERS],
    "polars": pl.from_pandas(X[NUMBERS]),
    "numpy": X[NUMBERS].to_numpy(),
    "columns": {name: X[name].to_numpy() for name in NUMBERS},
    "rows": X[NUMBERS].to_dict("records"),
    "reordered": X[NUMBERS[::-1]],
}


@pytest.mark.parametrize("kind", INPUTS)
async def test_every_kind_of_input_gives_the_models_answers(url, classifier, kind):
    for answer in await both(url, "predict", "churn@champion", INPUTS[kind]):
        assert list(answer) == list(classifier.predict(X[NUMBERS]))


async def test_probabilities_are_the_models(url, classifier):
    for answer in await both(url, "predict", "churn", X[NUMBERS], probabilities=True):
        np.testing.assert_allclose(answer, classifier.predict_proba(X[NUMBERS]), rtol=1e-12)


def test_a_replay_says_so_and_goes_behind_others(client, monkeypatch):
    sent, send = [], client.send
    monkeypatch.setattr(client, "send", lambda call: (sent.append(call.headers), send(call))[1])
    for replay in (False, True):
        client.load("churn", replay=replay).predict(X[NUMBERS])
    asked = [headers for headers in sent if "Inference-Header-Content-Length" in headers]
    told = [(headers.get("x-request-replay"), headers.get("x-request-priority")) for headers in asked]
    assert told == [(None, None), ("true", "batch")]


def test_a_loaded_predictor_is_pinned_and_has_the_local_face(url, client, classifier):
    predictor = client.load("churn")
    assert predictor.info.ref == "churn:1.0.0"
    assert predictor.info.card.evaluation == {"accuracy": 0.9}
    assert predictor.info.signature.classes == ("leaves", "stays")
    predictor.validate(X[NUMBERS])
    in_pieces = predictor.predict_batch(X[NUMBERS], batch_size=7)
    assert list(in_pieces) == list(classifier.predict(X[NUMBERS]))
    assert crossfade.load("churn", server=url).info == predictor.info


async def test_an_asynchronous_predictor_has_the_same_face(url, client, classifier):
    async with AsyncClient(url) as asynchronous:
        predictor = await asynchronous.load("churn")
        assert predictor.info == client.load("churn").info
        assert repr(predictor) == "<AsyncPredictor churn:1.0.0>"
        assert "accuracy" in predictor._repr_html_()
        assert list(await predictor.predict(X[NUMBERS])) == list(classifier.predict(X[NUMBERS]))
        in_pieces = await predictor.predict_batch(X[NUMBERS], batch_size=7, probabilities=True)
        np.testing.assert_allclose(in_pieces, classifier.predict_proba(X[NUMBERS]), rtol=1e-12)
        await predictor.validate(X[NUMBERS])
        with pytest.raises(errors.SignatureMismatchError):
            await predictor.validate(X[["age"]])


def test_a_remote_predictor_takes_its_connections_with_it(url, monkeypatch):
    closed, close = [], Client.close
    monkeypatch.setattr(Client, "close", lambda self: (close(self), closed.append(self)))
    predictor = crossfade.load("churn", server=url)
    assert predictor.predict(X[NUMBERS]).shape == (60,)
    assert closed == []
    del predictor
    gc.collect()
    assert len(closed) == 1
    with pytest.raises(errors.ModelNotFoundError):
        crossfade.load("nothing", server=url)
    assert len(closed) == 2


@pytest.mark.parametrize(
    ("inputs", "field"),
    [(X[["age", "income"]], "visits"), (X[[*NUMBERS, "city"]], "city"), (X[NUMBERS].astype(str), "age")],
    ids=["missing", "unknown", "text"],
)
async def test_inputs_that_do_not_fit_name_the_field(url, inputs, field):
    with Client(url) as client, pytest.raises(errors.SignatureMismatchError) as caught:
        client.predict("churn", inputs)
    assert caught.value.facts["field"] == field
    async with AsyncClient(url) as client:
        with pytest.raises(errors.SignatureMismatchError):
            await client.predict("churn", inputs)


def test_a_version_that_nothing_points_to_is_not_served(url, client, classifier):
    client.register("churn", classifier, example=X[NUMBERS], version="1.5.0")
    with pytest.raises(errors.NotServedError):
        client.predict("churn:1.5.0", X[NUMBERS])


async def test_unknown_models_are_not_found(url):
    with Client(url) as client, pytest.raises(errors.ModelNotFoundError):
        client.predict("nothing", X[NUMBERS])
    async with AsyncClient(url) as client:
        with pytest.raises(errors.ModelNotFoundError):
            await client.predict("nothing", X[NUMBERS])


def test_registering_reports_progress_and_sends_nothing_twice(client, tmp_path):
    path = control.write_onnx(tmp_path / "model.onnx", 4.0)
    seen = []
    version = client.register("tiny", path, example=[[1.0, 2.0]], progress=lambda *pair: seen.append(pair))
    assert version.ref == "tiny:1.0.0"
    assert seen[-1][0] == seen[-1][1] > 0
    seen.clear()
    client.register("tiny", path, example=[[1.0, 2.0]], version="1.0.0", progress=lambda *pair: seen.append(pair))
    assert seen == []


async def test_registering_works_the_same_way_asynchronously(url, tmp_path):
    path = control.write_onnx(tmp_path / "model.onnx", 5.0)
    async with AsyncClient(url) as client:
        draft = pack(path, example=[[1.0, 2.0]])
        assert (await client.rehearse_draft("later", draft)).would == "register later:1.0.0"
        version = await client.register("later", path, example=[[1.0, 2.0]])
        assert version.ref == "later:1.0.0"
        assert [item.name for item in (await client.models(prefix="later")).items] == ["later"]
        moved = await client.move_alias("later", "champion", "1.0.0", reason="first")
        assert moved.processes == 1
        np.testing.assert_allclose(await client.predict("later", [[1.0, 2.0]]), [[15.0]])


def test_the_server_proposes_a_version_by_the_signature(client, classifier):
    model = LinearRegression().fit(X[NUMBERS], X["age"])
    proposed = client.register("proposed", model, example=X[NUMBERS]).version
    wider = LinearRegression().fit(X[NUMBERS[:2]], X["age"])
    assert (proposed, client.register("proposed", wider, example=X[NUMBERS[:2]]).version) == ("1.0.0", "2.0.0")


async def test_verbs_are_documented_and_named_alike(url):
    for verb in ("models", "version", "move_alias", "rollback", "status"):
        for kind in (Client, AsyncClient):
            assert getattr(kind, verb).__doc__
            assert getattr(kind, verb).__name__ == verb
    first, second = await both(url, "version", "churn:1.0.0")
    assert first == second


def test_a_predictor_answers_large_inputs_as_binary_tensors(client, classifier):
    many = pd.concat([X[NUMBERS]] * 200, ignore_index=True)
    assert list(client.load("churn").predict_batch(many)) == list(classifier.predict(many))
