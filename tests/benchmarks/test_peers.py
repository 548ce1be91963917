"""The comparison with other servers: how it checks, what its table says; the servers here are its own baselines."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import static_server
from benchmarks.peers.__main__ import HEAD, Row, measured, python_of
from benchmarks.peers.contenders import CONTENDERS, STATIC

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
    peers = {contender.peer for contender in CONTENDERS if contender.peer}
    assert {f"{peer}.txt" for peer in peers} == {path.name for path in ROOT.glob("requirements/peers/*.txt")}
    for contender in CONTENDERS:
        json.dumps(contender.body([0.5] * 30))
