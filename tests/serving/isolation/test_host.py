"""A model in a process of its own answers as it would here, and whatever it does, an error is all that comes of it."""

import gc
import os
import time

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from crossfade.errors import LoadFailedError, ModelCrashedError, NotServedError, PredictionError
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD

WANTED = frozenset({"predict"})
FINE = {"x": np.array([1.0, 2.0])}
POISON = {"x": np.array([1.0, BAD])}


def doubled(host, tensors=FINE):
    return host.pipeline().predict(tensors, WANTED)["predict"].tolist()


def test_it_answers(isolated):
    assert doubled(isolated(poison.Harmless())) == [2.0, 4.0]


def test_an_exception_is_a_failed_prediction_and_the_process_goes_on(isolated):
    host = isolated(poison.Harmless())
    pid = host.pid
    with pytest.raises(PredictionError, match="does not like this row"):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
    assert host.pid == pid


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (poison.Segfault(), "SIGSEGV"),
        (poison.Abort(), "SIGABRT"),
        (poison.Exit(), "status 3"),
        (poison.Loop(), "within 1 seconds"),
        (poison.DeadlockedThread(), "within 1 seconds"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_its_process_is_one_failed_request(isolated, model, problem):
    host = isolated(model, hang_seconds=1.0)
    with pytest.raises(ModelCrashedError, match=problem):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
    assert sum(host.restarts.values()) == 1


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (poison.PoliteExit(), "tried to exit"),
        (poison.ForkBomb(), "Operation not permitted"),
        (poison.ThreadBomb(), "can't start new thread|MemoryError"),
        (poison.MemoryBomb(), "MemoryError"),
        (poison.FileLeak(), "Too many open files"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_is_refused_is_an_exception_in_it(isolated, model, problem):
    host = isolated(model)
    with pytest.raises((PredictionError, ModelCrashedError), match=problem):
        doubled(host, POISON)
    assert doubled(host) == [2.0, 4.0]
