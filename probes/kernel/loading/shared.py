# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the programs and the reader share, maps and rings: sizes come in, descriptors and memory go
out.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable

from probes.kernel import bpf, records
from probes.kernel.rings.ring import Ring, RingMemory
from probes.kernel.rings.spill import Spill

TASK_RING_BYTES = 2 << 20  # at least
RINGS = ("read", "write", "task", "users_read", "users_write", "users_task")
# in our own memory, of writes and tasks: times a ring's size, and bytes, unless the ring is larger;
# of reads as much as a ring
BACKLOG, BACKLOG_BYTES = 8, 64 << 20
MOST_STRIPES = 4  # of what is counted


class Shared:
    """Maps by what the programs call them, and rings by their names; whatever was made of them is
    given back by close().
    """

    def __init__(self) -> None:
        self.maps: dict[str, int] = {}
        self.rings: dict[str, Ring] = {}
        # of each function that is counted, and calls under way of these
        self.counts: mmap.mmap | None = None
        self.begun: mmap.mmap | None = None
        processors = os.cpu_count() or 1
        self.stripes = min(1 << (processors - 1).bit_length(), MOST_STRIPES)
        self._fds: list[int] = []
        self._ring_fds: list[int] = []
        self._memory: list[RingMemory] = []
        self._spills: list[Spill] = []

    def _map(
        self, kind: int, key_size: int, value_size: int, entries: int, flags: int = 0, *, name: str
    ) -> int:
        fd = bpf.create_map(kind, key_size, value_size, entries, flags, name)
        self._fds.append(fd)
        return fd

    def _array(self, value_size: int, entries: int, name: str) -> int:
        return self._map(bpf.MAP_ARRAY, 4, value_size, entries, bpf.F_MMAPABLE, name=name)

    def create_maps(self, ring_bytes: int) -> None:
        """All that the programs name, with the first of the rings."""
        settings = self._array(records.SETTINGS.size, 1, "settings")
        entry_plans = self._array(records.PLAN_SIZE, records.MAX_PLANS, "entry_plans")
        return_plans = self._array(records.PLAN_SIZE, records.MAX_PLANS, "return_plans")
        users = self._array(records.USER.size, records.MAX_USERS, "users")
        glob = self._array(8, 256, "glob")
        verdict_rows = self._array(8, records.MAX_VERDICT_ROWS, "verdict_rows")
        self.verdict_rows = bpf.map_array(verdict_rows, 8 * records.MAX_VERDICT_ROWS)
        self.verdict_rows[:] = b"\xff" * (8 * records.MAX_VERDICT_ROWS)
        self.settings = bpf.map_array(settings, records.SETTINGS.size)
        self.entry_plans = bpf.map_array(entry_plans, records.PLAN_SIZE * records.MAX_PLANS)
        self.return_plans = bpf.map_array(return_plans, records.PLAN_SIZE * records.MAX_PLANS)
        self.users = bpf.map_array(users, records.USER.size * records.MAX_USERS)
        self.glob = bpf.map_array(glob, 8 * 256)
        self.filters = {
            "pids": self._map(bpf.MAP_HASH, 4, 1, 4096, name="pids"),
            "uids": self._map(bpf.MAP_HASH, 4, 1, 4096, name="uids"),
            "comms": self._map(bpf.MAP_HASH, 16, 1, 4096, name="comms"),
        }
        self._plain = self._map(bpf.MAP_LRU_HASH, 4, records.PLAIN.size, 4096, name="plain")
        first = self._map(bpf.MAP_RINGBUF, 0, 0, ring_bytes, name="read")
        self._ring_map = bpf.create_map_of_maps(len(RINGS), first, name="rings")
        self._fds.append(self._ring_map)
        threads = bpf.create_task_storage(records.THREAD_SIZE, "threads")
        self._fds.append(threads)
        frames = bpf.create_task_storage(records.FRAMES_SIZE, "frames")
        self._fds.append(frames)
        self._ring_fds = [first]
        self.maps = {
            "FD_SETTINGS": settings,
            "FD_ENTRY_PLANS": entry_plans,
            "FD_RETURN_PLANS": return_plans,
            "FD_USERS": users,
            "FD_GLOB": glob,
            "FD_RINGS": self._ring_map,
            "FD_VERDICT_ROWS": verdict_rows,
            "FD_THREADS": threads,
            "FD_FRAMES": frames,
            "FD_PIDS": self.filters["pids"],
            "FD_UIDS": self.filters["uids"],
            "FD_COMMS": self.filters["comms"],
            "FD_PLAIN": self._plain,
        }

    def create_counts(self) -> None:
        """What calls that are only counted need."""
        size, entries = records.COUNTS_SIZE, records.MAX_COUNTS * self.stripes
        counts = self._array(size, entries, "counts")
        begun = self._array(records.BEGUN.size, records.MAX_BEGUN, "begun")
        self.counts = bpf.map_array(counts, size * entries)
        self.begun = bpf.map_array(begun, records.BEGUN.size * records.MAX_BEGUN)
        self.maps |= {"FD_COUNTS": counts, "FD_BEGUN": begun}

    def create_rings(self, ring_bytes: int, spill: int) -> list[int]:
        """Those of root, and in the same order those of all others: descriptors that can be read
        when something has come. `spill`: bytes of records that may wait in a file.
        """
        self._spills = [Spill(spill // 2), Spill(spill // 2)] if spill else []
        (first,) = self._ring_fds
        for name in RINGS:
            size = max(TASK_RING_BYTES, ring_bytes) if name.endswith("task") else ring_bytes
            fd = self._map(bpf.MAP_RINGBUF, 0, 0, size, name=name) if self.rings else first
            if self.rings:
                self._ring_fds.append(fd)
            self._memory.append(memory := RingMemory(fd, size))
            self.rings[name] = Ring(
                memory,
                size,
                max(size, min(BACKLOG * size, BACKLOG_BYTES))
                if not name.endswith("read")
                else size,
                self._spills[name.startswith("users_")]
                if spill and not name.endswith("task")
                else None,
            )
        return self._ring_fds

    def put_rings(self) -> None:
        """Has them in the map, for each of which the kernel waits for all programs on all
        processors.
        """
        for index, fd in enumerate(self._ring_fds):
            bpf.update_map(self._ring_map, index.to_bytes(4, "little"), fd.to_bytes(4, "little"))

    def allow(self, kind: str, keys: Iterable[bytes]) -> None:
        """Only processes with one of these keys; `kind`: pids, uids, comms."""
        for key in keys:
            bpf.update_map(self.filters[kind], key, b"\1")

    def copies_no_stacks(self, pid: int, start: int, pages: int) -> None:
        """So does the process that began then (ticks), while it has so many executable pages:
        what it has left is left for good.
        """
        bpf.update_map(self._plain, pid.to_bytes(4, "little"), records.PLAIN.pack(start, pages))

    def close(self) -> None:
        """Gives everything back."""
        for memory in self._memory:
            memory.close()
        for spill in self._spills:
            spill.close()
        self._memory.clear()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
