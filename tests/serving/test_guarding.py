"""Predictions under safety rules: what is given, what is said about it, what is counted, and what stops at once."""

import asyncio
import math
import shutil
from datetime import timedelta

import numpy as np
import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import EmergencyError, MalformedRequestError, UnsafeAnswerError
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.safety.latch import Latch
from crossfade.safety.levels import Level
from crossfade.safety.reports import Role as Use
from crossfade.safety.specs import (
    ChangeCheck,
    Constant,
    ExpressionCheck,
    FiniteCheck,
    LastSafe,
    OtherVersion,
    RangeCheck,
    Refuse,
    SafetyPolicySpec,
)
from crossfade.safety.store import SafetyStore
from crossfade.serving.holding import DEFAULT_TERMS
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import CacheSettings, Settings
from crossfade.traffic.health import PINNED, HealthLog, added
from crossfade.traffic.routing import Asker
from crossfade.traffic.snapshot import Role
from tests.serving import fakes
from tests.traffic.support import FAST, move, open_registry, publish_all, soon

REF = ModelRef.parse("m")
HIGH = RangeCheck(name="high", output="predict", maximum=10)
ODD = ExpressionCheck(name="odd", expression="predict % 2 == 0", level=Level.WARNING)
AWFUL = RangeCheck(name="awful", output="predict", maximum=1000, level=Level.CRITICAL)
NINE = Constant(outputs={"predict": 9})


class Echo(fakes.Constant):
    """Answers its input, times a number."""

    def __init__(self, factor=1.0):
        super().__init__(0)
        self.factor = factor

    def __call__(self, tensors, wanted):
        super().__call__(tensors, wanted)
        return {"predict": tensors["x"] * self.factor}


class Guarded:
    """A runtime with a model `m` that answers its input, and what people do about its safety."""

    def __init__(self, runtime, store, openings):
        self.runtime = runtime
        self.store = store
        self.openings = openings

    def put(self, *checks, model="m", **options):
        self.store.put_policy(SafetyPolicySpec(model=model, checks=checks, **options))
        self.follow()

    def follow(self):
        self.runtime.follower.refresh()

    async def ask(self, *numbers, unit=None, ref="m", terms=DEFAULT_TERMS, wanted=None):
        asker = None if unit is None else Asker(unit)
        tensors = {"x": np.array(numbers, dtype=float)}
        with await self.runtime.predictions.hold(ModelRef.parse(ref), terms, asker) as held:
            return await held.predict(tensors, wanted, terms)

    async def given(self, *numbers, **options):
        return (await self.ask(*numbers, **options)).outputs["predict"].tolist()

    def counters(self, version="1.0.0"):
        return self.runtime.slots.find("m", version).counters

    def violations(self):
        self.runtime.warden.log.flush()
        return {
            (item.version, item.check, item.instead if item.role is Use.ANSWER else item.role.value): item.answers
            for item in self.store.violations().items
        }


@pytest.fixture(scope="module")
def guarded_home(tmp_path_factory):
    """The home of a registry whose model `m` has three versions, the first of them champion; for copying."""
    home = tmp_path_factory.mktemp("guarded")
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    registry.backend.database.close()
    return home


@pytest.fixture
def registry(guarded_home, tmp_path):
    home = tmp_path / "registry"
    shutil.copytree(guarded_home, home)
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    yield registry
    registry.backend.database.close()


@pytest.fixture
def made(registry, database, openings, tmp_path):
    """Makes guarded runtimes, and closes them."""
    openings.plans = {"1.0.0": Echo(), "1.0.1": Echo(0.1)}
    started = []

    def make(home=tmp_path, opener=openings, record=None, **sections):
        on_threads = FAST.model_copy(update={"inline_below_seconds": 1e-9})
        settings = Settings(home=home, serving=on_threads, **sections)
        options = {} if record is None else {"record": record}
        runtime = ServingRuntime(registry.backend, database, settings, opener, **options)
        started.append(runtime)
        runtime.start()
        runtime.await_ready(20)
        store = SafetyStore(registry, database, home, tuple, lambda _revision, _seconds: ())
        return Guarded(runtime, store, opener)

    yield make
    for runtime in started:
        runtime.close()


@pytest.fixture
def guarded(made):
    return made()


# --- what is given ---


async def test_without_rules_nothing_is_looked_at_or_said(guarded):
    prediction = await guarded.ask(1e9)
    assert prediction.safety is None
    assert guarded.runtime.warden.guards is None
    assert guarded.counters().unsafe == 0


async def test_a_safe_answer_is_given_as_it_is(guarded):
    guarded.put(HIGH, ODD, AWFUL, fallback=(NINE,))
    prediction = await guarded.ask(2.0, 4.0)
    assert prediction.outputs["predict"].tolist() == [2.0, 4.0]
    assert prediction.safety is None
    assert guarded.violations() == {}


async def test_a_warning_is_given_and_marked(guarded):
    guarded.put(HIGH, ODD, fallback=(NINE,))
    prediction = await guarded.ask(3.0)
    assert prediction.outputs["predict"].tolist() == [3.0]
    assert (prediction.safety.level, prediction.safety.checks, prediction.safety.instead) == (
        Level.WARNING,
        ("odd",),
        "",
    )
    assert guarded.counters().unsafe == 0
    assert guarded.violations() == {("1.0.0", "odd", ""): 1}


async def test_only_unsafe_rows_are_replaced(guarded):
    guarded.put(HIGH, ODD, fallback=(NINE,))
    prediction = await guarded.ask(2.0, 50.0, 3.0, 60.0)
    assert prediction.outputs["predict"].tolist() == [2.0, 9.0, 3.0, 9.0]
    assert (prediction.safety.level, prediction.safety.checks) == (Level.UNSAFE, ("high", "odd"))
    assert prediction.safety.instead == "constant"
    assert (prediction.version, prediction.fallback) == ("1.0.0", False)
    assert guarded.counters().unsafe == 1
    assert guarded.violations() == {("1.0.0", "high", "constant"): 1, ("1.0.0", "odd", "constant"): 1}


async def test_no_rows_are_no_question(guarded):
    guarded.put(HIGH, FiniteCheck(name="finite"), fallback=(LastSafe(), NINE))
    with pytest.raises(MalformedRequestError, match="there is no row"):
        await guarded.given()


async def test_without_a_fallback_the_answer_is_refused_and_says_why(guarded):
    guarded.put(HIGH)
    with pytest.raises(
        UnsafeAnswerError, match=r"the answer of `m:1\.0\.0` is unsafe and not given: it violates `high`"
    ):
        await guarded.ask(50.0)
    assert guarded.counters().errors == {"4xx": 1}
    assert guarded.counters().unsafe == 1
    assert guarded.violations() == {("1.0.0", "high", "refuse"): 1}
    assert await guarded.given(2.0) == [2.0]


async def test_the_first_fallback_that_can_be_given_is(guarded):
    guarded.openings.plans["1.0.2"] = fakes.Constant(77)
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.2"), LastSafe(), Refuse(), NINE))
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.2"))
    with pytest.raises(UnsafeAnswerError):
        await guarded.ask(50.0, unit="a")
    await guarded.ask(4.0, unit="a")
    guarded.put(HIGH, fallback=(LastSafe(per="model"), NINE))
    assert await guarded.given(50.0) == [9.0]


async def test_a_huge_answer_is_judged_row_by_row(guarded):
    guarded.put(HIGH, fallback=(NINE,))
    numbers = np.zeros(50_000)
    numbers[::1000] = 99.0
    given = np.array(await guarded.given(*numbers))
    assert (given[::1000] == 9.0).all()
    assert given.sum() == 9.0 * 50


async def test_what_a_model_answers_instead_of_numbers_is_not_given(guarded):
    """Whatever the pipeline lets through: NaN is ordinary."""
    guarded.openings.plans["1.0.0"].factor = math.nan
    guarded.put(FiniteCheck(name="finite"), fallback=(NINE,))
    assert await guarded.given(1.0, 2.0) == [9.0, 9.0]


# --- other versions ---


async def test_a_version_that_is_fallen_back_to_is_kept_ready_everywhere(guarded):
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.1"),))
    (wish,) = [wish for wish in guarded.runtime.follower.snapshot.route("m").aspired if wish.version == "1.0.1"]
    assert wish.role is Role.VARIANT
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    prediction = await guarded.ask(4.0, 50.0)
    assert prediction.outputs["predict"].tolist() == [4.0, 5.0]
    assert prediction.safety.instead == "version 1.0.1"
    assert guarded.runtime.slots.find("m", "1.0.1").leases == 0
    guarded.store.remove_policy("m")
    guarded.follow()
    await soon(lambda: not guarded.runtime.slots.is_ready("m", "1.0.1"))


async def test_its_answer_has_to_be_safe_too(guarded):
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.1"), NINE))
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    assert await guarded.given(500.0) == [9.0], "50 is too high as well"
    assert guarded.violations() == {("1.0.0", "high", "constant"): 1, ("1.0.1", "high", "fallback"): 1}


async def test_what_a_version_says_in_the_stead_of_another_is_no_request_of_its_own(guarded, database):
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.1"),))
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    await guarded.given(50.0)
    with pytest.raises(UnsafeAnswerError):
        await guarded.given(500.0)
    with pytest.raises(UnsafeAnswerError):
        await guarded.given(500.0, ref="m:1.0.0")
    guarded.runtime.close()
    reports = HealthLog(database).since({}, 0, model="m")
    assert not added(reports, "1.0.1").requests + added(reports, "1.0.1").errors + added(reports, "1.0.1").unsafe
    asked, pinned = added(reports, "1.0.0"), added(reports, "1.0.0" + PINNED)
    assert (asked.requests, asked.refused, asked.unsafe) == (2, 1, 2)
    assert (pinned.requests, pinned.refused, pinned.unsafe) == (1, 1, 1)


async def test_a_version_that_is_not_ready_or_fails_is_passed_over(guarded):
    guarded.openings.plans["1.0.2"] = RuntimeError("it does not load")
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.2"), NINE))
    assert await guarded.given(50.0) == [9.0]


async def test_a_version_does_not_stand_in_for_itself(guarded):
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.0"), NINE))
    assert await guarded.given(50.0) == [9.0]


# --- units ---


async def test_the_last_safe_answer_of_the_unit_is_given(guarded):
    guarded.put(HIGH, fallback=(LastSafe(), NINE))
    assert guarded.runtime.predictions.asks_who(REF)
    await guarded.ask(4.0, unit="a")
    await guarded.ask(6.0, unit="b")
    assert await guarded.given(50.0, unit="a") == [4.0]
    assert await guarded.given(50.0, unit="b") == [6.0]
    assert await guarded.given(50.0, unit="c") == [9.0]
    assert await guarded.given(50.0) == [9.0]
    assert (await guarded.ask(50.0, unit="a")).safety.instead == "last_safe"


async def test_the_last_safe_answer_of_the_model_is_given(guarded):
    guarded.put(HIGH, fallback=(LastSafe(per="model"), NINE))
    assert await guarded.given(50.0) == [9.0]
    await guarded.ask(4.0, 6.0)
    assert await guarded.given(50.0, 3.0, 70.0) == [6.0, 3.0, 6.0]


async def test_a_warning_is_safe_enough_to_be_remembered(guarded):
    guarded.put(HIGH, ODD, fallback=(LastSafe(),))
    await guarded.ask(3.0, unit="a")
    assert await guarded.given(50.0, unit="a") == [3.0]


async def test_a_jump_of_one_unit_is_none_of_another(guarded):
    guarded.put(ChangeCheck(name="calm", output="predict", maximum=1), fallback=(NINE,))
    assert await guarded.given(1.0, unit="a") == [1.0]
    assert await guarded.given(5.0, unit="b") == [5.0]
    assert await guarded.given(5.0, unit="a") == [9.0]
    assert await guarded.given(2.0, unit="a") == [2.0]
    assert await guarded.given(500.0) == [500.0], "about nobody"


async def test_it_does_not_matter_who_asks_without_such_a_rule(guarded):
    assert not guarded.runtime.predictions.asks_who(REF)
    guarded.put(HIGH, fallback=(NINE,))
    assert not guarded.runtime.predictions.asks_who(REF)


# --- overrides ---


async def test_what_is_overridden_is_not_asked_and_every_answer_says_so(guarded):
    guarded.put(HIGH, ODD, fallback=(NINE,))
    override = guarded.store.override("m", seconds=60, reason="it is wrong", check="high")
    guarded.follow()
    prediction = await guarded.ask(50.0)
    assert prediction.outputs["predict"].tolist() == [50.0]
    assert (prediction.safety.level, prediction.safety.overrides) == (Level.SAFE, ("high",))
    warned = await guarded.ask(51.0)
    assert (warned.safety.level, warned.safety.checks, warned.safety.overrides) == (Level.WARNING, ("odd",), ("high",))
    guarded.store.end_override(override.id, reason="mended")
    guarded.follow()
    assert await guarded.given(50.0) == [9.0]


async def test_an_override_of_a_version_leaves_the_others(guarded, registry):
    guarded.put(HIGH, fallback=(NINE,))
    guarded.store.override("m", seconds=60, reason="why", version="1.0.1")
    move(registry, "m", "1.0.1", alias="challenger")
    guarded.follow()
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    assert await guarded.given(500.0) == [9.0]
    assert await guarded.given(500.0, ref="m:1.0.1") == [50.0]


async def test_an_override_expires_while_the_database_is_away(guarded, database):
    guarded.put(HIGH, fallback=(NINE,))
    guarded.store.override("m", seconds=60, reason="why")
    guarded.follow()
    database.away = True
    assert await guarded.given(50.0) == [50.0]
    warden = guarded.runtime.warden
    later = warden._clock() + timedelta(seconds=61)
    warden._clock = lambda: later
    warden.turn()
    assert await guarded.given(50.0) == [9.0]


# --- emergencies ---


async def test_a_blocked_model_is_refused_before_anything_is_asked(guarded):
    calls = guarded.openings.plans["1.0.0"].calls
    guarded.store.begin_emergency("it burns", model="m")
    guarded.follow()
    with pytest.raises(EmergencyError, match=r"`m` is stopped, m is in an emergency \(block\): it burns"):
        await guarded.ask(1.0)
    assert guarded.openings.plans["1.0.0"].calls == calls
    assert guarded.counters().errors == {}, "the version has done nothing wrong"
    assert guarded.runtime.predictions._measurements.unserved.errors == {"5xx": 1}
    guarded.store.end_emergency("it is out", model="m")
    guarded.follow()
    assert await guarded.given(1.0) == [1.0]


@pytest.mark.parametrize("ref", ["m", "m@champion", "m:1.0.0", "models:/m/1"])
async def test_every_spelling_is_stopped(guarded, ref):
    guarded.store.begin_emergency("why")
    guarded.follow()
    with pytest.raises(EmergencyError):
        await guarded.ask(1.0, ref=ref)


async def test_falling_back_does_not_ask_the_model(guarded):
    guarded.put(HIGH, fallback=(LastSafe(), NINE))
    await guarded.ask(4.0, unit="a")
    calls = guarded.openings.plans["1.0.0"].calls
    guarded.store.begin_emergency("why", mode="fall_back")
    guarded.follow()
    prediction = await guarded.ask(1.0, 2.0, unit="a")
    assert prediction.outputs["predict"].tolist() == [4.0, 4.0]
    assert (prediction.safety.emergency, prediction.safety.instead) == ("fall_back", "last_safe")
    assert await guarded.given(1.0, 2.0, 3.0) == [9.0] * 3
    assert guarded.openings.plans["1.0.0"].calls == calls
    assert guarded.counters().unsafe == 0


async def test_falling_back_to_another_version(guarded):
    guarded.put(HIGH, fallback=(OtherVersion(version="1.0.1"),))
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    guarded.store.begin_emergency("why", mode="fall_back", model="m")
    guarded.follow()
    assert await guarded.given(10.0, 20.0) == [1.0, 2.0]
    with pytest.raises(EmergencyError):
        await guarded.ask(5000.0)


async def test_without_anything_to_fall_back_to_it_is_refused(guarded):
    guarded.store.begin_emergency("why", mode="fall_back")
    guarded.follow()
    with pytest.raises(EmergencyError, match="everything is in an emergency"):
        await guarded.ask(1.0)


async def test_an_emergency_reaches_a_request_that_is_under_way(guarded):
    model = guarded.openings.plans["1.0.0"]
    model.gate.clear()
    calls = model.calls
    asking = asyncio.create_task(guarded.ask(1.0))
    await soon(lambda: model.calls == calls + 1)
    guarded.store.begin_emergency("why")
    guarded.follow()
    model.gate.set()
    with pytest.raises(EmergencyError):
        await asking


async def test_a_fallback_reaches_a_request_that_is_under_way(guarded):
    guarded.put(HIGH, fallback=(NINE,))
    model = guarded.openings.plans["1.0.0"]
    model.gate.clear()
    calls = model.calls
    asking = asyncio.create_task(guarded.ask(1.0))
    await soon(lambda: model.calls == calls + 1)
    guarded.store.begin_emergency("why", mode="fall_back")
    guarded.follow()
    model.gate.set()
    assert (await asking).outputs["predict"].tolist() == [9.0]


async def test_it_reaches_every_process_and_ends_there(made, registry, database, tmp_path):
    """Two processes on machines of their own: the snapshot is what they share."""
    first, second = made(), made(tmp_path / "elsewhere")
    first.store.begin_emergency("why")
    for process in (first, second):
        await soon(lambda process=process: process.runtime.warden.guards is not None)
        with pytest.raises(EmergencyError):
            await process.ask(1.0)
    second.store.end_emergency("over")
    for process in (first, second):
        await soon(lambda process=process: process.runtime.warden.guards is None)
        assert await process.given(1.0) == [1.0]


async def test_without_a_database_a_file_reaches_every_process_of_the_machine(made, database, tmp_path):
    first, second, elsewhere = made(), made(), made(tmp_path / "elsewhere")
    database.away = True
    latch = Latch(tmp_path)
    latch.put("", "block", "the database is gone", "ann")
    for process in (first, second):
        await soon(lambda process=process: process.runtime.warden.guards is not None)
        with pytest.raises(EmergencyError, match="the database is gone"):
            await process.ask(1.0)
    assert await elsewhere.given(1.0) == [1.0]
    latch.remove("", "it is back", "ann")
    for process in (first, second):
        await soon(lambda process=process: process.runtime.warden.guards is None)
        assert await process.given(1.0) == [1.0]


async def test_a_critical_answer_stops_the_model_in_every_process(made, tmp_path):
    first, second = made(), made(tmp_path / "elsewhere")
    first.put(AWFUL, fallback=(NINE,), latch="block")
    second.follow()
    assert await first.given(5000.0) == [9.0], "this one gets its fallback"
    with pytest.raises(EmergencyError):
        await first.ask(1.0)
    await soon(lambda: second.runtime.warden.guard("m").emergency is not None)
    with pytest.raises(EmergencyError, match=r"a critical answer of 1\.0\.0: awful"):
        await second.ask(1.0)
    (stopped,) = first.store.status().emergencies
    assert (stopped.model, stopped.mode, stopped.started_by) == ("m", "block", "safety")
    first.store.end_emergency("the feed is mended", model="m")
    for process in (first, second):
        await soon(lambda process=process: process.runtime.warden.guard("m").emergency is None)
        assert await process.given(2.0) == [2.0]


async def test_rules_are_known_to_a_process_that_starts_without_the_database(made, database, registry):
    first = made()
    first.put(HIGH, fallback=(NINE,))
    first.store.begin_emergency("why", mode="fall_back")
    first.follow()
    first.runtime.close()
    database.away = True
    second = made(opener=Loaded(first.openings))
    assert await second.given(1.0) == [9.0]
    assert second.runtime.warden.guard("m").spec.checks == (HIGH,)


class Loaded:
    """Opens what another opener has opened, without asking the registry, which is away."""

    def __init__(self, openings):
        self._openings = openings
        self._backend = openings._backend

    def __call__(self, name, wish):
        database = self._backend.database
        database.away = False
        try:
            return self._openings(name, wish)
        finally:
            database.away = True


# --- kept answers ---


async def test_a_kept_answer_is_looked_at_every_time(made):
    guarded = made(cache=CacheSettings(mode="on"))
    model = guarded.openings.plans["1.0.0"]
    assert await guarded.given(50.0) == [50.0]
    calls = model.calls
    guarded.put(HIGH, fallback=(NINE,))
    assert await guarded.given(50.0) == [9.0]
    assert await guarded.given(50.0) == [9.0]
    assert model.calls == calls, "what is kept is what the model said"
    guarded.store.remove_policy("m")
    guarded.follow()
    assert await guarded.given(50.0) == [50.0], "and it was not changed"
    assert model.calls == calls


async def test_a_whole_reply_is_not_remembered_where_there_are_rules(made):
    guarded = made(cache=CacheSettings(mode="on"))
    with await guarded.runtime.predictions.hold(REF) as held:
        assert held.question(DEFAULT_TERMS, b"", b"{}") is not None
    guarded.put(HIGH, fallback=(NINE,))
    with await guarded.runtime.predictions.hold(REF) as held:
        assert held.question(DEFAULT_TERMS, b"", b"{}") is None
    guarded.store.begin_emergency("why")
    guarded.follow()
    with pytest.raises(EmergencyError):
        await guarded.runtime.predictions.hold(REF)


async def test_a_cached_answer_is_not_given_in_an_emergency(made):
    guarded = made(cache=CacheSettings(mode="on"))
    await guarded.ask(1.0)
    guarded.store.begin_emergency("why")
    guarded.follow()
    with pytest.raises(EmergencyError):
        await guarded.ask(1.0)


# --- experiments ---

HALVES = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.0.1"))


async def test_an_exposure_says_what_was_found_and_that_something_else_was_given(made, registry, database):
    from tests.experiments.life import open_store

    exposures = []
    experiments = open_store(registry)
    experiments.create(ExperimentSpec("late", HALVES, model="m"))
    experiments.start("late")
    guarded = made(record=exposures.append)
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    guarded.put(HIGH, ODD, fallback=(NINE,))
    decide = guarded.runtime.follower.snapshot.router.decide
    unit = next(f"u-{n}" for n in range(100) if decide("late", f"u-{n}").variant == "old")
    for number in (2.0, 3.0, 50.0):
        await guarded.ask(number, unit=unit)
    assert [(item.dimensions, item.fallback, item.score) for item in exposures] == [
        ({}, False, 2.0),
        ({"safety": "warning"}, False, 3.0),
        ({"safety": "unsafe"}, True, 9.0),
    ]
    assert [item.error for item in exposures] == [False] * 3


async def test_shadows_are_looked_at_and_change_nothing(made, registry):
    from tests.experiments.life import open_store

    exposures = []
    experiments = open_store(registry)
    variants = (Variant("calm", 1.0, "1.0.1"), Variant("loud", 0.0, "1.0.0"))
    experiments.create(ExperimentSpec("quiet", variants, model="m", shadows=("loud",)))
    experiments.start("quiet")
    guarded = made(record=exposures.append)
    await soon(lambda: guarded.runtime.slots.is_ready("m", "1.0.1"))
    guarded.put(HIGH, ChangeCheck(name="calm", output="predict", maximum=1), fallback=(NINE,))
    assert await guarded.given(50.0, unit="a") == [5.0]
    await soon(lambda: len(exposures) == 1)
    shadows = guarded.runtime.slots.find("m", "1.0.0").shadows
    assert shadows.unsafe == 1
    assert (guarded.counters("1.0.0").unsafe, guarded.counters("1.0.1").unsafe) == (0, 0)
    assert guarded.violations() == {("1.0.0", "high", "shadow"): 1}


# --- what is measured ---


async def test_metrics_tell_violations_and_emergencies(guarded):
    guarded.put(HIGH, ODD, fallback=(NINE,))
    for number in (2.0, 3.0, 51.0):
        await guarded.ask(number)
    text = guarded.runtime.predictions.metrics().decode()
    assert 'crossfade_safety_violations_total{check="high",level="unsafe",model="m",role="answer"} 1.0' in text
    assert 'crossfade_safety_violations_total{check="odd",level="warning",model="m",role="answer"} 2.0' in text
    assert 'crossfade_unsafe_total{model="m",version="1.0.0"} 1.0' in text
    assert "crossfade_emergency{" not in text
    guarded.store.begin_emergency("why")
    guarded.store.begin_emergency("why", model="m")
    guarded.follow()
    text = guarded.runtime.predictions.metrics().decode()
    assert 'crossfade_emergency{model=""} 1.0' in text
    assert 'crossfade_emergency{model="m"} 1.0' in text
