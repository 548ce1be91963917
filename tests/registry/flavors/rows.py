"""Data that the tests of flavors share."""

import numpy as np
import pandas as pd

RNG = np.random.default_rng(20130101)
X = RNG.normal(size=(120, 4))
BINARY = (X[:, 0] + X[:, 1] > 0).astype(np.int64)
TEXT = np.array(["early", "late", "on time"], dtype=object)[RNG.integers(0, 3, 120)]
THREE = RNG.integers(0, 3, 120)
NUMBER = X @ np.array([1.0, -2.0, 0.5, 0.0])
TWO_NUMBERS = np.stack((NUMBER, -NUMBER), axis=1)
FRAME = pd.DataFrame(X, columns=list("abcd"))
MIXED = FRAME.assign(carrier=RNG.choice(["AA", "UA", "DL"], 120), hour=RNG.integers(0, 24, 120))
EIGHT = {"x": X[:8]}
