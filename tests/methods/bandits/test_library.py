"""The family as a library: its examples run, and importing it costs no scipy."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import crossfade.methods.bandits
import crossfade.methods.off_policy

MODULES = [
    f"{package.__name__}.{module.name}" if module else package.__name__
    for package in (crossfade.methods.bandits, crossfade.methods.off_policy)
    for module in (None, *pkgutil.iter_modules(package.__path__))
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_nothing_is_imported_before_it_is_used():
    code = "; ".join(f"import {name}" for name in MODULES) + "; import sys; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_contextual_policies_other_than_lin_ts_need_no_scipy():
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "from tests.methods.bandits.support import LinUCB, SquareCB, UCB1, learned, as_context, contexts\n"
        "for kind in (LinUCB, SquareCB): learned(kind).scorer()(as_context(contexts(1)[0]))\n"
        "print(len(learned(UCB1).weights()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "3"
