"""The specification of a database: inherit from `DatabaseContract` and provide a migrated, empty `Database`.

Example:
    >>> class TestMyDatabase(DatabaseContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def database(self):
    ...         database = open_database("postgresql://...")
    ...         migrate(database)
    ...         yield database
    ...         database.close()
"""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Update, func, select
from sqlalchemy.exc import IntegrityError

from crossfade.errors import CorruptAuditError, DatabaseUnavailableError
from crossfade.storage.changes import commit_change, revision, verify_audit
from crossfade.storage.database import Database
from crossfade.storage.tables import audit, changes, head, models, versions

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
"""When everything in the suite happens."""


def record(connection: Connection, subject: str = "churn:1.0.0", **details: object) -> int:
    """Commit one change, of no importance."""
    return commit_change(
        connection,
        kind="version",
        model="churn",
        subject=subject,
        principal="ada",
        action="version.register",
        details=details,
        now=NOW,
    )


def add_model(connection: Connection, name: str) -> None:
    """Insert one model."""
    row = {"name": name, "created_at": "2026-01-31T09:30:00.000000Z", "created_by": "ada"}
    connection.execute(models.insert(), row)


def names(connection: Connection) -> list[str]:
    """Return the models that this transaction sees."""
    return list(connection.execute(select(models.c.name).order_by(models.c.name)).scalars())


class DatabaseContract:
    """Tests that every database passes."""

    @pytest.fixture
    @abstractmethod
    def database(self) -> Database:
        """Return an open database with all tables, and nothing in them but the row of `head`."""
        raise NotImplementedError

    # --- transactions

    def test_a_write_is_seen_after_its_commit_and_not_before(self, database: Database) -> None:
        """COMMIT is the only point at which anything becomes visible."""
        with database.write() as writing:
            add_model(writing, "churn")
            assert names(writing) == ["churn"]
            with database.read() as reading:
                assert names(reading) == []
        with database.read() as reading:
            assert names(reading) == ["churn"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
    def test_any_exception_rolls_back(self, database: Database, error: type[BaseException]) -> None:
        """All of it or nothing; and the error comes through as it is."""

        def change_and_fail() -> None:
            with database.write() as connection:
                add_model(connection, "churn")
                record(connection)
                raise error

        with pytest.raises(error):
            change_and_fail()
        with database.read() as connection:
            assert names(connection) == []
            assert revision(connection) == 0
            assert verify_audit(connection) == 0
        with database.write() as connection:  # nothing is left locked
            assert record(connection) == 1

    def test_a_read_transaction_sees_one_moment(self, database: Database) -> None:
        """Two statements in it never disagree, whatever is committed between them."""
        with database.read() as reading:
            assert names(reading) == []
            with database.write() as writing:
                add_model(writing, "churn")
                record(writing)
            assert names(reading) == []
            assert revision(reading) == 0
        with database.read() as reading:
            assert names(reading) == ["churn"]
            assert revision(reading) == 1

    def test_a_read_transaction_cannot_write(self, database: Database) -> None:
        """Writing without having excluded the other writers is a mistake that shows at once."""
        with pytest.raises(DatabaseUnavailableError), database.read() as connection:
            add_model(connection, "churn")
        with database.read() as connection:
            assert names(connection) == []

    def test_writers_exclude_each_other_from_their_first_statement(self, database: Database) -> None:
        """Read, think, write: nothing changes in between, without any further lock."""
        with database.write() as connection:
            add_model(connection, "counter")

        def increase(_: int) -> None:
            with database.write() as connection:
                seen = int(connection.execute(select(models.c.description)).scalar_one() or 0)
                connection.execute(models.update().values(description=str(seen + 1)))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(increase, range(80)))
        with database.read() as connection:
            assert connection.execute(select(models.c.description)).scalar_one() == "80"

    def test_readers_never_wait_for_a_writer(self, database: Database) -> None:
        """A long write transaction delays other writers only."""
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with database.write() as connection:
                record(connection)
                entered.set()
                assert leave.wait(30)

        with ThreadPoolExecutor(1) as threads:
            holding = threads.submit(hold)
            assert entered.wait(30)
            for _ in range(20):
                with database.read() as connection:
                    assert revision(connection) == 0
                assert database.revision() == 0
            leave.set()
            holding.result()
        assert database.revision() == 1

    def test_fifty_threads_write_and_none_is_refused(self, database: Database) -> None:
        """Waiting is the database's business, not the caller's."""
        barrier = threading.Barrier(50)

        def write(number: int) -> int:
            barrier.wait()
            with database.write() as connection:
                return record(connection, f"churn:{number}.0.0")

        with ThreadPoolExecutor(50) as threads:
            assert sorted(threads.map(write, range(50))) == list(range(1, 51))

    # --- integrity

    def test_violated_constraints_are_left_to_the_caller(self, database: Database) -> None:
        """Only the caller knows what a duplicate means."""
        with database.write() as connection:
            add_model(connection, "churn")
        with pytest.raises(IntegrityError), database.write() as connection:
            add_model(connection, "churn")
        with database.read() as connection:
            assert names(connection) == ["churn"]

    def test_foreign_keys_are_enforced(self, database: Database) -> None:
        """A version without its model cannot be stored."""
        row = {column.name: "1" for column in versions.columns if not column.nullable}
        numbers = dict.fromkeys(("number", "major", "minor", "patch", "size_bytes"), 1)
        with pytest.raises(IntegrityError), database.write() as connection:
            connection.execute(versions.insert(), {**row, **numbers, "model": "nobody"})

    def test_text_comes_back_as_it_went_in(self, database: Database) -> None:
        """Any Unicode, any length."""
        text = "zażółć 𝄞 \\ ' \" %s :x \t\r\n" * 2_000
        with database.write() as connection:
            add_model(connection, "churn")
            connection.execute(models.update().values(description=text))
        with database.read() as connection:
            assert connection.execute(select(models.c.description)).scalar_one() == text

    # --- revisions

    def test_revisions_have_no_gaps_under_concurrent_writers(self, database: Database) -> None:
        """8 threads x 25 changes, one of five rolled back: 1 to 160 in the order of commits, in every table."""

        def work(thread: int) -> list[int]:
            mine = []
            for step in range(25):
                with contextlib.suppress(ZeroDivisionError), database.write() as connection:
                    number = record(connection, f"churn:{thread}.{step}.0")
                    _ = 1 / (step % 5)  # one of five fails after its revision was handed out
                    mine.append(number)
            return mine

        with ThreadPoolExecutor(8) as threads:
            by_thread = list(threads.map(work, range(8)))
        assert all(mine == sorted(mine) for mine in by_thread)
        expected = list(range(1, 161))
        assert sorted(number for mine in by_thread for number in mine) == expected
        with database.read() as connection:
            assert (
                list(connection.execute(select(changes.c.revision).order_by(changes.c.revision)).scalars()) == expected
            )
            assert revision(connection) == 160
            assert verify_audit(connection) == 160
        assert database.revision() == 160

    def test_several_changes_in_one_transaction(self, database: Database) -> None:
        """Each has its revision; all become visible together."""
        with database.write() as connection:
            assert [record(connection) for _ in range(3)] == [1, 2, 3]
            assert revision(connection) == 3
            assert database.revision() == 0
        assert database.revision() == 3

    def test_pollers_see_revisions_grow_and_never_shrink(self, database: Database) -> None:
        """Four pollers beside one writer, each on its own."""
        stop = threading.Event()

        def poll() -> list[int]:
            seen = []
            while not stop.is_set():
                seen.append(database.revision())
            return seen

        with ThreadPoolExecutor(4) as threads:
            polling = [threads.submit(poll) for _ in range(4)]
            for _ in range(40):
                with database.write() as connection:
                    record(connection)
            stop.set()
            for each in polling:
                seen = each.result()
                assert seen == sorted(seen)
        assert database.revision() == 40

    # --- the audit chain

    def test_an_entry_says_who_did_what_when(self, database: Database) -> None:
        """Details are canonical JSON; the chain starts with zeros."""
        with database.write() as connection:
            record(connection, b=[1, None], a="ä")
        with database.read() as connection:
            entry = connection.execute(select(audit)).one()
            change = connection.execute(select(changes)).one()
            newest = connection.execute(select(head.c.audit_hash)).scalar_one()
        assert (entry.seq, entry.principal, entry.action, entry.subject) == (
            1,
            "ada",
            "version.register",
            "churn:1.0.0",
        )
        assert entry.details == '{"a":"ä","b":[1,null]}'
        assert entry.at == change.changed_at == "2026-01-31T09:30:00.000000Z"
        assert entry.previous_hash == "0" * 64
        assert entry.hash == newest
        assert (change.revision, change.kind, change.model, change.subject) == (1, "version", "churn", "churn:1.0.0")

    def test_an_untouched_chain_verifies(self, database: Database) -> None:
        """An empty one too."""
        with database.read() as connection:
            assert verify_audit(connection) == 0
        with database.write() as connection:
            for number in range(5):
                record(connection, number=number)
        with database.read() as connection:
            assert verify_audit(connection) == 5

    @pytest.mark.parametrize(
        ("tamper", "found_at"),
        [
            (audit.update().where(audit.c.seq == 3).values(details='{"number":9}'), 3),
            (audit.update().where(audit.c.seq == 3).values(principal="eve"), 3),
            (audit.update().where(audit.c.seq == 3).values(at="2027-01-31T09:30:00.000000Z"), 3),
            (audit.update().where(audit.c.seq == 3).values(hash="f" * 64), 3),
            (audit.update().where(audit.c.seq == 3).values(previous_hash="f" * 64), 3),
            (audit.delete().where(audit.c.seq == 1), 1),
            (audit.delete().where(audit.c.seq == 3), 3),
            (audit.delete().where(audit.c.seq == 5), 5),
            (audit.delete(), 1),
            (audit.update().where(audit.c.seq == 5).values(seq=6), 5),
            (head.update().values(audit_hash="f" * 64), 5),
            (head.update().values(revision=6), 6),
        ],
        ids=lambda value: str(value) if isinstance(value, int) else "",
    )
    def test_tampering_is_found(self, database: Database, tamper: Update, found_at: int) -> None:
        """Edited, deleted, cut off, renumbered: the first affected entry is named."""
        with database.write() as connection:
            for number in range(5):
                record(connection, number=number)
        with database.write() as connection:
            connection.execute(tamper)
        with database.read() as connection, pytest.raises(CorruptAuditError) as raised:
            verify_audit(connection)
        assert raised.value.facts["seq"] == found_at

    def test_a_rewritten_entry_breaks_the_next_link(self, database: Database) -> None:
        """Recomputing the hash of what one forged moves the break, and does not remove it."""
        with database.write() as connection:
            for number in range(3):
                record(connection, number=number)
            forged = connection.execute(select(audit.c.hash).where(audit.c.seq == 3)).scalar_one()
            connection.execute(audit.update().where(audit.c.seq == 2).values(hash=forged))
        with database.read() as connection, pytest.raises(CorruptAuditError):
            verify_audit(connection)

    def test_details_that_are_no_json_change_nothing(self, database: Database) -> None:
        """The mistake is found before anything is written."""
        with pytest.raises(TypeError), database.write() as connection:
            record(connection, what=object())
        assert database.revision() == 0

    def test_close_may_be_called_twice(self, database: Database) -> None:
        """Closing is for the end, and forgiving."""
        with database.read() as connection:
            assert connection.execute(select(func.count()).select_from(audit)).scalar_one() == 0
        database.close()
        database.close()
