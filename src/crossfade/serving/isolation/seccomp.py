"""The system calls that a model process is refused: starting programs and processes, and reaching for others.

The filter is a small program for the kernel's packet filter machine (BPF), which looks at the number of each system
call and at its first arguments. Threads may still be started.

Sources: seccomp(2); the Linux kernel's `include/uapi/linux/{seccomp,filter,audit}.h` and system call tables.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterable
from typing import NamedTuple

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
"""Set in the numbers of a second table of calls on x86-64, which would pass a filter that knows only the first."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class _Machine(NamedTuple):
    """The numbers of one architecture: what is refused by its number alone, and what by its arguments."""

    audit: int
    clone: int
    clone3: int
    tgkill: int
    socket: int
    refused: tuple[int, ...]


_REFUSED_EVERYWHERE = (424, 425, 438)
"""On every machine: pidfd_send_signal, io_uring_setup (no filter sees its calls), pidfd_getfd."""
# Then: fork, vfork, execve, execveat; kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo; ptrace, process_vm_readv,
# process_vm_writev; bpf, perf_event_open, userfaultfd, keyctl. The second machine knows neither fork nor vfork.
_MACHINES = {
    "x86_64": _Machine(
        *(0xC000003E, 56, 435, 234, 41),
        (*_REFUSED_EVERYWHERE, 57, 58, 59, 322, 62, 200, 129, 297, 101, 310, 311, 321, 298, 323, 250),
    ),
    "aarch64": _Machine(
        *(0xC00000B7, 220, 435, 131, 198),
        (*_REFUSED_EVERYWHERE, 221, 281, 129, 130, 138, 240, 117, 270, 271, 280, 241, 282, 219),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_system_calls(pid: int, *, network: bool) -> bool:
    """Refuse this process, and every thread it will start, to start programs or processes; for good.

    Call it while there is one thread. New privileges must have been given up before (`PR_SET_NO_NEW_PRIVS`).

    Args:
        pid: Of this process, which may still send signals to itself: that is how it aborts.
        network: Whether it may open sockets.

    Returns:
        Whether this machine can do that.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    code = b"".join(_filter(machine, pid, network=network))
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(machine: _Machine, pid: int, *, network: bool) -> Iterable[bytes]:
    yield _step(_LOAD, _ARCHITECTURE_AT)
    yield _step(_JUMP_IF_EQUAL, machine.audit, 1, 0)
    yield _step(_RETURN, _ERRNO | _EPERM)
    yield _step(_LOAD, _NUMBER_AT)
    yield _step(_JUMP_IF_SET, _X32, 0, 1)
    yield _step(_RETURN, _ERRNO | _ENOSYS)
    for number in machine.refused:
        yield from _answer(number, _EPERM)
    yield from _answer(machine.clone3, _ENOSYS)  # its arguments lie in memory, out of reach; libc then asks for clone
    if not network:
        yield from _answer(machine.socket, _EACCES)
    yield from _unless_argument(machine.clone, _JUMP_IF_SET, _CLONE_THREAD)
    yield from _unless_argument(machine.tgkill, _JUMP_IF_EQUAL, pid)
    yield _step(_RETURN, _ALLOW)


def _answer(number: int, errno: int) -> Iterable[bytes]:
    yield _step(_JUMP_IF_EQUAL, number, 0, 1)
    yield _step(_RETURN, _ERRNO | errno)


def _unless_argument(number: int, test: int, value: int) -> Iterable[bytes]:
    """Refuse a call unless its first argument passes a test."""
    yield _step(_JUMP_IF_EQUAL, number, 0, 4)
    yield _step(_LOAD, _FIRST_ARGUMENT_AT)
    yield _step(test, value, 0, 1)
    yield _step(_RETURN, _ALLOW)
    yield _step(_RETURN, _ERRNO | _EPERM)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
