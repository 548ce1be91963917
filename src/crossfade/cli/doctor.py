"""`crossfade doctor`: check that everything Crossfade needs is in order, here or on a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from crossfade.cli.output import Sheet
from crossfade.cli.session import Session, command
from crossfade.errors import CrossfadeError


class Check(msgspec.Struct, frozen=True):
    """The outcome of one check; `exit_code` is 0 unless it failed."""

    name: str
    outcome: Literal["ok", "warning", "failed"]
    detail: str
    hint: str = ""
    exit_code: int = 0


Finding = tuple[Literal["ok", "warning"], str]


@command(name="doctor")
def doctor(session: Session) -> None:
    """Check settings, packages, disk, database, audit log and blobs; with `--server`, that server instead."""
    from crossfade.cli.examination import examine_platform, examine_server

    examinations = examine_server(session.server) if session.server else examine_platform()
    checks = _run_all(examinations)
    marks = {"ok": "ok", "warning": "warning", "failed": "FAILED"}
    rows = [(marks[check.outcome], check.name, check.detail) for check in checks]
    session.show(checks, Sheet(("", "check", "finding"), rows, [f"{row[0]} {row[1]}" for row in rows]))
    worst = max(checks, key=lambda check: check.exit_code, default=None)
    if worst is None or worst.exit_code == 0:
        session.hint("see the models with `crossfade models list`")
        return
    for check in checks:
        if check.exit_code and check.hint:
            session.hint(f"{check.name}: {check.hint}")
    sys.exit(worst.exit_code)


def _run_all(examinations: Iterator[tuple[str, Callable[[], Finding]]]) -> list[Check]:
    checks: list[Check] = []
    with suppress(CrossfadeError):  # what was reported as failed may be what the next examination needs
        for name, examine in examinations:
            checks.append(_run(name, examine))
    return checks


def _run(name: str, examine: Callable[[], Finding]) -> Check:
    try:
        outcome, detail = examine()
    except CrossfadeError as error:
        return Check(name, "failed", error.message, error.hint, error.exit_code)
    return Check(name, outcome, detail)
