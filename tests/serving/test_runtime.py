"""Processes on one database follow together, switch together, and live without the database."""

import asyncio
import threading

import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import DatabaseUnavailableError, NotReadyError, NotServedError
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery
from crossfade.serving.opening import VersionOpener
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import Settings
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.serving import fakes
from tests.serving.fakes import Openings
from tests.traffic.support import FAST, eventually, move, publish_all


@pytest.fixture
def fleet(database):
    return Fleet(database, FAST)


@pytest.fixture
def switch(registry, fleet):
    return AliasSwitch(registry, fleet, FAST)


def ask(runtime, ref="m"):
    return asyncio.run(fakes.ask(runtime, ref))


def number(runtime):
    return ask(runtime).outputs["predict"].tolist()[0]


def test_two_processes_switch_together(registry, start, switch, fleet):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    switch.move("m", "champion", "1.0.0")
    runtimes = [start(), start()]
    for runtime in runtimes:
        runtime.await_ready(10)
    assert {process.process for process in fleet.live()} == {runtime.process for runtime in runtimes}
    report = switch.move("m", "champion", "1.0.1", reason="better")
    assert (report.processes, report.late) == (2, ())
    assert [number(runtime) for runtime in runtimes] == [1.0, 1.0]
    report = switch.rollback("m")
    assert (report.processes, report.late) == (2, ())
    assert [number(runtime) for runtime in runtimes] == [0.0, 0.0]


def test_wrong_golden_answers_in_one_process_refuse_the_move(registry, start, switch, openings):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    switch.move("m", "champion", "1.0.0")
    elsewhere = Openings(registry.backend)
    elsewhere.golden["1.0.1"] = 99.0
    runtimes = [start(), start(elsewhere)]
    for runtime in runtimes:
        runtime.await_ready(10)
    with pytest.raises(NotReadyError, match="other answers than its golden requests") as caught:
        switch.move("m", "champion", "1.0.1")
    assert "`m:1.0.1` did not become ready, so `m@champion` was not moved" in caught.value.message
    assert registry.resolve("m").version == "1.0.0"
    assert [number(runtime) for runtime in runtimes] == [0.0, 0.0]
    elsewhere.golden.clear()
    assert switch.move("m", "champion", "1.0.1").processes == 2, "a new request is a new attempt"
    assert [number(runtime) for runtime in runtimes] == [1.0, 1.0]


def test_the_first_alias_of_a_model_is_switched_too(registry, start, switch):
    runtime = start()
    publish_all(registry, "m", "1.0.0")
    assert switch.move("m", "champion", "1.0.0").processes == 1
    assert number(runtime) == 0.0
    switch.remove("m", "champion")
    assert runtime.follower.snapshot.route("m").champion is None
    eventually(lambda: runtime.slots.all() == {})


def test_predictions_outlive_the_database(registry, start, switch, database, fleet):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    switch.move("m", "champion", "1.0.0")
    runtime = start()
    runtime.await_ready(10)
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        switch.move("m", "champion", "1.0.1")
    eventually(lambda: runtime.follower.age_seconds > 0.1)
    assert number(runtime) == 0.0
    assert runtime.predictions.unready() == []
    database.away = False
    eventually(fleet.live)
    assert switch.move("m", "champion", "1.0.1").late == ()
    assert number(runtime) == 1.0


def test_without_a_database_there_is_no_start(registry, database, openings, tmp_path):
    runtime = ServingRuntime(registry.backend, database, Settings(home=tmp_path, serving=FAST), openings)
    assert runtime.predictions.unready() == ["the registry has not been read yet"]
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        runtime.start()
    runtime.close()
    database.away = False


def test_closing_leaves_nothing_behind(registry, start, switch, fleet):
    publish_all(registry, "m", "1.0.0")
    switch.move("m", "champion", "1.0.0")
    before = set(threading.enumerate())
    runtime = start()
    runtime.await_ready(10)
    runtime.close()
    assert fleet.live() == ()
    assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("crossfade-")]
    runtime.close()


def test_waiting_for_readiness_names_what_is_missing(registry, start, openings):
    publish_all(registry, "m", "1.0.0")
    openings.plans["1.0.0"] = RuntimeError("broken")
    move(registry, "m", "1.0.0")
    runtime = start()
    eventually(lambda: "broken" in str(runtime.predictions.unready()))
    with pytest.raises(NotServedError, match=r"`m:1.0.0` is not ready here: RuntimeError: broken"):
        runtime.await_ready(0)


def test_a_process_that_starts_with_a_broken_champion_answers_with_the_former(registry, start, switch, openings):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    switch.move("m", "champion", "1.0.0")
    switch.move("m", "champion", "1.0.1")
    openings.plans["1.0.1"] = RuntimeError("broken here")
    runtime = start()
    eventually(lambda: runtime.slots.is_ready("m", "1.0.0"))
    prediction = ask(runtime)
    assert (prediction.version, prediction.fallback) == ("1.0.0", True)
    assert runtime.predictions.unready() == ["m:1.0.1: RuntimeError: broken here"]


def test_by_default_versions_come_from_the_registry(registry, start, tmp_path):
    from sklearn.linear_model import LinearRegression

    x = [[0.0], [1.0], [2.0]]
    registry.register("line", LinearRegression().fit(x, [0.0, 2.0, 4.0]), version="1.0.0", example=x)
    move(registry, "line", "1.0.0")
    runtime = start(VersionOpener(registry.backend, registry.policy, FAST, Nursery(Limits(2**30)), runner=None).open)
    runtime.await_ready(10)
    spec = asyncio.run(runtime.predictions.find(ModelRef.parse("line"))).signature.inputs[0]
    assert spec.datatype == "FP64"
    default = ServingRuntime(registry.backend, registry.backend.database, Settings(home=tmp_path, serving=FAST))
    default.start()
    default.await_ready(10)
    default.close()
