# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is this machine's: numbers of system calls, registers, machine code (machines/NAME.py), the
order of memory. What of it the BPF program needs is in trace/abi-NAME.bpf.h, what the enforcer
needs in enforcer/library/machines/enter-NAME.S; nothing else knows a machine.
"""

from __future__ import annotations

import os
import sys
import threading

from log.errors import TraceError
from probes.kernel.machines.aarch64 import AARCH64
from probes.kernel.machines.x86_64 import X86_64

MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}
# elsewhere nothing is traced (check_machine): there is no system call -1
HERE = MACHINES.get(
    os.uname().machine,
    X86_64._replace(name="unknown", bpf=-1, perf_event_open=-1, uretprobe=None, is_ordered=False),
)


def check_machine(machine: str | None = None, order: str = sys.byteorder) -> None:
    """TraceError on a machine that is not known here, or with another byte order: records are
    read as little-endian.
    """
    machine = machine or os.uname().machine
    if machine not in MACHINES or order != "little":
        raise TraceError(
            f"tracing works on {' and '.join(MACHINES)} only, and this machine is "
            f"{machine} ({order}-endian)"
        )


_turn = threading.Lock()
_turn.acquire()


def fence() -> None:
    """Keeps what was read and written before it before what is read and written after it, as other
    processors see it.

    x86 has its loads in order, and its stores; and no store of ours need be seen before a load that
    comes after it. Elsewhere it is a lock that is given back and taken again: neither a release
    followed by an acquire, nor what is around them, changes places.
    """
    if not HERE.is_ordered:
        _turn.release()
        _turn.acquire()
