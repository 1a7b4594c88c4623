# SPDX-License-Identifier: LGPL-2.1-or-later
"""What code processes map, by a software event on each CPU that never fires: a CPU comes in; the
records in its ring, which is read without a system call, go out.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from pathlib import Path

from probes.kernel import abi
from probes.kernel.libc import syscall

# linux/perf_event.h
PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY = 1, 9
PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_SAMPLE_CPU = 1 << 1, 1 << 2, 1 << 7
PERF_FLAG_FD_CLOEXEC = 8
# mmap, watermark, sample_id_all, mmap2, use_clockid
ATTR_FLAGS = 1 << 8 | 1 << 14 | 1 << 18 | 1 << 23 | 1 << 25
ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5
WATERMARK = 1  # bytes of records that wake who waits: none is too short

HEADER = struct.Struct("<IHH")  # kind, misc, size
SAMPLE_ID = 24  # at the end of every record: u32 pid, tid; u64 time; u32 cpu, reserved
_U64 = struct.Struct("<Q")
_HEAD_AT, _TAIL_AT = 1024, 1032  # struct perf_event_mmap_page: data_head, data_tail

Raw = tuple[int, bool, bytes]  # time; whether it is of a tracepoint; the record


class CpuRing:
    """The records of one CPU."""

    def __init__(self, cpu: int, pages: int) -> None:
        sample = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU
        # type, size, config, period, sample_type, read_format, flags, wakeup_watermark, ...,
        # clockid
        fields = struct.pack(
            "<IIQQQQQI",
            PERF_TYPE_SOFTWARE,
            ATTR_SIZE,
            PERF_COUNT_SW_DUMMY,
            0,
            sample,
            0,
            ATTR_FLAGS,
            WATERMARK,
        )
        attr = fields.ljust(92, b"\0") + struct.pack("<i", time.CLOCK_MONOTONIC)
        buffer = ctypes.create_string_buffer(attr.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
        arguments = (ctypes.c_long(value) for value in (-1, cpu, -1, PERF_FLAG_FD_CLOEXEC))
        self.fd = syscall(abi.HERE.perf_event_open, buffer, *arguments)
        self.size = pages * mmap.PAGESIZE
        try:
            self._map = mmap.mmap(self.fd, mmap.PAGESIZE + self.size)
        except BaseException:
            os.close(self.fd)
            raise

    def read(self) -> list[Raw]:
        """Every record that is there, with its time; their room is given back."""
        head, tail = (
            _U64.unpack_from(self._map, _HEAD_AT)[0],
            _U64.unpack_from(self._map, _TAIL_AT)[0],
        )
        if head == tail:
            return []
        abi.fence()
        first = mmap.PAGESIZE + tail % self.size
        data = self._map[first : first + min(head - tail, mmap.PAGESIZE + self.size - first)]
        data += self._map[mmap.PAGESIZE : mmap.PAGESIZE + head - tail - len(data)]
        abi.fence()
        _U64.pack_into(self._map, _TAIL_AT, head)
        return split_records(data)

    def close(self) -> None:
        """Ends the event."""
        self._map.close()
        os.close(self.fd)


def split_records(data: bytes) -> list[Raw]:
    """The records in what a ring held, each with its time."""
    result, at, end = list[Raw](), 0, len(data)
    while at + HEADER.size + SAMPLE_ID <= end:
        size = data[at + 6] | data[at + 7] << 8
        if size < HEADER.size + SAMPLE_ID or at + size > end:
            break
        result.append((_U64.unpack_from(data, at + size - 16)[0], False, data[at : at + size]))
        at += size
    return result


def online() -> list[int]:
    """The numbers of the CPUs that run, from a list such as 0-3,8."""
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    ranges = (part.partition("-") for part in text.split(","))
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]
