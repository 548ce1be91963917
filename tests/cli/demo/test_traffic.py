from __future__ import annotations

import itertools
import socket
import time

import pytest

from crossfade.cli.demo import traffic as traffic_module
from crossfade.cli.demo.traffic import Decided, Traffic
from tests.cli.demo.support import an_answer, fake_server, good, some_questions


def finish(traffic, seconds=15.0):
    """Let all questions be asked and answered, then leave."""
    until = time.monotonic() + seconds
    with traffic:
        while traffic._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
    return traffic


def test_every_question_is_asked_once_and_answered():
    asked = some_questions(40)
    with fake_server() as (server, url):
        traffic = finish(Traffic(url, asked, 400))
    assert (traffic.asked, len(traffic.answers), traffic.failures, traffic.unanswered) == (40, 40, [], 0)
    assert sorted(body["rows"][0]["hour"] for body in server.bodies) == sorted(item.row["hour"] for item in asked)
    assert all(body["probabilities"] is True for body in server.bodies)


def test_an_answer_says_who_gave_it_and_how_probable_a_delay_is():
    with fake_server(lambda: good("1.1.0")) as (_, url):
        (answer,) = finish(Traffic(url, some_questions(1), 100)).answers
    assert (answer.version, answer.probability) == ("1.1.0", 0.25)
    assert answer.seconds > 0


def test_a_request_says_which_flight_it_is_about_and_from_where():
    with fake_server() as (server, url):
        finish(Traffic(url, some_questions(1), 100))
    assert server.bodies[0]["unit_id"] == "2013-12-01 UA0 JFK"
    assert server.bodies[0]["context"] == {"origin": "JFK"}


def test_an_answer_says_what_an_experiment_decided():
    decided = {"name": "late", "variant": "new", "reason": "split", "why": "by lot", "decision_id": "d1"}
    with fake_server(lambda: good(experiment=decided)) as (_, url):
        (answer,) = finish(Traffic(url, some_questions(1), 100)).answers
    assert answer.decided == Decided("late", "new", "d1")
    del decided["decision_id"]  # of a rollout that nobody reads the exposures of
    with fake_server(lambda: good(experiment=decided)) as (_, url):
        (answer,) = finish(Traffic(url, some_questions(1), 100)).answers
    assert answer.decided == Decided("late", "new")
    with fake_server() as (_, url):
        (answer,) = finish(Traffic(url, some_questions(1), 100)).answers
    assert answer.decided is None


def test_the_probability_is_found_by_the_label_not_by_position():
    document = {"version": "1.0.0", "classes": [1, 0], "probabilities": [[0.9, 0.1]]}
    with fake_server(lambda: (200, document)) as (_, url):
        assert finish(Traffic(url, some_questions(1), 100)).answers[0].probability == 0.9


def test_the_loop_is_open_so_a_slow_server_does_not_slow_the_asking():
    with fake_server(delay=2.0) as (_, url):
        traffic = finish(Traffic(url, some_questions(30), 200))
    dues = [answer.due for answer in traffic.answers]
    assert max(dues) - min(dues) < 2.0  # asked long before the first was answered
    assert all(answer.seconds >= 2.0 for answer in traffic.answers)
    assert len(traffic.answers) == 30


def test_far_too_many_open_requests_hold_the_next_one_back(monkeypatch):
    monkeypatch.setattr(traffic_module, "MOST_OPEN", 4)
    most = 0
    with fake_server(delay=0.1) as (_, url), Traffic(url, some_questions(20), 2000) as traffic:
        while traffic._thread.is_alive():
            most = max(most, traffic.unanswered)
            time.sleep(0.001)
    assert most <= 4
    assert len(traffic.answers) == 20


def test_a_machine_that_was_too_busy_asks_less_instead_of_catching_up(monkeypatch):
    monkeypatch.setattr(traffic_module, "SLIP_SECONDS", 0.0)
    waits = iter([0.3])
    real = traffic_module.asyncio.sleep

    async def sleep(seconds):
        await real(max(seconds, next(waits, 0)))

    monkeypatch.setattr(traffic_module.asyncio, "sleep", sleep)
    with fake_server() as (_, url):
        traffic = finish(Traffic(url, some_questions(5), 100))
    dues = sorted(answer.due for answer in traffic.answers)
    assert dues[1] - dues[0] > 0.25
    assert len(dues) == 5


def test_a_refusal_is_a_failure_and_is_not_retried():
    with fake_server(lambda: (503, {"detail": "not ready"})) as (server, url):
        traffic = finish(Traffic(url, some_questions(5), 200))
    assert (traffic.asked, traffic.answers, len(traffic.failures)) == (5, [], 5)
    assert "503" in traffic.failures[0]
    assert "not ready" in traffic.failures[0]
    assert len(server.bodies) == 5


def test_a_hang_up_is_a_failure():
    replies = itertools.cycle([good(), None])
    with fake_server(lambda: next(replies)) as (_, url):
        traffic = finish(Traffic(url, some_questions(10), 20))
    assert len(traffic.answers) + len(traffic.failures) == 10
    assert traffic.failures
    assert traffic.unanswered == 0


@pytest.mark.parametrize(
    "document",
    [
        b"no json",
        {"version": "1.0.0"},
        {"version": "1.0.0", "classes": [0], "probabilities": [[0.5]]},
        {"version": "1.0.0", "classes": [0, 1], "probabilities": []},
        {"version": 7, "classes": [0, 1], "probabilities": [[0.5, 0.5]]},
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failure(document):
    with fake_server(lambda: (200, document)) as (_, url):
        traffic = finish(Traffic(url, some_questions(2), 100))
    assert (len(traffic.answers), len(traffic.failures)) == (0, 2)


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    traffic = finish(Traffic(f"http://127.0.0.1:{port}/x", some_questions(3), 100))
    assert (traffic.asked, len(traffic.failures)) == (3, 3)


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(traffic_module, "TIMEOUT_SECONDS", 0.2)
    with fake_server(delay=1.0) as (_, url):
        traffic = finish(Traffic(url, some_questions(3), 100))
    assert [failure.split(":")[0] for failure in traffic.failures] == ["ReadTimeout"] * 3


def test_leaving_stops_the_asking_and_waits_for_open_requests():
    with fake_server(delay=0.2) as (_, url), Traffic(url, some_questions(10_000), 100) as traffic:
        while traffic.asked < 5:
            time.sleep(0.01)
    assert 5 <= traffic.asked < 10_000
    assert len(traffic.answers) == traffic.asked
    assert not traffic._thread.is_alive()


def test_traffic_runs_out_when_every_question_was_asked():
    with fake_server() as (_, url):
        traffic = Traffic(url, some_questions(3), 200)
        assert not traffic.ran_out
        finish(traffic)
    assert traffic.ran_out


def test_the_pace_is_what_is_asked_and_not_what_was_wanted():
    traffic = Traffic("http://127.0.0.1:1", some_questions(1), 100)
    assert traffic.pace() == 100
    traffic.answers.append(an_answer(due=0.0))
    assert traffic.pace() == 100
    traffic.answers += [an_answer(due=i / 25) for i in range(1, 101)]
    assert traffic.pace() == pytest.approx(25)


def test_an_error_inside_still_stops_the_asking():
    with fake_server() as (_, url):
        traffic = Traffic(url, some_questions(10_000), 100)
        with pytest.raises(RuntimeError), traffic:
            raise RuntimeError("boom")
    assert not traffic._thread.is_alive()
