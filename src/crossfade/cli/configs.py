"""`crossfade configs`: write versions down, check, approve, activate them, take them back, see who runs what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from crossfade.cli import config_sheets as sheets
from crossfade.cli.models import cursor_option, limit_option, reason_option
from crossfade.cli.rollouts import begin, plan_of, plan_option
from crossfade.cli.session import Session, command
from crossfade.errors import UnfitConfigError

if TYPE_CHECKING:
    from crossfade.configs.record import Config, ConfigVersion

_SEE = "crossfade configs draft --help"
STATUSES = ("draft", "validating", "approved", "deploying", "active", "deprecated", "rolled_back")
number_argument = click.argument("number", type=click.IntRange(1, 2**31 - 1))
against_option = click.option(
    "--against", type=click.IntRange(1), default=None, metavar="NUMBER", help="Another version; default the active one."
)
_EXAMPLE = """\
\b
limits.json: {"model": "churn@champion", "retries": {"min": 1, "max": 5}}
spec.json:
{
  "schema": {
    "type": "object", "required": ["model", "retries"],
    "properties": {
      "model": {"type": "string", "x-crossfade-ref": "alias"},
      "retries": {"properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}}
    }
  },
  "rules": [
    {"name": "order", "then": {"retries.min": {"$lte": {"$field": "retries.max"}}}, "message": "min is above max"}
  ]
}
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def configs() -> None:
    """Release configuration like models: numbered versions, checked, approved by somebody else, activated at once."""


@command(configs, changes=True)
@click.argument("name")
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="What documents have to be from now on (JSON, TOML or YAML); default: what the version before had to be.",
)
@reason_option
def draft(session: Session, name: str, document: Path, spec: Path | None, reason: str) -> None:
    """Write DOCUMENT (JSON, TOML or YAML) down as a new version of the config NAME; nobody reads it yet."""
    from crossfade.cli.documents import read_spec
    from crossfade.client import config_verbs
    from crossfade.configs.spec import ConfigSpec

    asked = None if spec is None else read_spec(spec, ConfigSpec, _SEE)
    call = config_verbs.draft_config(name, _document(document, name), spec=asked, reason=reason)
    with session.client() as client:
        session.change(client, call, sheets.one_version, _next)


assert draft.help is not None  # noqa: S101 - its docstring
draft.help += f"\n\nFor example:\n{_EXAMPLE}"


@command(configs, changes=True)
@click.argument("name")
@number_argument
@reason_option
def validate(session: Session, name: str, number: int, reason: str) -> None:
    """Run the checks of a version: its schema, its rules, and whether what it names exists."""
    from crossfade.client import config_verbs

    with session.client() as client:
        if session.dry_run:
            session.change(client, config_verbs.validate_config(name, number), sheets.one_version, _next)
            return
        found = client.validate_config(name, number, reason=reason)
    session.show(found, sheets.validation_sheet(found))
    if found.validation is not None and not found.validation.valid:
        error = UnfitConfigError(name=name, number=number, problem=found.validation.problem)
        session.refuse(error)
        sys.exit(error.exit_code)
    session.hint(_next(found))


@command(configs)
@click.argument("name")
@number_argument
@against_option
@click.option(
    "--rows",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Inputs of the declared models (JSON, JSON lines or CSV) instead of captured predictions.",
)
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, help="Rows to replay at most.")
def impact(session: Session, name: str, number: int, against: int | None, rows: Path | None, limit: int) -> None:
    """Find out what a version would change: its text, the units that read it, the answers of the declared models."""
    from crossfade.cli.rows import read_rows

    given: Any = () if rows is None else read_rows(rows, "crossfade configs impact --help")
    if not all(isinstance(row, dict) for row in given):
        raise click.UsageError(f"`{rows}` does not hold rows with names")
    with session.client() as client:
        report = client.config_impact(name, number, against=against, rows=given, limit=limit)
        found = client.config_version(name, number)
    session.show(report, sheets.impact_sheet(report))
    session.hint(_next(found))


@command(configs, changes=True)
@click.argument("name")
@number_argument
@reason_option
def approve(session: Session, name: str, number: int, reason: str) -> None:
    """Agree that a version may be read; whoever wrote it may not."""
    from crossfade.client import config_verbs

    with session.client() as client:
        session.change(client, config_verbs.approve_config(name, number, reason=reason), sheets.one_version, _next)


@command(configs, changes=True)
@click.argument("name")
@number_argument
@click.option(
    "--expected", type=click.IntRange(0), default=None, metavar="NUMBER", help="Refuse when another one is active now."
)
@reason_option
def activate(session: Session, name: str, number: int, expected: int | None, reason: str) -> None:
    """Let everybody read an approved version, or a former one, from now on."""
    from crossfade.client import config_verbs

    call = config_verbs.activate_config(name, number, expected=expected, reason=reason)
    with session.client() as client:
        session.change(client, call, sheets.moved_config, _undo)


@command(configs, changes=True)
@click.argument("name")
@number_argument
@plan_option
@reason_option
def deploy(session: Session, name: str, number: int, plan: str, reason: str) -> None:
    """Let units read an approved version one after the other, by the plan of a rollout.

    Who reads without naming a unit reads the active version until the end.
    """
    from crossfade.releases.requests import RolloutRequest

    begin(session, RolloutRequest(name, str(number), plan_of(plan), "config", reason))


@command(configs, changes=True)
@click.argument("name")
@reason_option
def rollback(session: Session, name: str, reason: str) -> None:
    """Let everybody read the version that was active before; the present one has to be approved anew."""
    from crossfade.client import config_verbs

    call = config_verbs.roll_back_config(name, reason=reason)
    with session.client() as client:
        session.change(client, call, sheets.moved_config, lambda _: f"see all with `crossfade configs versions {name}`")


@command(configs)
@click.argument("name")
@number_argument
@against_option
def diff(session: Session, name: str, number: int, against: int | None) -> None:
    """Show what a version changes."""
    with session.client() as client:
        found = client.config_diff(name, number, against=against)
    session.show(found, sheets.diff_sheet(found))
    session.hint(f"see more of what it would change with `crossfade configs impact {name} {number}`")


@command(configs, "list")
@cursor_option
@limit_option
def list_(session: Session, cursor: str, limit: int) -> None:
    """List configs, newest first."""
    with session.client() as client:
        page = client.configs(cursor=cursor, limit=limit)
    session.show(page, sheets.config_sheet(page.items))
    if page.next_cursor:
        session.hint(f"more with `crossfade configs list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade configs show {page.items[0].name}`")
    else:
        session.hint("write one down with `crossfade configs draft NAME DOCUMENT_FILE`")


@command(configs)
@click.argument("name")
@click.argument("number", type=click.IntRange(1, 2**31 - 1), required=False)
def show(session: Session, name: str, number: int | None) -> None:
    """Show a config, or one of its versions with its document."""
    with session.client() as client:
        if number is None:
            config = client.config_status(name)
            session.show(config, sheets.one_config(config))
            session.hint(f"see its versions with `crossfade configs versions {name}`")
            return
        found = client.config_version(name, number)
    session.show(found, sheets.one_version(found))
    session.hint(_next(found))


@command(configs)
@click.argument("name")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only those with this status.")
@cursor_option
@limit_option
def versions(session: Session, name: str, status: str | None, cursor: str, limit: int) -> None:
    """List the versions of a config, newest first."""
    with session.client() as client:
        page = client.config_versions(name, status=status or "", cursor=cursor, limit=limit)
    session.show(page, sheets.version_sheet(page.items))
    if page.next_cursor:
        session.hint(f"more with `crossfade configs versions {name} --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade configs show {name} {page.items[0].number}`")
    else:
        session.hint(f"see the config with `crossfade configs show {name}`")


@command(configs)
@click.argument("name")
@click.option("--unit", default="", help="Whom it is for: a rollout gives units different versions.")
@click.option("--context", default="", metavar="JSON", help="What segments of a rollout look at.")
def active(session: Session, name: str, unit: str, context: str) -> None:
    """Show the document that is read now."""
    try:
        known = msgspec.json.decode(context, type=dict[str, Any]) if context else None
    except msgspec.MsgspecError as error:
        raise click.UsageError("`--context` is no JSON object") from error
    with session.client() as client:
        found = client.read_config(name, unit=unit, context=known)
    assert found is not None  # noqa: S101 - no version was named that could be known
    session.show(found, sheets.read_sheet(found))
    session.hint(f"see which version that is with `crossfade configs show {name} {found.number}`")


@command(configs)
@click.argument("name")
def drift(session: Session, name: str) -> None:
    """Show which clients run something else than they should, and which have not been heard of for a while."""
    with session.client() as client:
        report = client.config_drift(name)
    session.show(report, sheets.drift_sheet(report))
    session.hint(f"see what is active with `crossfade configs active {name}`")


def _document(path: Path, name: str) -> bytes | str:
    """Return the text of JSON, in which duplicates can be seen, or what another format holds as JSON."""
    if path.suffix.lower() not in {".toml", ".yaml", ".yml"}:
        return path.read_bytes()
    from crossfade.cli.documents import read_document
    from crossfade.configs.document import document_of

    return document_of(read_document(path, _SEE), name).text


def _next(found: ConfigVersion) -> str:
    from crossfade.configs.record import ConfigStatus, onward

    words = {
        ConfigStatus.DRAFT: "check it",
        ConfigStatus.VALIDATING: "let somebody else agree",
        ConfigStatus.APPROVED: "let everybody read it",
        ConfigStatus.ROLLED_BACK: "check it",
    }
    return f"{words.get(found.status, 'see all')} with `{onward(found.name, found.number, found.status)}`"


def _undo(found: Config) -> str:
    return f"go back with `crossfade configs rollback {found.name}`"
