"""A child that does what its task says, for tests of `crossfade.core.child`; run as a module."""

import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path

from crossfade.core.child import run
from crossfade.errors import MalformedRequestError


def produce(task, source):
    words = task.decode().split()
    if not words:
        return
    deed, argument = words[0], (words[1] if len(words) > 1 else "")
    if deed == "echo":
        while piece := source.read(int(argument)):
            yield piece
    elif deed == "large":
        yield bytes(int(argument))
    elif deed == "print":
        print("what a library prints")
        os.write(1, b"D\xff\xff\xff\xff")
        yield b"a frame"
    elif deed == "say":
        yield json.dumps(report()).encode()
    else:
        yield b"before"
        DEEDS[deed]()


def report():
    limits = {
        name: resource.getrlimit(getattr(resource, name))[0]
        for name in ("RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE")
    }
    files = [path.name for path in Path("/proc/self/fd").iterdir()]
    return {"environment": sorted(os.environ), "files": files, "limits": limits}


def fail():
    raise ValueError("a bug")


def refuse():
    raise MalformedRequestError(problem="it is not to my taste")


def spin():
    while True:
        pass


def swallow():
    hoard = []
    while True:
        hoard.append(bytearray(2**24))


def fall_silent():
    os.closerange(3, 30)
    os.closerange(0, 3)
    time.sleep(600)


DEEDS = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(1),
    "exit": lambda: os._exit(3),
    "raise": fail,
    "refuse": refuse,
    "hang": lambda: time.sleep(600),
    "spin": spin,
    "swallow": swallow,
    "deaf": fall_silent,
}


if __name__ == "__main__":
    assert "pyarrow" not in sys.modules
    run(produce)
