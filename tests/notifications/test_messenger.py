"""The messenger: what waits in the outbox reaches its channel, once where nothing dies."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from crossfade.errors import ChannelNotFoundError
from crossfade.notifications.courier import Result
from crossfade.notifications.event import Event
from crossfade.notifications.messenger import LEASE, Messenger
from crossfade.notifications.outbox import post
from crossfade.storage.lease import Lease
from crossfade.storage.tables import messages
from tests.alerts.support import FakeChannels
from tests.traffic.support import Clock

DAY = 86_400.0


class Office:
    """Messengers over one outbox."""

    def __init__(self, database):
        self.database = database
        self.clock = Clock()
        self.channels = FakeChannels("ops", "mail")

    def messenger(self):
        return Messenger(self.database, self.channels, Lease(self.database, LEASE, 10.0, self.clock), DAY, self.clock)

    def post(self, kind="rollout.paused", channels=("ops",)):
        event = Event(kind, "m:1.0.1", "words", self.clock())
        with self.database.write() as connection:
            post(connection, event, channels, self.clock())
        return event

    def statuses(self):
        with self.database.read() as connection:
            return sorted(connection.scalars(select(messages.c.status)).all())


@pytest.fixture
def office(database):
    return Office(database)


def test_what_waits_is_told_to_each_channel_once(office):
    messenger = office.messenger()
    event = office.post(channels=("ops", "mail"))
    for _ in range(3):
        messenger.turn()
    assert sorted((name, told.id) for name, told in office.channels.told) == [("mail", event.id), ("ops", event.id)]
    assert office.statuses() == ["sent", "sent"]


def test_the_oldest_comes_first(office):
    kinds = [f"kind.{number}" for number in range(9)]
    for kind in kinds:
        office.post(kind)
        office.clock.advance(1)
    office.messenger().turn()
    assert office.channels.kinds == kinds


def test_nobody_else_brings_what_is_on_the_way(office):
    office.channels.hold = True
    first, second = office.messenger(), office.messenger()
    office.post()
    for _ in range(30):  # longer than the lease
        first.turn()
        second.turn()
        office.clock.advance(1)
    assert len(office.channels.held) == 1
    office.channels.let()
    first.turn()
    assert office.statuses() == ["sent"]


def test_what_was_on_the_way_when_its_process_died_is_brought_by_the_next(office):
    office.channels.hold = True
    dead, other = office.messenger(), office.messenger()
    event = office.post()
    dead.turn()
    office.clock.advance(11)
    office.channels.hold = False
    other.turn()
    other.turn()
    assert [told.id for _, told in office.channels.told] == [event.id]
    assert office.statuses() == ["sent"]


def test_what_was_dropped_is_brought_again_and_what_failed_is_not(office):
    messenger = office.messenger()
    office.channels.result = Result.DROPPED
    office.post()
    messenger.turn()
    messenger.turn()
    assert office.statuses() == ["waiting"]
    office.channels.result = Result.FAILED
    messenger.turn()
    messenger.turn()
    tried = len(office.channels.told)
    messenger.turn()
    assert office.statuses() == ["failed"]
    assert len(office.channels.told) == tried


def test_a_channel_that_is_gone_is_noted(office):
    def bring(name, event, done):
        raise ChannelNotFoundError(name=name, known="none")

    office.channels.bring = bring
    messenger = office.messenger()
    office.post()
    messenger.turn()
    messenger.turn()
    assert office.statuses() == ["failed"]
    with office.database.read() as connection:
        assert "ops" in connection.scalar(select(messages.c.problem))


def test_old_messages_are_forgotten_when_new_ones_are_told(office):
    messenger = office.messenger()
    office.post()
    messenger.turn()
    messenger.turn()
    office.clock.advance(timedelta(days=2).total_seconds())
    event = office.post()
    messenger.turn()
    messenger.turn()
    with office.database.read() as connection:
        assert connection.scalars(select(messages.c.id)).all() == [event.id]


def test_a_turn_with_nothing_to_do_writes_nothing(office):
    messenger = office.messenger()
    with office.database.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM leases").scalar()
    messenger.turn()
    with office.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM leases").scalar() == before


def test_it_turns_by_itself(office, monkeypatch):
    monkeypatch.setattr("crossfade.notifications.messenger.POLL_SECONDS", 0.01)
    event = office.post()
    with office.messenger():
        while office.statuses() != ["sent"]:
            pass
    assert [told.id for _, told in office.channels.told] == [event.id]
