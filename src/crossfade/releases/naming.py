"""`new_name`: what a rollout is called, so that nobody who says its name means something else."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from crossfade.errors import NotFoundError
from crossfade.releases.subjects.port import Subject
from crossfade.storage.tables import experiments, rollouts

_LONGEST = 64


def new_name(connection: Connection, subject: str, subjects: Iterable[Subject]) -> str:
    """Return a name for a rollout that no rollout, experiment, model or config has.

    Args:
        connection: From `Database.write`.
        subject: What is rolled out.
        subjects: Every kind of subject.
    """
    shortened = subject[: _LONGEST - 8]
    mine = rollouts.c.name.startswith(f"{shortened}-", autoescape=True)
    count = connection.scalar(select(func.count()).where(mine)) or 0
    kinds = tuple(subjects)
    names = (f"{shortened}-{number}" for number in itertools.count(count + 1))
    return next(name for name in names if not _is_taken(connection, name, kinds))


def _is_taken(connection: Connection, name: str, subjects: Iterable[Subject]) -> bool:
    for column in (rollouts.c.name, experiments.c.name):
        if connection.scalar(select(column).where(column == name)) is not None:
            return True
    for subject in subjects:
        with contextlib.suppress(NotFoundError):
            subject.stable(connection, name)
            return True
    return False
