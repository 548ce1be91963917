"""Which flavors there are, in the order in which they are tried, and how to find the right one.

An installed package adds its own through the entry point group `crossfade.flavors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from crossfade.errors import UnknownFlavorError
from crossfade.registry.flavors.port import Flavor

GROUP = "crossfade.flavors"

FLAVORS: dict[str, str] = {
    "onnx": "crossfade.registry.flavors.onnx:Onnx",
    "xgboost": "crossfade.registry.flavors.xgboost:XGBoost",
    "lightgbm": "crossfade.registry.flavors.lightgbm:LightGBM",
    "catboost": "crossfade.registry.flavors.catboost:CatBoost",
    "sklearn": "crossfade.registry.flavors.sklearn:Sklearn",
    "torch": "crossfade.registry.flavors.torch:Torch",
    "ensemble": "crossfade.registry.flavors.ensemble:Ensembles",
    "torchscript": "crossfade.registry.flavors.torchscript:TorchScript",
    "code": "crossfade.registry.flavors.code:Code",
}
"""Name -> `module:Class`. Safe formats come first; wrappers that are scikit-learn estimators too come before it."""


def flavor_named(name: str) -> Flavor:
    """Return the flavor with this name.

    Raises:
        UnknownFlavorError: There is none.
    """
    target = _targets().get(name)
    if target is None:
        raise UnknownFlavorError(given=f"`{name[:80]}`", supported=", ".join(_targets()))
    return _load(target)


def flavor_for(model: object) -> Flavor:
    """Return the first flavor that can save this object.

    Raises:
        UnknownFlavorError: None can.
    """
    for flavor in _flavors():
        if flavor.recognises(model):
            return flavor
    kind = type(model)
    raise UnknownFlavorError(given=f"a `{kind.__module__}.{kind.__qualname__}`", supported=", ".join(_targets()))


def flavor_for_file(path: str, head: bytes) -> Flavor:
    """Return the first flavor that a file is in.

    Args:
        path: The name of the file.
        head: Its first 4 KiB.

    Raises:
        UnknownFlavorError: It is in none.
    """
    for flavor in _flavors():
        if flavor.detects(path, head):
            return flavor
    raise UnknownFlavorError(given=f"the file `{path[:120]}`", supported=", ".join(_targets()))


def _flavors() -> Iterator[Flavor]:
    return (_load(target) for target in _targets().values())


@cache
def _targets() -> dict[str, str]:
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    return {**FLAVORS, **{name: value for name, value in installed.items() if name not in FLAVORS}}


@cache
def _load(target: str) -> Flavor:
    module, _, attribute = target.partition(":")
    return cast("Flavor", getattr(import_module(module), attribute)())
