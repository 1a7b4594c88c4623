# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a BPF ring buffer through shared memory: no system call, no wake-up, nothing but copying."""

from __future__ import annotations

import mmap
import struct

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_POSITION = struct.Struct("<Q")
_HEADER = struct.Struct("<I")


class Ring:
    """The consumer's side of the ring buffer map `fd`, `size` bytes of data (layout: kernel/bpf/ringbuf.c)."""

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._consumer = mmap.mmap(fd, mmap.PAGESIZE)
        self._producer = mmap.mmap(fd, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)

    def used(self) -> int:
        """Bytes that wait."""
        return int(_POSITION.unpack_from(self._producer)[0] - _POSITION.unpack_from(self._consumer)[0])

    def read(self, most: int | None = None) -> list[bytes]:
        """The records that were complete when the call began, in order; their room is given back.

        `most`: with the record that reaches so many bytes it ends, though there are more.
        """
        consumed = position = _POSITION.unpack_from(self._consumer)[0]
        produced = _POSITION.unpack_from(self._producer)[0]
        if most is not None and produced - consumed > most:
            produced = consumed + most
        result: list[bytes] = []
        add, data, mask, unpack = result.append, self._producer, self.size - 1, _HEADER.unpack_from
        while position < produced:
            at = mmap.PAGESIZE + (position & mask)
            length = unpack(data, at)[0]
            if length & _BUSY:
                break
            size = length & _LENGTH
            if not length & _DISCARDED:
                add(data[at + 8 : at + 8 + size])
            position += (size + 15) & ~7
        if position != consumed:
            _POSITION.pack_into(self._consumer, 0, position)
        return result

    def close(self) -> None:
        """Unmaps the ring."""
        self._producer.close()
        self._consumer.close()
