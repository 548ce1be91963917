"""Under constant load, versions come and go, some of them broken, and no request notices.

Every answer tells by which version it was given, and for which row; see `tests.stress.open_loop`.
"""

import asyncio
import itertools
import time

import numpy as np
import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import CorruptBlobError, NotReadyError
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.versions import Manifest
from crossfade.serving.loader import Loader
from crossfade.serving.measurements import Measurements
from crossfade.serving.opening import OpenedVersion
from crossfade.serving.prediction import PredictionService
from crossfade.serving.slots import SlotTable, State
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from crossfade.traffic.switch import AliasSwitch
from tests.serving.fakes import SIGNATURE, Constant, number_of
from tests.stress.open_loop import OpenLoop, answer_of
from tests.traffic.support import FAST, publish_all, soon

MODEL = "m"
REF = ModelRef.parse(MODEL)
BREAKAGES = ("corrupt", "golden", "crash", "slow")


class Numbered(Constant):
    """Answers as `open_loop` wants it."""

    def __init__(self, version):
        super().__init__(number_of(version))
        self.version = version

    def __call__(self, tensors, wanted):
        return {"predict": np.array([answer_of(self.version, row) for row in tensors["x"]])}


def load_on(services, rate):
    """Ask these services in turn; tells also which versions answered in another's stead."""
    turn, fallbacks = itertools.cycle(services), []

    async def ask(rows):
        with await next(turn).hold(REF) as held:
            prediction = await held.predict({"x": np.array(rows)})
        if prediction.fallback:
            fallbacks.append(prediction.version)
        return prediction.version, prediction.outputs["predict"].tolist()

    return OpenLoop(ask, rate), fallbacks


def breakage_of(number):
    """Every tenth version is broken, each time in another way."""
    return BREAKAGES[number // 10 % 4] if number and number % 10 == 0 else ""


def open_version(name, wish):
    version = wish.version
    number = int(number_of(version))
    breakage = breakage_of(number)
    if breakage == "corrupt":
        raise CorruptBlobError(digest="0" * 64, path="model.bin", ref=f"{name}:{version}", damage="damaged")
    if breakage == "crash":
        raise RuntimeError("it crashes while it is loaded")
    if breakage == "slow":
        time.sleep(0.05)
    wanted = -1.0 if breakage == "golden" else answer_of(version, 0.0)
    golden = GoldenRequests({"x": np.zeros(1)}, {"predict": np.array([wanted])})
    manifest = Manifest(name, version, "fake", (), SIGNATURE)
    return OpenedVersion(manifest, Numbered(version), golden)


class DirectRoutes:
    """Moves the alias without asking anybody, so that broken versions do become champion."""

    def __init__(self, settings):
        self.snapshot = Snapshot()
        self.age_seconds = 0.0
        self.slots = SlotTable()
        self.loader = Loader(self.slots, open_version, settings)
        self.service = PredictionService(
            self, self.slots, Measurements(self.slots, self, self.loader), None, None, settings
        )

    def point(self, number, former):
        digests = {n: Manifest(MODEL, f"1.0.{n}", "fake", (), SIGNATURE).digest for n in (number, former)}
        aspired = tuple(Aspired(f"1.0.{n}", digests[n], 1, Role.ACTIVE if n == number else Role.WARM) for n in digests)
        route = Route(MODEL, f"1.0.{number}", {"champion": f"1.0.{number}"}, aspired, {"champion": (f"1.0.{former}",)})
        self.snapshot = Snapshot(self.snapshot.revision + 1, {MODEL: route})
        self.loader.aspire(self.snapshot)

    async def settled(self, number):
        def state():
            slot = self.slots.find(MODEL, f"1.0.{number}")
            return None if slot is None else slot.state

        await soon(lambda: state() in {State.READY, State.FAILED})
        return state()


@pytest.mark.parametrize("inline", [True, False], ids=["on the loop", "on threads"])
async def test_two_hundred_swaps_twenty_of_them_broken(inline):
    routes = DirectRoutes(FAST.model_copy(update={"inline_below_seconds": 10 if inline else 1e-9}))
    routes.loader.start()
    routes.point(0, 0)
    assert await routes.settled(0) is State.READY
    load, fallbacks = load_on([routes.service], rate=500)
    running = asyncio.create_task(load.run())
    former, failed = 0, 0
    for number in range(1, 201):
        routes.point(number, former)
        await asyncio.sleep(0.005)
        if await routes.settled(number) is State.READY:
            former = number
        else:
            failed += 1
            await asyncio.sleep(0.01)
    load.ending = True
    await running
    await asyncio.to_thread(routes.loader.close)
    assert load.seen.failed == []
    assert load.seen.mixed == []
    assert failed == 15, "corrupt bytes, wrong golden answers and crashes; slow is slow, not broken"
    assert fallbacks
    assert len(load.seen.versions) > 50
    assert all(slot.leases == 0 for slot in routes.slots.all().values())


async def test_swaps_through_the_switch_with_two_processes(registry, start, openings):
    switch = AliasSwitch(registry, Fleet(registry.backend.database, FAST), FAST)
    openings.plans["1.0.0"] = lambda: Numbered("1.0.0")
    publish_all(registry, MODEL, "1.0.0")
    switch.move(MODEL, "champion", "1.0.0")
    runtimes = [start(), start()]
    for runtime in runtimes:
        await asyncio.to_thread(runtime.await_ready, 10)
    load, fallbacks = load_on([runtime.predictions for runtime in runtimes], rate=200)
    running = asyncio.create_task(load.run())
    refused = 0
    for number in range(1, 17):
        version = f"1.0.{number}"
        openings.plans[version] = lambda version=version: Numbered(version)
        if number == 4:
            openings.golden[version] = -1.0
        elif number == 8:
            openings.plans[version] = RuntimeError("it crashes while it is loaded")
        elif number == 12:
            openings.plans[version] = CorruptBlobError(digest="0", path="p", ref=version, damage="damaged")
        publish_all(registry, MODEL, version)
        try:
            await asyncio.to_thread(switch.move, MODEL, "champion", version)
        except NotReadyError:
            refused += 1
    await asyncio.to_thread(switch.rollback, MODEL)
    load.ending = True
    await running
    assert (load.seen.failed, load.seen.mixed, fallbacks) == ([], [], [])
    assert refused == 3
    assert not {"1.0.4", "1.0.8", "1.0.12"} & set(load.seen.versions)
