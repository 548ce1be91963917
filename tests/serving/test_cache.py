"""The response cache: never another question's answer, and each question computed once."""

import asyncio
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.identity import ModelRef
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import DeadlineExceededError, PredictionError
from crossfade.serving.cache import ResponseCache, cache_status
from crossfade.serving.counters import CacheResult
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.shared_answers import SharedAnswers
from crossfade.settings import CacheSettings, Settings
from crossfade.storage.cache.memory import MemoryCache
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from tests.serving.fakes import Constant, ready_slot
from tests.serving.test_shared_answers import FragileCache
from tests.storage.support import FakeTime
from tests.traffic.support import FAST, Clock, move, publish_all, soon

SECRET = b"s" * 32
ON = CacheSettings(mode="on", ttl_seconds=60.0, max_bytes=2**20)
PREDICT = frozenset({"predict"})
ECHO = Signature(
    (TensorSpec("text", "BYTES", (-1,)), TensorSpec("x", "FP64", (-1,))),
    (TensorSpec("who", "BYTES", (-1,)), TensorSpec("x", "FP64", (-1,))),
)


def x(*values):
    return {"x": np.array(values, dtype=float)}


class Doubling(Constant):
    """Answers twice its input; fails at 13."""

    def __call__(self, tensors, wanted):
        super().__call__(tensors, wanted)
        if (tensors["x"] == 13.0).any():
            raise PredictionError(ref="m:1.0.0", problem="unlucky")
        return {"predict": 2.0 * tensors["x"]}


def wishes(*slots, generations=()):
    """A snapshot that wishes for these versions."""
    names = {slot.name for slot in slots}
    return Snapshot(
        1,
        {
            name: Route(
                name,
                aspired=tuple(
                    Aspired(slot.version, slot.digest, 1, Role.ACTIVE) for slot in slots if slot.name == name
                ),
                generations=dict(generations),
            )
            for name in names
        },
    )


class Setup:
    """A cache over a version, with clocks that stand still."""

    def __init__(self, settings=ON, shared_in=None, model=None, slot=None, **options):
        self.time = FakeTime()
        self.clock = Clock()
        self.model = model or Doubling(0)
        self.slot = slot or ready_slot(model=self.model, **options)
        memory = MemoryCache(settings.max_bytes, settings.max_value_bytes, monotonic=self.time)
        shared = None
        if shared_in is not None:
            shared = SharedAnswers(shared_in, SECRET, settings.ttl_seconds, clock=self.clock, monotonic=self.time)
        self.cache = ResponseCache(settings, memory, shared, SECRET)
        self.snapshot = wishes(self.slot)

    async def ask(self, tensors, wanted=PREDICT, slot=None, seconds=math.inf):
        slot = slot or self.slot
        answers = self.cache.of(slot, self.snapshot)
        return await answers.predict(slot, slot.signature.check(tensors), wanted, time.monotonic() + seconds)

    @property
    def counted(self):
        return {result.value: count for result, count in self.slot.counters.cached.items() if count}


async def stopped(setup):
    """Make the model wait on its thread until its gate opens."""
    setup.slot.batcher.inline = False
    setup.model.gate.clear()


# --- answers ---


async def test_the_second_time_the_model_is_not_asked():
    setup = Setup()
    first = await setup.ask(x(1, 2))
    second = await setup.ask(x(1, 2))
    assert first["predict"].tolist() == second["predict"].tolist() == [2.0, 4.0]
    assert setup.model.calls == 1
    assert setup.counted == {"computed": 1, "memory": 1}


async def test_every_other_question_is_computed():
    setup = Setup()
    for values in ([1], [1, 2], [2, 1], [1, 1], [1, 2, 3]):
        assert (await setup.ask(x(*values)))["predict"].tolist() == [2.0 * value for value in values]
    assert setup.model.calls == 5


async def test_a_kept_answer_ends_with_its_time():
    setup = Setup()
    await setup.ask(x(1))
    setup.time.now += ON.ttl_seconds - 0.1
    await setup.ask(x(1))
    assert setup.model.calls == 1
    setup.time.now += 0.1
    await setup.ask(x(1))
    assert setup.model.calls == 2, "reading does not prolong it"


async def test_a_kept_answer_cannot_be_changed_by_who_got_it():
    setup = Setup()
    await setup.ask(x(1))
    with pytest.raises(ValueError, match="read-only"):
        (await setup.ask(x(1)))["predict"][0] = 99.0


async def test_what_a_model_reuses_for_its_next_answer_is_not_what_was_kept():
    class Reusing(Constant):
        buffer = np.zeros(1)

        def __call__(self, tensors, wanted):
            self.buffer[0] = tensors["x"][0]
            return {"predict": self.buffer}

    setup = Setup(model=Reusing(0))
    await setup.ask(x(1))
    await setup.ask(x(2))
    assert (await setup.ask(x(1)))["predict"].tolist() == [1.0]


async def test_errors_are_not_kept():
    setup = Setup()
    for _ in range(2):
        with pytest.raises(PredictionError):
            await setup.ask(x(13))
    assert setup.model.calls == 2
    assert setup.cache._flights == {}


async def test_large_answers_are_not_kept():
    setup = Setup()
    rows = np.zeros(ON.max_value_bytes // 8 + 1)
    for _ in range(2):
        await setup.ask({"x": rows})
    assert (setup.model.calls, setup.cache.unkept, setup.cache.memory.usage().entries) == (2, 2, 0)


async def test_only_named_models_are_kept():
    settings = CacheSettings(mode="models", models=("other",))
    setup = Setup(settings)
    assert setup.cache.of(setup.slot, setup.snapshot) is None
    named = Setup(settings, name="other")
    assert named.cache.of(named.slot, named.snapshot) is not None


# --- never another's ---


def echo_slot(name, version, digest):
    def answer(tensors, wanted):
        who = np.empty(len(tensors["x"]), dtype=object)
        who[:] = [f"{name}:{version} {digest} {text}" for text in tensors["text"]]
        return {key: value for key, value in (("who", who), ("x", tensors["x"])) if key in wanted}

    return ready_slot(name, version, answer, digest, ECHO)


SLOTS = [
    echo_slot("m", "1.0.0", "d1"),
    echo_slot("m", "1.0.1", "d2"),
    echo_slot("m", "1.0.10", "d3"),
    echo_slot("n", "1.0.0", "d4"),
    echo_slot("m", "1.0.0", "d5"),  # registered anew
]
PIECES = st.sampled_from(["", "a", "b", "ab", "aa", "a\x00", "\x00", "t", "n", "\x01\x00\x00\x00\x00\x00\x00\x00"])
QUESTIONS = st.tuples(
    st.integers(0, len(SLOTS) - 1),
    st.lists(st.tuples(PIECES, st.sampled_from([0.0, -0.0, 1.0, 256.0])), min_size=1, max_size=3),
    st.sampled_from([frozenset({"who"}), frozenset({"x"}), frozenset({"who", "x"})]),
)


@pytest.mark.parametrize("level", ["memory", "shared"])
@given(st.lists(QUESTIONS, min_size=2, max_size=12))
async def test_nobody_ever_gets_the_answer_of_another_version_model_or_input(level, questions):
    both = FragileCache() if level == "shared" else None
    setups = [Setup(shared_in=both, slot=SLOTS[0]) for _ in range(2)]
    for setup in setups:
        setup.snapshot = wishes(*SLOTS)
    for setup in setups:  # two processes: the second finds what the first has kept
        for number, rows, wanted in questions:
            slot = SLOTS[number]
            array = np.empty(len(rows), dtype=object)
            array[:] = [text for text, _ in rows]
            inputs = {"text": array, "x": np.array([value for _, value in rows])}
            got = await setup.ask(inputs, wanted, slot)
            right = await slot.predict(slot.signature.check(inputs), wanted)
            assert set(got) == wanted
            for name in wanted:
                assert got[name].tolist() == right[name].tolist()
        if both is not None:
            await asyncio.gather(*setup.cache.shared._writing)


# --- asked at the same moment ---


async def test_equal_questions_are_computed_once():
    setup = Setup()
    await stopped(setup)
    asking = [asyncio.create_task(setup.ask(x(1))) for _ in range(50)]
    other = asyncio.create_task(setup.ask(x(2)))
    await soon(lambda: setup.model.calls)
    setup.model.gate.set()
    answers = await asyncio.gather(*asking)
    assert all(answer["predict"].tolist() == [2.0] for answer in answers)
    assert (await other)["predict"].tolist() == [4.0]
    assert setup.counted == {"computed": 2, "joined": 49}
    assert setup.slot.counters.batch_rows.total == 2
    assert setup.cache._flights == {}


async def test_everybody_who_waited_hears_of_the_failure_and_the_next_one_tries_again():
    setup = Setup()
    await stopped(setup)
    asking = [asyncio.create_task(setup.ask(x(13))) for _ in range(5)]
    await soon(lambda: setup.model.calls)
    setup.model.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, PredictionError) for outcome in outcomes)
    with pytest.raises(PredictionError):
        await setup.ask(x(13))
    assert setup.model.calls == 2


@pytest.mark.parametrize("leaving", [[0], [1, 2], [0, 1, 2, 3], [4]])
async def test_who_leaves_takes_no_answer_from_the_others(leaving):
    setup = Setup()
    await stopped(setup)
    asking = [asyncio.create_task(setup.ask(x(1))) for _ in range(5)]
    await soon(lambda: setup.model.calls)
    for number in leaving:
        asking[number].cancel()
    await asyncio.sleep(0.01)
    setup.model.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        if number in leaving:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome["predict"].tolist() == [2.0]
    assert setup.model.calls == 1
    assert setup.cache._flights == {}


async def test_who_joins_is_told_at_its_own_deadline():
    setup = Setup()
    await stopped(setup)
    patient = asyncio.create_task(setup.ask(x(1), seconds=30))
    await soon(lambda: setup.model.calls)
    with pytest.raises(DeadlineExceededError):
        await setup.ask(x(1), seconds=0.05)
    setup.model.gate.set()
    assert (await patient)["predict"].tolist() == [2.0]
    assert setup.model.calls == 1
    assert setup.cache._flights == {}


async def test_who_joins_one_with_less_time_is_answered_all_the_same():
    setup = Setup()
    await stopped(setup)
    hasty = asyncio.create_task(setup.ask(x(1), seconds=0.1))
    await soon(lambda: setup.model.calls)
    patient = [asyncio.create_task(setup.ask(x(1), seconds=30)) for _ in range(3)]
    with pytest.raises(DeadlineExceededError):
        await hasty
    setup.model.gate.set()
    answers = await asyncio.gather(*patient)
    assert [answer["predict"].tolist() for answer in answers] == [[2.0]] * 3
    assert setup.model.calls == 2
    assert setup.cache._flights == {}


async def test_when_all_have_left_nothing_goes_on_and_the_next_one_starts_anew():
    setup = Setup()
    await stopped(setup)
    asking = [asyncio.create_task(setup.ask(x(1))) for _ in range(3)]
    await soon(lambda: setup.model.calls)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert setup.cache._flights == {}
    again = asyncio.create_task(setup.ask(x(1)))
    await asyncio.sleep(0)
    setup.model.gate.set()
    assert (await again)["predict"].tolist() == [2.0]
    assert setup.model.calls == 2


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
async def test_whatever_comes_and_goes_those_who_stay_get_their_answer(steps):
    setup = Setup()
    asking = []
    for value, leaves, pause in steps:
        task = asyncio.create_task(setup.ask(x(value)))
        asking.append((value, leaves, task))
        for _ in range(pause):
            await asyncio.sleep(0)
        if leaves:
            task.cancel()
    for value, leaves, task in asking:
        try:
            assert (await task)["predict"].tolist() == [2.0 * value]
        except asyncio.CancelledError:
            assert leaves
    assert setup.cache._flights == {}


# --- generations ---


async def test_an_invalidated_version_is_computed_anew_and_its_answers_are_dropped():
    setup = Setup()
    await setup.ask(x(1))
    setup.snapshot = wishes(setup.slot, generations={"1.0.0": 7})
    assert (await setup.ask(x(1)))["predict"].tolist() == [2.0]
    assert setup.model.calls == 2
    await setup.cache.close()
    assert setup.cache.memory.usage().entries == 1


@pytest.mark.parametrize("generations", [{"": 7}, {"": 7, "1.0.0": 3}, {"": 3, "1.0.0": 7}])
async def test_the_newest_invalidation_counts_of_model_or_version(generations):
    setup = Setup()
    setup.snapshot = wishes(setup.slot, generations={"1.0.0": 3})
    await setup.ask(x(1))
    setup.snapshot = wishes(setup.slot, generations=generations)
    await setup.ask(x(1))
    await setup.ask(x(1))
    assert setup.model.calls == 2


async def test_other_versions_keep_their_answers():
    setup = Setup()
    other = ready_slot("m", "1.0.10", Constant(10), "other digest")
    setup.snapshot = wishes(setup.slot, other)
    for slot in (setup.slot, other):
        await setup.ask(x(1), slot=slot)
    setup.snapshot = wishes(setup.slot, other, generations={"1.0.1": 7, "1.0.0": 8})
    assert (await setup.ask(x(1), slot=other))["predict"].tolist() == [10.0]
    assert other.counters.cached[CacheResult.MEMORY] == 1


async def test_what_was_being_computed_when_it_was_invalidated_is_not_given_afterwards():
    setup = Setup()
    await stopped(setup)
    early = asyncio.create_task(setup.ask(x(1)))
    await soon(lambda: setup.model.calls)
    setup.snapshot = wishes(setup.slot, generations={"": 7})
    late = asyncio.create_task(setup.ask(x(1)))
    await asyncio.sleep(0.01)
    setup.model.gate.set()
    await asyncio.gather(early, late)
    assert setup.counted == {"computed": 2}, "the late one did not join the early one"


async def test_a_version_that_is_no_longer_wished_for_makes_room():
    setup = Setup()
    await setup.ask(x(1))
    other = ready_slot("n", "1.0.0", Constant(1), "other digest")
    setup.snapshot = wishes(other)
    await setup.ask(x(1), slot=other)
    await setup.cache.close()
    assert setup.cache.memory.usage().entries == 1


# --- two processes ---


async def test_what_one_process_computed_another_finds():
    both = FragileCache()
    one, two = Setup(shared_in=both), Setup(shared_in=both)
    await one.ask(x(1))
    await asyncio.gather(*one.cache.shared._writing)
    for _ in range(2):
        assert (await two.ask(x(1)))["predict"].tolist() == [2.0]
    assert two.model.calls == 0
    assert two.counted == {"shared": 1, "memory": 1}, "the second time it is in its own memory"


async def test_a_hit_in_memory_asks_nobody_else():
    both = FragileCache()
    setup = Setup(shared_in=both)
    await setup.ask(x(1))
    await asyncio.gather(*setup.cache.shared._writing)
    before = both.calls
    await setup.ask(x(1))
    assert both.calls == before


async def test_an_answer_does_not_live_longer_by_coming_from_the_other_level():
    both = FragileCache()
    one, two = Setup(shared_in=both), Setup(shared_in=both)
    await one.ask(x(1))
    await asyncio.gather(*one.cache.shared._writing)
    two.clock.advance(50.0)
    await two.ask(x(1))
    two.time.now += 10.0
    two.clock.advance(10.0)
    await two.ask(x(1))
    assert two.counted == {"shared": 1, "computed": 1}


async def test_an_invalidation_deletes_there_too():
    both = FragileCache()
    setup = Setup(shared_in=both)
    await setup.ask(x(1))
    await asyncio.gather(*setup.cache.shared._writing)
    assert both.usage().entries == 1
    setup.snapshot = wishes(setup.slot, generations={"": 7})
    setup.cache.of(setup.slot, setup.snapshot)
    await setup.cache.close()
    assert both.usage().entries == 0
    assert both.closed


async def test_a_damaged_answer_is_computed_again():
    both = FragileCache()
    one, two = Setup(shared_in=both), Setup(shared_in=both)
    await one.ask(x(1))
    await asyncio.gather(*one.cache.shared._writing)
    (key,) = both._entries
    await both.set(key, b"\x80\x04\x95." + bytes(60), 60.0)
    assert (await two.ask(x(1)))["predict"].tolist() == [2.0]
    assert (two.model.calls, two.cache.shared.problems["damaged"]) == (1, 1)


async def test_a_sealed_answer_of_another_release_is_computed_again():
    both = FragileCache()
    one, two = Setup(shared_in=both), Setup(shared_in=both)
    await one.ask(x(1))
    await asyncio.gather(*one.cache.shared._writing)
    (key,) = both._entries
    one.cache.shared.keep(key, b"a frame of the future")
    await asyncio.gather(*one.cache.shared._writing)
    assert (await two.ask(x(1)))["predict"].tolist() == [2.0]
    assert two.counted == {"computed": 1}


async def test_a_cancelled_wait_for_the_other_level_asks_no_model():
    both = FragileCache()
    both.gate.clear()
    setup = Setup(shared_in=both)
    asking = asyncio.create_task(setup.ask(x(1)))
    await soon(lambda: both.calls)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    both.gate.set()
    await asyncio.sleep(0.01)
    assert setup.model.calls == 0


async def test_a_process_that_started_without_its_database_shares_as_soon_as_it_is_back(
    registry, database, openings, tmp_path, redis_url, caplog
):
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    cache = CacheSettings(mode="on", redis_url=redis_url)
    settings = Settings(home=tmp_path, serving=FAST, cache=cache)

    async def ask(runtime):
        with await runtime.predictions.hold(ModelRef.parse("m")) as held:
            await held.predict({"x": np.array([1.0])})
        shared = runtime._cache.shared
        if shared is not None:
            await asyncio.gather(*shared._writing)

    first = ServingRuntime(registry.backend, database, settings, openings)
    first.start()
    await soon(lambda: not first.predictions.unready())
    await ask(first)
    database.away = True
    second = ServingRuntime(registry.backend, database, settings, openings)
    second.start()
    assert "not shared until the database is back" in caplog.text
    assert "was away at the start" in second.warnings()[0]
    database.away = False
    await soon(lambda: not (second.predictions.unready() or second.follower.away))
    await ask(second)
    assert second.cache_status().lookups["shared"] == 1, "it reads what the first one kept"
    assert second.warnings() == []
    for runtime in (first, second):
        await runtime.predictions.close()
        await asyncio.to_thread(runtime.close)


# --- what is told ---


async def test_the_status_adds_up():
    both = FragileCache()
    setup = Setup(shared_in=both)
    for value in (1, 1, 2):
        await setup.ask(x(value))
    status = cache_status(ON, setup.cache, [setup.slot])
    assert status.lookups == {"memory": 1, "shared": 0, "joined": 0, "computed": 2}
    assert status.entries == 2
    assert status.size_bytes == setup.cache.memory.usage().size_bytes > 0
    assert status.breakers == {"read": "closed", "write": "closed"}
    assert status.problems["read"] == 0
    assert cache_status(CacheSettings(), None, []).lookups == {"memory": 0, "shared": 0, "joined": 0, "computed": 0}
