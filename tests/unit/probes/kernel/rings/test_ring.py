# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records come out of a ring whole, once and in order, whatever its positions are and however
it is emptied.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.errors import TraceError
from probes.kernel.rings import ring as rings
from probes.kernel.rings.reader import SETTLED_NS, Reader
from probes.kernel.rings.ring import Ring
from probes.kernel.rings.spill import Spill

SIZE = 4096
BUSY, DISCARDED = 1 << 31, 1 << 30


class Written:
    """A ring buffer as the kernel would fill it, its data mapped twice."""

    def __init__(self, start: int = 0, size: int = SIZE) -> None:
        self.size = size
        self.consumer = bytearray(struct.pack("<Q", start))
        self.producer = bytearray(mmap.PAGESIZE + 2 * size)
        self._place(start)

    def _place(self, position: int) -> None:
        self.position = position
        struct.pack_into("<Q", self.producer, 0, position)

    def free(self) -> int:
        """Bytes that may be written."""
        return int(self.size - self.position + struct.unpack("<Q", self.consumer)[0])

    def write(self, record: bytes, flags: int = 0) -> bool:
        """Reserves and commits; False: the ring is full."""
        data = struct.pack("<II", len(record) | flags, 0) + record
        data = data.ljust((len(data) + 7) & ~7, b"\0")
        if len(data) > self.free():
            return False
        for i, byte in enumerate(data):
            at = (self.position + i) % self.size
            self.producer[mmap.PAGESIZE + at] = self.producer[mmap.PAGESIZE + self.size + at] = byte
        self._place(self.position + len(data))
        return True

    def commit(self, position: int) -> None:
        """Ends what was reserved at that position."""
        at = mmap.PAGESIZE + position % self.size
        length = struct.unpack_from("<I", self.producer, at)[0] & ~BUSY
        struct.pack_into("<I", self.producer, at, length)
        struct.pack_into("<I", self.producer, at + self.size, length)


lengths = st.integers(0, 300)


@given(
    st.integers(0, 1 << 40).map(lambda n: 8 * n),
    st.lists(st.lists(lengths, max_size=12), max_size=12),
    st.integers(1, 2000),
)
def test_every_record_comes_out_once(start, rounds, most):
    written = Written(start)
    ring = Ring(written, SIZE, 2 * SIZE)
    sent: list[bytes] = []
    got = []
    for round_of in rounds:
        for length in round_of:
            record = (len(sent).to_bytes(4, "little") + bytes(length))[: max(4, length)]
            if written.write(record):
                sent.append(record)
        ring.drain()
        assert (
            written.free() == SIZE or ring.backlog() == 2 * SIZE or ring.waiting() > ring.backlog()
        )
        got += ring.take(most)
    while ring.waiting():
        ring.drain()
        got += ring.take(most)
    assert got == sent


def test_what_was_discarded_is_passed_over():
    written = Written()
    ring = Ring(written, SIZE, SIZE)
    written.write(b"first")
    written.write(b"nothing", DISCARDED)
    written.write(b"last")
    assert not ring.drain()
    assert ring.take() == [b"first", b"last"]
    assert ring.waiting() == 0


def test_what_is_being_written_ends_what_is_complete():
    written = Written()
    ring = Ring(written, SIZE, SIZE)
    written.write(b"first")
    busy = written.position
    written.write(b"second", BUSY)
    written.write(b"third")
    ring.drain()
    assert ring.take() == [b"first"]
    assert ring.waiting() > 0
    written.commit(busy)
    ring.drain()
    assert ring.take() == [b"second", b"third"]


def test_a_full_backlog_leaves_the_rest_where_it_is():
    written = Written()
    ring = Ring(written, SIZE, SIZE // 2)
    records = [bytes([n]) * 56 for n in range(64)]
    for record in records:
        assert written.write(record)
    assert ring.drain()
    assert ring.backlog() == SIZE // 2
    assert ring.waiting() == SIZE
    assert ring.drain()
    got = ring.take(64)
    assert (len(got), ring.backlog()) == (1, SIZE // 2 - 64)
    while ring.waiting():
        ring.drain()
        got += ring.take()
    assert got == records


# batches of several rings


def record(time: int, number: int) -> bytes:
    return struct.pack("<8xQQ", time, number).ljust(64, b"\0")


def number_of(raw: bytes) -> int:
    return int.from_bytes(raw[16:24], "little")


def time_of(raw: bytes) -> int:
    return int.from_bytes(raw[8:16], "little")


NAMES = ("read", "write", "task", "users_read", "users_write", "users_task")
STEP = 1_000_000  # ns


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=200),
        max_size=8,
    ),
    st.data(),
)
def test_batches_are_in_order_of_time_and_lose_nothing(rounds, data):
    """Each record is at most 9 ms older than the latest of its ring before it, as one that
    slept before it was sent; some are still being written when the ring is read next.
    """
    written = {name: Written(size=1 << 14) for name in NAMES}
    reader = Reader({name: Ring(ring, 1 << 14, 1 << 15) for name, ring in written.items()})
    sent: list[bytes] = []
    now, got = 100 * STEP, []
    for round_of in rounds:
        busy: list[tuple[Written, int]] = []
        for which, age, is_busy in round_of:
            now += data.draw(st.sampled_from([0, 1, 2, 3, 40])) * STEP // 4
            raw = record(now - age * STEP, len(sent))
            ring = written[NAMES[which]]
            position = ring.position
            if ring.write(raw, BUSY if is_busy else 0):
                sent.append(raw)
                busy += [(ring, position)] if is_busy else []
        batch = reader.read(now - SETTLED_NS)
        for ring, position in busy:
            ring.commit(position)
        assert all(time_of(raw) <= batch.upto for raw in (*batch.calls, *batch.tasks))
        got.append(batch)
    got.append(reader.rest())
    assert reader.waiting() == 0
    calls = [raw for batch in got for raw in batch.calls]
    tasks = [raw for batch in got for raw in batch.tasks]
    assert sorted(map(number_of, calls + tasks)) == list(range(len(sent)))
    assert [time_of(raw) for raw in calls] == sorted(time_of(raw) for raw in calls)
    assert [time_of(raw) for raw in tasks] == sorted(time_of(raw) for raw in tasks)


def test_a_ring_that_is_behind_holds_the_others_up_and_is_caught_up_with():
    written = {name: Written(size=1 << 20) for name in NAMES}
    reader = Reader({name: Ring(ring, 1 << 20, 1 << 23) for name, ring in written.items()})
    for n in range(14000):
        written["users_read"].write(record(100 * STEP + 2 * n, n))
    written["write"].write(record(100 * STEP + 26001, 99999))
    found: list[int] = []
    for _ in range(100):
        found += map(number_of, reader.read(200 * STEP).calls)
    assert found == [*range(13001), 99999, *range(13001, 14000)]


def test_what_is_being_written_holds_the_other_rings_up_for_a_second():
    """The processor may be taken away from who writes it; what is behind it, too, may be of a
    thread that has gone on on another processor.
    """
    written = {name: Written() for name in NAMES}
    reader = Reader({name: Ring(ring, SIZE, SIZE) for name, ring in written.items()})

    def numbers(ms: int) -> list[int]:
        return [number_of(raw) for raw in reader.read(ms * STEP).calls]

    written["write"].write(record(100 * STEP, 1))
    busy = written["write"].position
    written["write"].write(record(101 * STEP, 2), BUSY)
    written["write"].write(record(102 * STEP, 3))
    written["read"].write(record(103 * STEP, 4))
    assert numbers(200) == []
    written["write"].commit(busy)
    assert numbers(201) == [1, 2, 3, 4]
    written["write"].write(record(300 * STEP, 5), BUSY)
    written["read"].write(record(301 * STEP, 6))
    assert numbers(400) == []
    assert numbers(1399) == []
    assert numbers(1400) == [6]


def test_stores_of_the_kernel_that_are_seen_late_are_waited_for(monkeypatch):
    """Other machines show another's stores in any order but across a fence: first the position,
    then the lengths, then the bytes; and room is given back when all of these were read.
    """
    written = Written()
    written.write(b"record")
    at, all_of_it = mmap.PAGESIZE, bytes(written.producer)
    written.producer[at : at + 16] = struct.pack("<II8s", 6 | BUSY, 0, b"stale")

    def lengths() -> None:
        written.producer[at : at + 4] = all_of_it[at : at + 4]

    def everything() -> None:
        written.producer[:] = all_of_it

    seen = [lengths, everything, lambda: None]

    def fence() -> None:
        assert written.free() == SIZE - 16
        seen.pop(0)()

    monkeypatch.setattr(rings, "fence", fence)
    ring = Ring(written, SIZE, SIZE)
    assert not ring.drain()
    assert (ring.take(), seen, written.free()) == ([b"record"], [], SIZE)


# what there is no memory for


def test_what_memory_has_no_room_for_waits_in_a_file_and_keeps_its_order(tmp_path):
    written = Written()
    spill = Spill(64 << 10, str(tmp_path))
    ring = Ring(written, SIZE, SIZE // 2, spill)
    sent: list[bytes] = []
    got: list[bytes] = []
    for turn in range(40):
        for _ in range(20):
            record = len(sent).to_bytes(4, "little") * (1 + turn % 9)
            assert written.write(record)
            sent.append(record)
        assert not ring.drain()
        assert written.free() == SIZE
        if turn % 5 == 4:
            got += ring.take(1000)
    assert ring.waiting() == ring.backlog() > 3 * SIZE
    assert not list(tmp_path.iterdir())  # it has no name
    got += ring.take()
    assert got == sent
    assert ring.waiting() == 0
    assert os.fstat(spill._file.fileno()).st_size == 0
    spill.close()


@pytest.mark.parametrize("disk_full", [False, True])
def test_what_the_file_has_no_room_for_stays_in_the_ring(tmp_path, monkeypatch, disk_full):
    written = Written()
    spill = Spill(1 << 20 if disk_full else SIZE, str(tmp_path))
    if disk_full:
        monkeypatch.setattr(os, "pwrite", full)
    ring = Ring(written, SIZE, SIZE // 2, spill)
    sent: list[bytes] = []
    got: list[bytes] = []
    for _ in range(3):
        while written.write(record := len(sent).to_bytes(4, "little") * 14):
            sent.append(record)
        ring.drain()
    assert written.free() < SIZE
    assert ring.backlog() == (SIZE // 2 if disk_full else SIZE + SIZE // 2)
    while ring.waiting():
        got += ring.take()
        ring.drain()
    assert got == sent
    spill.close()


def full(fd: int, data: bytes, at: int) -> int:
    raise OSError(errno.ENOSPC, "")


def test_a_folder_that_takes_no_file_is_said(tmp_path):
    with pytest.raises(TraceError, match=r"--spill: can't make a file in .*: no such file"):
        Spill(SIZE, str(tmp_path / "nowhere"))


def test_a_service_has_a_folder_of_its_own(monkeypatch, tmp_path):
    """It can write to few others."""
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}:/nowhere")
    monkeypatch.setattr("probes.kernel.rings.spill.FOLDER", "/nowhere")
    spill = Spill(SIZE)
    place = spill.put(b"piece")
    assert place and spill.take(place) == b"piece"
    spill.close()
