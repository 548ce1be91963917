"""`Channels`: everywhere that this deployment tells of events, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from crossfade.errors import ChannelNotFoundError, SettingsError, WebhookRefusedError
from crossfade.notifications.courier import Channel, Courier, Done
from crossfade.notifications.event import Event, Severity
from crossfade.notifications.log import LogChannel
from crossfade.notifications.mail import MailChannel
from crossfade.notifications.webhook import Webhook
from crossfade.settings import NotificationSettings

LOG, MAIL = "log", "mail"


class WebhookChannel:
    """A webhook as a channel: events as JSON."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def send(self, event: Event) -> None:
        """Send the event.

        Raises:
            CrossfadeError: What `Webhook.send` raises.
        """
        self._webhook.send(msgspec.to_builtins(event))


class Channels:
    """Tells all channels of an event, each on a thread of its own; nobody waits for any of them.

    Args:
        settings: The section `notifications`.
        channels: Instead of those that the settings name: name -> (channel, least severity).

    Raises:
        SettingsError: A channel cannot be as the settings say.

    Example:
        >>> with Channels(NotificationSettings()) as channels:
        ...     channels.names
        ('log',)
    """

    def __init__(
        self, settings: NotificationSettings, channels: Mapping[str, tuple[Channel, Severity]] | None = None
    ) -> None:
        self._settings = settings
        made = _made(settings) if channels is None else channels
        self._channels = {name: channel for name, (channel, _) in made.items()}
        self._least = {name: least for name, (_, least) in made.items()}
        self._couriers = {name: Courier(name, channel) for name, channel in self._channels.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The channels there are."""
        return tuple(self._channels)

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """(channel, result) -> events."""
        found = {(name, str(result)): n for name, each in self._couriers.items() for result, n in each.counts.items()}
        return MappingProxyType(found)

    def of(self, severity: str) -> tuple[str, ...]:
        """Return the channels that are told of events of this severity."""
        reached = Severity[severity.upper()]
        return tuple(name for name, least in self._least.items() if reached >= least)

    def bring(self, name: str, event: Event, done: Done) -> None:
        """Tell one channel, and say what became of it.

        Raises:
            ChannelNotFoundError: There is none of this name.
        """
        self._check(name)
        self._couriers[name].bring(event, done)

    def send(self, name: str, event: Event) -> None:
        """Tell one channel now, once, on this thread.

        Raises:
            ChannelNotFoundError: There is none of this name.
            CrossfadeError: It did not work.
        """
        self._check(name)
        self._channels[name].send(event)

    def webhook(self, url: str, secret: str) -> Webhook:
        """Return a webhook to a URL that somebody who is no operator has named; only listed hosts may be private.

        Raises:
            WebhookRefusedError: It may not be called.
            SettingsError: The secret is too short.
        """
        return _webhook(url, secret, self._settings)

    def close(self) -> None:
        """Let attempts under way finish; drop, count and log what waits."""
        for courier in self._couriers.values():
            courier.close()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _check(self, name: str) -> None:
        if name not in self._channels:
            raise ChannelNotFoundError(name=name[:80], known=", ".join(self._channels) or "none")


def _made(settings: NotificationSettings) -> dict[str, tuple[Channel, Severity]]:
    made: dict[str, tuple[Channel, Severity]] = {}
    if settings.log:
        made[LOG] = (LogChannel(), Severity.INFO)
    if settings.mail_host:
        channel = MailChannel(
            settings.mail_host,
            settings.mail_port,
            starttls=settings.mail_starttls,
            sender=settings.mail_from,
            recipients=settings.mail_to,
            username=settings.mail_username,
            password=settings.mail_password.get_secret_value(),
        )
        made[MAIL] = (channel, Severity[settings.mail_least.upper()])
    for name, rules in settings.webhooks.items():
        try:
            webhook = _webhook(rules.url.get_secret_value(), rules.secret.get_secret_value(), settings)
        except (WebhookRefusedError, SettingsError) as error:
            problem = str(error.facts.get("problem", error))
            raise SettingsError(field=f"notifications.webhooks.{name}", problem=problem) from None
        made[name] = (WebhookChannel(webhook), Severity[rules.least.upper()])
    return made


def _webhook(url: str, secret: str, settings: NotificationSettings) -> Webhook:
    webhook = Webhook(url, secret)
    if webhook.target.host in {host.lower() for host in settings.private_hosts}:
        return Webhook(url, secret, allow_private=True)
    return webhook
