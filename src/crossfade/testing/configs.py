"""The specification of a board of configs: inherit from `BoardContract` and provide one, with what decides about it.

Example:
    >>> class TestMyBoard(BoardContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def site(self, configs, store, database):
    ...         publisher = Publisher(DatabaseBoard(database, 0.01), MyBoard(...))
    ...         return Site(configs, store, database, MyBoard(...), publisher)
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import pytest

from crossfade.configs.configs import Configs
from crossfade.configs.document import MAX_BYTES
from crossfade.configs.port import Board
from crossfade.configs.publishing import Publisher
from crossfade.configs.store import ConfigStore
from crossfade.storage.database import Database
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute

_LONG = 20.0
_SHORT = 0.05


@dataclass
class Site:
    """Configs, and the board that they are read from.

    Attributes:
        configs: Where they are decided.
        store: The same, inside of a transaction.
        database: The platform database.
        board: What is tested.
        publisher: Copies to the board; None when the board is the database.
    """

    configs: Configs
    store: ConfigStore
    database: Database
    board: Board
    publisher: Publisher | None = None

    def arrive(self) -> None:
        """Let the board have what was committed."""
        if self.publisher is not None:
            self.publisher.copy()

    def approve(self, name: str, document: dict[str, Any]) -> int:
        """Bring a new version to its approval, and return its number."""
        made, _ = self.configs.draft(name, document, principal="author")
        self.configs.validate(name, made.number)
        self.configs.approve(name, made.number, principal="reviewer")
        return made.number

    def activate(self, name: str, document: dict[str, Any]) -> int:
        """Make a new version active, and return its number."""
        number = self.approve(name, document)
        self.configs.activate(name, number)
        self.arrive()
        return number

    def route(self, name: str, route: ExperimentRoute | None) -> None:
        """Give units different versions, or the same again."""
        with self.database.write() as connection:
            self.store.route(connection, name, route, principal="tester", reason="")
        self.arrive()


class BoardContract:
    """The specification of a board."""

    @pytest.fixture
    @abstractmethod
    def site(self) -> Site:
        """A platform database without configs, and the board that they are read from, empty."""
        raise NotImplementedError

    def test_what_is_not_there_is_not_found(self, site: Site) -> None:
        """Whatever it is called."""
        for name in ("limits", "", "a/b", "..", "x\0y", "\ud800", "L", "x" * 500):
            assert site.board.find(name) is None

    def test_what_was_activated_is_read(self, site: Site) -> None:
        """With every character that JSON has."""
        site.activate("limits", {"max": 5, "names": ["ä", "\U0001f600", "\0"]})
        found = site.board.find("limits")
        assert found is not None
        (version,) = found.versions
        assert (found.name, found.active, found.routing, version.number) == ("limits", 1, None, 1)
        assert version.document == '{"max":5,"names":["ä","\U0001f600","\\u0000"]}'
        assert version.digest == site.configs.version("limits", 1).digest

    def test_a_config_of_which_nothing_is_active_yet(self, site: Site) -> None:
        """It is known, and nothing of it is read."""
        site.configs.draft("limits", {})
        site.arrive()
        found = site.board.find("limits")
        assert found is not None
        assert (found.active, found.versions) == (None, ())

    def test_only_what_is_read_is_there(self, site: Site) -> None:
        """Former versions are not, nor those that were taken back."""
        for number in (1, 2, 3):
            site.activate("limits", {"max": number})
        site.configs.rollback("limits")
        site.arrive()
        found = site.board.find("limits")
        assert found is not None
        assert (found.active, [version.number for version in found.versions]) == (2, [2])

    def test_a_rollout_has_all_its_versions(self, site: Site) -> None:
        """And the route, until it ends."""
        site.activate("limits", {"max": 1})
        site.approve("limits", {"max": 2})
        variants = (VariantSpec("old", 0.9), VariantSpec("new", 0.1))
        allocation = Allocations().place(AllocationSpec("rollout", variants)).experiments[0]
        route = ExperimentRoute(allocation, versions={"old": "1", "new": "2"})
        site.route("limits", route)
        found = site.board.find("limits")
        assert found is not None
        assert found.routing == route
        assert {version.number: version.document for version in found.versions} == {1: '{"max":1}', 2: '{"max":2}'}
        site.route("limits", None)
        found = site.board.find("limits")
        assert found is not None
        assert (found.routing, [version.number for version in found.versions]) == (None, [1])

    def test_news_are_what_changed_since(self, site: Site) -> None:
        """Each config once, in its newest state."""
        nothing = site.board.since(0)
        assert nothing.changed == ()
        for name in ("one", "two", "three"):
            site.activate(name, {"name": name})
        first = site.board.since(0)
        assert {each.name for each in first.changed} == {"one", "two", "three"}
        assert site.board.since(first.position).changed == ()
        site.activate("two", {"name": "two", "again": True})
        site.activate("two", {"name": "two", "again": 2})
        second = site.board.since(first.position)
        assert second.position > first.position > nothing.position
        (changed,) = second.changed
        assert (changed.name, changed.active) == ("two", 3)
        assert changed == site.board.find("two")

    def test_what_nobody_reads_is_no_news(self, site: Site) -> None:
        """A version that was approved changes nothing for readers."""
        site.activate("limits", {"max": 1})
        before = site.board.since(0).position
        site.approve("limits", {"max": 2})
        site.arrive()
        assert site.board.since(before).changed == ()

    def test_waiting_ends_when_there_are_news(self, site: Site) -> None:
        """At once when they are there already, and without any when the time is over."""
        site.activate("limits", {"max": 1})
        position = site.board.since(0).position
        assert not site.board.wait(position, _SHORT)
        told = threading.Event()
        found: list[bool] = []

        def wait() -> None:
            told.set()
            found.append(site.board.wait(position, _LONG))

        waiting = threading.Thread(target=wait)
        waiting.start()
        told.wait(_LONG)
        site.activate("limits", {"max": 2})
        waiting.join(_LONG)
        assert found == [True]
        assert site.board.wait(position, _LONG), "what has happened is not waited for"

    def test_the_largest_documents_fit(self, site: Site) -> None:
        """One after the other."""
        largest = {"a": "x" * (MAX_BYTES - 8)}
        site.activate("limits", largest)
        site.activate("limits", {"b": "y" * (MAX_BYTES - 8)})
        found = site.board.find("limits")
        assert found is not None
        assert len(found.versions[0].document) == MAX_BYTES

    def test_the_same_document_again_under_another_number(self, site: Site) -> None:
        """What it is called does not matter to its bytes."""
        for document in ({"max": 1}, {"max": 2}, {"max": 1}):
            site.activate("limits", document)
        found = site.board.find("limits")
        assert found is not None
        assert (found.active, found.versions[0].document) == (3, '{"max":1}')
