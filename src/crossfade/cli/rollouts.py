"""`crossfade rollouts`: release a version gradually, watch it, go on, and take it back."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossfade.cli.models import cursor_option, limit_option
from crossfade.cli.rollout_sheets import (
    forecast_sheet,
    history_sheet,
    one_rollout,
    place,
    plan_sheet,
    rollout_sheet,
    share,
)
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.client import Client
    from crossfade.releases.plan import RolloutPlan
    from crossfade.releases.requests import RolloutRequest
    from crossfade.releases.rollout import Rollout

STATUSES = ("preparing", "progressing", "paused", "completed", "rolled_back", "aborted")
_LOOK_SECONDS = 0.5
_AWAY_SECONDS = 60.0
"""A server that is restarted is back by then, and its rollouts have gone on."""
_NUMBER = re.compile(r"\d[\d.,]*")
_EXAMPLE = """
\b
{
  "steps": [
    {"weight": 0.1, "hold_seconds": 60, "minimum_units": 200},
    {"weight": 0.5, "hold_seconds": 60, "approval": true},
    {"weight": 1}
  ],
  "checks": [
    {"check": "error_rate", "name": "errors"},
    {"check": "threshold", "name": "p99", "series": "p99_seconds", "maximum": 0.2, "failure_limit": 2}
  ]
}
"""
plan_option = click.option(
    "--plan",
    default="careful",
    help="A plan's name (`crossfade rollouts plans`), or a file (JSON, TOML or YAML). Default: careful.",
)
reason_option = click.option("--reason", default="", help="Why; it is kept in the audit log.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rollouts() -> None:
    """Release a version gradually, by evidence: watch it, go on, and take it back."""


@command(rollouts, changes=True)
@click.argument("subject")
@click.argument("version")
@plan_option
@click.option("--kind", type=click.Choice(("model", "config")), default="model", help="What is released.")
@click.option("--override-latch", is_flag=True, help="Release a version that was rolled back before; needs a reason.")
@reason_option
def create(
    session: Session, subject: str, version: str, plan: str, kind: str, override_latch: bool, reason: str
) -> None:
    """Give VERSION of SUBJECT traffic step by step; `--dry-run` says what it would do and how soon it would see."""
    from crossfade.releases.requests import RolloutRequest

    begin(session, RolloutRequest(subject, version, plan_of(plan), kind, reason, override_latch))


def begin(session: Session, wanted: RolloutRequest) -> None:
    """Begin a rollout, or say what it would do."""
    from crossfade.client import verbs

    with session.client() as client:
        if session.dry_run:
            found = client.forecast_rollout(wanted)
            session.show(found, forecast_sheet(found))
            session.hint("run it without `--dry-run` to do it")
            return
        session.change(client, verbs.create_rollout(wanted), one_rollout, _next)


assert create.help is not None  # noqa: S101 - its docstring
create.help += f"\n\nA plan, for example:\n{_EXAMPLE}"


@command(rollouts)
def plans(session: Session) -> None:
    """List the plans that need not be written."""
    with session.client() as client:
        found = client.plans()
    session.show(found, plan_sheet(found))
    session.hint("see what one would do with `crossfade rollouts create MODEL VERSION --plan careful --dry-run`")


@command(rollouts, "list")
@click.option("--subject", default="", help="Only those of this model or document.")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only those with this status.")
@cursor_option
@limit_option
def list_(session: Session, subject: str, status: str | None, cursor: str, limit: int) -> None:
    """List rollouts, newest first."""
    with session.client() as client:
        page = client.rollouts(subject=subject, status=status or "", cursor=cursor, limit=limit)
    session.show(page, rollout_sheet(page.items).narrowed(subject, status))
    if page.next_cursor:
        session.hint(f"more with `crossfade rollouts list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade rollouts show {page.items[0].name}`")
    else:
        session.hint("begin one with `crossfade rollouts create MODEL VERSION`")


@command(rollouts)
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show a rollout; the name of a model or document stands for its newest one.

    `rollout:NAME` is the rollout of that name where a model or document is called the same.
    """
    with session.client() as client:
        found = client.rollout(name)
    session.show(found, one_rollout(found))
    session.hint(_next(found))


@command(rollouts)
@click.argument("name")
def history(session: Session, name: str) -> None:
    """List everything that happened to a rollout, oldest first."""
    with session.client() as client:
        found = client.rollout_history(name)
    session.show(found, history_sheet(found))
    session.hint(f"see where it is with `crossfade rollouts show {name}`")


@command(rollouts)
@click.argument("name")
def watch(session: Session, name: str) -> None:
    """Follow a rollout until it ends or waits for a person; exits with 1 unless it is complete.

    A server that is away meanwhile is waited for, for a minute.
    """
    said = ""
    with session.client() as client:
        found = client.rollout(name)
        while True:
            where = f"{found.status.value}, step {place(found)}, {share(found)}: "
            # What only counts on is no news: the seconds and the requests that a step still lacks.
            news = where + _NUMBER.sub("", found.state.words)
            if news != said:
                said = news
                _tell(f"{where}{found.state.words}")
            if not found.active or found.status == "paused":
                break
            time.sleep(_LOOK_SECONDS)
            found = _look_again(client, found.name)
    session.show(found, one_rollout(found))
    session.hint(_next(found))
    if found.status != "completed":
        raise SystemExit(1)


def _look_again(client: Client, name: str) -> Rollout:
    """Return a rollout that was there a moment ago, however long a restart of its server takes.

    Raises:
        UnavailableError: It is away for longer than that.
    """
    from crossfade.errors import UnavailableError

    ends_at, said = time.monotonic() + _AWAY_SECONDS, False
    while True:
        try:
            return client.rollout(name)
        except UnavailableError as error:
            if time.monotonic() >= ends_at:
                raise
            if not said:
                _tell(f"{error.message}; it is asked again for {_AWAY_SECONDS:g} s")
            said = True
        time.sleep(_LOOK_SECONDS)


def _tell(news: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {news}", err=True)


@command(rollouts, changes=True)
@click.argument("name")
@reason_option
def pause(session: Session, name: str, reason: str) -> None:
    """Let a rollout keep what it has, and go no further. Failing checks still bring it back."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.pause_rollout(name, reason=reason), one_rollout, _next)


@command(rollouts, changes=True)
@click.argument("name")
@reason_option
def resume(session: Session, name: str, reason: str) -> None:
    """Let a paused rollout go on."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.resume_rollout(name, reason=reason), one_rollout, _next)


@command(rollouts, changes=True)
@click.argument("name")
@click.option("--to-end", is_flag=True, help="To the last step instead of to the next one; from there it ends.")
@click.option("--from-step", type=click.IntRange(1), default=None, help="Refuse when it is in another step, from 1.")
@reason_option
def promote(session: Session, name: str, to_end: bool, from_step: int | None, reason: str) -> None:
    """Go on by your word: past the approval that it waits for, to the next step, or from the last to its end."""
    from crossfade.client import verbs

    with session.client() as client:
        expected = None if from_step is None else from_step - 1
        call = verbs.promote_rollout(name, to_end=to_end, reason=reason, expected_step=expected)
        session.change(client, call, one_rollout, _next)


@command(rollouts, changes=True)
@click.argument("name")
@reason_option
def abort(session: Session, name: str, reason: str) -> None:
    """Stop a rollout that is under way, and give the old version everything. The new version may come again."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.abort_rollout(name, reason=reason), one_rollout, _next)


@command(rollouts, changes=True)
@click.argument("name")
@reason_option
def rollback(session: Session, name: str, reason: str) -> None:
    """Give the old version everything, even after the end of the rollout. The new version is latched."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.roll_back_rollout(name, reason=reason), one_rollout, _next)


@command(rollouts, changes=True)
@click.argument("name")
@click.option("--override-latch", is_flag=True, help="Release a version that was rolled back before; needs a reason.")
@reason_option
def retry(session: Session, name: str, override_latch: bool, reason: str) -> None:
    """Begin again, from the first step, what was aborted or rolled back."""
    from crossfade.client import verbs

    call = verbs.retry_rollout(name, override_latch=override_latch, reason=reason)
    with session.client() as client:
        session.change(client, call, one_rollout, _next)


def plan_of(text: str) -> str | RolloutPlan:
    """Return a plan: the one in a file, or a name, which the server knows."""
    from crossfade.cli.documents import read_spec
    from crossfade.releases.plan import RolloutPlan

    path = Path(text)
    see = "crossfade rollouts create --help"
    return read_spec(path, RolloutPlan, see) if path.suffix in {".json", ".toml", ".yaml", ".yml"} else text


def _next(found: Rollout) -> str:
    from crossfade.releases.rollout import APPROVAL

    if found.status == "paused":
        # promoting leaves a step although its checks have not passed; only an approval is nothing but that word
        promote = f"promote {found.name} --from-step {found.state.step + 1}"
        verb = promote if found.state.waiting_for == APPROVAL else f"resume {found.name}"
        onwards = f"crossfade rollouts {verb}"
        return f"let it go on with `{onwards}`, or take it back with `crossfade rollouts abort {found.name}`"
    if found.active:
        return f"follow it with `crossfade rollouts watch {found.name}`"
    if found.status == "completed":
        return f"take it back with `crossfade rollouts rollback {found.name} --reason WHY`"
    return f"see what happened with `crossfade rollouts history {found.name}`"
