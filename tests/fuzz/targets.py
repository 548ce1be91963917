"""All fuzz targets, and the inputs that once broke them."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import front, inner

TARGETS = {target.name: target for target in (*front.TARGETS, *inner.TARGETS)}
CASES = Path(__file__).parent / "cases"


def cases(name: str) -> list[Path]:
    """Return the files of inputs that once broke a target."""
    return sorted((CASES / name).glob("*"))
