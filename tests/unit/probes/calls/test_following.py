# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairing of records: a model of the kernel's side makes calls and loses records; the reader
tells exactly what is left.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import Call
from probes.calls.calls import Calls
from probes.calls.following import Following
from probes.kernel import records
from tests.unit.probes.calls.test_calls import TABLE, TASK, argument, calls_of, new_calls, row


@dataclass
class Frame:
    number: int  # of the call: its argument, and half its result
    seq: int
    entry_lost: bool


@dataclass
class Kernel:
    """What trace.bpf.c sends: calls nest in threads, and records get lost."""

    raws: list[bytes] = field(default_factory=list)
    stacks: dict[int, list[Frame]] = field(default_factory=dict)
    seqs: dict[int, int] = field(default_factory=dict)
    time: int = 0
    made: int = 0
    uncounted: int = 0  # calls of which no record is left
    finished: list[int] = field(default_factory=list)  # in order of their return
    unfinished: set[int] = field(default_factory=set)
    without_args: set[int] = field(default_factory=set)

    def _head(self, kind: int, flags: int, tid: int, seq: int, depth: int) -> bytes:
        self.time += 1
        return records.HEAD.pack(kind, depth, flags, 0, self.time, 0, tid, seq, 0, 1)

    def enter(self, tid: int, lost: bool) -> None:
        stack = self.stacks.setdefault(tid, [])
        self.seqs[tid] = seq = self.seqs.get(tid, 0) + 1
        self.made += 1
        if not lost:
            head = self._head(
                records.REC_ENTRY, len(stack) << records.REC_LEVEL, tid, seq, min(len(stack), 255)
            )
            self.raws.append(head + struct.pack("<Q6Q", 0, self.made, 0, 0, 0, 0, 0))
            self.unfinished.add(self.made)
        stack.append(Frame(self.made, seq, lost))

    def leave(self, tid: int, lost: bool) -> None:
        stack = self.stacks.get(tid)
        if not stack:
            return
        frame = stack.pop()
        if lost:
            self.uncounted += frame.entry_lost
            return
        head = self._head(
            records.REC_RETURN,
            records.REC_ENTRY_LOST if frame.entry_lost else 0,
            tid,
            frame.seq,
            len(stack),
        )
        self.raws.append(head + struct.pack("<QQ", self.time - 1, 2 * frame.number))
        self.finished.append(frame.number)
        self.unfinished.discard(frame.number)
        if frame.entry_lost:
            self.without_args.add(frame.number)

    def jump(self, tid: int, count: int) -> None:
        """Out of so many calls, which never return."""
        for _ in range(min(count, len(self.stacks.get(tid, [])))):
            self.uncounted += self.stacks[tid].pop().entry_lost


steps = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["enter", "enter", "leave", "leave", "jump"]),
        st.sampled_from([False, False, True]),
        st.integers(1, 3),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 7))
def test_every_call_is_told_once_or_counted_as_lost(steps, batch):
    kernel = Kernel()
    for tid, what, lost, count in steps:
        if what == "jump":
            kernel.jump(tid, count)
        else:
            (kernel.enter if what == "enter" else kernel.leave)(tid, lost)
    calls = new_calls([row("virEventRemoveTimeout")])
    events: list[Call] = []
    for at in range(0, len(kernel.raws), batch):
        events += calls_of(calls.feed(kernel.raws[at : at + batch]))
    events += calls_of(calls.close())
    assert calls.open_calls() == 0
    for stack in kernel.stacks.values():
        kernel.uncounted += sum(frame.entry_lost for frame in stack)

    finished = [event for event in events if event.unfinished is None]
    assert [event.ret for event in finished] == [2 * number for number in kernel.finished]
    assert [argument(event, "timer") for event in finished] == [
        None if number in kernel.without_args else number for number in kernel.finished
    ]
    unfinished = [event for event in events if event.unfinished is not None]
    assert sorted(argument(event, "timer") for event in unfinished) == sorted(kernel.unfinished)
    assert kernel.made == len(events) + kernel.uncounted
    assert calls.ended_without_entry.total() == len(kernel.without_args)


@given(steps)
def test_a_thread_that_exits_leaves_no_call_open(steps):
    kernel = Kernel()
    calls = new_calls([row("virEventRemoveTimeout")])
    events: list[Call] = []
    for tid, what, _, _ in steps:
        if what == "jump":
            events += calls_of(calls.feed(kernel.raws))
            kernel.raws.clear()
            events += calls_of(calls.thread_exited(tid))
            kernel.stacks.pop(tid, None)
        else:
            (kernel.enter if what == "enter" else kernel.leave)(tid, False)
    events += calls_of(calls.feed(kernel.raws) + calls.close())
    assert len(events) == kernel.made
    assert {event.unfinished for event in events} <= {None, "process exited", "still running"}
    assert sorted(argument(event, "timer") for event in events) == list(range(1, kernel.made + 1))


@pytest.mark.parametrize("nested", [True, False])
def test_a_call_by_libvirts_own_code_is_an_inner_one(nested: bool) -> None:
    """So says who knows what is at the address that it returns to; told where these are wanted."""
    calls = Calls(
        [row("virEventRemoveTimeout")],
        TABLE,
        lambda task, pid, tid: TASK,
        lambda when: when,
        is_own=lambda pid, address: (pid, address) == (1, 0x5000),
        nested=nested,
    )
    assert isinstance(calls._following, Following)
    told = []
    for seq, address in ((1, 0x5000), (2, 0x6000)):
        entry = bytearray(
            records.HEAD.pack(records.REC_ENTRY, 0, records.REC_CALLER, 0, seq, 0, 1, seq, 0, 1)
        ).ljust(calls.rows[0].entry.fixed, b"\0")
        struct.pack_into("<Q", entry, records.ENTRY_CALLER, address | records.CALLER_LEFT)
        ret = records.HEAD.pack(records.REC_RETURN, 0, 0, 0, seq, 0, 1, seq, 0, 1)
        told += calls_of(calls.feed([bytes(entry), ret + struct.pack("<QQ", seq, 0)]))
    assert [call.depth for call in told] == ([1, 0] if nested else [0])
