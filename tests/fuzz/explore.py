"""One fuzz target in a process of its own, explored by coverage: run by `tests.fuzz`, not imported.

Findings are saved among the cases, one for each place that fails, and the exploration goes on. What ends the process
itself is saved by libFuzzer.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crossfade"]):
    from tests.fuzz.targets import CASES, TARGETS

from tests.fuzz.target import MAX_INPUT_BYTES, MEMORY_BYTES, Target, examine

MORE_ADDRESSES = 4 * MEMORY_BYTES
"""Bytes: what libFuzzer remembers is counted, too, so this only keeps a bomb from taking the machine along."""
HANG_SECONDS = 10


class Explorer:
    """Gives a target what libFuzzer comes up with."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._found: dict[str, int] = {}

    def __call__(self, data: bytes) -> None:
        """Examine one input; whatever is wrong with it is kept, the shortest input of each kind."""
        try:
            examine(self._target, data)
        except Exception as error:  # noqa: BLE001 - this is what we look for
            place = _place(error)
            if len(data) < self._found.get(place, sys.maxsize):
                if place not in self._found:
                    traceback.print_exception(error, limit=-6)
                self._found[place] = len(data)
                _save(self._target.name, hashlib.sha256(place.encode()).hexdigest()[:12], data)


def _place(error: Exception) -> str:
    """Say where it went wrong, so that each fault is saved once."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/crossfade/" in frame.filename]
    last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} {last}"


def _save(target: str, name: str, data: bytes) -> None:
    folder = CASES / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def main(name: str, seconds: str, corpus: str, words: str) -> None:
    """Explore one target."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_ADDRESSES,) * 2)
    arguments = [
        *(sys.argv[0], corpus, f"-dict={words}", f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}"),
        *(f"-timeout={HANG_SECONDS}", f"-artifact_prefix={CASES / name}/", "-rss_limit_mb=0", "-print_final_stats=1"),
        *("-verbosity=0", "-len_control=20"),
    ]
    atheris.Setup(arguments, Explorer(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
