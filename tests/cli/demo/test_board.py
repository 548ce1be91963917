from __future__ import annotations

from types import SimpleNamespace

import pytest

from crossfade.cli.demo.board import WINDOW_SECONDS, Scorer, latency_ms
from tests.cli.demo.support import NOON, a_board, an_answer


@pytest.fixture
def traffic():
    return SimpleNamespace(answers=[], failures=[], asked=0)


@pytest.fixture
def landed():
    return []


def test_before_the_first_answer(traffic, landed):
    board = Scorer(traffic, landed.append).board()
    assert (board.clock, board.asked, board.errors, board.answering, board.standings) == (None, 0, 0, "", ())
    assert (board.p50_ms, board.p99_ms) == (0.0, 0.0)


def test_counts_and_clock(traffic, landed):
    traffic.answers += [an_answer(number=0), an_answer(number=5)]
    traffic.asked, traffic.failures = 4, ["503"]
    board = Scorer(traffic, landed.append).board()
    assert (board.asked, board.errors) == (4, 1)
    assert (board.clock - NOON).total_seconds() == 300


def test_an_answer_is_read_once_however_often_one_looks(traffic, landed):
    scorer = Scorer(traffic, landed.append)
    traffic.answers.append(an_answer())
    scorer.board()
    traffic.answers.append(an_answer(version="1.1.0", number=1))
    board = scorer.board()
    assert [(item.version, item.answered) for item in board.standings] == [("1.0.0", 1), ("1.1.0", 1)]
    assert board.answering == "1.1.0"


def test_quality_appears_when_flights_have_landed(traffic, landed):
    scorer = Scorer(traffic, landed.append)
    traffic.answers.append(an_answer(number=0))
    assert scorer.board().standing("1.0.0").quality is None
    traffic.answers.append(an_answer(number=95))  # 95 minutes later, the first one has landed
    quality = scorer.board().standing("1.0.0").quality
    assert quality.flights == 1
    assert scorer.logbook.in_the_air == 1


def test_whoever_wants_to_know_is_told_once_about_every_landing(traffic, landed):
    scorer = Scorer(traffic, landed.extend)
    traffic.answers += [an_answer(number=0), an_answer(number=1)]
    scorer.board()
    assert landed == []
    traffic.answers.append(an_answer(number=95))
    scorer.board()
    scorer.board()
    assert landed == traffic.answers[:2]


def test_latency_is_that_of_the_latest_requests(traffic, landed):
    traffic.answers += [an_answer(due=0.0, seconds=9.0)] * 50
    traffic.answers += [an_answer(due=WINDOW_SECONDS + 1, seconds=0.004)] * 50
    board = Scorer(traffic, landed.append).board()
    assert (board.p50_ms, board.p99_ms) == (pytest.approx(4.0), pytest.approx(4.0))


def test_percentiles():
    answers = [an_answer(seconds=i / 1000) for i in range(1, 102)]
    assert latency_ms(answers, (50, 99)) == (pytest.approx(51.0), pytest.approx(100.0))
    assert latency_ms([], (50, 99)) == (0.0, 0.0)


def test_a_version_that_answered_nothing_stands_at_nothing():
    standing = a_board().standing("1.1.1")
    assert (standing.version, standing.answered, standing.quality) == ("1.1.1", 0, None)
