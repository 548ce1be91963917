"""`ConfigDesk`: everything about configs that is open in one process, wired together."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from crossfade.configs.backends import open_board, open_copy, own_board
from crossfade.configs.configs import Configs
from crossfade.configs.drift import Drift
from crossfade.configs.following import ConfigFollower
from crossfade.configs.impact import Impact
from crossfade.configs.publishing import Publisher
from crossfade.configs.reading import ConfigReaders
from crossfade.configs.references import References
from crossfade.configs.replaying import OpenPredictor
from crossfade.configs.store import ConfigStore
from crossfade.registry.registry import Registry
from crossfade.settings import Settings
from crossfade.storage.database import Database


@dataclass(frozen=True)
class ConfigDesk:
    """What is open.

    Attributes:
        verbs: Everything that people do with configs.
        store: What is written about them inside of somebody's transaction, such as that of a rollout.
        impact: What versions would change.
        readers: Answers those who read, and lets them wait for news.
        drift: Who runs what.
        follower: Keeps this process on what there is to read, where it serves.
    """

    verbs: Configs
    store: ConfigStore
    impact: Impact
    readers: ConfigReaders
    drift: Drift
    follower: ConfigFollower | None


def open_desk(
    settings: Settings,
    database: Database,
    registry: Registry,
    open_predictor: OpenPredictor,
    opening: ExitStack,
    *,
    serve: bool,
) -> ConfigDesk:
    """Open it.

    Args:
        settings: All of them.
        database: Where configs are decided.
        registry: What their documents refer to.
        open_predictor: Loads a model for a while.
        opening: What closes it.
        serve: Whether this process follows configs, and copies them to the server that they are read from, if any.

    Raises:
        SettingsError: The board that is configured cannot be used.
    """
    store, board = ConfigStore(), open_board(settings, database)
    drift = Drift(database, own_board(settings, database), settings.configs)
    follower = None
    if serve:
        follower = ConfigFollower(board, upkeep=drift.upkeep)
        opening.callback(follower.close)
        follower.start()
        copy = open_copy(settings)
        if copy is not None:
            publisher = Publisher(own_board(settings, database), copy)
            opening.callback(publisher.close)
            publisher.start()
    else:
        opening.callback(board.close)
    references = References(registry, database)
    return ConfigDesk(
        Configs(store, database, references, four_eyes=settings.configs.four_eyes),
        store,
        Impact(store, database, settings.capture_folder, open_predictor),
        ConfigReaders(board, follower, max_waiting=settings.configs.max_waiting),
        drift,
        follower,
    )
