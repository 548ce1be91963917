"""Which kinds of subjects there are."""

from __future__ import annotations

from collections.abc import Mapping

from tests.releases.simulation.subjects.configs import ConfigLife
from tests.releases.simulation.subjects.models import ModelLife
from tests.releases.simulation.subjects.port import Subject

KINDS: Mapping[str, type[Subject]] = {"model": ModelLife, "config": ConfigLife}
