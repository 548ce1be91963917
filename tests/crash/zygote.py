"""A process that has imported everything and forks a child per request, so that a crash point takes no start-up.

Requests and answers are JSON lines. At `operate` the child says its pid and waits until the pipe `go` in its folder is
written to, so that strace can attach and count system calls from there. The exit code comes last (-9: killed).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from tests.crash.scenarios import SCENARIOS, check, operate, prepare

_PR_SET_PTRACER = 0x59616D61
_ANY = ctypes.c_ulong(-1)


def main() -> None:
    """Answer requests until there are no more."""
    with tempfile.TemporaryDirectory() as folder:  # once, so that everything lazy is imported before the first fork
        for scenario in SCENARIOS.values():
            home = Path(folder) / scenario.name
            home.mkdir()
            prepare(home, scenario)
            operate(home, scenario)
            check(home, scenario)
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_child(request))
        _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _child(request: dict[str, str]) -> int:
    home, scenario = Path(request["home"]), SCENARIOS[request["scenario"]]
    try:
        if request["do"] == "prepare":
            prepare(home / "registry", scenario)
        elif request["do"] == "check":
            check(home / "registry", scenario)
        else:
            # where the kernel lets only parents trace their children, let anybody trace this one
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
            with (home / "go").open("r+b", buffering=0) as pipe:
                _say(os.getpid())  # all that came before has happened before anybody can attach
                pipe.read(1)
            operate(home / "registry", scenario, request["sabotage"])
    except Exception:  # noqa: BLE001 - whatever it is, the campaign reports it
        (home / "error").write_text(traceback.format_exc(limit=-6), encoding="utf-8")
        return 1
    return 0


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
