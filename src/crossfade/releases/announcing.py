"""Who is told of rollouts, and who can be asked: channels hear of every change, and webhooks of checks are asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from crossfade.errors import SettingsError, WebhookRefusedError
from crossfade.notifications.channels import Channels
from crossfade.notifications.event import Event
from crossfade.releases.checks.measuring import described
from crossfade.releases.checks.spec import CheckSpec, ThresholdCheck, WebhookCheck
from crossfade.releases.rollout import Rollout, RolloutStatus

_SEVERITIES = {RolloutStatus.ROLLED_BACK: "ticket", RolloutStatus.PAUSED: "ticket"}
_WORDS = {
    RolloutStatus.PREPARING: "is being prepared",
    RolloutStatus.PROGRESSING: "goes on",
    RolloutStatus.PAUSED: "waits for a person",
    RolloutStatus.COMPLETED: "is complete",
    RolloutStatus.ROLLED_BACK: "was rolled back",
    RolloutStatus.ABORTED: "was aborted",
}


def event_of(rollout: Rollout, at: datetime) -> Event:
    """Return what channels are told of a rollout that has changed.

    Example:
        >>> event_of(rollout, at).kind  # doctest: +SKIP
        'rollout.rolled_back'
    """
    kind = f"rollout.{rollout.status.value}"
    words = _WORDS[rollout.status]
    if rollout.status is RolloutStatus.PROGRESSING:
        words += f" in step {rollout.state.step + 1} of {len(rollout.plan.steps)}, with weight {rollout.weight:.4g}"
    return Event(
        kind,
        f"{rollout.subject}:{rollout.candidate}",
        f"rollout {rollout.name} of {rollout.candidate} {words}: {rollout.reason}",
        at,
        _SEVERITIES.get(rollout.status, "info"),
        rollout.subject if rollout.kind == "model" else "",
        described(rollout, kind),
    )


class Reach:
    """What checks can reach from here; told when a rollout is created, so that none waits for what never answers.

    Args:
        channels: Knows which hosts may be private.
        secret: What requests to webhooks are signed with; empty for none.
        prometheus: Whether a server is configured.
    """

    def __init__(self, channels: Channels, secret: str, *, prometheus: bool) -> None:
        self._channels = channels
        self._secret = secret
        self._prometheus = prometheus

    def objection(self, check: CheckSpec) -> str:
        """Say why a check can never be answered; nothing where it can."""
        if isinstance(check, ThresholdCheck) and check.query and not self._prometheus:
            return "asks Prometheus, and no server is configured: set `CROSSFADE_TELEMETRY__PROMETHEUS_URL`"
        if not isinstance(check, WebhookCheck):
            return ""
        if not self._secret:
            return "asks a webhook, and there is nothing to sign with: set `CROSSFADE_RELEASES__WEBHOOK_SECRET`"
        try:
            self._channels.webhook(check.url, self._secret).require_address()
        except (WebhookRefusedError, SettingsError) as error:
            return f"asks a webhook that cannot be called: {error.message}"
        return ""


class Webhooks:
    """Asks services that checks name; implements `Asks`.

    Args:
        channels: Knows which hosts may be private.
        secret: What requests are signed with.
    """

    def __init__(self, channels: Channels, secret: str) -> None:
        self._channels = channels
        self._secret = secret

    def ask(self, url: str, event: dict[str, Any]) -> dict[str, Any]:
        """Send an event, signed, and return what was answered.

        Raises:
            WebhookRefusedError: The URL may not be called.
            NotificationFailedError: It was not reached, or has not answered with JSON.
        """
        return self._channels.webhook(url, self._secret).ask(event, kind=event["event"])
