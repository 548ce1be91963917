"""`crossfade safety`: what answers have to be, and stopping a model or everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from crossfade.cli.models import cursor_option, limit_option
from crossfade.cli.session import Session, command
from crossfade.errors import UnavailableError

if TYPE_CHECKING:
    from crossfade.safety.rules import Emergency

_IN_FORCE = "see what is in force with `crossfade safety status`"
_GROUP = {"help_option_names": ["-h", "--help"]}
why_option = click.option("--reason", required=True, help="Why; it is kept in the audit log.")
reason_option = click.option("--reason", default="", help="Why; it is kept in the audit log.")
model_option = click.option("--model", default="", help="Only about this model.")
local_option = click.option(
    "--local", is_flag=True, help="Only on this machine, by a file in the home folder: works without the database."
)
_EXAMPLE = """
\b
{
  "model": "capacity",
  "checks": [
    {"kind": "range", "name": "possible", "output": "predict", "minimum": 1, "maximum": 100, "level": "critical"},
    {"kind": "expression", "name": "plausible", "expression": "predict <= 4 * workers + 2", "level": "unsafe"},
    {"kind": "change", "name": "calm", "output": "predict", "maximum": 20, "level": "warning"}
  ],
  "fallback": [{"kind": "last_safe"}, {"kind": "constant", "outputs": {"predict": 10}}],
  "latch": "fall_back"
}
"""


@click.group(context_settings=_GROUP)
def safety() -> None:
    """Look at every answer, give something else instead of unsafe ones, and stop models in an emergency."""


@command(safety)
def status(session: Session) -> None:
    """Show what is in force: emergencies, checks that are off, policies, and the violations of the last hour.

    Emergencies of this machine are told without a database, too.
    """
    from crossfade.cli.safety_sheets import status_sheet

    with _or_of_this_machine(session), session.client() as client:
        found = client.safety_status()
    session.show(found, status_sheet(found))
    if found.local:
        session.output.hint(f"{_end(found.local[0].model, ' --local')}, on that machine")
    elif found.emergencies:
        session.hint(_end(found.emergencies[0].model))
    elif not found.models:
        session.hint("give a model a policy with `crossfade safety policy set POLICY_FILE`")
    else:
        session.hint("see what was violated with `crossfade safety violations`")


# --- policies ---


@safety.group(context_settings=_GROUP)
def policy() -> None:
    """What the answers of a model have to be."""


@command(policy, "set", changes=True)
@click.argument("spec", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@reason_option
def set_(session: Session, spec: Path, reason: str) -> None:
    """Give a model the policy in SPEC (JSON, TOML or YAML), in the place of the one that it has."""
    from crossfade.cli.documents import read_spec
    from crossfade.cli.safety_sheets import one_policy
    from crossfade.client import safety_verbs as verbs
    from crossfade.safety.specs import SafetyPolicySpec

    call = verbs.put_safety_policy(
        read_spec(spec, SafetyPolicySpec, "crossfade safety policy set --help"), reason=reason
    )
    with session.client() as client:
        session.change(
            client,
            call,
            one_policy,
            lambda made: f"see what it finds: `crossfade safety violations --model {made.model}`",
        )


assert set_.help is not None  # noqa: S101 - its docstring
set_.help += f"\n\nFor example:\n{_EXAMPLE}"


@command(policy)
@click.argument("model")
def show(session: Session, model: str) -> None:
    """Show the policy of a model."""
    from crossfade.cli.safety_sheets import one_policy

    with session.client() as client:
        found = client.safety_policy(model)
    session.show(found, one_policy(found))
    session.hint(f"turn a check off for a while with `crossfade safety override {model} --check NAME`")


@command(policy, "list")
def list_(session: Session) -> None:
    """List policies."""
    from crossfade.cli.safety_sheets import policy_sheet

    with session.client() as client:
        found = client.safety_policies()
    session.show(found, policy_sheet(found))
    session.hint("see one with `crossfade safety policy show MODEL`")


@command(policy, changes=True, destroys=True)
@click.argument("model")
@why_option
def remove(session: Session, model: str, reason: str) -> None:
    """Let a model answer without checks."""
    from crossfade.cli.safety_sheets import one_policy
    from crossfade.client import safety_verbs as verbs

    if not session.dry_run:
        session.output.confirm(f"Let `{model}` answer without checks?", yes=session.yes)
    call = verbs.remove_safety_policy(model, reason=reason)
    with session.client() as client:
        session.change(client, call, one_policy, lambda _: _IN_FORCE)


@command(safety)
@click.argument("answers", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="", help="Whose policy, and whose signature.")
@click.option(
    "--policy",
    "spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="A policy in a file instead of the one that the model has.",
)
def check(session: Session, answers: Path, model: str, spec: Path | None) -> None:
    """Say what a policy finds in ANSWERS: a file with `outputs` and perhaps `inputs`, each a list of values by name."""
    import msgspec

    from crossfade.cli.documents import read_spec
    from crossfade.cli.safety_sheets import check_sheet
    from crossfade.safety.requests import CheckRequest
    from crossfade.safety.specs import SafetyPolicySpec

    see = "crossfade safety check --help"
    wanted = read_spec(answers, CheckRequest, see)
    if model:
        wanted = msgspec.structs.replace(wanted, model=model)
    if spec is not None:
        wanted = msgspec.structs.replace(wanted, policy=read_spec(spec, SafetyPolicySpec, see))
    with session.client() as client:
        report = client.check_safety(wanted)
    session.show(report, check_sheet(report))
    session.hint("use a policy with `crossfade safety policy set POLICY_FILE`")


# --- overrides ---


@command(safety, changes=True)
@click.argument("model")
@click.option("--check", "name", default="", help="Which one; default: all of them.")
@click.option("--version", default="", help="Only for this version.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), required=True, help="For how long.")
@why_option
def override(session: Session, model: str, name: str, version: str, minutes: float, reason: str) -> None:
    """Turn checks of a model off for a while; answers say so."""
    from crossfade.cli.safety_sheets import one_override
    from crossfade.client import safety_verbs as verbs

    call = verbs.override_safety(model, seconds=minutes * 60, reason=reason, check=name, version=version)
    with session.client() as client:
        session.change(
            client,
            call,
            one_override,
            lambda made: f"turn it on again with `crossfade safety end-override {made.id} --reason REASON`",
        )


@command(safety, changes=True)
@click.argument("id")
@why_option
def end_override(session: Session, id: str, reason: str) -> None:  # noqa: A002 - as the server calls it
    """Turn checks on again before their time."""
    from crossfade.cli.safety_sheets import one_override
    from crossfade.client import safety_verbs as verbs

    with session.client() as client:
        session.change(
            client,
            verbs.end_override(id, reason=reason),
            one_override,
            lambda _: "see which checks are off with `crossfade safety overrides --holding`",
        )


@command(safety)
@model_option
@click.option("--holding", is_flag=True, help="Only those that have an effect.")
@cursor_option
@limit_option
def overrides(session: Session, model: str, holding: bool, cursor: str, limit: int) -> None:
    """List checks that were turned off, newest first."""
    from crossfade.cli.safety_sheets import override_sheet

    with session.client() as client:
        page = client.overrides(model=model, holding=holding, cursor=cursor, limit=limit)
    session.show(page, override_sheet(page.items).narrowed(model, holding))
    _more(session, page, "overrides")


@command(safety)
@model_option
@click.option("--check", "name", default="", help="Only of this check.")
@click.option("--level", type=click.Choice(("warning", "unsafe", "critical")), default=None, help="Only of this level.")
@cursor_option
@limit_option
def violations(session: Session, model: str, name: str, level: str | None, cursor: str, limit: int) -> None:
    """List what was violated, newest first: by check, version and minute, with an example."""
    from crossfade.cli.safety_sheets import violation_sheet

    with session.client() as client:
        page = client.violations(model=model, check=name, level=level or "", cursor=cursor, limit=limit)
    session.show(page, violation_sheet(page.items).narrowed(model, name, level))
    _more(session, page, "violations")


def _more(session: Session, page: Any, noun: str) -> None:
    if page.next_cursor:
        session.hint(f"more with `crossfade safety {noun} --cursor {page.next_cursor}`")
    else:
        session.hint(_IN_FORCE)


# --- emergencies ---


@safety.group(context_settings=_GROUP)
def emergency() -> None:
    """Stop a model, or everything, within a second; it stays so until a person ends it."""


@command(emergency, changes=True)
@click.option("--model", default="", help="Only this model; default: everything.")
@click.option(
    "--mode",
    type=click.Choice(("block", "fall_back")),
    default="block",
    help="block: refuse; fall_back: give what the fallback of the policy gives, without asking the model.",
)
@local_option
@why_option
def on(session: Session, model: str, mode: str, local: bool, reason: str) -> None:
    """Stop a model, or everything, in every process."""
    from crossfade.cli.safety_sheets import emergency_sheet, local_emergency_sheet
    from crossfade.client import safety_verbs as verbs

    chosen: Any = mode
    if local:
        would = f"stop {_scope(model)} on this machine ({mode})"
        done = _on_this_machine(session, would, lambda latch, who: latch.put(model, chosen, reason, who))
        if done is not None:
            session.show(done, local_emergency_sheet(done))
            session.output.hint(_end(model, " --local"))
        return
    with _or_on_this_machine(session, "on", model), session.client() as client:
        session.change(
            client,
            verbs.begin_emergency(reason, mode=chosen, model=model),
            emergency_sheet,
            lambda report: _end(report.emergency.model),
        )


@command(emergency, changes=True)
@click.option("--model", default="", help="Only this model; default: everything.")
@local_option
@why_option
def off(session: Session, model: str, local: bool, reason: str) -> None:
    """Let a model, or everything, answer again."""
    from crossfade.cli.safety_sheets import ended_sheet
    from crossfade.client import safety_verbs as verbs

    if local:
        would = f"let {_scope(model)} answer again on this machine"
        done = _on_this_machine(session, would, lambda latch, who: latch.remove(model, reason, who))
        if done is not None:
            session.show(done, ended_sheet(done, reason))
            session.hint(_IN_FORCE)
        return
    with _or_on_this_machine(session, "off", model), session.client() as client:
        session.change(
            client,
            verbs.end_emergency(reason, model=model),
            lambda report: ended_sheet(report.emergency, reason, report),
            lambda _: _IN_FORCE,
        )


def _scope(model: str) -> str:
    return f"`{model}`" if model else "everything"


@contextmanager
def _or_on_this_machine(session: Session, verb: str, model: str) -> Iterator[None]:
    """Say what works while neither a server nor a database answers."""
    try:
        yield
    except UnavailableError:
        which = f" --model {model}" if model else ""
        command = f"crossfade safety emergency {verb}{which} --local --reason REASON"
        session.output.note(f"without a server and a database, on each machine that serves: `{command}`")
        raise


@contextmanager
def _or_of_this_machine(session: Session) -> Iterator[None]:
    """Tell what holds on this machine while neither a server nor a database answers, and that the rest is not known."""
    try:
        yield
    except UnavailableError as error:
        if _elsewhere():
            session.output.note(f"what that server does without a database: `curl -s {session.server}/health`")
            raise
        from crossfade.cli.safety_sheets import local_status_sheet
        from crossfade.safety.latch import Latch
        from crossfade.safety.requests import LocalSafetyStatus
        from crossfade.settings import Settings

        found = LocalSafetyStatus(Latch(Settings.load().home).read(), error.message)
        session.show(found, local_status_sheet(found))
        if found.local:
            session.output.hint(_end(found.local[0].model, " --local"))
        raise


def _elsewhere() -> bool:
    """Tell whether this is about another machine; an address in the environment is that of everyday commands."""
    return click.get_current_context().get_parameter_source("server") is ParameterSource.COMMANDLINE


def _on_this_machine(session: Session, would: str, change: Any) -> Emergency | None:
    """Change the files of this machine, unless it is rehearsed; no server and no database is asked."""
    from crossfade.safety.latch import Latch
    from crossfade.settings import Settings

    if _elsewhere():
        raise click.UsageError("`--local` is about this machine, and `--server` about another one.")
    if session.dry_run:
        session.rehearsed(would)
        return None
    try:
        principal = getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        principal = "local"
    done: Emergency = change(Latch(Settings.load().home), principal)
    return done


def _end(model: str, where: str = "") -> str:
    which = f" --model {model}" if model else ""
    return f"end it with `crossfade safety emergency off{which}{where} --reason REASON`"
