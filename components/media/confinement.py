"""Takes from the decoder's process what it does not need: files, the network, other processes, the user's identity.

Each measure is one that an ordinary user may take on Linux. Where the machine does not offer one, the others still
hold, and `confine` says which do. x86-64 only for the filter of system calls; elsewhere it is said to be missing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Callable
from typing import NamedTuple

NOBODY = 65_534

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the numbers of all processors
_LANDLOCK_VERSION_FLAG = 1
_LANDLOCK_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> number of rights over files; 16 from 5 on

# System calls of x86-64 that a started decoder makes: memory, time, and reading and writing what is open.
# fmt: off
_ALLOWED_CALLS = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getitimer": 36, "setitimer": 38, "getpid": 39,
    "recvmsg": 47, "exit": 60, "gettimeofday": 96, "getrusage": 98, "getppid": 110, "sigaltstack": 131, "gettid": 186,
    "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "ppoll": 271, "getrandom": 318, "rseq": 334,
}
# fmt: on
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_RETURN_ALLOW, _RETURN_EPERM, _RETURN_ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
_CLONE3 = 435


class Confinement(NamedTuple):
    """What holds for the decoder's process on this machine."""

    held: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """One line for the start of a run."""
        held = ", ".join(self.held) or "nothing"
        return f"decoder confined by: {held}" + (
            f"; not available here: {', '.join(self.missing)}" if self.missing else ""
        )


def confine() -> Confinement:
    """Give up, for good, all that this process can give up. Call it when all is loaded, with one thread."""
    held, missing = ["empty environment, descriptors handed over"], []
    for name, take in _MEASURES.items():
        try:
            take()
            held.append(name)
        except OSError as error:
            missing.append(f"{name} ({error.strerror or error})")
    return Confinement(tuple(held), tuple(missing))


def _leave_identity() -> None:
    """From root to nobody; an ordinary user stays who he is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit_resources() -> None:
    """No further process or thread, nothing written to a file, no core dump."""
    for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def _leave_network() -> None:
    """A network of its own, in which there is nothing."""
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)


def _landlock() -> None:
    """No path can be opened, no TCP port used, no process outside signalled, as far as the kernel's version goes."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = _call("syscall", _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
    files = (1 << _LANDLOCK_FS_RIGHTS.get(version, 16)) - 1
    handled = [
        files,
        *([0b11] if version >= 4 else []),
        *([0b11] if version >= 6 else []),
    ]  # bind, connect; sockets, signals
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = _call("syscall", _LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        _call("syscall", _LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _filter_system_calls() -> None:
    """Every system call that is not in _ALLOWED_CALLS fails with EPERM."""
    if platform.machine() != "x86_64":
        raise OSError(0, f"not on {platform.machine()}")
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = _filter_program()
    code = ctypes.create_string_buffer(program)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    filtering = Program(len(program) // 8, ctypes.addressof(code))
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtering), 0, 0)


def _filter_program() -> bytes:
    """Classic BPF: the processor is x86-64, the call is one of the allowed ones. Jumps count from the next step."""
    number_at, processor_at = 0, 4  # in struct seccomp_data
    calls = sorted(_ALLOWED_CALLS.values())
    count = len(calls)
    steps = [
        (_LOAD_WORD, 0, 0, processor_at),
        (_JUMP_EQUAL, 0, count + 3, _AUDIT_ARCH_X86_64),  # another one: to EPERM
        (_LOAD_WORD, 0, 0, number_at),
        (_JUMP_AT_LEAST, count + 1, 0, _X32_BIT),
        # The C library tries clone3 first and goes on to clone where there is no such call.
        (_JUMP_EQUAL, count + 2, 0, _CLONE3),
        *((_JUMP_EQUAL, count - place, 0, call) for place, call in enumerate(calls)),
        (_RETURN, 0, 0, _RETURN_EPERM),
        (_RETURN, 0, 0, _RETURN_ALLOW),
        (_RETURN, 0, 0, _RETURN_ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _call(function: str, *arguments: object) -> int:
    """A function of the C library. Raises OSError with its error number."""
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = getattr(libc, function)(*values)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


_MEASURES: dict[str, Callable[[], None]] = {
    "user without rights": _leave_identity,
    "limits (no process, no writing)": _limit_resources,
    "own network namespace": _leave_network,
    "Landlock (no files)": _landlock,
    "seccomp (reading and memory only)": _filter_system_calls,
}
