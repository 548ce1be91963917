"""Configs as people see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment

if TYPE_CHECKING:
    from crossfade.configs.active import ReadConfig
    from crossfade.configs.difference import Difference
    from crossfade.configs.record import Config, ConfigVersion, MovedConfig
    from crossfade.configs.replaying import ReplayedModel
    from crossfade.configs.reports import DriftReport, ImpactReport

_DIGITS = 12


def config_sheet(configs: Iterable[Config]) -> Sheet:
    """Configs, one per row."""
    rows = [
        (each.name, _number(each.active), str(each.versions), _rollout(each), moment(each.created_at))
        for each in configs
    ]
    return Sheet(("config", "active", "versions", "rollout", "created"), rows, empty="no configs yet")


def one_config(item: Config) -> Sheet:
    """A config."""
    return facts(_about(item), name=item.name)


def moved_config(item: MovedConfig) -> Sheet:
    """A config of which another version was made active."""
    behind = f"follow later: {item.behind}" if item.behind else ""
    return facts([*_about(item), ("readers", behind)], name=item.name)


def _about(item: Config) -> list[tuple[str, str]]:
    return [
        ("config", item.name),
        ("description", item.spec.description),
        ("active", _number(item.active)),
        ("rollout", _rollout(item)),
        ("versions", str(item.versions)),
        ("schema", f"{len(item.spec.schema)} keywords" if item.spec.schema else ""),
        ("rules", ", ".join(rule.name for rule in item.spec.rules)),
        ("replays", ", ".join(replay.model for replay in item.spec.replays)),
        ("created", f"{moment(item.created_at)} by {item.created_by}"),
    ]


def version_sheet(versions: Iterable[ConfigVersion]) -> Sheet:
    """Versions, one per row."""
    rows = [
        (
            str(each.number),
            each.status.value,
            each.digest[:_DIGITS],
            each.created_by,
            each.approved_by,
            moment(each.changed_at),
            each.reason,
        )
        for each in versions
    ]
    return Sheet(("version", "status", "digest", "written by", "approved by", "changed", "reason"), rows)


def one_version(item: ConfigVersion) -> Sheet:
    """A version."""
    import msgspec

    document = "" if item.document is None else msgspec.json.format(msgspec.json.encode(item.document)).decode()
    pairs = [
        ("config", item.name),
        ("version", str(item.number)),
        ("status", f"{item.status.value}: {item.reason}" if item.reason else item.status.value),
        ("digest", item.digest),
        ("checks", _checks(item)),
        ("written", f"{moment(item.created_at)} by {item.created_by}"),
        ("approved by", item.approved_by),
        ("document", document),
    ]
    return facts(pairs, name=str(item.number))


def validation_sheet(item: ConfigVersion) -> Sheet:
    """What the checks of a version found."""
    found = () if item.validation is None else item.validation.problems
    if not found:
        return one_version(item)
    rows = [(each.check, each.path or "/", each.problem) for each in found]
    return Sheet(("check", "at", "problem"), rows)


def diff_sheet(changes: Iterable[Difference]) -> Sheet:
    """What differs, one per row."""
    return Sheet(("change", ""), [(each.op, each.words) for each in changes], empty="nothing differs")


def impact_sheet(report: ImpactReport) -> Sheet:
    """What a version would change."""
    affected = report.affected
    units = (
        "" if affected is None else f"{affected.units:,} in {affected.exposures:,} exposures of {affected.days} days"
    )
    if affected is not None and not affected.complete:
        units += ", of those that were looked at"
    left = report.changed - len(report.changes)
    pairs = [
        ("config", f"{report.name}, version {report.number}"),
        ("compared with", f"version {report.against}" if report.against is not None else "nothing: none is active"),
        *(("change", each.words) for each in report.changes),
        ("change", f"{left} more" if left else ""),
        ("units", units),
        *((f"replay of {each.model}", _replay(each)) for each in report.replays),
    ]
    return facts(pairs, name=report.name)


def read_sheet(found: ReadConfig) -> Sheet:
    """What a reader gets."""
    import msgspec

    pairs = [
        ("config", found.name),
        ("version", str(found.number)),
        ("variant", found.variant),
        ("why", found.why),
        ("digest", found.digest),
        ("document", msgspec.json.format(found.document).decode()),
    ]
    return facts(pairs, name=str(found.number))


def drift_sheet(report: DriftReport) -> Sheet:
    """Who runs what."""
    rows = [
        (
            each.client,
            each.state,
            _number(each.number) or each.digest[:_DIGITS] or "nothing",
            _number(each.expected),
            each.unit,
            moment(each.seen_at),
        )
        for each in report.clients
    ]
    return Sheet(("client", "state", "runs", "should run", "unit", "heard of"), rows, empty="no client was heard of")


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def _rollout(item: Config) -> str:
    return ", ".join(f"{variant}: {number}" for variant, number in item.rollout.items())


def _checks(item: ConfigVersion) -> str:
    if item.validation is None:
        return "have not run"
    return "passed" if item.validation.valid else item.validation.problem


def _replay(each: ReplayedModel) -> str:
    if not each.rows:
        return each.problem
    text = f"{each.different:,} of {each.rows:,} answers differ ({each.source})"
    lost = each.failed_after - each.failed_before
    if lost > 0:
        text += f"; {lost:,} more rows have no answer: {each.problem}"
    for name, output in each.outputs.items():
        if output.mean_absolute is not None and output.max_absolute is not None:
            text += f"; {name} by {output.mean_absolute:.4g} on average, {output.max_absolute:.4g} at most"
    return text
