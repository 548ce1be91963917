"""`make fuzz`: look for inputs that break a decoder, guided by coverage; `ARGS="oip_json --seconds 300"` chooses.

Prints one line of JSON per target: how many inputs it was given, and the files of those that broke it. They are in
`tests/fuzz/cases`, where the tests find them: with the repair they become regression tests. Fails when there is one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.target import Target
from tests.fuzz.targets import CASES, TARGETS, cases

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def explore(target: Target, seconds: int) -> bool:
    """Explore one target; tells whether it withstood."""
    before = set(cases(target.name))
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words or (b"\x00",)))
        (CASES / target.name).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.explore", target.name, str(seconds), str(corpus), str(words)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    executed = _EXECUTED.search(done.stderr)
    found = sorted(set(cases(target.name)) - before)
    if found or done.returncode or executed is None:
        told = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith(("INFO:", "WARNING:"))]
        print("".join(told)[-8000:], file=sys.stderr)
    if not cases(target.name):
        (CASES / target.name).rmdir()
    outcome = {"target": target.name, "executions": int(executed[1]) if executed else None, "exit": done.returncode}
    print(json.dumps(outcome | {"found": [str(path.relative_to(CASES)) for path in found]}), flush=True)
    return done.returncode == 0 and not found


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> int:
    """Explore the targets that were named, or all of them."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=300, help="for each target (%(default)s)")
    options = parser.parse_args()
    withstood = [explore(TARGETS[name], options.seconds) for name in options.targets or TARGETS]
    return 0 if all(withstood) else 1


if __name__ == "__main__":
    sys.exit(main())
