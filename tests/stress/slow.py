"""Models that misbehave while they are loaded, but not where they are packed."""

from __future__ import annotations

import os
import time

import numpy as np

import crossfade

PACKING = os.getpid()
"""The process that registers; it packs, loads and checks a version too, and must not suffer."""


class _Constant(crossfade.Model):
    def __init__(self, number: int) -> None:
        self.number = number
        self.packed_in = PACKING

    def predict(self, inputs):
        return np.full(len(inputs), float(self.number))

    def info(self):
        return {}

    def required_inputs(self):
        return ["x"]

    def validate(self, inputs):
        return None


class Slow(_Constant):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            time.sleep(1.5)


class Crashing(_Constant):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.packed_in:
            raise RuntimeError("this version does not load in a server")
