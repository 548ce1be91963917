"""What every change leaves behind: a revision, a row in the outbox, and a link of the audit chain.

The audit chain makes tampering evident: each entry's hash covers the hash before it, and `head` keeps the newest, so
an edited, removed, inserted or cut-off entry is found by `verify_audit`. Whoever can rewrite the whole database can
rewrite the whole chain; keep a copy of `head.audit_hash` elsewhere against that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from crossfade.core.hashing import canonical_json, sha256
from crossfade.errors import CorruptAuditError
from crossfade.storage.hints import give_hint
from crossfade.storage.tables import audit, changes, head
from crossfade.storage.times import to_text

FIRST_HASH = "0" * 64
"""What the first audit entry links to."""

_HASHED = ("seq", "at", "principal", "action", "subject", "details")
_READ_AT_ONCE = 1_000


def commit_change(
    connection: Connection,
    *,
    kind: str,
    model: str,
    subject: str,
    principal: str,
    action: str,
    details: Mapping[str, object],
    now: datetime,
) -> int:
    """Record a change inside the write transaction that makes it, and return its revision.

    Args:
        connection: From `Database.write`; the change becomes visible when that commits.
        kind: What changed, for those who follow changes: `version`, `alias`, `stage`, ...
        model: The model it is about; empty for a change about none.
        subject: The thing that changed, for example `churn:2.1.0`.
        principal: Who did it.
        action: What was done, for example `alias.move`.
        details: Facts for the audit log, JSON values only, without secrets.
        now: When.

    Raises:
        TypeError: `details` holds something that JSON cannot.
    """
    text = canonical_json(dict(details)).decode()
    at = to_text(now)
    advance = (
        head.update()
        .where(head.c.id == 1)
        .values(revision=head.c.revision + 1)
        .returning(head.c.revision, head.c.audit_hash)
    )
    number, previous = connection.execute(advance).one()
    entry = {"seq": number, "at": at, "principal": principal, "action": action, "subject": subject, "details": text}
    digest = _entry_hash(previous, entry)
    connection.execute(
        changes.insert(), {"revision": number, "kind": kind, "model": model, "subject": subject, "changed_at": at}
    )
    connection.execute(audit.insert(), {**entry, "previous_hash": previous, "hash": digest})
    connection.execute(head.update().where(head.c.id == 1).values(audit_hash=digest))
    give_hint(connection)
    return int(number)


def revision(connection: Connection) -> int:
    """Return the revision that this transaction sees. Outside a transaction, ask `Database.revision`."""
    return int(connection.execute(select(head.c.revision).where(head.c.id == 1)).scalar_one())


def verify_audit(connection: Connection) -> int:
    """Check the whole audit chain and return how many entries it has.

    Raises:
        CorruptAuditError: An entry was edited, removed, inserted or cut off; names the first one affected.
    """
    previous, count = FIRST_HASH, 0
    query = select(audit).order_by(audit.c.seq)
    with connection.execute(query, execution_options={"yield_per": _READ_AT_ONCE}) as rows:
        for row in rows:
            count += 1
            if row.seq != count:
                raise CorruptAuditError(seq=count, problem="it is missing")
            if row.previous_hash != previous:
                raise CorruptAuditError(seq=count, problem="it does not continue the entry before it")
            entry = {name: row._mapping[name] for name in _HASHED}
            previous = _entry_hash(previous, entry)
            if row.hash != previous:
                raise CorruptAuditError(seq=count, problem="it was changed after it was written")
    newest = connection.execute(select(head.c.revision, head.c.audit_hash).where(head.c.id == 1)).one()
    if newest.revision != count:
        raise CorruptAuditError(seq=count + 1, problem=f"it is missing; {newest.revision} entries were written")
    if newest.audit_hash != previous:
        raise CorruptAuditError(seq=count, problem="it is not the entry that was written last")
    return count


def _entry_hash(previous: str, entry: Mapping[str, object]) -> str:
    return sha256(previous.encode() + canonical_json(entry))
