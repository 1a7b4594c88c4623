# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds out whether this kernel's return probes kill processes under seccomp: a confined child
calls a probed function.

From Linux 6.11 on, x86-64, a return probe is a system call of its own, which seccomp filters that
don't know it refuse, until the kernel was taught to let it pass (6.14 and stable releases).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct

from probes.kernel import abi, bpf
from probes.kernel.libc import libc
from probes.kernel.links import uprobe_pmu
from probes.kernel.loading import kept

HARMLESS = 17  # exit status of the child that has come back from the call
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_KILL, _ALLOW = 0x80000000, 0x7FFF0000


def returns_kill_confined() -> bool | None:
    """True where a process under seccomp dies of a return probe; None: it could not be found
    out. It is tried once for a kernel, which takes its time to let go of the probe.
    """
    key = kept.key_of_kernel("whether return probes kill confined processes")
    if known := kept.read(key):
        return known["kills"] != bytes(1)
    kills = try_confined()
    if kills is not None:
        kept.write(key, {"kills": bytes([kills])})
    return kills


def try_confined() -> bool | None:
    """The same, tried now."""
    number = abi.HERE.uretprobe
    if number is None:
        return False  # the kernel has no such system call
    pmu = uprobe_pmu()
    code = os.memfd_create("libvirt-trace-probe", 0)
    os.write(code, abi.HERE.empty.ljust(mmap.PAGESIZE, b"\0"))
    waiting, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        _call_confined(code, waiting, _filter(number))
    os.close(waiting)
    event = -1
    try:
        event = bpf.open_perf_uprobe(pmu, f"/proc/self/fd/{code}", 0, at_return=True, pid=child)
    except OSError:
        pass  # as is said where probes are attached
    finally:
        os.close(go)
        _, status = os.waitpid(child, 0)
        os.close(code)
        if event >= 0:
            os.close(event)
    return meaning(status) if event >= 0 else None


def meaning(status: int) -> bool | None:
    """What the end of the child says, which is killed by SIGSYS if the system call is refused."""
    if os.WIFSIGNALED(status):
        return True if os.WTERMSIG(status) == signal.SIGSYS else None
    return False if os.WEXITSTATUS(status) == HARMLESS else None


def _call_confined(code: int, waiting: int, instructions: bytes) -> None:
    try:
        memory = mmap.mmap(
            code, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        function = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        program = ctypes.create_string_buffer(instructions)
        argument = ctypes.create_string_buffer(
            struct.pack("<HxxxxxxQ", len(instructions) // 8, ctypes.addressof(program))
        )
        os.read(waiting, 1)
        if (
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, argument, 0, 0) == 0
        ):
            function()
            os._exit(HARMLESS)
    finally:
        os._exit(0)


def _filter(number: int) -> bytes:
    """Of struct sock_filter: kill on that one system call, allow the rest."""
    instructions = (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, _KILL), (0x06, 0, 0, _ALLOW)
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
