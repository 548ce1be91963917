"""Predicting in somebody's name: who answered, why, and what outcomes name; the same for both clients."""

import asyncio

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from crossfade.client import AsyncClient, Client
from crossfade.errors import MalformedRequestError, NotFoundError, SignatureMismatchError
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.platform import open_platform
from crossfade.settings import ServingSettings, Settings
from crossfade.storage.tables import exposures
from crossfade.traffic.allocation.segments import Segment
from crossfade.web.app import create_app
from tests import control

X = pd.DataFrame(np.random.default_rng(3).standard_normal((40, 2)), columns=["age", "visits"])
Y = np.where(X["age"] - X["visits"] > 0, "stays", "leaves")
BOTH = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "2.0.0"))
UNITS = [f"unit-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A server with experiments on `churn`, and on `worth`, whose versions take their columns in another order."""
    quick = ServingSettings(snapshot_poll_seconds=0.02, heartbeat_seconds=0.5)
    settings = Settings(home=tmp_path_factory.mktemp("asking") / "home", serving=quick)
    turned = X[["visits", "age"]]
    whole = X.astype({"visits": np.float32})
    with open_platform(settings, serve=True) as opened, control.local_client(opened) as client:
        for version in ("1.0.0", "2.0.0"):
            client.register("churn", LogisticRegression().fit(X, Y), example=X, version=version)
        client.register("worth", LinearRegression().fit(X, X @ [1.0, 2.0]), example=whole, version="1.0.0")
        client.register("worth", LinearRegression().fit(turned, turned @ [20.0, 10.0]), example=turned, version="2.0.0")
        client.register("alone", LogisticRegression().fit(X, Y), example=X, version="1.0.0")
        for name in ("churn", "worth", "alone"):
            client.move_alias(name, "champion", "1.0.0")
        for spec in (
            ExperimentSpec("late", BOTH, model="churn", dimensions=("country",)),
            ExperimentSpec("second", BOTH, model="churn", segment=Segment({"country": "DE"})),
            ExperimentSpec("price", BOTH, model="worth"),
        ):
            client.create_experiment(spec)
            client.start_experiment(spec.name)
        opened.runtime.follower.refresh()
        opened.runtime.await_ready(20)
        yield opened


@pytest.fixture
def client(platform):
    with control.local_client(platform) as made:
        yield made


def exposed(platform, decision):
    platform.ledger.flush(20)
    with platform.database.read() as connection:
        return connection.execute(exposures.select().where(exposures.c.id == decision)).one()


def test_an_answer_says_who_gave_it_and_why(client, platform):
    answers = [client.ask("churn", X, unit_id=unit, context={"country": "DE"}) for unit in UNITS]
    assert {answer.experiment.variant for answer in answers} == {"old", "new"}
    for unit, answer in zip(UNITS, answers, strict=True):
        decided = answer.experiment
        assert (decided.name, decided.reason) == ("late", "split")
        assert decided.variant in decided.why
        assert answer.ref == {"old": "churn:1.0.0", "new": "churn:2.0.0"}[decided.variant]
        assert answer.request_id
        seen = exposed(platform, decided.decision_id)
        assert (seen.unit, seen.variant, seen.version) == (unit, decided.variant, answer.version)
    assert client.ask("churn", X, unit_id=UNITS[0]).experiment.variant == answers[0].experiment.variant


def test_predictions_are_those_of_predict(client):
    expected = client.predict("churn:1.0.0", X), client.predict("churn:1.0.0", X, probabilities=True)
    answer = client.ask("churn", X, unit_id="u", probabilities=True)
    assert list(answer.predictions) == list(expected[0])
    assert answer.predictions.dtype == expected[0].dtype
    assert answer.classes == ("leaves", "stays")
    np.testing.assert_array_equal(answer.probabilities, expected[1])
    assert answer.wanted is answer.probabilities
    plain = client.ask("churn", X, unit_id="u")
    assert (plain.probabilities, plain.classes) == (None, ())
    np.testing.assert_array_equal(client.predict("churn", X, unit_id="u", probabilities=True), expected[1])
    assert list(client.predict("churn", X, unit_id="u")) == list(expected[0])


@pytest.mark.parametrize(
    "inputs",
    [X, X[["visits", "age"]], X.to_numpy(), X.to_dict("records"), {name: X[name].to_numpy() for name in X}],
    ids=["frame", "turned frame", "array", "rows", "columns"],
)
def test_rows_of_any_kind_are_read_by_whichever_version_answers(client, platform, inputs):
    expected = {"old": X @ [1.0, 2.0], "new": X @ [10.0, 20.0]}
    answers = [client.ask("worth", inputs, unit_id=unit) for unit in UNITS]
    assert {answer.experiment.variant for answer in answers} == {"old", "new"}
    for answer in answers:
        np.testing.assert_allclose(answer.predictions, expected[answer.experiment.variant], rtol=1e-5)
    assert not exposed(platform, answers[-1].experiment.decision_id).error


def test_the_experiment_that_is_named_decides_alone(client):
    decided = client.ask("churn", X, unit_id="u", context={"country": "DE"}, experiment="second").experiment
    assert (decided.name, decided.reason) == ("second", "split")
    decided = client.ask("churn", X, unit_id="u", context={"country": "AT"}, experiment="second").experiment
    assert (decided.reason, decided.decision_id) == ("not_targeted", "")


@pytest.mark.parametrize(("model", "ref"), [("churn", "1.0.0"), ("alone", "1.0.0")])
def test_an_experiment_that_does_not_run_is_no_error(client, model, ref):
    answer = client.ask(model, X, unit_id="u", experiment="nobody")
    assert (answer.version, answer.experiment.reason) == (ref, "not_running")


def test_who_does_not_take_part_is_told_why(client):
    assert client.ask("churn", X).experiment.reason == "missing_unit"
    assert client.ask("churn", X, unit_id=None, context=None).experiment.reason == "missing_unit"
    assert client.ask("churn:1.0.0", X, unit_id="u").experiment.name == ""
    assert client.ask("alone", X, unit_id="u").experiment.name == ""


def test_a_whole_number_is_its_text(client, platform):
    answer = client.ask("churn", X, unit_id=7)
    assert exposed(platform, answer.experiment.decision_id).unit == "7"
    assert client.ask("churn", X, unit_id="7").experiment.variant == answer.experiment.variant


def test_units_and_contexts_of_any_script_arrive(client, platform):
    answer = client.ask("churn", X, unit_id="ünïт-😀", context={"country": "Österreich", "size": np.float64(2)})
    seen = exposed(platform, answer.experiment.decision_id)
    assert (seen.unit, seen.dimensions) == ("ünïт-😀", '{"country":"Österreich"}')


def test_what_cannot_be_asked_is_refused(client):
    with pytest.raises(SignatureMismatchError, match="visits"):
        client.ask("churn", X[["age"]], unit_id="u")
    with pytest.raises(MalformedRequestError, match="not a name"):
        client.ask("churn", X, experiment="No Name")
    with pytest.raises(MalformedRequestError, match="JSON"):
        client.ask("churn", X, context={"country": object()})
    with pytest.raises(MalformedRequestError):
        client.ask("churn", X, unit_id=True)
    with pytest.raises(NotFoundError):
        client.ask("nobody", X, unit_id="u")
    with pytest.raises(TypeError):
        client.predict("churn", X, unit="u")


def test_after_the_first_an_answer_is_one_call(client, monkeypatch):
    client.ask("churn", X, unit_id="u")
    paths, send = [], Client.send
    monkeypatch.setattr(Client, "send", lambda self, call: (paths.append(call.path), send(self, call))[1])
    client.ask("churn", X, unit_id="u")
    assert paths == ["/api/v1/predict/churn@champion"]


def test_an_alias_that_moved_to_other_inputs_is_asked_for_those(client, platform):
    client.register("moving", LinearRegression().fit(X, X @ [1.0, 2.0]), example=X, version="1.0.0")
    client.move_alias("moving", "champion", "1.0.0")
    client.ask("moving", X, unit_id="u")
    narrow = X[["age"]]
    client.register("moving", LinearRegression().fit(narrow, narrow @ [7.0]), example=narrow, version="2.0.0")
    client.move_alias("moving", "champion", "2.0.0")
    for _ in range(2):
        np.testing.assert_allclose(client.ask("moving", narrow, unit_id="u").predictions, narrow @ [7.0])
    with pytest.raises(SignatureMismatchError):
        client.ask("moving", X, unit_id="u")


def test_the_asynchronous_client_does_the_same(client, platform):
    async def ask():
        transport = httpx.ASGITransport(create_app(platform))
        async with AsyncClient("http://localhost", transport=transport) as other:
            answer = await other.ask("churn", X, unit_id="unit-1", probabilities=True)
            return answer, await other.predict("churn", X, unit_id="unit-1", probabilities=True)

    answer, probabilities = asyncio.run(ask())
    expected = client.ask("churn", X, unit_id="unit-1", probabilities=True)
    assert (answer.ref, answer.experiment.variant) == (expected.ref, expected.experiment.variant)
    np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
    np.testing.assert_array_equal(probabilities, expected.probabilities)
