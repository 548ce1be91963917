"""`crossfade alerts`: what is wrong, by which rules, who is told, and silences."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from crossfade.cli.models import limit_option
from crossfade.cli.output import Sheet, moment
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.alerts.record import Alert, Silence, Told
    from crossfade.alerts.rule import AlertRule

STATUSES = ("firing", "pending", "resolved")
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def alerts() -> None:
    """See what is wrong, and by which rules; ask for silence."""


@command(alerts, "list")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only those with this status.")
@click.option("--rule", default="", help="Only those of this rule.")
@click.option("--model", default="", help="Only those about this model.")
@limit_option
def list_(session: Session, status: str | None, rule: str, model: str, limit: int) -> None:
    """List alerts: firing ones first, then pending, then those that are over."""
    with session.client() as client:
        found = client.alerts(status=status or "", rule=rule, model=model, limit=limit)
    session.show(found, _alert_sheet(found).narrowed(status, rule, model))
    if any(alert.status == "firing" for alert in found):
        session.hint(f"quiet for two hours: `crossfade alerts silence rule={found[0].rule} --for 2h --reason WHY`")
    else:
        session.hint("see what is looked at with `crossfade alerts rules`")


@command(alerts)
@click.option("--prometheus", is_flag=True, help="Print them as a rule file of Prometheus.")
def rules(session: Session, prometheus: bool) -> None:
    """List the rules, with the thresholds of the settings; or export them to Prometheus."""
    with session.client() as client:
        if prometheus:
            session.output.data(client.prometheus_rules().rstrip())
            session.hint("check it with `promtool check rules`, and name it in `rule_files` of Prometheus")
            return
        found = client.alert_rules()
    session.show(found, _rule_sheet(found))
    session.hint("for Prometheus: `crossfade alerts rules --prometheus > crossfade-rules.yml`")


@command(alerts, changes=True)
@click.argument("matchers", nargs=-1, required=True, metavar="LABEL=VALUE...")
@click.option("--for", "length", required=True, metavar="TIME", help="How long: `90s`, `30m`, `2h`, `1d`.")
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
def silence(session: Session, matchers: tuple[str, ...], length: str, reason: str) -> None:
    """Let nobody be told of alerts that match all of these: `model=churn`, `rule=Model*`, `severity!=page`."""
    from crossfade.client import verbs

    call = verbs.silence(matchers, seconds=_seconds(length), reason=reason)
    with session.client() as client:
        session.change(
            client,
            call,
            lambda made: _silence_sheet((made,)),
            lambda made: f"end it: `crossfade alerts unsilence {made.id}`",
        )


@command(alerts)
@click.option("--all", "over", is_flag=True, help="Also those that are over.")
def silences(session: Session, over: bool) -> None:
    """List silences, the newest first."""
    with session.client() as client:
        found = client.silences(over=over)
    session.show(found, _silence_sheet(found))
    session.hint("end one with `crossfade alerts unsilence ID`")


@command(alerts, changes=True)
@click.argument("silence_id", metavar="ID")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def unsilence(session: Session, silence_id: str, reason: str) -> None:
    """End a silence before its time."""
    from crossfade.client import verbs

    call = verbs.end_silence(silence_id, reason=reason)
    with session.client() as client:
        session.change(
            client,
            call,
            lambda ended: _silence_sheet((ended,)),
            lambda _: "see what fires with `crossfade alerts list`",
        )


@command(alerts, changes=True)
@click.argument("channel", default="")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def test(session: Session, channel: str, reason: str) -> None:
    """Tell CHANNEL, or all channels, of nothing in particular, and say what became of it; fails if one was not told."""
    from crossfade.client import verbs
    from crossfade.errors import NotificationFailedError

    untold: list[str] = []

    def following(found: tuple[Told, ...]) -> str:
        untold.extend(each.channel for each in found if each.problem)
        return (
            f"try `{untold[0]}` again when it is repaired" if untold else "see what fires with `crossfade alerts list`"
        )

    with session.client() as client:
        session.change(client, verbs.try_channels(channel, reason=reason), _told_sheet, following)
    if untold:
        sys.exit(NotificationFailedError.exit_code)


def _seconds(text: str) -> float:
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise click.UsageError(f"`{text}` is no length of time such as `90s`, `30m`, `2h` or `1d`")
    return float(found[1]) * _UNITS[found[2]]


def _alert_sheet(found: Iterable[Alert]) -> Sheet:
    rows = [
        (
            alert.rule,
            _status(alert),
            alert.severity,
            ", ".join(f"{name}={value}" for name, value in alert.labels.items()),
            moment(alert.fired_at or alert.since),
            alert.reason,
        )
        for alert in found
    ]
    return Sheet(("alert", "status", "severity", "about", "since", "reason"), rows, empty="nothing is wrong")


def _status(alert: Alert) -> str:
    said = {"well again": alert.well_since is not None, "silenced": alert.silenced, "flapping": alert.flapping}
    return ", ".join([alert.status.value, *(words for words, holds in said.items() if holds)])


def _rule_sheet(found: Iterable[AlertRule]) -> Sheet:
    rows = [
        (rule.name, rule.severity, f"{rule.for_seconds:g} s" if rule.for_seconds else "at once", rule.meaning)
        for rule in found
    ]
    return Sheet(("rule", "severity", "after", "meaning"), rows, empty="every rule is disabled")


def _silence_sheet(found: Iterable[Silence]) -> Sheet:
    rows = [
        (
            each.id,
            " and ".join(map(str, each.matchers)),
            moment(each.ends_at),
            each.created_by,
            each.ended_by,
            each.reason,
        )
        for each in found
    ]
    return Sheet(("silence", "of alerts with", "until", "by", "ended by", "reason"), rows, empty="no silence")


def _told_sheet(found: Iterable[Told]) -> Sheet:
    rows = [(each.channel, each.problem or "told") for each in found]
    return Sheet(("channel", "result"), rows, empty="there is no channel")
