"""`PolicyReport`: what a policy would have earned, how sure that is, and why one may doubt it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from crossfade.methods.stats.values import NotEstimable

Method = Literal["logged", "ips", "clipped_ips", "snips", "dm", "dr"]
TITLES: dict[Method, str] = {
    "logged": "as it was",
    "ips": "inverse propensity (IPS)",
    "clipped_ips": "clipped IPS",
    "snips": "self-normalised (SNIPS)",
    "dm": "direct method (DM)",
    "dr": "doubly robust (DR)",
}


class PolicyValue(msgspec.Struct, frozen=True, tag="policy_value"):
    """The mean reward of a policy, by one method.

    Args:
        method: Which.
        value: Mean reward.
        standard_error: Of it.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        gain: Value less what was earned as it was.
        gain_lower: Lower end of the interval of the gain, which is narrower than the difference of two intervals
            because both are from the same rows.
        gain_upper: Upper end of the interval of the gain.
    """

    method: Method
    value: float
    standard_error: float
    lower: float
    upper: float
    gain: float
    gain_lower: float
    gain_upper: float


class PolicyReport(msgspec.Struct, frozen=True, tag="policy_report"):
    """What a log says about a policy.

    Args:
        rows: In the log.
        actions: Different ones in the log.
        effective_size: How many rows of equal importance would say as much.
        mean_importance: Should be 1.
        largest_importance: Of one row.
        clip: Where clipped IPS cuts importance off.
        alpha: Intervals miss with this probability.
        logged: Mean reward as it was.
        values: By each method; `NotEstimable` where one needs what is not there.
        refusal: Why nothing is estimated at all; None when it is, and `values` is empty otherwise.
        warnings: Why one may doubt it, in words.
    """

    rows: int
    actions: int
    effective_size: float
    mean_importance: float
    largest_importance: float
    clip: float
    alpha: float
    logged: PolicyValue
    values: dict[Method, PolicyValue | NotEstimable]
    refusal: NotEstimable | None = None
    warnings: tuple[str, ...] = ()

    def value(self, method: Method) -> PolicyValue | NotEstimable:
        """Return what a method found, or why it found nothing."""
        return self.refusal or self.values[method]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dict for each method, what was logged first: for a data frame, or CSV."""
        rows: list[dict[str, Any]] = [{**msgspec.structs.asdict(self.logged), "reason": None}]
        for method, each in self.values.items():
            if isinstance(each, NotEstimable):
                nothing = dict.fromkeys(PolicyValue.__struct_fields__)
                rows.append({**nothing, "method": method, "reason": each.reason})
            else:
                rows.append({**msgspec.structs.asdict(each), "reason": None})
        return rows

    def to_markdown(self) -> str:
        """Return a table, and below it what the estimates rest on."""
        lines = ["| method | mean reward | interval | gain | interval |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in self.table()]
        lines += ["", f"{self.basis()}."]
        if self.refusal is not None:
            lines.append(f"Not estimable: {self.refusal.reason}.")
        lines += [f"Careful: {warning}." for warning in self.warnings]
        return "\n".join(lines) + "\n"

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return rows of text: method, mean reward and interval, gain and interval."""
        found: list[tuple[str, str, str, str, str]] = []
        for method, each in {"logged": self.logged, **self.values}.items():
            title = TITLES[method]
            if isinstance(each, NotEstimable):
                found.append((title, "", f"not estimable: {each.reason}", "", ""))
                continue
            value = (title, f"{each.value:.6g}", f"{each.lower:.6g} to {each.upper:.6g}")
            gain = (f"{each.gain:+.6g}", f"{each.gain_lower:+.6g} to {each.gain_upper:+.6g}")
            found.append((*value, *(("", "") if method == "logged" else gain)))
        return found

    def basis(self) -> str:
        """Return what the estimates rest on, in words."""
        size = f"{self.rows:,} rows of {self.actions} actions, of which {self.effective_size:,.0f} count effectively"
        importance = f"{self.mean_importance:.3f} on average and {self.largest_importance:.3g} at most"
        return f"{size}; importance {importance}; intervals of {1 - self.alpha:.0%}"
