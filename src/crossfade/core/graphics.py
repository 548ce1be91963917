"""Which GPUs there are for this process."""

from __future__ import annotations

import os
import re
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"nvidia(\d+)")


def visible_gpus(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the GPUs of this machine by the names that `CUDA_VISIBLE_DEVICES` has for them, as far as it allows.

    Args:
        devices: Where the driver shows them.
    """
    found = [match[1] for path in devices.glob("nvidia*") if (match := _DEVICE.fullmatch(path.name))]
    if not found:
        return ()
    allowed = os.environ.get(VISIBLE)
    if allowed is None:
        return tuple(str(number) for number in range(len(found)))  # they are counted anew in a container
    return tuple(name for name in map(str.strip, allowed.split(",")) if name and name != "-1")
