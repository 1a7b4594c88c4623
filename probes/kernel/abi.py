# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is this machine's: numbers of system calls, registers, machine code. What of it the BPF
program needs is in trace/abi-NAME.bpf.h, what the enforcer needs in enforcer/library/enter-NAME.S.

Another machine is another Machine here and another header there; and it may see the kernel's stores
in another order than x86, where a ring's positions and bytes are read and given back by plain loads
and stores: then ring.py and mapwatch.py need barriers.
"""

from __future__ import annotations

import platform
import re
import sys
from typing import NamedTuple

from log.errors import TraceError


class Machine(NamedTuple):
    """A machine that programs can be traced on."""

    name: str  # in names of files, and as elf.py has it
    bpf: int  # numbers of system calls
    perf_event_open: int
    uretprobe: int | None  # from Linux 6.11 on, what a return probe is
    empty: bytes  # machine code of a function that does nothing


MACHINES = {"x86_64": Machine("x86-64", 321, 298, 335, b"\x55\x5d\xc3")}  # push %rbp; pop %rbp; ret
# elsewhere nothing is traced (check_machine): there is no system call -1
HERE = MACHINES.get(platform.machine(), Machine("unknown", -1, -1, None, b""))
REGISTERS = 6  # for integers and pointers (System V)
STACK_AT = 8  # bytes from the stack pointer, at an entry, to the arguments that are not in these


def check_machine(machine: str | None = None, order: str = sys.byteorder) -> None:
    """TraceError on a machine that is not known here, or with another byte order: records are
    read as little-endian.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES or order != "little":
        raise TraceError(
            f"tracing works on {' and '.join(MACHINES)} only, and this machine is "
            f"{machine} ({order}-endian)"
        )


# Instructions that read, or take the address of, [register + displacement]: mov of any width, lea,
# test byte; movups, movdqu and their AVX forms; without optimisation also add. Stack slots
# (register 4 without REX.B) are left out. Looking from every byte on, not only where instructions
# begin, finds a few more that aren't there: harmless, as only what must be there is asked for.
_READS = rb"(?:[\x8b\x8d\xf6]|\x0f[\x10\x6f]|\xc5.[\x10\x6f])"
_NEAR = re.compile(
    rb"(?="
    + _READS
    + rb"[\x40-\x43\x45-\x4b\x4d-\x53\x55-\x5b\x5d-\x63\x65-\x6b\x6d-\x73\x75-\x7b\x7d-\x7f]"
    + rb"([\x00-\x7f]))",
    re.S,
)
_NEAR_R12 = re.compile(
    rb"(?=[\x41\x45\x49\x4d](?:[\x8b\x8d\xf6]|\x0f[\x10\x6f])[\x44\x4c\x54\x5c\x64\x6c\x74\x7c]\x24([\x00-\x7f]))",
    re.S,
)
_FAR = re.compile(
    rb"(?=[\x8b\x8d][\x80-\x83\x85-\x8b\x8d-\x93\x95-\x9b\x9d-\xa3\xa5-\xab\xad-\xb3\xb5-\xbb\xbd-\xbf](.\x00\x00\x00))",
    re.S,
)
_ADDED = re.compile(rb"(?=\x83[\xc0-\xc7]([\x00-\x7f]))", re.S)


def displacements(code: bytes) -> frozenset[int]:
    """The distances from a register at which x86-64 machine code reads memory."""
    near = {
        match[1][0] for pattern in (_NEAR, _NEAR_R12, _ADDED) for match in pattern.finditer(code)
    }
    return frozenset(near | {match[1][0] for match in _FAR.finditer(code)})
