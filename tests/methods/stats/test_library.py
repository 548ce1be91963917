"""The family as a library: its examples run, it imports scipy only when it must, and says so when it is not there."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import msgspec
import pytest

import crossfade.methods.stats
from crossfade.errors import MissingExtraError
from crossfade.methods.stats import distributions
from crossfade.methods.stats.bayesian import posterior
from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.error_rate import ErrorRate
from crossfade.methods.stats.planning import PowerPlan, plan
from crossfade.methods.stats.power import Population
from crossfade.methods.stats.sample_ratio import SampleRatio
from crossfade.methods.stats.values import Contrast, Effect, Estimate, NotEstimable
from crossfade.methods.stats.welch import welch
from crossfade.methods.stats.winsorize import Caps

MODULES = [
    "crossfade.methods.stats",
    *(f"crossfade.methods.stats.{module.name}" for module in pkgutil.iter_modules(crossfade.methods.stats.__path__)),
]
ARMS = Estimate.plain(1.0, 0.01, 100), Estimate.plain(1.2, 0.01, 100)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_nothing_is_imported_before_it_is_used():
    code = "; ".join(f"import {name}" for name in MODULES) + "; import sys; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_only_special_functions_are_imported():
    code = (
        "from tests.methods.stats.test_library import ARMS, contrast, welch; import sys\n"
        "for name in list(sys.modules):\n    sys.modules.pop(name) if name.startswith('scipy.stats') else None\n"
        "welch(contrast(*ARMS)); print('scipy.special' in sys.modules, 'scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True False"


def test_without_scipy_it_says_what_to_install(monkeypatch):
    distributions.special.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError) as caught:
        welch(contrast(*ARMS))
    assert "crossfade[experiments]" in caught.value.hint
    monkeypatch.undo()
    assert isinstance(welch(contrast(*ARMS)), Effect)


@pytest.mark.parametrize(
    "value",
    [
        welch(contrast(*ARMS)),
        welch(contrast(*ARMS, "log"), alternative="less"),
        posterior(contrast(*ARMS)),
        Caps(upper=3.0),
        plan(PowerPlan(Population(0.1, kind="proportion"), effect=0.01)),
        contrast(*ARMS),
        ARMS[0],
        NotEstimable("why"),
        ErrorRate.worse().observe(canary=10, baseline=10, bad_canary=1, bad_baseline=0),
        SampleRatio.start((0.5, 0.5)).observe((10, 12)),
        SampleRatio.start((1.0, 0.0)).observe((10, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_and_states_survive_json(value):
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_what_is_not_estimable_is_told_apart_in_json():
    kinds = Effect | NotEstimable | Contrast
    for value in (welch(contrast(*ARMS)), NotEstimable("why"), contrast(*ARMS)):
        assert msgspec.json.decode(msgspec.json.encode(value), type=kinds) == value
