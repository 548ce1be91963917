"""`Messenger`: brings what waits in the outbox to its channels, in one process at a time.

A message that was on its way when its process died is brought again, under the same id.
"""

from __future__ import annotations

from datetime import timedelta
from queue import Empty, SimpleQueue

from sqlalchemy import Connection

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import ChannelNotFoundError
from crossfade.notifications import outbox
from crossfade.notifications.channels import Channels
from crossfade.notifications.courier import Result
from crossfade.notifications.event import Event
from crossfade.notifications.outbox import FAILED, SENT, Message
from crossfade.storage.attendant import Attendant
from crossfade.storage.database import Database
from crossfade.storage.lease import Lease
from crossfade.storage.times import to_text

LEASE = "messages"
LEASE_SECONDS = 10.0
POLL_SECONDS = 1.0


class Messenger(Attendant):
    """Turns from time to time, on a thread of its own.

    Args:
        database: Where the outbox is.
        channels: Who is told.
        lease: Lets one process work at a time.
        keep_seconds: For which what was told is kept.
        clock: What time it is.
    """

    def __init__(
        self, database: Database, channels: Channels, lease: Lease, keep_seconds: float, clock: Clock = utc_now
    ) -> None:
        super().__init__(LEASE, lease, POLL_SECONDS)
        self._database = database
        self._channels = channels
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._on_the_way: set[Message] = set()
        self._finished: SimpleQueue[tuple[Message, Result, str]] = SimpleQueue()

    def turn(self) -> None:
        """Note what was told, and hand over what waits, unless another process does.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        if not self._finished.empty():
            with self._database.write() as connection:
                self._note_finished(connection)
        with self._database.read() as connection:
            found = outbox.waiting(connection, self._on_the_way)
        if (found or self._on_the_way) and self._lease.hold():  # nobody else brings what is on the way
            for message, event in found:
                self._on_the_way.add(message)
                self._hand_over(message, event)

    def _note_finished(self, connection: Connection) -> None:
        while True:
            try:
                message, result, problem = self._finished.get_nowait()
            except Empty:
                break
            if result is not Result.DROPPED:  # what was dropped still waits, and is handed over again
                outbox.finish(connection, message, SENT if result is Result.SENT else FAILED, problem)
            self._on_the_way.discard(message)
        outbox.forget(connection, to_text(self._clock() - timedelta(seconds=self._keep_seconds)))

    def _hand_over(self, message: Message, event: Event) -> None:
        def done(result: Result, problem: str) -> None:
            self._finished.put((message, result, problem))

        try:
            self._channels.bring(message.channel, event, done)
        except ChannelNotFoundError as error:  # the settings have changed since
            done(Result.FAILED, str(error))
