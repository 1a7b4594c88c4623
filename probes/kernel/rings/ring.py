# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a BPF ring buffer through shared memory: no system call, no wake-up, nothing but copying.

Memory is read and written in plain loads and stores: fences keep what the kernel writes first from
being read last, and room from being given back that is still read.
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from probes.kernel.abi import fence
from probes.kernel.rings.spill import Spill, Spilled

# a record's header is its length, with these bits, and four bytes for the kernel; all is aligned
# to eight bytes
_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_POSITION = struct.Struct("<Q")


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
    `backlog` bytes that were moved out of it; more is moved to `spill`, if there is one.
    """

    def __init__(self, memory: Memory, size: int, backlog: int, spill: Spill | None = None) -> None:
        self._memory = memory
        self._size = size
        self._most, self._spill = backlog, spill
        self._moved: deque[bytes | Spilled] = deque()
        self._at = 0  # in the first of these
        self._bytes = 0  # of the backlog
        self._spilled = 0  # of these, in the file
        # position of the record that was being written, where the last drain ended
        self.stuck_at: int | None = None

    def waiting(self) -> int:
        """Bytes that wait, in the ring and in the backlog."""
        consumed, produced = self._positions()
        return produced - consumed + self._bytes

    def backlog(self) -> int:
        """Bytes in the backlog."""
        return self._bytes

    def drain(self) -> bool:
        """Moves what is complete into the backlog, in one piece; the ring has its room back.
        Whether some stays for lack of room.
        """
        consumed, produced = self._positions()
        fence()
        there, room = produced - consumed, self._most - self._bytes + self._spilled
        if there > room and self._spill and self._move(consumed, there, self._spill.put):
            return False
        self._move(consumed, min(there, room), lambda piece: piece)
        return room < there

    def _positions(self) -> tuple[int, int]:
        """Up to where it was read, and written."""
        memory = self._memory
        return _POSITION.unpack_from(memory.consumer)[0], _POSITION.unpack_from(memory.producer)[0]

    def _move(
        self, consumed: int, most: int, keep: Callable[[bytes], bytes | Spilled | None]
    ) -> bool:
        """Moves what is complete of so many bytes to where it is kept, if it is."""
        data = self._memory.producer
        start = at = mmap.PAGESIZE + (consumed & (self._size - 1))
        end = start + most
        with memoryview(data).cast("I") as words:
            while at < end:
                length = words[at >> 2]
                if length & _BUSY:
                    break
                at += (length & _LENGTH) + 15 & ~7
        self.stuck_at = consumed + at - start if at < end else None
        if at == start:
            return True
        fence()
        piece = keep(bytes(data[start:at]))
        if piece is None:
            return False
        self._moved.append(piece)
        self._bytes += at - start
        if isinstance(piece, Spilled):
            self._spilled += piece.size
        fence()
        _POSITION.pack_into(self._memory.consumer, 0, consumed + at - start)
        return True

    def _first(self) -> bytes:
        """The first piece of the backlog, in memory."""
        piece = self._moved[0]
        if isinstance(piece, Spilled):
            assert self._spill
            self._spilled -= piece.size
            piece = self._moved[0] = self._spill.take(piece)
        return piece

    def take(self, most: int | None = None) -> list[bytes]:
        """Records of the backlog, in order: all, or with the one that reaches so many bytes it
        ends.
        """
        found: list[bytes] = []
        add = found.append
        left = self._bytes if most is None else most
        while left > 0 and self._moved:
            data = self._first()
            start = at = self._at
            end = min(len(data), start + left)
            with memoryview(data).cast("I") as words:
                while at < end:
                    length = words[at >> 2]
                    after = at + 8 + (length & _LENGTH)
                    if length < _DISCARDED:
                        add(data[at + 8 : after])
                    at = after + 7 & ~7
            left -= at - start
            self._bytes -= at - start
            self._at = at
            if at >= len(data):
                self._moved.popleft()
                self._at = 0
        return found
