"""Configs over REST: every verb of both clients, rehearsals, tags, waiting, and what hostile callers are told."""

import itertools
import json
import threading

import httpx
import pytest
import structlog
from sqlalchemy import select
from structlog.testing import capture_logs

from crossfade.client import AsyncClient, Client, config_verbs
from crossfade.client.verbs import dry_run
from crossfade.configs.document import MAX_BYTES
from crossfade.configs.spec import ConfigSpec, ReplaySpec
from crossfade.errors import (
    ConfigBoardUnavailableError,
    ConfigConflictError,
    ConfigNotFoundError,
    FourEyesError,
    InvalidConfigError,
    NoActiveConfigError,
    UnfitConfigError,
)
from crossfade.platform import open_platform
from crossfade.settings import ConfigSettings, ServingSettings, Settings
from crossfade.storage.tables import audit
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests import control
from tests.configs.support import check_here, halves, nested
from tests.traffic.support import eventually

numbers = itertools.count()
SPEC = ConfigSpec({"type": "object", "properties": {"max": {"type": "integer", "minimum": 0}}})


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A server with the model `tiny`, which follows configs quickly."""
    folder = tmp_path_factory.mktemp("configs")
    quick = ServingSettings(snapshot_poll_seconds=0.01, heartbeat_seconds=0.5)
    settings = Settings(home=folder / "home", serving=quick, configs=ConfigSettings(max_waiting=3))
    with open_platform(settings, serve=True) as opened, control.local_client(opened) as client:
        control.register(client, folder, "1.0.0", "2.0.0")
        client.move_alias("tiny", "champion", "1.0.0")
        opened.configs.verbs._check = check_here  # a child for each check takes long
        yield opened


@pytest.fixture(scope="module")
def transport(platform):
    transport = InProcessTransport(create_app(platform))
    yield transport
    transport.close()


@pytest.fixture
def ann(transport):
    return Client("http://localhost", transport=transport, principal="ann")


@pytest.fixture
def bob(transport):
    return Client("http://localhost", transport=transport, principal="bob")


@pytest.fixture
def http(transport):
    return httpx.Client(base_url="http://localhost", transport=transport)


@pytest.fixture
def name():
    return f"limits-{next(numbers)}"


def approved(ann, bob, name, document, spec=None):
    made = ann.draft_config(name, document, spec=spec)
    assert ann.validate_config(name, made.number).validation.valid
    bob.approve_config(name, made.number)
    return made.number


def activated(ann, bob, name, document, spec=None):
    number = approved(ann, bob, name, document, spec)
    ann.activate_config(name, number)
    return number


def _audited(platform):
    with platform.database.read() as connection:
        return connection.execute(select(audit.c.seq)).all()


# --- verbs ---


def test_who_says_no_name_approves_nothing(ann, http, name):
    ann.draft_config(name, {"max": 5}, spec=SPEC)
    ann.validate_config(name, 1)
    path = f"/api/v1/configs/{name}/versions/1/approve"
    for headers in ({}, {"x-principal": ""}, {"x-principal": "local"}):
        answer = http.post(path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "unnamed_approver")
    assert http.post(path, json={}, headers={"x-principal": "bob"}).json()["approved_by"] == "bob"


def test_a_version_goes_all_the_way(ann, bob, name):
    made = ann.draft_config(name, {"max": 5}, spec=SPEC, reason="first")
    assert (made.number, made.status, made.created_by, made.document) == (1, "draft", "ann", {"max": 5})
    assert ann.draft_config(name, '{"max": 5}') == made
    assert ann.validate_config(name, 1).status == "validating"
    with pytest.raises(FourEyesError):
        ann.approve_config(name, 1)
    assert bob.approve_config(name, 1, reason="fine").approved_by == "bob"
    with pytest.raises(NoActiveConfigError):
        ann.read_config(name)
    assert ann.activate_config(name, 1, expected=0).active == 1
    assert ann.read_config(name).value == {"max": 5}
    activated(ann, bob, name, {"max": 6})
    assert [each.words for each in ann.config_diff(name, 1)] == ["/max: 6 -> 5"]
    assert ann.config_diff(name, 1, against=1) == ()
    assert ann.roll_back_config(name, reason="errors").active == 1
    assert [(each.number, each.status) for each in ann.config_versions(name).items] == [
        (2, "rolled_back"),
        (1, "active"),
    ]
    assert [each.number for each in ann.config_versions(name, status="active").items] == [1]
    assert ann.config_version(name, 2).document == {"max": 6}
    assert ann.config_status(name) in ann.configs(limit=1000).items
    with pytest.raises(ConfigConflictError):
        ann.activate_config(name, 2)


def test_impact_asks_a_model_that_is_registered(ann, bob, name):
    spec = ConfigSpec(replays=(ReplaySpec("tiny@champion", {"x": "/pair"}),))
    activated(ann, bob, name, {"pair": [1.0, 2.0]}, spec)
    ann.draft_config(name, {"pair": [1.0, 4.0]})
    report = ann.config_impact(name, 2)
    (replay,) = report.replays
    assert (report.changed, replay.model, replay.rows, replay.different) == (1, "tiny:1.0.0", 1, 1)
    assert replay.outputs["y"].mean_absolute == 2.0
    assert ann.config_impact(name, 2, against=2).changed == 0
    assert ann.config_impact(name, 2, rows=[{}, {}], limit=-5).replays[0].rows == 1


@pytest.mark.parametrize(
    ("call", "would"),
    [
        (lambda name: config_verbs.draft_config(name, {"max": 8}), "write down version 2 of config {}"),
        (lambda name: config_verbs.validate_config(name, 1), "make version 1 of config {} approved"),
        (lambda name: config_verbs.approve_config(name, 1), "approve version 1 of config {}"),
        (lambda name: config_verbs.activate_config(name, 1), "make version 1 of config {} active"),
    ],
    ids=("draft", "validate", "approve", "activate"),
)
def test_rehearsals_change_nothing(platform, ann, bob, name, call, would):
    approved(ann, bob, name, {"max": 5})
    before = platform.database.revision()
    assert ann.send(dry_run(call(name))).would == would.format(name)
    assert platform.database.revision() == before


def test_a_rehearsed_check_says_what_is_wrong(ann, name):
    ann.draft_config(name, {"max": -1}, spec=SPEC)
    would = ann.send(dry_run(config_verbs.validate_config(name, 1))).would
    assert would == f"make version 1 of config {name} draft: at `/max`: -1 is less than the minimum of 0"


def test_a_rehearsed_rollback(ann, bob, name):
    activated(ann, bob, name, {"max": 1})
    activated(ann, bob, name, {"max": 2})
    assert ann.send(dry_run(config_verbs.roll_back_config(name))).would == f"make version 1 of config {name} active"
    assert ann.config_status(name).active == 2


def test_every_change_is_logged_once(ann, bob, name):
    structlog.reset_defaults()
    with capture_logs() as logs:
        activated(ann, bob, name, {"max": 5})
        ann.draft_config(name, {"max": 5})
    assert [entry["event"] for entry in logs] == [
        f"config.{verb}" for verb in ("draft", "validate", "approve", "activate")
    ]
    assert {entry["config"] for entry in logs} == {name}


async def test_the_asynchronous_client_has_the_same_verbs(platform, name):
    transport = httpx.ASGITransport(create_app(platform))
    async with (
        AsyncClient("http://localhost", transport=transport, principal="ann") as ann,
        AsyncClient("http://localhost", transport=transport, principal="bob") as bob,
    ):
        await ann.draft_config(name, {"max": 5})
        await ann.validate_config(name, 1)
        await bob.approve_config(name, 1)
        await ann.activate_config(name, 1)
        assert (await ann.read_config(name)).number == 1
        assert (await ann.config_drift(name)).active == 1
        assert (await ann.config_impact(name, 1)).changed == 0


# --- reading ---


def test_whoever_has_it_is_told_so(ann, bob, http, name):
    activated(ann, bob, name, {"max": 5})
    path = f"/api/v1/configs/{name}/active"
    first = http.get(path)
    etag = first.headers["etag"]
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    assert first.json()["document"] == {"max": 5}
    for known in (etag, f"W/{etag}", f'"other", {etag}', f"{etag},"):
        same = http.get(path, headers={"if-none-match": known})
        assert (same.status_code, same.content) == (304, b"")
        assert same.headers["etag"]
    for known in ("*", f"*, {etag}", f'"other", {etag}'):
        same = http.get(path, headers={"if-none-match": known})
        assert (same.status_code, same.headers["etag"]) == (304, etag)
    head = http.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, etag)
    assert http.head(path, headers={"if-none-match": etag}).status_code == 304
    for unknown in ('"other"', ",", " ", etag[1:-1], "x" * 5000):
        assert http.get(path, headers={"if-none-match": unknown}).status_code == 200
    activated(ann, bob, name, {"max": 6})
    assert http.get(path, headers={"if-none-match": etag}).json()["number"] == 2
    activated(ann, bob, name, {"max": 5})
    again = http.get(path, headers={"if-none-match": etag})
    assert (again.status_code, again.json()["number"]) == (200, 3), "another version, though it says the same"


def test_waiting_ends_when_another_version_is_active(ann, bob, platform, name):
    activated(ann, bob, name, {"max": 5})
    known = ann.read_config(name).etag
    found = []
    waiting = threading.Thread(target=lambda: found.append(bob.read_config(name, known=known, wait_seconds=60)))
    waiting.start()
    eventually(lambda: platform.configs.readers.waiting == 1)
    activated(ann, bob, name, {"max": 6})
    waiting.join(30)
    assert found[0].value == {"max": 6}
    assert ann.read_config(name, known=found[0].etag, wait_seconds=0.01) is None


def test_what_is_committed_is_not_undone_by_a_board_that_is_away(ann, bob, platform, name, monkeypatch):
    """It stays committed, once, and the answer says that readers follow later."""
    number = approved(ann, bob, name, {"max": 5})

    def away(_position):
        raise ConfigBoardUnavailableError(problem="connection refused")

    before = len(_audited(platform))
    monkeypatch.setattr(platform.configs.readers._follower._board, "since", away)
    moved = ann.activate_config(name, number)
    assert (moved.active, "connection refused" in moved.behind) == (1, True)
    assert len(_audited(platform)) == before + 1
    eventually(lambda: any("connection refused" in warning for warning in ann.status().warnings))
    monkeypatch.undo()
    eventually(lambda: platform.configs.readers.refresh() == "")
    assert ann.read_config(name).number == 1
    eventually(lambda: ann.status().warnings == ())


def test_too_many_who_wait_are_told_when_to_come_back(ann, bob, http, platform, name):
    activated(ann, bob, name, {"max": 5})
    known = ann.read_config(name).etag
    path, headers = f"/api/v1/configs/{name}/active", {"if-none-match": known}
    asking = {"headers": headers, "params": {"wait_seconds": 60}, "timeout": 70}
    threads = [threading.Thread(target=http.get, args=(path,), kwargs=asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: platform.configs.readers.waiting == 3)
    refused = http.get(path, headers=headers, params={"wait_seconds": 60})
    assert (refused.status_code, refused.headers["retry-after"]) == (304, "5")
    activated(ann, bob, name, {"max": 6})
    for thread in threads:
        thread.join(30)


def test_a_rollout_gives_units_different_documents(ann, bob, platform, http, name):
    activated(ann, bob, name, {"max": 5})
    approved(ann, bob, name, {"max": 6})
    with platform.database.write() as connection:
        route = halves(1, 2, weight=0.5)
        platform.configs.store.route(connection, name, route, principal="controller", reason="half of them")
    platform.configs.readers.refresh()
    found = {ann.read_config(name, unit=f"u-{number}").number for number in range(40)}
    assert found == {1, 2}
    assert ann.read_config(name).number == 1
    assert ann.config_status(name).rollout == {"old": 1, "new": 2}
    for context in ("[1]", "{", "nonsense", '{"a":' * 5000):
        answer = http.get(f"/api/v1/configs/{name}/active", params={"unit": "u-1", "context": context})
        assert answer.status_code == 422
    assert ann.read_config(name, unit="u-1", context={"country": "AT"}).number in {1, 2}
    with pytest.raises(ConfigConflictError, match="rolled out"):
        ann.activate_config(name, 2)


def test_a_process_says_by_which_revision_it_answers_readers_of_a_rollout(ann, bob, platform, name):
    activated(ann, bob, name, {"max": 5})
    approved(ann, bob, name, {"max": 6})

    def reported():
        return [process.configs.get(name) for process in ann.status().processes]

    assert reported() == [None]
    with platform.database.write() as connection:
        platform.configs.store.route(connection, name, halves(1, 2, weight=0.5), principal="ann", reason="half")
    with platform.database.read() as connection:
        newest = platform.configs.store.row(connection, name).changed
    eventually(lambda: reported() == [newest])


def test_clients_that_read_are_compared(ann, bob, http, name):
    activated(ann, bob, name, {"max": 5})
    old = ann.read_config(name)
    activated(ann, bob, name, {"max": 6})
    ann.read_config(name, client="late", known=old.etag)
    ann.read_config(name, client="fine", known=ann.read_config(name).etag)
    ann.read_config(name, client="fresh")
    http.get(f"/api/v1/configs/{name}/active", headers={"x-client-id": "x" * 500})
    http.get(f"/api/v1/configs/{name}/active", headers={"x-client-id": "odd", "if-none-match": "nonsense"})
    report = ann.config_drift(name)
    assert {each.client: (each.state, each.number) for each in report.clients} == {
        "late": ("differs", 1),
        "fine": ("current", 2),
        "fresh": ("differs", None),
    }


def test_other_machines_may_read_and_nothing_else(platform, ann, bob, name):
    activated(ann, bob, name, {"max": 5})
    app = create_app(platform)

    async def elsewhere(scope, receive, send):
        await app(scope | {"client": ("203.0.113.5", 4711)}, receive, send)

    with httpx.Client(base_url="http://localhost", transport=InProcessTransport(elsewhere)) as http:
        assert http.get(f"/api/v1/configs/{name}/active").status_code == 200
        for path in ("", f"/{name}", f"/{name}/versions/1", f"/{name}/drift", f"/{name}/active/x"):
            assert http.get(f"/api/v1/configs{path}").status_code == 403, path
        assert http.post(f"/api/v1/configs/{name}/rollback").status_code == 403
        assert http.post(f"/api/v1/configs/{name}/active").status_code == 403


# --- hostile ---


@pytest.mark.parametrize(
    "document",
    [
        "NaN",
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": 1e999}',
        '{"a": 18446744073709551616}',
        '{"a": "\\ud800"}',
        nested(65),
        nested(50_000),
        "[]",
        "null",
        '"text"',
        '{"a": "' + "x" * MAX_BYTES + '"}',
    ],
    ids=range(13),
)
def test_documents_that_cannot_be(http, name, document):
    answer = http.post(f"/api/v1/configs/{name}/versions", content=f'{{"document": {document}}}')
    assert answer.status_code == 422, answer.text[:300]
    assert answer.json()["code"] in {"invalid_config", "malformed_request"}
    assert http.get(f"/api/v1/configs/{name}").status_code == 404


@pytest.mark.parametrize(
    "body", ["", "{}", '{"document": {}, "other": 1}', '{"document": {}, "spec": {"schema": 5}}', "["]
)
def test_bodies_that_are_none(http, name, body):
    assert http.post(f"/api/v1/configs/{name}/versions", content=body).status_code == 422


def test_a_large_document_is_taken_and_given_back(ann, bob, name):
    document = {"text": "ü" * (MAX_BYTES // 2 - 10)}
    activated(ann, bob, name, document)
    assert ann.read_config(name).value == document


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2}])
def test_the_client_refuses_what_json_does_not_have(ann, name, value):
    with pytest.raises(InvalidConfigError):
        ann.draft_config(name, {"a": value})


@pytest.mark.parametrize("name", ["Limits", "a%00b", "%ed%a0%80", "x" * 200, "a b", "%2e%2e"])
@pytest.mark.parametrize("rest", ["", "/active", "/drift", "/versions", "/versions/1", "/versions/1/diff"])
def test_names_that_are_none(http, name, rest):
    answer = http.get(f"/api/v1/configs/{name}{rest}")
    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize("number", ["0", "-1", "2147483648", "1.5", "one", "9" * 400])
def test_numbers_that_are_none(http, ann, name, number):
    ann.draft_config(name, {})
    for verb in ("", "/diff"):
        assert http.get(f"/api/v1/configs/{name}/versions/{number}{verb}").status_code == 422
    for verb in ("validate", "approve", "activate", "impact"):
        assert http.post(f"/api/v1/configs/{name}/versions/{number}/{verb}").status_code == 422


@pytest.mark.parametrize("seconds", ["-1", "61", "nan", "inf", "soon"])
def test_waits_that_are_none(http, name, seconds):
    assert http.get(f"/api/v1/configs/{name}/active", params={"wait_seconds": seconds}).status_code == 422


def test_what_names_nothing_cannot_be_approved(ann, bob, name):
    spec = ConfigSpec({"properties": {"model": {"x-crossfade-ref": "version"}}})
    ann.draft_config(name, {"model": "tiny:9.0.0"}, spec=spec)
    found = ann.validate_config(name, 1)
    assert [(each.check, each.path) for each in found.validation.problems] == [("reference", "/model")]
    with pytest.raises(UnfitConfigError, match="is not registered"):
        bob.approve_config(name, 1)


def test_a_version_that_was_deleted_meanwhile(ann, bob, name, tmp_path):
    control.register(ann, tmp_path, "1.0.0", name=f"model-{name}")
    spec = ConfigSpec({"properties": {"model": {"x-crossfade-ref": "version"}}})
    approved(ann, bob, name, {"model": f"model-{name}:1.0.0"}, spec)
    ann.delete(f"model-{name}:1.0.0", reason="gone")
    with pytest.raises(UnfitConfigError):
        ann.activate_config(name, 1)


def test_a_config_that_is_not_there(ann, name):
    for act in (ann.config_status, ann.config_versions, ann.read_config, ann.config_drift, ann.roll_back_config):
        with pytest.raises(ConfigNotFoundError):
            act(name)


def test_what_is_sent_is_what_is_read(ann, bob, name):
    odd = '{"b":[1.0,-0.0,1e-300,9007199254740993],"a":{"\\u0000":"\\u2028"},"":null}'
    activated(ann, bob, name, odd)
    assert json.loads(bytes(ann.read_config(name).document)) == json.loads(odd)
