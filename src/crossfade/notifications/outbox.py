"""The outbox: what channels shall be told, written in the transaction of what it is about; `Messenger` brings it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from crossfade.notifications.event import Event
from crossfade.storage.tables import messages
from crossfade.storage.times import to_text

WAITING, SENT, FAILED = "waiting", "sent", "failed"


class Message(NamedTuple):
    """An event that a channel shall be told of.

    Args:
        id: Of the event.
        channel: The name of the channel.
    """

    id: str
    channel: str


def post(connection: Connection, event: Event, channels: Iterable[str], now: datetime) -> None:
    """Write a message for each of these channels."""
    body = msgspec.json.encode(event).decode()
    for channel in channels:
        values = {"id": event.id, "channel": channel, "status": WAITING, "created_at": to_text(now), "body": body}
        connection.execute(insert(messages).values(**values))


def waiting(connection: Connection, besides: Collection[Message]) -> list[tuple[Message, Event]]:
    """Return the messages that wait besides those that are known, oldest first."""
    query = select(messages.c.id, messages.c.channel, messages.c.body).where(messages.c.status == WAITING)
    rows = connection.execute(query.order_by(messages.c.created_at, messages.c.id))
    new = ((Message(row.id, row.channel), row.body) for row in rows)
    return [(message, msgspec.json.decode(body, type=Event)) for message, body in new if message not in besides]


def finish(connection: Connection, message: Message, status: str, problem: str) -> None:
    """Note what became of a message."""
    mine = (messages.c.id == message.id) & (messages.c.channel == message.channel)
    connection.execute(update(messages).where(mine).values(status=status, problem=problem[:500]))


def forget(connection: Connection, before: str) -> None:
    """Delete messages that are older than a stored time."""
    connection.execute(delete(messages).where(messages.c.created_at < before))
