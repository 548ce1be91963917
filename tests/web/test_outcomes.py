"""`POST /api/v1/outcomes`: durable before it is answered, whole or nothing, for whoever may ask for predictions."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
from sqlalchemy import select

from crossfade.client import AsyncClient
from crossfade.errors import (
    DatabaseUnavailableError,
    InvalidOutcomesError,
    LedgerUnavailableError,
    MalformedRequestError,
    TooManyOutcomesError,
)
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.known import KnownExperiments
from crossfade.ledger.requests import Recorded, ReportedOutcome, as_outcomes
from crossfade.platform import open_platform
from crossfade.settings import HttpSettings, Settings
from crossfade.storage.tables import outcomes
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests import control

PATH = "/api/v1/outcomes"


@pytest.fixture
def platform(tmp_path):
    settings = Settings(home=tmp_path / "home", http=HttpSettings(max_body_bytes=500_000))
    with open_platform(settings) as opened:
        yield opened


@pytest.fixture
def client(platform):
    with control.local_client(platform) as opened:
        yield opened


@pytest.fixture
def http(platform):
    with httpx.Client(base_url="http://localhost", transport=InProcessTransport(create_app(platform))) as opened:
        yield opened


FLAG = ExperimentSpec("late", (Variant("old", 0.5), Variant("new", 0.5)))


def one(number=1, **changes):
    return {"id": f"o{number}", "name": "landed_late", "decision": "d"} | changes


def stored(platform):
    platform.ledger.flush(20.0)
    with platform.database.read() as connection:
        return {row.id: row for row in connection.execute(select(outcomes))}


def test_a_batch_is_durable_when_it_is_answered(client, platform):
    platform.experiments.create(FLAG)
    moment = datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    answer = client.record_outcomes(
        [
            ReportedOutcome("o1", "landed_late", 0.0, moment, decision="d"),
            {"id": "o2", "name": "paid", "value": 12.5, "experiment": "late", "unit": "u"},
        ]
    )
    assert answer == Recorded(2)
    rows = stored(platform)
    assert rows["o1"].at_us == int(moment.timestamp()) * 10**6 + 123456
    assert (rows["o1"].value, rows["o1"].decision) == (0.0, "d")
    assert (rows["o2"].value, rows["o2"].experiment, rows["o2"].unit) == (12.5, "late", "u")
    assert abs(datetime.now(UTC).timestamp() - rows["o2"].at_us / 1e6) < 60


def test_recording_again_changes_nothing(client, platform):
    client.record_outcomes([one(1, value=1)])
    assert client.record_outcomes([one(1, value=2), one(2)]) == Recorded(2)
    assert {name: row.value for name, row in stored(platform).items()} == {"o1": 1.0, "o2": 1.0}


def test_while_the_database_is_away_nobody_is_called_a_stranger(client, platform, monkeypatch):
    def away(*_arguments):
        raise DatabaseUnavailableError(problem="away")

    monkeypatch.setattr(KnownExperiments, "_find", away)
    assert client.record_outcomes([one(1, decision="", experiment="nope", unit="u")]) == Recorded(1)
    monkeypatch.undo()
    assert client.record_outcomes([one(2, decision="", experiment="nope", unit="u")]) == Recorded(1), "it is let rest"


def test_an_experiment_is_known_as_soon_as_it_is_there(client, platform):
    of_flag = one(1, decision="", experiment="late", unit="u")
    with pytest.raises(InvalidOutcomesError, match="no experiment or rollout `late`"):
        client.record_outcomes([of_flag])
    platform.experiments.create(FLAG)
    assert client.record_outcomes([of_flag]) == Recorded(1)


def test_an_empty_batch_is_nothing(client):
    assert client.record_outcomes([]) == Recorded(0)


async def test_the_asynchronous_client_does_the_same(platform):
    transport = httpx.ASGITransport(create_app(platform))
    async with AsyncClient("http://localhost", transport=transport) as client:
        answers = await asyncio.gather(*(client.record_outcomes([one(number)]) for number in range(20)))
    assert answers == [Recorded(1)] * 20
    assert len(await asyncio.to_thread(stored, platform)) == 20


def test_what_is_refused_is_raised_and_nothing_is_recorded(client, platform):
    with pytest.raises(InvalidOutcomesError, match="outcome 1 of the batch cannot be recorded: its `id` is empty"):
        client.record_outcomes([one(1), one(2, id="")])
    with pytest.raises(InvalidOutcomesError, match="400 days ago"):
        client.record_outcomes([one(3, happened_at=datetime(2016, 1, 1, tzinfo=UTC))])
    for wrong, words in (
        ({"value": float("nan")}, "its value is nan"),
        ({"value": 1e300}, r"its value is 1e\+300; sums are made of values up to 1e\+30"),
        ({"name": "Landed Late"}, "its name is `Landed Late`, which no metric could name"),
        ({"name": "latency_seconds"}, "measured while answering"),
        ({"id": one(1)["id"], "name": "spent"}, "it has the id of outcome 0 and says something else"),
        ({"decision": "", "experiment": "nope", "unit": "u"}, "there is no experiment or rollout `nope`"),
        ({"decision": "", "experiment": "No pe", "unit": "u"}, "there is no experiment or rollout `No pe`"),
    ):
        with pytest.raises(InvalidOutcomesError, match=f"outcome 1 of the batch cannot be recorded: .*{words}"):
            client.record_outcomes([one(1), one(2, **wrong)])
    with pytest.raises(TooManyOutcomesError):
        client.record_outcomes([{"id": "a", "name": "", "decision": ""}] * 10_001)
    with pytest.raises(MalformedRequestError, match="happened_at"):
        client.record_outcomes([one(4, happened_at=datetime(2026, 1, 1))])  # noqa: DTZ001 - that is the point
    with pytest.raises(MalformedRequestError, match="missing required field `id`"):
        client.record_outcomes([{"name": "x"}])
    assert stored(platform) == {}


@pytest.fixture
def roomy(tmp_path):
    with open_platform(Settings(home=tmp_path / "roomy")) as opened:
        yield opened


def test_the_largest_batch(roomy):
    with control.local_client(roomy) as client:
        assert client.record_outcomes([one(number) for number in range(10_000)]) == Recorded(10_000)
        with pytest.raises(TooManyOutcomesError):
            client.record_outcomes([one(number) for number in range(10_001)])


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"outcomes": null}',
    b'{"outcomes": [1]}',
    b'{"outcomes": [{"id": 1, "name": "n", "decision": "d"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "value": "1"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "value": true}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "value": NaN}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "value": 1e999}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "happened_at": "yesterday"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "happened_at": "2026-01-01T00:00:00"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "surplus": 1}]}',
    b'{"outcomes": [{"id": "\\ud800", "name": "n", "decision": "d"}]}',
    b'{"outcomes": [{"id": "\xff", "name": "n", "decision": "d"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "happened_at": "9999-12-31T23:59:59Z"}]}',
    b'{"outcomes": [{"id": "a", "name": "n", "decision": "d", "happened_at": "0001-01-01T00:00:00+14:00"}]}',
    b'{"outcomes":' + b"[" * 100_000,
]


@pytest.mark.parametrize("body", HOSTILE)
def test_hostile_bodies_are_refused(http, platform, body):
    answer = http.post(PATH, content=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]
    assert stored(platform) == {}


def test_bodies_may_be_packed_within_the_limit(http, platform):
    body = json.dumps({"outcomes": [one(number) for number in range(100)]}).encode()
    answer = http.post(PATH, content=gzip.compress(body), headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (200, {"recorded": 100})
    bomb = gzip.compress(b" " * 10**6)
    assert http.post(PATH, content=bomb, headers={"content-encoding": "gzip"}).status_code == 413
    assert http.post(PATH, content=b"x", headers={"content-encoding": "br"}).status_code == 422
    assert http.post(PATH, content=b" " * 600_000).status_code == 413
    assert len(stored(platform)) == 100


def test_only_post_is_answered(http):
    answer = http.get(PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert http.post(f"{PATH}/x", json={}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "host_not_allowed"),
        ({"origin": "http://evil.example"}, "origin_not_allowed"),
        ({"sec-fetch-site": "cross-site"}, "origin_not_allowed"),
    ],
)
def test_pages_of_other_sites_record_nothing(http, platform, headers, code):
    answer = http.post(PATH, json={"outcomes": [one()]}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert stored(platform) == {}


def test_other_machines_may_report_what_they_see(platform):
    """As they may ask for predictions, although they may control nothing."""
    transport = httpx.ASGITransport(create_app(platform), client=("192.0.2.7", 1234))

    async def ask():
        async with httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport) as http:
            recorded = await http.post(PATH, json={"outcomes": [one()]})
            refused = await http.get("/api/v1/models")
        return recorded.status_code, refused.status_code

    assert asyncio.run(ask()) == (200, 403)


def test_a_ledger_that_cannot_write_answers_503_and_when_to_come_again(http, client, platform, monkeypatch):
    monkeypatch.setattr(platform.ledger, "_room", lambda: 0)
    platform.ledger._journal._room = lambda: 0
    answer = http.post(PATH, json={"outcomes": [one()]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["code"] == "ledger_unavailable"
    monkeypatch.setattr("crossfade.client.calls.ATTEMPTS", 1)
    with pytest.raises(LedgerUnavailableError, match="spool is full"):
        client.record_outcomes([one()])


def test_a_bug_is_answered_and_logged(http, platform, monkeypatch):
    async def broken(_):
        raise ZeroDivisionError

    monkeypatch.setattr(platform.ledger, "record_async", broken)
    answer = http.post(PATH, json={"outcomes": [one()]})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


def test_it_is_documented(http):
    document = http.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    assert {"200", "403", "408", "413", "422", "503"} == set(operation["responses"])
    assert "ReportedOutcome" in document["components"]["schemas"]


def test_times_are_exact():
    moments = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, 1, 1, 1, 1, tzinfo=UTC)]
    made = as_outcomes([ReportedOutcome("a", "n", happened_at=moment) for moment in moments], 0)
    assert [each.at_us for each in made] == [0, 9_214_650_061_000_001]


@pytest.mark.timeout(180)
def test_a_server_records_and_tells_and_ships_before_it_ends(tmp_path):
    home = control.registered_home(tmp_path, "1.0.0")
    with control.running_server(home) as server:
        answer = httpx.post(f"{server.url}{PATH}", json={"outcomes": [one(number) for number in range(500)]})
        assert answer.json() == {"recorded": 500}
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'crossfade_events_acked_total{kind="outcome"} 500.0' in metrics
        assert 'crossfade_events_dropped_total{kind="exposure"} 0.0' in metrics
        assert "crossfade_spool_bytes" in metrics
        assert server.stop() == 0
    assert list((home / "ledger").iterdir()) == []
    with open_platform(Settings(home=home)) as platform:
        assert len(stored(platform)) == 500
