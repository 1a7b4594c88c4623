# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this process may do: its capabilities and namespaces come in, what keeps it from
tracing, or from seeing all, goes out.
"""

from __future__ import annotations

import os
from pathlib import Path

from log.errors import TraceError
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.processes.namespaces import FIRST

# inode numbers that the kernel has given to the first namespaces since Linux 3.8
# (include/linux/proc_ns.h)
FIRST_PID_NAMESPACE = f"pid:[{FIRST}]"
FIRST_USER_NAMESPACE = "user:[4026531837]"
SYS_PTRACE, SYS_ADMIN, PERFMON, BPF, CHECKPOINT_RESTORE = 19, 21, 38, 39, 40


def check_tracing(proc: Path = Path("/proc")) -> None:
    """TraceError: something is missing that no tracing is possible without, or that it would be
    wrong without.
    """
    if os.geteuid() != 0:
        raise TraceError("tracing needs root: run it with sudo")
    if not _is_in(proc, "user", FIRST_USER_NAMESPACE):
        raise TraceError("root of a user namespace may not trace: run it on the host, as root")
    held = _capabilities(proc)
    needed = {"CAP_BPF": BPF, "CAP_PERFMON": PERFMON}
    missing = (
        []
        if held >> SYS_ADMIN & 1
        else [name for name, bit in needed.items() if not held >> bit & 1]
    )
    if missing:
        be = "is" if len(missing) == 1 else "are"
        raise TraceError(
            f"not allowed to use BPF and probes: {' and '.join(missing)} {be} missing; in a "
            "container, run it with --privileged"
        )
    if not is_in_first_pid_namespace(proc):
        raise TraceError(
            "in a pid namespace of its own, processes have other numbers: run it on "
            "the host; in a container, with --pid=host"
        )


def is_in_first_pid_namespace(proc: Path = Path("/proc")) -> bool:
    """Whether process ids are those of the host, and all processes are there to be seen."""
    return _is_in(proc, "pid", FIRST_PID_NAMESPACE)


def unseen(proc: Path = Path("/proc")) -> str | None:
    """What to say where other processes may not be looked into; None: all may."""
    held = _capabilities(proc)
    needed = {
        "CAP_SYS_PTRACE": (SYS_PTRACE,),
        "CAP_CHECKPOINT_RESTORE": (CHECKPOINT_RESTORE, SYS_ADMIN),
    }
    missing = [name for name, bits in needed.items() if not any(held >> bit & 1 for bit in bits)]
    is_host_s_root = _is_in(proc, "user", FIRST_USER_NAMESPACE)
    if not missing and is_host_s_root:
        return None
    pids = maps.pids(proc)
    hidden = sum(not _may_be_read(proc / str(pid)) for pid in pids)
    if not hidden:
        return None
    be = "is" if len(missing) == 1 else "are"
    why = (
        f"{' and '.join(missing)} {be} missing"
        if is_host_s_root
        else "root of a user namespace may not"
    )
    return f"{hidden} of {len(pids)} processes could not be looked into: {why}"


def _may_be_read(process: Path) -> bool:
    """Whether its mappings and the files behind them may be looked at."""
    return LOOKING.ask(int(process.name), lambda: _is_open(process), True, process.parent)


def _is_open(process: Path) -> bool:
    try:
        with open(process / "maps", "rb", buffering=0) as file:
            for line in file:
                if b"/" in line:
                    os.stat(process / "map_files" / line.partition(b" ")[0].decode())
                    break
    except PermissionError:
        return False
    except OSError:
        pass  # it has ended
    return True


def _is_in(proc: Path, kind: str, first: str) -> bool:
    try:
        return os.readlink(proc / "self" / "ns" / kind) == first
    except FileNotFoundError:
        return True  # a kernel without such namespaces


def _capabilities(proc: Path) -> int:
    """The effective ones, a bit each."""
    for line in (proc / "self" / "status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
