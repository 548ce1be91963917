"""Check that the lock files still answer the requirements, and that they name no address.

Usage: python tools/check_locks.py [ROOT]

Completeness needs no check here: `pip install --require-hashes` refuses a lock that lacks a dependency or a hash.
What pip cannot see is a lock older than `pyproject.toml` and the `requirements/*.in` files it was made from.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SOURCES: dict[str, list[str]] = {"build": [], "conformance": [], "demo": ["demo"], "test": ["all"]}
"""Lock name -> the extras of the project it holds, beside the requirements in its own `.in` file.

The locks in `peers/` hold nothing but what their own files ask for.
"""

PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
ADDRESS = re.compile(r"://|(?:^|\s)/\w|--(?:extra-)?index-url|--find-links")


def project_requirements(pyproject: Path, extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield the project's dependencies and those of some extras, following extras that name other extras."""
    project = tomllib.loads(pyproject.read_text())["project"]
    pending = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        pending += [Requirement(text) for text in project["optional-dependencies"][extra]]
    while pending:
        requirement = pending.pop()
        if requirement.name != project["name"]:
            yield requirement
            continue
        for extra in sorted(requirement.extras):
            pending += [Requirement(text) for text in project["optional-dependencies"][extra]]


def file_requirements(path: Path) -> Iterator[Requirement]:
    """Yield the requirements of a `.in` file; a missing file has none."""
    for line in path.read_text().splitlines() if path.exists() else ():
        if text := line.partition("#")[0].strip():
            yield Requirement(text)


def problems(root: Path) -> Iterator[str]:
    """Yield each disagreement between a lock and what it was made from, as `path: problem`."""
    peers: dict[str, list[str]] = {f"peers/{path.stem}": [] for path in sorted(root.glob("requirements/peers/*.in"))}
    for name, extras in (SOURCES | peers).items():
        lock = root / "requirements" / f"{name}.txt"
        text = lock.read_text()
        pins: dict[str, list[str]] = {}
        for match in PIN.finditer(text):
            pins.setdefault(canonicalize_name(match["name"]), []).append(match["version"])
        wanted = list(file_requirements(lock.with_suffix(".in")))
        if extras:
            wanted += project_requirements(root / "pyproject.toml", extras)
        for requirement in wanted:
            versions = pins.get(canonicalize_name(requirement.name), [])
            if not versions:
                yield f"{lock.relative_to(root)}: {requirement.name} is not locked"
            elif not all(requirement.specifier.contains(version, prereleases=True) for version in versions):
                yield f"{lock.relative_to(root)}: {requirement} is locked at {', '.join(versions)}"
        for number, line in enumerate(text.splitlines(), start=1):
            if ADDRESS.search(line):
                yield f"{lock.relative_to(root)}:{number}: names an address or a folder of this machine"


def main(root: Path) -> int:
    """Print the problems; return the exit status."""
    found = list(problems(root))
    for problem in found:
        print(problem)
    if found:
        print("hint: `make lock` writes the lock files again")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]))
