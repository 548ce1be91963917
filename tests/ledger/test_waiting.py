"""Outcomes that wait, on both databases."""

from crossfade.ledger.counts import Counts, forget_counts, read_counts
from crossfade.ledger.waiting import count_unplaced, count_waiting, forget_waiting, let_go, wait, waited_for
from tests.ledger.support import START, exposure, outcome


def ids(events):
    return sorted(event.id for event in events)


def test_they_come_back_as_they_were(database):
    decision, other = exposure("ada"), exposure("bob")
    mine, hers = outcome("delay", 0.1, 3, of=decision), outcome("delay", -2.5, 4, of="ada")
    with database.write() as connection:
        assert waited_for(connection, [decision]) == []
        wait(connection, [mine, hers, outcome("delay", of="cyd"), outcome("delay", of=exposure("dan"))])
        assert waited_for(connection, [other]) == []
        assert waited_for(connection, [decision]) == [mine, hers]
        assert waited_for(connection, [decision]) == []
        assert count_waiting(connection, "flights") == 1
        assert count_unplaced(connection, ["delay", "taste"], 0) == 1
        assert count_unplaced(connection, ["taste"], 0) == count_unplaced(connection, [], 0) == 0


def test_units_of_another_experiment_are_others(database):
    with database.write() as connection:
        wait(connection, [outcome("delay", of="ada", experiment="trains"), outcome("delay", of="ada")])
        assert len(waited_for(connection, [exposure("ada")])) == 1
        assert (count_waiting(connection, "flights"), count_waiting(connection, "trains")) == (0, 1)


def test_a_decision_and_a_unit_of_the_same_name_are_not_confused(database):
    decision = exposure("ada", id="ada")
    with database.write() as connection:
        wait(connection, [outcome("delay", 1.0, of="bob"), outcome("delay", 2.0, of=exposure("x", id="bob"))])
        found = waited_for(connection, [decision, exposure("bob", id="cyd")])
        assert [(event.value, event.unit, event.decision) for event in found] == [(1.0, "bob", "")]


def test_waiting_again_is_waiting_once(database):
    event = outcome("delay", of="ada")
    with database.write() as connection:
        wait(connection, [event])
        wait(connection, [event])
        wait(connection, [])
        assert count_waiting(connection, "flights") == 1


def test_very_many_wait(database):
    shown = [exposure(f"unit-{number}") for number in range(5_000)]
    found = [outcome("delay", of=event) for event in shown] + [outcome("delay", of=event.unit) for event in shown]
    with database.write() as connection:
        wait(connection, found)
        assert ids(waited_for(connection, shown)) == ids(found)
        assert count_waiting(connection, "flights") == 0


def test_they_can_be_forgotten_by_experiment(database):
    with database.write() as connection:
        wait(connection, [outcome("delay", of="ada"), outcome("delay", of=exposure("bob"))])
        forget_waiting(connection, "flights")
        assert (count_waiting(connection, "flights"), count_unplaced(connection, ["delay"], 0)) == (0, 1)


def test_letting_go_is_counted_by_experiment(database):
    early, late = outcome("delay", 1.0, -5, of="ada"), outcome("delay", 1.0, 5, of="ada")
    with database.write() as connection:
        wait(connection, [early, late, outcome("delay", 1.0, -5, of=exposure("bob"))])
        assert let_go(connection, START) == 2
        assert read_counts(connection, "flights") == {"refused/expired": 1}
        assert read_counts(connection, "") == {"refused/expired": 1}
        assert waited_for(connection, [exposure("ada")]) == [late]


def test_counts_add_up_and_zero_is_nothing(database):
    with database.write() as connection:
        for step in (3, -1, -2):
            counts = Counts()
            counts.add("flights", "early", step)
            counts.add("flights", "nothing", 0)
            counts.refuse("flights", "value")
            counts.write(connection)
        assert read_counts(connection, "flights") == {"refused/value": 3}
        forget_counts(connection, "flights")
        assert read_counts(connection, "flights") == {}
