"""`crossfade cache`: what is kept of answers, and letting go of it."""

from __future__ import annotations

import click

from crossfade.cli import sheets
from crossfade.cli.session import Session, command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cache() -> None:
    """See what is kept of answers, and have them computed anew."""


@command(cache)
def show(session: Session) -> None:
    """Show what is kept; numbers are those of the one process that answers this."""
    with session.client() as client:
        status = client.cache_status()
    session.show(status, sheets.cache_sheet(status))
    if status.mode == "off":
        session.hint("switch it on with `CROSSFADE_CACHE__MODE=on crossfade serve`")
    else:
        session.hint("have answers computed anew with `crossfade cache invalidate REF`")


@command(cache, changes=True)
@click.argument("ref")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def invalidate(session: Session, ref: str, reason: str) -> None:
    """Have the answers of a version computed anew in every process; a bare name means all versions of the model."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(
            client,
            verbs.invalidate_answers(ref, reason=reason),
            sheets.invalidation_sheet,
            lambda _: "see what is kept with `crossfade cache show`",
        )
