"""Models that misbehave while a server loads them, but not where they are packed."""

from __future__ import annotations

import os
import time

import numpy as np

import crossfade


class _Constant(crossfade.Model):
    def __init__(self, number: int) -> None:
        self.number = number
        self.packed_in = os.getpid()  # packing loads the version too, and must not suffer

    def predict(self, inputs):
        return np.full(len(inputs["x"]), float(self.number))

    def required_inputs(self):
        return (crossfade.TensorSpec("x", "FP64", (-1, 2)),)


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
