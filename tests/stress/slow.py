"""Models that misbehave while a server loads them, but not where they are packed."""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np

import crossfade
from tests.stress.open_loop import answer_of


class _Numbered(crossfade.Model):
    def __init__(self, number: int) -> None:
        self.number = number
        self.packed_in = os.getpid()  # packing loads the version too, and must not suffer

    def predict(self, inputs):
        return np.array([answer_of(f"1.0.{self.number}", row) for row in inputs["x"][:, 0]])

    def required_inputs(self):
        return (crossfade.TensorSpec("x", "FP64", (-1, 2)),)


SLOW_SECONDS = 1.5


class Slow(_Numbered):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            time.sleep(SLOW_SECONDS)


class Crashing(_Numbered):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            raise RuntimeError("this version does not load in a server")


class Hanging(_Numbered):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            time.sleep(600)


class Seizing(_Numbered):
    """Hangs, and lets no other Python code run meanwhile."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            ctypes.PyDLL(None).sleep(600)
