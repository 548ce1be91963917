"""The environment of each peer, built from its lock file where it is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_of(peer: str) -> Path:
    """The Python of an environment, which is built where it is missing or its lock has changed.

    Raises:
        RuntimeError: It cannot be installed; says why.
    """
    target = Path(f".venvs/peers/{peer}/.packages" if peer else ".venvs/demo/.ready")
    built = subprocess.run(["make", str(target)], cwd=ROOT, check=False, capture_output=True, text=True)
    if built.returncode:
        errors = [line for line in built.stderr.splitlines() if line.startswith("ERROR")] or built.stderr.splitlines()
        raise RuntimeError(f"it cannot be installed ({errors[-1].strip()})")
    return ROOT / target.parent / "bin" / "python"


def version_of(package: str, python: Path) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
