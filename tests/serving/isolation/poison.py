"""Models that do what models must not do, each when its input says so; they are pickled by value."""

import ctypes
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from crossfade.core.tensors import TensorSpec
from crossfade.registry.model import Model

BAD = 666.0
LOOT = Path(tempfile.gettempdir()) / f"crossfade-loot-{os.getpid()}"


class Harmless(Model):
    """Doubles its input; does its worst when a row is BAD."""

    def predict(self, inputs):
        if (inputs["x"] == BAD).any():
            self.worst()
        return 2 * inputs["x"]

    def required_inputs(self):
        return (TensorSpec("x", "FP64", (-1,)),)

    def worst(self):
        raise ValueError("it does not like this row")


class Segfault(Harmless):
    def worst(self):
        ctypes.string_at(0)


class Abort(Harmless):
    def worst(self):
        os.abort()


class LastWords(Harmless):
    def worst(self):
        print("last words")
        os.abort()


class Exit(Harmless):
    def worst(self):
        os._exit(3)


class PoliteExit(Harmless):
    def worst(self):
        sys.exit(4)


class Loop(Harmless):
    def worst(self):
        while True:
            pass


class DeadlockedThread(Harmless):
    def worst(self):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


class ForkBomb(Harmless):
    def worst(self):
        while True:
            os.fork()


class ThreadBomb(Harmless):
    def worst(self):
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


class MemoryBomb(Harmless):
    def worst(self):
        hoard = []
        while True:
            hoard.append(np.ones(2**22))


class FileLeak(Harmless):
    def worst(self):
        leaked = []
        while True:
            leaked.append(os.open("/dev/null", os.O_RDONLY))


class HugeOutput(Harmless):
    def predict(self, inputs):
        if (inputs["x"] == BAD).any():
            return np.zeros((len(inputs["x"]), 2**24))
        return 2 * inputs["x"]


class Wide(Harmless):
    """A thousand numbers for one."""

    def predict(self, inputs):
        return np.repeat(inputs["x"][:, None], 1_000, axis=1)


class Echo(Model):
    def predict(self, inputs):
        return inputs["text"]

    def required_inputs(self):
        return (TensorSpec("text", "BYTES", (-1,)),)


class LogFlood(Harmless):
    def worst(self):
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            os.write(2, b"flood " * 1000)


class Burglar(Harmless):
    """Tries what a confined process must not: the answer counts what succeeded."""

    def predict(self, inputs):
        if Path.cwd() != Path("/"):  # it is being packed
            return np.zeros(len(inputs["x"]))
        worked = sum(map(works, (self.write, self.read_secrets, self.connect, self.run, self.kill_server, self.unlink)))
        return np.full(len(inputs["x"]), float(worked))

    def write(self):
        LOOT.write_text("burgled")

    def read_secrets(self):
        LOOT.read_text()

    def connect(self):
        import socket

        socket.create_connection(("127.0.0.1", 22), timeout=0.5)

    def run(self):
        import subprocess

        subprocess.run(["/bin/true"], check=True)

    def kill_server(self):
        os.kill(os.getppid(), 0)

    def unlink(self):
        LOOT.unlink()


def works(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True


class Misbehaving(Harmless):
    """Misbehaves once its pickle is loaded in a model process, whose current folder is the root."""

    def __init__(self, how):
        self.how = how

    def __setstate__(self, state):
        self.__dict__ = state
        if Path.cwd() == Path("/"):
            {"exit": lambda: os._exit(7), "hang": lambda: time.sleep(3600), "raise": lambda: 1 / 0}[self.how]()
