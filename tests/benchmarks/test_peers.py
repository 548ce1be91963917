"""The comparison with other servers: how it checks, what its table says; the servers here are its own baselines."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import static_server
from benchmarks.peers import assign, assignments
from benchmarks.peers.__main__ import HEAD, Row, measured
from benchmarks.peers.assignments import CLIENTS, Client, Line
from benchmarks.peers.contenders import CONTENDERS, STATIC
from benchmarks.peers.environments import python_of

ROOT = Path(__file__).parents[2]
HERE = Path(sys.executable)
FASTAPI = next(contender for contender in CONTENDERS if contender.name.startswith("FastAPI"))


@pytest.fixture(scope="module")
def static():
    with static_server() as static:
        yield static


def test_a_server_that_predicts_as_the_model_does_is_measured(static):
    row = measured(FASTAPI, HERE, static, rounds=1, seconds=0.2)
    assert re.fullmatch(r"FastAPI \+ pydantic \d+\.\d+\.\d+", row.server)
    assert min(row.cpu_us, row.times_static, row.per_second, row.p50_ms, row.p99_ms, row.memory_mib) > 0
    assert row.p50_ms <= row.p99_ms
    assert row.cells().count("|") == HEAD.splitlines()[0].count("|")


def test_a_server_that_predicts_something_else_is_not_measured(static):
    wrong = replace(STATIC, label=lambda answer: answer["outputs"][0]["data"][0])  # it says 1 to everything
    with pytest.raises(RuntimeError, match="it predicts 1 instead of False"):
        measured(wrong, HERE, static, rounds=1, seconds=0.2)


def test_a_server_that_does_not_start_says_why(static):
    with pytest.raises(RuntimeError, match=r"the server ended with 1 .*No module named benchmarks.absent"):
        measured(replace(FASTAPI, module="absent"), HERE, static, rounds=1, seconds=0.2)


def test_a_peer_that_cannot_be_installed_says_why():
    with pytest.raises(RuntimeError, match=r"it cannot be installed \(.*absent"):
        python_of("absent")


def test_who_is_not_measured_stands_in_the_table_with_the_reason():
    cells = Row("Other, batching", reason="it cannot be installed").cells()
    assert cells.startswith("| Other, batching | not measured: it cannot be installed |")
    assert cells.count("|") == HEAD.splitlines()[0].count("|")


def test_every_peer_has_its_lock_and_a_body_that_is_json():
    peers = {each.peer for each in [*CONTENDERS, *CLIENTS] if each.peer}
    assert {f"{peer}.txt" for peer in peers} == {path.name for path in ROOT.glob("requirements/peers/*.txt")}
    for contender in CONTENDERS:
        json.dumps(contender.body([0.5] * 30))


# --- assignment ---

OURS = CLIENTS[0]


def test_crossfade_assigns_as_every_library_has_to(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    taken = assignments.measured(OURS, HERE)
    assert set(taken) == set(assignments.CASES)
    assert 0 < taken["one"] < taken["exposed"] < 1000


@pytest.mark.parametrize(
    ("assign_one", "said"),
    [
        (lambda _unit, _context: "treatment", "100.0% are treated instead of 50.0%"),
        (lambda _unit, _context: None, "0.0% are treated instead of 50.0%"),
    ],
)
def test_who_assigns_otherwise_is_not_measured(assign_one, said):
    with pytest.raises(RuntimeError, match=said):
        assign.report(assign_one, assign_one, assign_one, lambda: 0)


def test_who_changes_his_mind_is_not_measured():
    answers = iter(range(10**9))

    def flip(_unit, _context):
        return "treatment" if next(answers) % 2 else "control"

    units = iter([["odd", "number", "of units"] * 3_333])
    with pytest.raises(RuntimeError, match="or others when asked again"):
        assign.check("one", flip, {}, 0.5, units)


def test_who_hands_over_no_exposures_is_not_measured(monkeypatch):
    halves = {unit: "treatment" if number % 2 else "control" for number, unit in enumerate(next(assign.numbered()))}
    monkeypatch.setattr(assign, "numbered", lambda: iter([list(halves)] * 10))

    def half(unit, _context):
        return halves[unit]

    def nine_tenths(unit, context):
        return halves[unit] if context == assign.INSIDE and int(unit[5:]) % 20 > 1 else "control"

    with pytest.raises(RuntimeError, match="0 exposures of 20000 units"):
        assign.report(half, nine_tenths, half, lambda: 0)


def test_libraries_that_fail_stand_in_the_table_with_the_reason(monkeypatch):
    fine = dict.fromkeys(assignments.CASES, 1.0)
    results = {"Crossfade": fine, "Slow": {**fine, "one": 3.0}, "Broken": RuntimeError("one: 9% | no")}

    def taken(client, _python):
        if isinstance(results[client.name], Exception):
            raise results[client.name]
        return results[client.name]

    monkeypatch.setattr(assignments, "measured", taken)
    clients = [(OURS, HERE), (Client("Slow", "", "crossfade"), HERE), (Client("Broken", "", ""), HERE)]
    clients.append((Client("Absent", "", ""), "it cannot be installed"))
    ours, slow, broken, absent = assignments.compare(clients, rounds=3)
    assert re.fullmatch(r"\| Crossfade [\d.]+ \| 1.00 \(1.0 x\) \| 1.00 \(1.0 x\) \| 1.00 \(1.0 x\) \|", ours.cells())
    assert slow.times["one"] == 3.0
    assert broken == Line("Broken", reason="one: 9% / no")
    assert absent.cells().count("|") == ours.cells().count("|") == assignments.HEAD.splitlines()[0].count("|")


def test_a_library_that_is_not_there_says_so():
    with pytest.raises(RuntimeError, match="No module named"):
        assignments.measured(Client("Absent", "assign_absent", ""), HERE)
