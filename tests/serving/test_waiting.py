"""Who waits for a busy model, and in which order they are taken."""

import asyncio
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.serving.waiting import Priority, Request, WaitingLine

ONLINE, BATCH, SHADOW = Priority
LATE = -1.0


def make(rows=1, deadline=math.inf, priority=ONLINE):
    return Request({"x": np.zeros(rows)}, frozenset(), asyncio.Future.__new__(asyncio.Future), deadline, priority)


def fill(line, *requests):
    for request in requests:
        line.put(request)
    return requests


def free(rows):
    return 0.0


def test_the_oldest_goes_first():
    line = WaitingLine(3)
    a, b, c, d = fill(line, make(), make(), make(), make())
    assert line.take(free) == [a, b, c]
    assert line.take(free) == [d]
    assert len(line) == 0


def test_when_too_many_wait_the_newest_goes_first():
    line = WaitingLine(2)
    requests = fill(line, *(make() for _ in range(7)))
    taken = [[requests.index(request) for request in line.take(free)] for _ in range(4)]
    assert taken == [[6, 5], [4, 3], [0, 1], [2]]  # as soon as two batches can take the rest, the oldest is next


def test_one_large_request_is_no_overload():
    line = WaitingLine(2)
    large, small = fill(line, make(9), make())
    assert line.take(free) == [large]
    assert line.take(free) == [small]


def test_priorities_go_in_their_order_and_share_a_batch():
    line = WaitingLine(4)
    shadow, batch, online = fill(line, make(priority=SHADOW), make(priority=BATCH), make())
    assert line.take(free) == [online, batch, shadow]


def test_what_goes_before_a_request_is_counted_in_rows():
    line = WaitingLine(4)
    fill(line, make(2, priority=SHADOW), make(3, priority=BATCH), make(4), make(5))
    assert [line.rows_before(priority) for priority in Priority] == [9, 12, 14]
    line.take(free)
    assert [line.rows_before(priority) for priority in Priority] == [9, 12, 14]  # the model works on four of them now


def test_a_batch_grows_only_while_everybody_in_it_is_in_time():
    line = WaitingLine(100)
    now = time.monotonic()
    fill(line, *(make(10, deadline=now + 10) for _ in range(5)))
    assert len(line.take(lambda rows: rows * 0.5)) < 3
    assert len(line.take(lambda rows: rows * 1000.0)) == 1  # one always goes


def test_the_hurry_of_one_bounds_the_batch_of_all():
    line = WaitingLine(100)
    now = time.monotonic()
    fill(line, make(10, deadline=now + 1000), make(10, deadline=now + 5), make(10, deadline=now + 1000))
    assert len(line.take(lambda rows: 0.2 * rows)) == 2


def test_late_requests_take_no_room_in_a_batch():
    line = WaitingLine(2)
    late, a, b, c = fill(line, make(deadline=LATE), make(), make(), make())
    assert line.take(free) == [late, a, b]
    assert line.take(free) == [c]


def test_expired_requests_are_removed_wherever_they_stand():
    line = WaitingLine(4)
    kept = fill(line, make(deadline=10.0), make(deadline=LATE), make(2, 20.0, BATCH), make(3, LATE, BATCH))
    assert line.remove_expired(0.0) == [kept[1], kept[3]]
    assert line.remove_expired(0.0) == []
    assert [line.rows_before(priority) for priority in Priority] == [1, 3, 3]
    assert line.remove_expired(15.0) == [kept[0]]
    assert len(line) == 1


def test_company_is_awaited_as_long_as_was_said():
    line = WaitingLine(3, max_delay_seconds=30)
    first, second, third = make(), make(), make()
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(line.take(free)))
    thread.start()
    for request in (first, second):
        line.put(request)
        thread.join(0.05)
        assert taken == []
    line.put(third)  # the batch is full
    thread.join(10)
    assert taken == [first, second, third]


def test_an_incomplete_batch_goes_after_its_delay():
    line = WaitingLine(3, max_delay_seconds=0.01)
    (request,) = fill(line, make())
    assert line.take(free) == [request]


def test_closing_ends_the_wait_for_requests_and_for_company():
    line = WaitingLine(3, max_delay_seconds=30)
    (request,) = fill(line, make())
    taken = []
    thread = threading.Thread(target=lambda: taken.extend([line.take(free), line.take(free)]))
    thread.start()
    line.close()
    thread.join(10)
    assert taken == [[request], []]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(Priority), st.booleans()), max_size=40), st.integers(1, 8))
def test_everybody_is_taken_exactly_once(requests, max_rows):
    line = WaitingLine(max_rows)
    put = fill(line, *(make(rows, LATE if late else math.inf, priority) for rows, priority, late in requests))
    line.close()
    taken = []
    while batch := line.take(free):
        in_time = [request for request in batch if request.deadline > 0]
        assert sum(request.rows for request in in_time) <= max_rows or len(in_time) == 1 or in_time[0].rows == 0
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, put))
    assert [line.rows_before(priority) for priority in Priority] == [0, 0, 0]


def test_a_line_survives_many_writers():
    line = WaitingLine(16)
    put = [[make() for _ in range(300)] for _ in range(4)]
    writers = [threading.Thread(target=fill, args=(line, *requests)) for requests in put]
    taken = []
    for writer in writers:
        writer.start()
    while len(taken) < 1200:
        taken += line.take(free)
    for writer in writers:
        writer.join()
    assert {id(request) for request in taken} == {id(request) for requests in put for request in requests}


@pytest.mark.parametrize("priority", Priority)
def test_a_request_knows_its_rows(priority):
    assert make(7, priority=priority).rows == 7


# --- several who take ---


def test_each_of_several_gets_its_share():
    line = WaitingLine(8)
    requests = fill(line, *(make() for _ in range(9)))
    assert [len(line.take(free, taker=number, sharers=lambda: 3)) for number in range(3)] == [3, 2, 2]
    assert len(line) == 2
    assert line.rows_before(ONLINE) == len(requests), "what each of them took last is on its way"
    line.take(free, taker=0, sharers=lambda: 3)
    assert line.rows_before(ONLINE) == 2 + 2 + 2


def test_a_large_request_is_more_than_a_share():
    line = WaitingLine(8)
    (large,) = fill(line, make(20))
    assert line.take(free, sharers=lambda: 4) == [large]


def test_what_is_put_back_goes_first_again():
    line = WaitingLine(2)
    a, b, c = fill(line, make(), make(), make())
    taken = line.take(free, taker="x")
    line.put_back(taken, taker="x")
    assert line.rows_before(ONLINE) == 3
    assert line.take(free) == [a, b]
    assert line.take(free) == [c]


def test_waiting_ends_when_its_time_is_over_or_somebody_says_so():
    line = WaitingLine(2)
    assert line.take(free, until=time.monotonic() + 0.01) == []
    stopped = threading.Event()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(line.take(free, stopped=stopped.is_set)))
    thread.start()
    stopped.set()
    line.wake()
    thread.join(10)
    assert taken == [[]]


def test_closing_wakes_everybody():
    line = WaitingLine(2)
    threads = [threading.Thread(target=line.take, args=(free,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    line.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 12))
def test_several_take_everything_once(sizes, sharers, max_rows):
    line = WaitingLine(max_rows)
    requests = fill(line, *map(make, sizes))
    line.close()
    taken = []
    while batch := line.take(free, taker=len(taken) % sharers, sharers=lambda: sharers):
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, requests))
