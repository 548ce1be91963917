"""`AliasSwitch`: the one way that aliases move.

A version becomes the target of an alias only after every serving process has loaded, verified and warmed it, so that a
broken version never answers anybody. See `docs/decisions/0002-aliases-move-through-the-switch.md`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import msgspec

from crossfade.core.clock import utc_now
from crossfade.core.identity import CHAMPION, ModelRef, Semver, check_name
from crossfade.errors import (
    AliasMovedError,
    AliasNotFoundError,
    ConflictError,
    LoadFailedError,
    NotReadyError,
    RejectedVersionError,
)
from crossfade.registry.acceptance import attribution, explained
from crossfade.registry.registry import LOCAL, Registry
from crossfade.registry.versions import REJECTED, AliasMove, Version
from crossfade.settings import ServingSettings
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.readiness import FOLLOW_SECONDS, Readiness
from crossfade.traffic.reports import SwitchReport

OVERRIDING = "bringing a version again that was rolled back"
"""What nobody may do without saying why."""


class Latch(Protocol):
    """Keeps versions that were rolled back from becoming champion again."""

    def require_unlatched(self, model: str, version: str) -> None:
        """Refuse a version that was rolled back before.

        Raises:
            LatchedError: It was, and nobody has lifted the latch since.
        """

    def lift(self, model: str, version: str, *, principal: str, reason: str) -> None:
        """Let a version come again; where it is not latched, nothing changes."""


class _Wish(msgspec.Struct, frozen=True):
    """Where an alias shall point (nowhere when `target` is None), and what its history will say."""

    name: str
    alias: str
    target: Version | None
    expected: str | None
    reason: str
    principal: str
    override_latch: bool = False

    @property
    def semver(self) -> str | None:
        return None if self.target is None else self.target.version


class AliasSwitch:
    """Moves aliases with the consent of every serving process.

    Args:
        registry: Where aliases are.
        fleet: The serving processes.
        settings: How long they may take.
        latch: Which versions may not become champion again; None: all may.

    Example:
        >>> switch.move("churn", "champion", "1.1.0", reason="better recall").processes  # doctest: +SKIP
        4
    """

    def __init__(self, registry: Registry, fleet: Fleet, settings: ServingSettings, latch: Latch | None = None) -> None:
        self._registry = registry
        self._fleet = fleet
        self._latch = latch
        self._readiness = Readiness(fleet, settings.ready_timeout_seconds)

    def move(  # noqa: PLR0913 - everything that may be said about a move, by name
        self,
        name: str,
        alias: str,
        version: str | ModelRef,
        *,
        expected: str | None = None,
        reason: str = "",
        principal: str = LOCAL,
        override_latch: bool = False,
        dry_run: bool = False,
        within: AbstractContextManager[object] | None = None,
    ) -> SwitchReport:
        """Point an alias to a version once every process has it ready.

        Args:
            name: The model.
            alias: The alias, which is made when it does not exist.
            version: A semver, or any reference to a version of this model.
            expected: When given, the semver that the alias must point to now.
            reason: Why, for the history.
            principal: Who moves it.
            override_latch: Make a version champion that was rolled back before: a person's word.
            dry_run: Only check; nothing is announced, loaded or moved.
            within: Entered when every process is ready, left when the alias has moved. What it raises on entering stops
                the move, however long the loading took.

        Raises:
            NotReadyError: A process cannot make the version ready, or is silent; the alias stays where it is.
            AliasMovedError: The alias points elsewhere than `expected`.
            LatchedError: The version was rolled back before, and nobody has said that it may be champion again.
            ReasonRequiredError: Somebody says so, and not why.
            RejectedVersionError: The version is in the stage `rejected`.
            VersionNotFoundError, ModelNotFoundError: There is no such version or model.
        """
        check_name(alias, "alias")
        wish = _Wish(name, alias, self._target(name, version), expected, reason, principal, override_latch)
        return self._rehearse(wish) if dry_run else self._grant(wish, within)

    def rollback(
        self,
        name: str,
        alias: str = CHAMPION,
        *,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> SwitchReport:
        """Point an alias back to where it pointed before, which every process keeps warm.

        Raises:
            NoPreviousVersionError: There is nothing to go back to.
            LatchedError: That version was rolled back before.
            NotReadyError: A process cannot make that version ready.
            AliasMovedError: Somebody moved the alias at the same moment.
        """
        current = self._registry.resolve(ModelRef(check_name(name), alias=check_name(alias, "alias")))
        target = self._registry.previous_version(name, alias)
        wish = _Wish(name, alias, target, current.version, reason or "rollback", principal)
        return self._rehearse(wish) if dry_run else self._grant(wish)

    def remove(
        self,
        name: str,
        alias: str,
        *,
        expected: str | None = None,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> SwitchReport:
        """Remove an alias; its history stays.

        Raises:
            AliasNotFoundError: There is no such alias.
            AliasMovedError: It points elsewhere than `expected`.
        """
        wish = _Wish(check_name(name), check_name(alias, "alias"), None, expected, reason, principal)
        return self._rehearse(wish) if dry_run else self._grant(wish)

    def _rehearse(self, wish: _Wish) -> SwitchReport:
        source = self._check(wish)
        move = AliasMove(0, wish.name, wish.alias, source, wish.semver, utc_now(), wish.principal, wish.reason)
        return SwitchReport(move, len(self._fleet.live()))

    def _grant(self, wish: _Wish, within: AbstractContextManager[object] | None = None) -> SwitchReport:
        started = time.monotonic()
        source = self._check(wish)
        with self._proven(wish, source), within or nullcontext():
            self._refuse_latched(wish, source)  # once more: loading takes its time
            move = self._registry.move_alias(
                wish.name,
                wish.alias,
                wish.semver,
                expected=wish.expected,
                reason=wish.reason,
                principal=wish.principal,
            )
            self._lift_latch(wish)
        late = self._fleet.wait_revision(move.seq, FOLLOW_SECONDS)
        return SwitchReport(
            move,
            processes=len(self._fleet.live()),
            late=tuple(f"{process.host}/{process.pid}" for process in late),
            seconds=time.monotonic() - started,
        )

    def _check(self, wish: _Wish) -> str | None:
        """Refuse what the registry would refuse, before anything is loaded; returns where the alias points now."""
        if wish.override_latch:
            explained(wish.principal, wish.reason, OVERRIDING)
        attribution(wish.principal, wish.reason)
        model = self._registry.model(wish.name)
        source = model.aliases.get(wish.alias)
        if wish.expected is not None and wish.expected != source:
            raise AliasMovedError(name=wish.name, alias=wish.alias, actual=source or "nothing", expected=wish.expected)
        if wish.target is None and source is None:
            raise AliasNotFoundError(name=wish.name, alias=wish.alias)
        if wish.target is not None and wish.target.stage == REJECTED:
            raise RejectedVersionError(ref=wish.target.ref, name=wish.name, alias=wish.alias)
        if model.unloaded and wish.target is not None and wish.semver != source and self._fleet.members():
            # no process would ever make it ready, so there is nothing to wait for
            problem = f"somebody asked not to serve `{wish.name}`, so it cannot be tried out"
            raise NotReadyError(ref=wish.target.ref, name=wish.name, alias=wish.alias, problem=problem)
        self._refuse_latched(wish, source)
        return source

    def _refuse_latched(self, wish: _Wish, source: str | None) -> None:
        if self._latch is None or wish.alias != CHAMPION or wish.override_latch:
            return
        if wish.semver is not None and wish.semver != source:
            self._latch.require_unlatched(wish.name, wish.semver)

    def _lift_latch(self, wish: _Wish) -> None:
        if self._latch is not None and wish.alias == CHAMPION and wish.override_latch and wish.semver is not None:
            self._latch.lift(wish.name, wish.semver, principal=wish.principal, reason=wish.reason)

    def _target(self, name: str, version: str | ModelRef) -> Version:
        if isinstance(version, str) and not {":", "@", "/"} & set(version):
            version = ModelRef(check_name(name), version=str(Semver.parse(version)))
        target = self._registry.resolve(version)
        if target.model != name:
            raise ConflictError(problem=f"`{target.ref}` is not a version of `{name}`")
        return target

    @contextmanager
    def _proven(self, wish: _Wish, source: str | None) -> Iterator[None]:
        """Make every process ready for the wish, and keep it so until the block ends."""
        if wish.target is None or wish.semver == source:
            yield
            return
        try:
            with self._readiness.of(wish.target, wish.principal):
                yield
        except LoadFailedError as error:
            facts = error.facts
            raise NotReadyError(ref=facts["ref"], name=wish.name, alias=wish.alias, problem=facts["problem"]) from error
