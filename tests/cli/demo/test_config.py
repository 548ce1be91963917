from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from crossfade.cli.demo import canary as canary_module
from crossfade.cli.demo import config as config_module
from crossfade.cli.demo.config import (
    ALERTS,
    BEHIND,
    FIRST_DOCUMENT,
    FOLLOWING,
    IN_PERCENT,
    PLAN,
    SECOND_DOCUMENT,
    SPEC,
    ConfigRelease,
)
from crossfade.configs.checking import find
from crossfade.configs.reports import ClientState, DriftReport
from crossfade.errors import FourEyesError
from tests.cli.demo.support import NOON, FakeStage, a_rollout

OWN = FourEyesError(name=ALERTS, number=3, principal="demo")


class FakeServer:
    """A server that keeps what it is told of one config; `by` gives a client in somebody's name."""

    def __init__(self, *, end="completed", follows=True, four_eyes=True):
        self.calls, self.active = [], 0
        self._documents, self._approved, self._runs = [], {}, {}
        self._end, self._follows, self._four_eyes = end, follows, four_eyes

    def by(self, principal):
        return FakeClient(self, principal)


class FakeClient:
    def __init__(self, server, principal):
        self._server, self._principal = server, principal

    def __getattr__(self, verb):
        do = getattr(self._server, f"_{verb}", None) or globals()[f"_{verb}"]

        def called(*args, **options):
            return do(self._server, self._principal, *args, **options)

        return called


def _version(server, number, **facts):
    return SimpleNamespace(
        number=number, created_by="demo", approved_by=server._approved.get(number, ""), validation=None, **facts
    )


def _draft_config(server, principal, name, document, *, spec, reason):
    server._documents.append(document)
    server.calls.append(("draft", principal, len(server._documents)))
    return _version(server, len(server._documents))


def _validate_config(server, principal, name, number):
    server.calls.append(("validate", principal, number))
    problem = "60 is too much" if server._documents[number - 1] == IN_PERCENT else ""
    version = _version(server, number)
    version.validation = SimpleNamespace(valid=not problem, problem=problem)
    return version


def _approve_config(server, principal, name, number, *, reason):
    if principal == "demo" and server._four_eyes:
        raise OWN
    server.calls.append(("approve", principal, number))
    server._approved[number] = principal
    return _version(server, number)


def _activate_config(server, principal, name, number, *, reason):
    server.calls.append(("activate", principal, number))
    server.active = number


def _create_rollout(server, principal, wanted):
    server.calls.append(("roll out", principal, wanted.version, wanted.kind))
    return a_rollout("preparing", wanted.version, name=f"{ALERTS}-1")


def _rollout(server, principal, name):
    if server._end == "completed":
        server.active = 3
        if server._follows:
            server._runs[FOLLOWING] = 3
    return a_rollout(server._end, "3", reason="as it is")


def _config(server, principal, name, *, unit, client, cache, follow=True):
    assert cache is None
    server._runs[client] = server.active
    return nullcontext() if follow else SimpleNamespace(number=server.active, digest=f"d{server.active}")


def _read_config(server, principal, name, *, unit, known, client):
    server._runs[client] = int(known[1])
    server.calls.append(("ask", client, known))


def _config_drift(server, principal, name):
    clients = tuple(
        ClientState(one, "current" if runs == server.active else "differs", runs, server.active, one, "", NOON)
        for one, runs in server._runs.items()
    )
    differs = sum(one.state == "differs" for one in clients)
    return DriftReport(name, server.active, len(clients) - differs, differs, 0, clients)


def _config_status(server, principal, name):
    return SimpleNamespace(name=name, active=server.active)


@pytest.fixture
def play(monkeypatch):
    monkeypatch.setattr(config_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(canary_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(config_module, "PATIENCE_SECONDS", 0.05)

    def played(server, **traffic):
        stage = FakeStage(server.by("demo"))
        vars(stage.traffic).update(traffic)
        release = ConfigRelease(stage, server.by("reviewer"))
        release.run()
        return release, stage

    return played


# --- what is written ---


def test_both_documents_fit_and_the_slip_does_not():
    schema = SPEC.checked(ALERTS).schema
    for fit in (FIRST_DOCUMENT, SECOND_DOCUMENT):
        assert not find(schema, fit).problems
    (problem,) = find(schema, IN_PERCENT).problems
    assert problem.path == "/threshold"


def test_the_plan_is_one():
    assert PLAN.checked() == PLAN


# --- what is done ---


def test_the_steps_come_in_order(play):
    server = FakeServer()
    play(server)
    assert [call for call in server.calls if call[0] != "ask"] == [
        ("draft", "demo", 1),
        ("validate", "demo", 1),
        ("approve", "reviewer", 1),
        ("activate", "demo", 1),
        ("draft", "demo", 2),
        ("validate", "demo", 2),
        ("draft", "demo", 3),
        ("validate", "demo", 3),
        ("approve", "reviewer", 3),
        ("roll out", "demo", "3", "config"),
    ]


def test_one_client_is_behind_until_it_reads_again(play):
    server = FakeServer()
    release, stage = play(server)
    assert release.differed == (BEHIND,)
    assert (release.report.current, release.report.differs) == (2, 0)
    assert release.config.active == release.version.number == 3
    known = [call[2] for call in server.calls if call[0] == "ask"]
    assert (known[0], known[-1]) == ('"1-d1"', '"3-d3"')
    assert any(f"{BEHIND} runs version 1, and should run 3" in text for text in stage.screen.of("bad"))


def test_the_slip_and_the_author_are_refused_with_words(play):
    release, stage = play(FakeServer())
    assert release.invalid == "60 is too much"
    assert release.refusal is OWN
    text = "\n".join(stage.screen.of("bad"))
    assert "version 2 is not fit: 60 is too much" in text
    assert OWN.message in text


def test_each_command_is_shown_with_a_file_that_holds_what_it_takes(play):
    _, stage = play(FakeServer())
    assert stage.screen.of("command") == [
        "crossfade configs draft delay_alerts delay_alerts-1.json --spec delay_alerts-spec.json",
        "crossfade configs activate delay_alerts 1",
        "crossfade configs draft delay_alerts delay_alerts-2.json",
        "crossfade configs draft delay_alerts delay_alerts-3.json",
        "crossfade configs validate delay_alerts 3",
        "crossfade configs approve delay_alerts 3",
        "crossfade rollouts create delay_alerts 3 --kind config --plan delay_alerts-plan.json",
        "crossfade configs drift delay_alerts",
    ]
    assert stage.kept["delay_alerts-3.json"] == SECOND_DOCUMENT
    assert stage.kept["delay_alerts-spec.json"] == SPEC


def test_an_author_who_may_approve_is_no_refusal(play):
    release, _ = play(FakeServer(four_eyes=False))
    assert release.refusal is None
    assert release.version.approved_by == "reviewer"


def test_who_does_not_follow_is_found_within_patience(play):
    release, _ = play(FakeServer(follows=False))
    assert release.differed == (FOLLOWING, BEHIND)
    assert release.report.differs == 1


def test_a_rollout_that_is_taken_back_is_said(play):
    release, stage = play(FakeServer(end="rolled_back"))
    assert (release.config.active, release.differed) == (1, ())
    assert "version 3 was not released: as it is" in stage.screen.of("bad")


def test_without_a_flight_nothing_is_released(play):
    server = FakeServer()
    release, stage = play(server, ran_out=True)
    assert (server.calls, release.config) == ([], None)
    assert stage.screen.of("bad") == ["no flight is left for it"]


def test_the_table_is_that_of_who_runs_what(play):
    release, _ = play(FakeServer())
    assert "3, 3: current" in release.table().line
