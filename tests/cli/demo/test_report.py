from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from crossfade.cli.demo import report
from crossfade.cli.demo.board import Scorer
from crossfade.solutions.flights.dataset import Flights, load_flights, split_by_time
from crossfade.solutions.flights.replay import questions
from tests.cli.demo.support import an_answer


@pytest.fixture(scope="module")
def split():
    return split_by_time(load_flights())


@pytest.fixture(scope="module")
def replay(split):
    return Flights(split.replay.frame.iloc[:1000])


def ignore(answers):
    pass


def traffic_of(answers, asked=None):
    return SimpleNamespace(answers=answers, failures=[], asked=len(answers) if asked is None else asked)


class Oracle:
    """Gives every flight the same probability."""

    def __init__(self, version, probability):
        self.version = version
        self.probability = probability

    def probabilities(self, inputs):
        return np.full(len(inputs), self.probability)


def test_a_constant_rate_is_that_of_training(split, replay):
    landed = replay.landed()
    quality = report.constant_rate(split.training, landed)
    assert quality.mean_prediction == pytest.approx(split.training.late.mean())
    assert (quality.auc, quality.flights) == (0.5, len(landed))


def test_requests_without_an_answer_are_said():
    answers = [an_answer(due=float(i), seconds=0.008, number=i) for i in range(11)]
    traffic = traffic_of(answers, asked=13)
    lines = list(report.what_happened(traffic, Scorer(traffic, ignore), [("1.1.0", 0.5), ("1.0.0", 0.01)]))
    assert lines == [
        "13 requests, 1 a second, 2 without an answer",
        "p50 8.0 ms, p99 8.0 ms, measured by the caller over everything, swaps included",
        "champion moved to 1.1.0 in 500 ms, to 1.0.0 in 10 ms",
        "answers: 1.0.0 11, 1.1.0 0, 1.1.1 0, 1.2.0 0, 1.3.0 0, 1.3.1 0",
    ]


def test_without_any_answer_the_report_is_still_written():
    traffic = traffic_of([], asked=3)
    assert (
        next(report.what_happened(traffic, Scorer(traffic, ignore), []))
        == "3 requests, 0 a second, 3 without an answer"
    )


def test_versions_are_compared_on_the_same_landed_flights(split, replay):
    asked = questions(replay, 600)
    answers = [
        SimpleNamespace(question=item, version="1.0.0", probability=0.2, due=0.0, seconds=0.01) for item in asked
    ]
    traffic = traffic_of(answers)
    scorer = Scorer(traffic, ignore)
    oracles = [Oracle("1.0.0", 0.2), Oracle("1.1.0", 0.9)]
    lines = list(report.how_good(oracles, split.training, replay, traffic, scorer))
    clock = asked[-1].asked_at
    landed = Flights(replay.frame.iloc[:600]).landed(by=clock)
    assert lines[0].startswith(f"of 600 flights {len(landed)} have landed")
    assert [line.split()[0] for line in lines[2:]] == ["1.0.0", "1.1.0", "always"]
    assert float(lines[2].split()[3]) < float(lines[3].split()[3])
    assert sum(item.landed_at is None for item in asked) == scorer.logbook.never_landing
