"""The model that the servers of a comparison serve: the seed makes it the same wherever it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

FEATURES = 30


def trained() -> tuple[LogisticRegression, np.ndarray]:
    """The model, and the rows that it learned from."""
    random = np.random.default_rng(7)
    x = random.standard_normal((500, FEATURES))
    return LogisticRegression().fit(x, x[:, 0] + x[:, 1] > 0), x


def question(row: list[float]) -> dict[str, Any]:
    """One row as the body of an Open Inference Protocol request."""
    return {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row}]}
