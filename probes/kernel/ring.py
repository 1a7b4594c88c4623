# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a BPF ring buffer through shared memory: no system call, no wake-up, nothing but copying.

Memory is read and written in plain loads and stores: fences keep what the kernel writes first from
being read last, and room from being given back that is still read.
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from typing import Protocol

from probes.kernel.abi import fence

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_POSITION = struct.Struct("<Q")
_HEADER = struct.Struct("<I")


Positions = mmap.mmap | bytearray


class Memory(Protocol):
    """Both pages of positions and the data behind them, which come twice, as the kernel maps
    them (kernel/bpf/ringbuf.c).
    """

    @property
    def consumer(self) -> Positions:
        """Its position at 0."""

    @property
    def producer(self) -> Positions:
        """Its position at 0, the data a page behind."""


class RingMemory:
    """The memory of the ring buffer map `fd`."""

    def __init__(self, fd: int, size: int) -> None:
        self.consumer = mmap.mmap(fd, mmap.PAGESIZE)
        self.producer = mmap.mmap(
            fd, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE
        )

    def close(self) -> None:
        """Unmaps it."""
        self.producer.close()
        self.consumer.close()


class Ring:
    """The consumer's side of a ring of `size` bytes, and behind it a backlog of at most
    `backlog` bytes that were moved out of it.
    """

    def __init__(self, memory: Memory, size: int, backlog: int) -> None:
        self._memory = memory
        self._size = size
        self._most = backlog
        self._moved: deque[bytes] = deque()
        self._at = 0  # in the first of these
        self._bytes = 0  # of the backlog

    def waiting(self) -> int:
        """Bytes that wait, in the ring and in the backlog."""
        memory = self._memory
        return (
            int(
                _POSITION.unpack_from(memory.producer)[0]
                - _POSITION.unpack_from(memory.consumer)[0]
            )
            + self._bytes
        )

    def backlog(self) -> int:
        """Bytes in the backlog."""
        return self._bytes

    def drain(self) -> bool:
        """Moves what is complete into the backlog, in one piece; the ring has its room back.
        Whether some stays for lack of room.
        """
        memory = self._memory
        data, mask, unpack = memory.producer, self._size - 1, _HEADER.unpack_from
        consumed: int = _POSITION.unpack_from(memory.consumer)[0]
        position = consumed
        produced: int = _POSITION.unpack_from(data)[0]
        fence()
        end = min(produced, consumed + self._most - self._bytes)
        while position < end:
            length = unpack(data, mmap.PAGESIZE + (position & mask))[0]
            if length & _BUSY:
                break
            position += ((length & _LENGTH) + 15) & ~7
        if position == consumed:
            return end < produced
        fence()
        start = mmap.PAGESIZE + (consumed & mask)
        self._moved.append(bytes(data[start : start + position - consumed]))
        self._bytes += position - consumed
        fence()
        _POSITION.pack_into(memory.consumer, 0, position)
        return end < produced

    def take(self, most: int | None = None) -> list[bytes]:
        """Records of the backlog, in order: all, or with the one that reaches so many bytes it
        ends.
        """
        found: list[bytes] = []
        add, unpack = found.append, _HEADER.unpack_from
        left = self._bytes if most is None else most
        while left > 0 and self._moved:
            data = self._moved[0]
            start = at = self._at
            end = min(len(data), start + left)
            while at < end:
                length = unpack(data, at)[0]
                size = length & _LENGTH
                if not length & _DISCARDED:
                    add(data[at + 8 : at + 8 + size])
                at += (size + 15) & ~7
            left -= at - start
            self._bytes -= at - start
            self._at = at
            if at >= len(data):
                self._moved.popleft()
                self._at = 0
        return found
