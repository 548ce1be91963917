"""What a model process may do, which is little: compute, use a bounded amount of memory, and read its libraries.

Every measure is tried, and those that a machine lacks are reported. None is the only one: a model that gets past one of
them is still a process that can be ended.

Sources: setrlimit(2), prctl(2), capset(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from crossfade.serving.isolation.landlock import only_read
from crossfade.serving.isolation.seccomp import refuse_system_calls

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
_OPEN_FILES = 64
_NICENESS = 5
"""Answering clients goes before computing for them: a model that spins must not slow its neighbours down."""
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/sys", "/dev/urandom", "/dev/zero"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/kernel"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"),
)


class Limits(msgspec.Struct, frozen=True):
    """What a model process may use.

    Args:
        memory_bytes: Private memory: heap, stacks, and whatever else nobody shares.
        network: Whether it may open sockets.
        readable: Paths that its code may read besides the libraries of this Python.
    """

    memory_bytes: int
    network: bool = False
    readable: tuple[str, ...] = ()


def confine(limits: Limits) -> tuple[str, ...]:
    """Give up, for good, everything that computing does not need. Call it while there is one thread.

    Returns:
        The measures that this machine could not take.
    """
    os.nice(_NICENESS)
    limit_memory(limits.memory_bytes)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    libc = ctypes.CDLL(None)
    taken = {
        "no new privileges": libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "capabilities": _give_up_capabilities(libc),
        "landlock": only_read(
            [*_libraries(), *map(Path, (*_SYSTEM, *limits.readable))],
            [Path("/dev/null"), *Path("/dev").glob("nvidia*")],
        ),
        "seccomp": refuse_system_calls(os.getpid(), network=limits.network),
    }
    return tuple(measure for measure, success in taken.items() if not success)


def limit_memory(private_bytes: int) -> None:
    """Give up, for good, private memory beyond so much; never get any back."""
    _limit(resource.RLIMIT_DATA, private_bytes)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


def _libraries() -> Iterable[Path]:
    """Yield where this Python and everything installed for it lies."""
    native = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path, *native}
    return [Path(root) for root in roots if root]


def _give_up_capabilities(libc: ctypes.CDLL) -> bool:
    """Be nobody special any more, even as root."""
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        return False
    header, nothing = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES, 0)), bytes(24)
    return bool(libc.syscall(number, header, nothing) == 0)
