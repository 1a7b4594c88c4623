# SPDX-License-Identifier: LGPL-2.1-or-later
"""Has tasks.bpf.c run at the kernel's tracepoints: bytecode comes in; records of processes come
out.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time

from probes.kernel import bpf, records
from probes.kernel.rings.ring import Ring, RingMemory

# program -> tracepoint; of the last two a kernel may lack one
TRACEPOINTS = {
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
    "on_exit": "sched_process_exit",
    "on_signal": "signal_generate",
    "on_oom": "mark_victim",
}
NEEDED = ("on_fork", "on_exec", "on_exit")
RING_BYTES = 4 << 20  # of either: some ten thousand short programs
WAIT, MOST_WAITS = 0.001, 20  # s, for a record that is being written


class Tracepoints:
    """What root's processes do, and those of all others: each have a ring, so that nobody can
    fill root's.
    """

    def __init__(self) -> None:
        self.maps: dict[str, int] = {}
        self.wakers: list[int] = []  # as Program's
        self._fds: list[int] = []
        self._lost: mmap.mmap | None = None
        self._memory: list[RingMemory] = []
        self._rings: list[Ring] = []
        self._told = 0

    def create_maps(self) -> None:
        """What the programs share with us: `maps` has the descriptors by their names."""
        for name in ("tasks", "users_tasks"):
            fd = self._map(bpf.MAP_RINGBUF, 0, 0, RING_BYTES, name=name)
            self.maps[f"FD_{name.upper()}"] = fd
            self.wakers.append(fd)
            self._memory.append(memory := RingMemory(fd, RING_BYTES))
            self._rings.append(Ring(memory, RING_BYTES, RING_BYTES))
        self.maps["FD_TASKS_LOST"] = lost = self._map(
            bpf.MAP_ARRAY, 4, 8, len(self._rings), bpf.F_MMAPABLE, name="tasks_lost"
        )
        self._lost = bpf.map_array(lost, 8 * len(self._rings))
        self.maps["FD_TASKS_SCRATCH"] = self._map(
            bpf.MAP_PERCPU_ARRAY, 4, records.TASKS_SCRATCH, 1, name="tasks_scratch"
        )

    def attach(self, code: dict[str, bytes]) -> None:
        """From now on there are records."""
        for name, tracepoint in TRACEPOINTS.items():
            try:
                program = bpf.load_tracepoint(code[name], name)
            except OSError:
                program = bpf.load_tracepoint(code[name], name, 1 << 20)
            self._fds.append(program)
            with contextlib.suppress(*(() if name in NEEDED else (FileNotFoundError,))):
                self._fds.append(bpf.attach_tracepoint(program, tracepoint))

    def read(self) -> list[bytes]:
        """The records since the last time; of each ring in their order.

        One that is being written is waited for, as an exec behind it may be that of a process
        whose calls have come already. Nothing takes the processor away from who writes it, but
        for the host of a virtual machine.
        """
        found: list[bytes] = []
        for ring in self._rings:
            ring.drain()
            for _ in range(MOST_WAITS):
                if ring.stuck_at is None:
                    break
                time.sleep(WAIT)
                ring.drain()
            found += ring.take()
        return found

    def lost(self) -> int:
        """How many records had no room since the last time."""
        if self._lost is None:
            return 0
        total = sum(
            int.from_bytes(self._lost[at : at + 8], "little")
            for at in range(0, 8 * len(self._rings), 8)
        )
        new, self._told = total - self._told, total
        return new

    def close(self) -> None:
        """Gives everything back."""
        for memory in self._memory:
            memory.close()
        self._memory.clear()
        self._rings.clear()
        if self._lost is not None:
            self._lost.close()
            self._lost = None
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _map(
        self, kind: int, key_size: int, value_size: int, entries: int, flags: int = 0, *, name: str
    ) -> int:
        fd = bpf.create_map(kind, key_size, value_size, entries, flags, name)
        self._fds.append(fd)
        return fd
