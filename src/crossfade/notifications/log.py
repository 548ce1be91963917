"""`LogChannel`: events as lines of the log."""

from __future__ import annotations

import logging

from crossfade.core.wording import in_one_line
from crossfade.notifications.event import Event

_log = logging.getLogger(__name__)
_LEVELS = {"info": logging.INFO, "ticket": logging.WARNING, "page": logging.ERROR}


class LogChannel:
    """Writes one line for each event."""

    def send(self, event: Event) -> None:
        """Write the line; what others have written into it cannot begin a line of its own."""
        summary = in_one_line(event.summary, None)
        _log.log(_LEVELS.get(event.severity, logging.INFO), "%s %s: %s", event.kind, event.subject, summary)
