"""The command `crossfade demo`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from crossfade.cli.output import Output
from crossfade.errors import CrossfadeError


@click.command()
@click.option("--once", is_flag=True, help="End by itself; exit code 0 only if every promise was kept.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Serving processes.")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".crossfade/demo"),
    show_default=True,
    help="Folder of the demo; emptied at the start when an earlier demo made it.",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="Of the server. [default: 8000, or any free one]")
@click.option("--rate", type=click.FloatRange(1, 2000), default=100.0, show_default=True, help="Requests per second.")
@click.option(
    "--watch",
    type=click.FloatRange(0.5, 600),
    default=4.0,
    show_default=True,
    help="Seconds to watch the traffic between two steps.",
)
@click.option(
    "--first-day",
    type=click.IntRange(1, 31),
    default=3,
    show_default=True,
    metavar="DAY",
    help="Of December, with which the replay begins.",
)
@click.option(
    "--train-every",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Train on every N-th flight only: sooner, and worse.",
)
def demo(
    *,
    once: bool,
    home: Path,
    port: int | None,
    workers: int,
    rate: float,
    watch: float,
    first_day: int,
    train_every: int,
) -> None:
    """Watch real models being released, tried and chosen, on real data.

    Trains models of flight delays and replays later flights as live requests. First a version is released under load, a
    broken one is refused, and the release is rolled back. Then an experiment finds out which version is better, and
    ships it by itself. Then a bandit shares the flights among three versions. At last rollouts take back a version that
    only live answers betray, promote the repaired one, and release a configuration. Takes about three minutes.
    """
    from crossfade.cli.demo.screen import Screen
    from crossfade.cli.demo.story import Plan, Story

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # so that the server is stopped on the way out
    plan = Plan(home, port, workers, rate, first_day, watch, train_every, once)
    screen = Screen(drawn=sys.stdout.isatty())
    try:
        promises = Story(plan, screen).tell()
    except CrossfadeError as error:
        Output().error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if promises else 0)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
