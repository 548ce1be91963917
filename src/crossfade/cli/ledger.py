"""`crossfade ledger`: raw events as files, for whoever wants to analyse them elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from crossfade.cli.output import facts
from crossfade.cli.session import Session, command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def ledger() -> None:
    """Take exposures and outcomes out as files."""


@command(ledger, remote=False)
@click.option("--experiment", required=True, help="Whose events.")
@click.option(
    "--to", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A Parquet file to write."
)
def export(session: Session, experiment: str, target: Path) -> None:
    """Write the exposures of an experiment, and the outcomes that belong to them, to a Parquet file.

    Column `kind` says which a row is. It reads the database that the settings name, in little memory, however many
    events there are.
    """
    from crossfade.ledger.export import export_events
    from crossfade.platform import open_platform

    with open_platform() as platform:
        exported = export_events(platform.database, experiment, target)
    session.show(
        exported,
        facts(
            [
                ("file", str(target)),
                ("exposures", str(exported.exposures)),
                ("outcomes", str(exported.outcomes)),
                *(("missing", text) for text in exported.incomplete),
            ],
            name=str(target),
        ),
    )
    session.hint(f"read it with `polars.read_parquet('{target}')`")
