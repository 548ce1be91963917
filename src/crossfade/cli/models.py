"""`crossfade models`: register, inspect, compare and move versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossfade.cli import sheets
from crossfade.cli.registering import ensemble, register
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.registry.versions import Page

reason_option = click.option("--reason", default="", help="Why; it is kept in the history.")
cursor_option = click.option("--cursor", default="", help="`next_cursor` of the page before.")
limit_option = click.option("--limit", default=100, show_default=True, help="How many at most, 1 to 1000.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def models() -> None:
    """Register, inspect, compare and move versions of models.

    REF is `name`, `name:1.2.0` or `name@alias`; a bare name means its champion.
    """


models.add_command(register)
models.add_command(ensemble)


@command(models, "list")
@click.option("--prefix", default="", help="Only names that begin so.")
@cursor_option
@limit_option
def list_(session: Session, prefix: str, cursor: str, limit: int) -> None:
    """List models."""
    with session.client() as client:
        page = client.models(prefix=prefix, cursor=cursor, limit=limit)
    session.show(page, sheets.model_sheet(page.items).narrowed(prefix))
    if page.next_cursor:
        session.hint(f"more with `crossfade models list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see the versions with `crossfade models versions {page.items[0].name}`")
    else:
        session.hint("register one with `crossfade models register NAME MODEL_FILE`")


@command(models)
@click.argument("ref")
def show(session: Session, ref: str) -> None:
    """Show a version and everything recorded with it, or a model when REF is a bare name."""
    with session.client() as client:
        if {":", "@", "/"} & set(ref):
            details = client.version(ref)
            session.show(details, sheets.version_details(details))
            session.hint(f"check it with `crossfade models verify {details.version.ref}`")
        else:
            model = client.model(ref)
            session.show(model, sheets.one_model(model))
            session.hint(f"see the newest version with `crossfade models show {ref}:{model.latest_version}`")


@command(models)
@click.argument("name")
@click.option("--stage", default="", help="Only versions in this stage.")
@click.option("--prefix", default="", help="Only a line such as `2.` or `2.1.`.")
@cursor_option
@limit_option
def versions(session: Session, name: str, stage: str, prefix: str, cursor: str, limit: int) -> None:
    """List the versions of a model, newest first."""
    with session.client() as client:
        page = client.versions(name, stage=stage, prefix=prefix, cursor=cursor, limit=limit)
    session.show(page, sheets.version_sheet(page.items).narrowed(stage, prefix))
    if page.next_cursor:
        session.hint(f"more with `crossfade models versions {name} --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade models show {page.items[0].ref}`")
    else:
        session.hint(f"see all with `crossfade models versions {name}`")


@command(models)
@click.argument("a")
@click.argument("b")
def compare(session: Session, a: str, b: str) -> None:
    """Compare two versions: evaluations, signatures, parameters, size."""
    with session.client() as client:
        report = client.compare(a, b)
    session.show(report, sheets.comparison_sheet(report))
    session.hint(f"move traffic with `crossfade models alias {report.b.model} champion {report.b.version}`")


@command(models)
@click.argument("old")
@click.argument("new")
def compatibility(session: Session, old: str, new: str) -> None:
    """Say what callers of version OLD meet when NEW answers: nothing, more, or a breaking change."""
    with session.client() as client:
        candidate = client.version(new)
        difference = client.check_compatibility(old, candidate.manifest.signature)
    session.show(difference, sheets.compatibility_sheet(difference, old, candidate.version.ref))
    session.hint(f"see everything that differs with `crossfade models compare {old} {candidate.version.ref}`")


@command(models)
@click.argument("ref")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Where to; default: `NAME-VERSION` here.",
)
def download(session: Session, ref: str, folder: Path | None) -> None:
    """Download every file of a version, and its manifest; each is checked against its digest."""
    from crossfade.client.downloading import files_of
    from crossfade.core.identity import check_file_path

    with session.client() as client:
        details = client.version(ref)
        pinned = details.version
        folder = folder or Path(f"{pinned.model}-{pinned.version}")
        # a server must not choose where files go
        files = [(entry, folder / check_file_path(entry.path)) for entry in files_of(details)]
        for entry, path in files:
            with session.output.progress(entry.path) as progress:
                client.download(pinned.ref, entry.path, path, progress=progress)
    session.show([str(path) for _, path in files], sheets.files_sheet(files))
    session.hint(f"check what the registry keeps with `crossfade models verify {pinned.ref}`")


@command(models, changes=True)
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias instead.")
@click.option("--expected", default=None, metavar="VERSION", help="Refuse when the alias does not point there now.")
@click.option("--override-latch", is_flag=True, help="Make a version champion that was rolled back before.")
@reason_option
def alias(
    session: Session,
    name: str,
    alias: str,
    version: str | None,
    remove: bool,
    expected: str | None,
    override_latch: bool,
    reason: str,
) -> None:
    """Point an alias of a model to a version, once every serving process has it ready."""
    from crossfade.client import verbs

    if (version is None) != remove:
        raise click.UsageError("Give either a VERSION or `--remove`.")
    with session.client() as client:
        if version is None:
            call = verbs.remove_alias(name, alias, expected=expected, reason=reason)
        else:
            call = verbs.move_alias(
                name, alias, version, expected=expected, reason=reason, override_latch=override_latch
            )
        undo = f"go back with `crossfade models rollback {name} --alias {alias}`"
        see = f"see what happened with `crossfade models history {name} --alias {alias}`"
        session.change(
            client, call, sheets.switch_sheet, lambda report: undo if report.move.source and version else see
        )


@command(models, changes=True)
@click.argument("name")
@click.option("--alias", default="champion", show_default=True, help="The alias to move back.")
@reason_option
def rollback(session: Session, name: str, alias: str, reason: str) -> None:
    """Point an alias to where it pointed before."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(
            client,
            verbs.rollback(name, alias=alias, reason=reason),
            sheets.switch_sheet,
            lambda report: f"go forward again with `crossfade models alias {name} {alias} {report.move.source}`",
        )


@command(models, changes=True)
@click.argument("ref")
@click.argument("stage")
@reason_option
def transition(session: Session, ref: str, stage: str, reason: str) -> None:
    """Move a version to another stage."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(
            client,
            verbs.transition(ref, stage, reason=reason),
            sheets.one_version,
            lambda version: f"see its stages with `crossfade models history {version.ref}`",
        )


@command(models, changes=True)
@click.argument("ref")
@reason_option
def deprecate(session: Session, ref: str, reason: str) -> None:
    """Mark a version as deprecated; it stays usable."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(
            client,
            verbs.deprecate(ref, reason=reason),
            sheets.one_version,
            lambda version: f"see the others with `crossfade models versions {version.model}`",
        )


@command(models, changes=True, destroys=True)
@click.argument("ref")
@reason_option
def delete(session: Session, ref: str, reason: str) -> None:
    """Forget a version that nothing refers to."""
    from crossfade.client import verbs

    with session.client() as client:
        if not session.dry_run:
            session.output.confirm(f"Delete {client.version(ref).version.ref} for ever?", yes=session.yes)
        session.change(
            client,
            verbs.delete(ref, reason=reason),
            sheets.one_version,
            lambda _: "free the space, after the grace period, with `crossfade models gc`",
        )


@command(models)
@click.argument("ref")
def verify(session: Session, ref: str) -> None:
    """Read every byte of a version, load it, and ask it its golden requests."""
    with session.client() as client:
        report = client.verify(ref)
    session.show(report, sheets.verification(report))
    session.hint(f"predict with `crossfade predict {report.ref} ROWS_FILE`")


@command(models)
@click.argument("ref")
@click.option("--alias", default="", help="Only this alias.")
@cursor_option
@limit_option
def history(session: Session, ref: str, alias: str, cursor: str, limit: int) -> None:
    """Show what happened to a model's aliases and stages: who, when, why; for `name:1.2.0`, to that version's stage."""
    page: Page[Any]
    with session.client() as client:
        if ":" in ref:
            page = client.stage_history(ref, cursor=cursor, limit=limit)
            sheet = sheets.stage_sheet(page.items)
        elif alias:
            page = client.alias_history(ref, alias, cursor=cursor, limit=limit)
            sheet = sheets.move_sheet(page.items)
        else:
            page = client.history(ref, cursor=cursor, limit=limit)
            sheet = sheets.history_sheet(page.items)
    session.show(page, sheet)
    if page.next_cursor:
        which = f"{ref} --alias {alias}" if alias else ref
        session.hint(f"more with `crossfade models history {which} --cursor {page.next_cursor}`")
    else:
        session.hint(f"see where things stand with `crossfade models show {ref}`")


@command(models, changes=True)
def gc(session: Session) -> None:
    """Delete blobs that no version has needed for the grace period."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(
            client,
            verbs.collect_garbage(),
            sheets.garbage_sheet,
            lambda _: "check what is stored with `crossfade doctor`",
        )
