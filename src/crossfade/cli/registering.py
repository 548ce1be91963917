"""`crossfade models register` and `ensemble`: from files on this machine, or from versions, to a new version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crossfade.cli import sheets
from crossfade.cli.session import Session, command

_MEMBER_OPTIONS = {
    "weight": "weight",
    "budget": "budget_seconds",
    "on_failure": "on_failure",
    "substitute": "substitute",
}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _pairs(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"`{value}` is not NAME=VALUE", param=parameter)
        pairs[name] = text
    return pairs


_CARD = (
    click.option("--description", default="", help="What it is for."),
    click.option("--code", default="", help="Which code trained it."),
    click.option("--dataset", default="", help="Which data it was trained on."),
    click.option("--parameter", "parameters", multiple=True, callback=_pairs, metavar="NAME=JSON", help="Repeatable."),
    click.option("--tag", "tags", multiple=True, callback=_pairs, metavar="NAME=TEXT", help="Repeatable."),
    click.option("--evaluation", multiple=True, callback=_pairs, metavar="NAME=NUMBER", help="Repeatable."),
)


def _describing(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that a card is made of."""
    for option in _CARD:
        function = option(function)
    return function


@command(name="register", changes=True)
@click.argument("name")
@click.argument("model", type=_FILE)
@click.option("--version", default=None, help="Its semver; default: proposed from the change of the signature.")
@click.option("--preprocessor", type=_FILE, default=None, help="File of a fitted preprocessor.")
@click.option("--example", type=_FILE, default=None, help="Rows of input (JSON, CSV, Parquet); become golden requests.")
@click.option("--flavor", default=None, help="The format, when it should not be detected.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", help="Where it wants to run.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="Of one prediction; 0: as its format has it.")
@_describing
def register(
    session: Session,
    name: str,
    model: Path,
    *,
    version: str | None,
    preprocessor: Path | None,
    example: Path | None,
    flavor: str | None,
    device: Any,
    threads: int,
    **card: Any,
) -> None:
    """Register a model file as a new version. Doing it again with the same content changes nothing."""
    from crossfade.cli.rows import read_rows
    from crossfade.registry.packaging import pack
    from crossfade.registry.placement import Placement
    from crossfade.registry.publication import trust_policy
    from crossfade.settings import Settings

    draft = pack(
        model,
        preprocessor=preprocessor,
        example=None if example is None else read_rows(example, "crossfade models register --help"),
        flavor=flavor,
        card=_card(**card),
        policy=trust_policy(Settings.load().registry),
        placement=Placement(device, threads) if threads or device != "auto" else None,
    )
    with session.client() as client:
        if session.dry_run:
            session.rehearsed(client.rehearse_draft(name, draft, version=version).would)
            return
        with session.output.progress(f"sending {name}") as progress:
            registered = client.register_draft(name, draft, version=version, progress=progress)
    session.show(registered, sheets.one_version(registered))
    session.hint(f"serve it with `crossfade models alias {name} champion {registered.version}`")


@command(name="ensemble", changes=True)
@click.argument("name")
@click.option(
    "--method",
    type=click.Choice(["average", "soft_vote", "hard_vote", "stack", "first"]),
    required=True,
    help="Mean; vote by probability or by label; a model on the answers; the first that answers.",
)
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    callback=lambda _context, _parameter, values: tuple(map(_member, values)),
    metavar="REF[,KEY=VALUE]...",
    help="A version, and `weight`, `budget` (seconds), `on_failure` (fail, drop), `substitute` (a version) or "
    "`constant` (JSON, comes last); repeatable.",
)
@click.option("--stacker", default="", metavar="REF", help="For `stack`: the version that is asked last.")
@click.option("--version", default=None, help="Its semver; default: proposed from the change of the signature.")
@_describing
def ensemble(
    session: Session, name: str, method: Any, members: Any, stacker: str, version: str | None, **card: Any
) -> None:
    """Register versions that answer together as a new version; later moves of their aliases do not change it.

    Example: `crossfade models ensemble churn --method soft_vote --member churn@champion,weight=2 --member
    churn@challenger,budget=0.05,on_failure=drop`
    """
    from crossfade.client import verbs
    from crossfade.registry.ensembles.document import EnsembleSpec

    call = verbs.register_ensemble(name, EnsembleSpec(method, members, stacker), version=version, card=_card(**card))
    with session.client() as client:
        session.change(
            client,
            call,
            sheets.one_version,
            lambda registered: f"serve it with `crossfade models alias {name} champion {registered.version}`",
        )


def _member(text: str) -> Any:
    from crossfade.registry.ensembles.document import Member

    before, has_constant, constant = text.partition(",constant=")
    ref, *options = before.split(",")
    given: dict[str, Any] = {"constant": _json(constant)} if has_constant else {}
    for option in options:
        key, separator, value = option.partition("=")
        if key not in _MEMBER_OPTIONS or not separator:
            raise click.BadParameter(f"`{option}` is none of {', '.join(_MEMBER_OPTIONS)}=VALUE")
        given[_MEMBER_OPTIONS[key]] = _number(key, value) if key in {"weight", "budget"} else value
    if has_constant or "substitute" in given:
        given.setdefault("on_failure", "substitute")
    return Member(ref, **given)


def _card(
    evaluation: dict[str, str],
    tags: dict[str, str],
    parameters: dict[str, str],
    dataset: str,
    code: str,
    description: str,
) -> Any:
    from crossfade.registry.versions import Card

    return Card(
        description=description,
        evaluation={name: _number(name, text) for name, text in evaluation.items()},
        tags=tags,
        parameters={name: _json(text) for name, text in parameters.items()},
        dataset=dataset,
        code=code,
    )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.UsageError(f"`{name}` is `{text}`, not a number.") from error


def _json(text: str) -> Any:
    """Return the JSON value, or the text itself when it is none: `--parameter solver=lbfgs` needs no quotes."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
