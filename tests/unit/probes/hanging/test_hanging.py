# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told of calls that hang since before tracing, from memory: this process's, in which
libvirt's structs are laid out by hand.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import Client
from log.events import Caller
from log.values import Value
from probes.api.load import load_api
from probes.calls.parts.open import Message
from probes.calls.serving.clients import Connection, Served
from probes.calls.serving.tasks import Task
from probes.hanging import memory as memories
from probes.hanging.hanging import Hanging
from probes.hanging.memory import ProcessMemory, memory_of
from probes.hanging.witnesses import Witnesses
from probes.host.daemons.stacks import Inside, Stacks
from probes.internals import waiting
from probes.internals.layouts import LAYOUTS
from probes.internals.private import BEGINS_JOB, DISPATCH, MONITOR, SEND, SENDS

ME, LAYOUT = os.getpid(), LAYOUTS["gobject"]
UUID_TEXT = "11111111-2222-3333-4444-555555555555"
PLACES = {
    waiting.DOMAIN_JOB: 112, waiting.DEFINITION: 136, waiting.HAS_JOBS: 1,
    waiting.PATIENCE: 30_000, waiting.CLIENT_IDENTITY: 128, waiting.MESSAGE: 168,
}  # fmt: skip
NOW, SINCE = 1_800_000_000_000_000_000, 1_799_999_990_000  # ns, ms: ten seconds before
HOLDER, WAITER = 501, 502


class Laid:
    """Structs, which stay as long as this does."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def at(self, fields: Mapping[int, int | bytes], size: int = 320) -> int:
        """The address of a struct with these fields: four-byte ones are given as bytes."""
        raw = bytearray(size)
        for where, value in fields.items():
            data = value.to_bytes(8, "little") if isinstance(value, int) else value
            raw[where : where + len(data)] = data
        buffer = ctypes.create_string_buffer(bytes(raw), size)
        self._kept.append(buffer)
        return ctypes.addressof(buffer)

    def text(self, text: str) -> int:
        return self.at({0: text.encode() + b"\0"})

    def domain(self) -> int:
        """A client's handle of web1, over qemu+ssh."""
        uri = {
            0: self.text("qemu+ssh"),
            8: self.text("host"),
            16: self.text("alice"),
            32: self.text("/system"),
        }
        driver = self.at({0: self.text("remote")})
        connection = self.at({64: 1, 72: self.at(uri), 80: driver})
        return self.at({24: connection, 32: self.text("web1"), 44: UUID(UUID_TEXT).bytes})

    def jobs(self, owner: int = HOLDER, active: int = 3) -> int:
        return self.at({
            56: active.to_bytes(4, "little"), 64: owner,
            72: self.text("remoteDispatchDomainSuspend"), 80: SINCE,
        })  # fmt: skip

    def message(self, serial: int) -> int:
        return self.at({32: b"\x86\x80\0\x20", 40: b"\x22\0\0\0", 48: serial.to_bytes(4, "little")})


def task_of(pid: int, comm: str, identity: Mapping[str, Value] | None, *, serves: bool) -> Task:
    """The client of an identity is told by its pid."""
    caller = Caller(pid, "/usr/sbin/libvirtd", None, 0, "root", None, None, None)
    if not serves:
        return Task(caller, comm)
    number = identity and identity["value0"]
    client = Client(
        number >> 64 if isinstance(number, int) else None, 0, "root", exe="/usr/bin/virsh"
    )
    served = Served(Message(0, 0, 0), Connection(None, None), client, shown=client)
    return Task(caller, comm, served, is_daemon=True, is_roots=True)


class Threads(Stacks):
    """These alone."""

    def __init__(self, *inside: Inside) -> None:
        super().__init__()
        self.inside = {one.tid: one for one in inside}

    def look(self, pid: int, tid: int) -> Inside | None:
        return self.inside.get(tid)


def thread(
    tid: int, function: str, waits_for: str | None, *, serves: bool = True, **more: Any
) -> Inside:
    return Inside(
        ME, tid, "rpc", function, 8, serves, waits_for, layout=LAYOUT, places=PLACES, **more
    )


def identity(laid: Laid, pid: int) -> int:
    """The daemon's end of the connection of that process."""
    parameters = laid.at({0: b"process-id\0", 80: b"\x03\0\0\0", 88: pid})
    return laid.at({128: laid.at({24: 1, 32: parameters})})


def all_of(laid: Laid) -> tuple[Inside, Inside]:
    """One that has the job and waits for the monitor, and one that waits for the job."""
    jobs = laid.jobs()
    object_ = laid.at({112: jobs, 136: laid.at({8: UUID(UUID_TEXT).bytes})})
    told = laid.at({8: laid.text('{"execute":"stop"}\r\n')})
    monitor = laid.at({144: object_, 168: told}, 512)
    until = laid.at({0: SINCE // 1000 + 30 + 2})  # it began to wait two seconds later
    holder = thread(HOLDER, "virDomainSuspend", MONITOR, given={
        "virDomainSuspend": {0: laid.domain()}, MONITOR: {0: monitor},
        DISPATCH: {2: identity(laid, 41), 3: laid.message(7)},
    })  # fmt: skip
    waiter = thread(WAITER, "virDomainReset", BEGINS_JOB, until=until, given={
        "virDomainReset": {0: laid.domain()}, BEGINS_JOB: {0: object_, 1: jobs, 2: 4},
        DISPATCH: {2: identity(laid, 42), 3: laid.message(8)},
    })  # fmt: skip
    return holder, waiter


def hanging(*inside: Inside) -> Hanging:
    return Hanging(Threads(*inside), load_api(), task_of, redact=True)


def test_all_that_memory_tells():
    laid = Laid()
    holder, waiter = all_of(laid)
    first, second = hanging(holder, waiter).describe([waiter, holder], NOW)
    assert first.object and first.object.fields == {
        "name": "web1",
        "uuid": UUID_TEXT,
        "driver": "remote",
    }
    assert (first.connection, first.where) == (
        "qemu+ssh://alice@host/system",
        "waiting for the monitor",
    )
    assert first.command == '{"execute":"stop"}' and first.client and first.client.pid == 41
    assert (first.age_ns, first.before, first.held_by) == (10 * 10**9, True, None)
    assert (second.where, second.age_ns) == ("waiting for the domain's job", 8 * 10**9)
    by = second.held_by
    assert by and (by["function"], by["pid"], by["age_ns"]) == ("virDomainSuspend", 41, 10 * 10**9)


def test_call_of_a_client_and_what_a_daemon_does_for_it_are_one():
    laid = Laid()
    holder, waiter = all_of(laid)
    holder = holder._replace(
        given={**holder.given, DISPATCH: {2: identity(laid, ME), 3: laid.message(7)}}
    )
    client = thread(600, "virDomainSuspend", SEND, serves=False, given={
        "virDomainSuspend": {0: laid.domain()}, SEND: {}, SENDS: {1: laid.message(7)},
    })  # fmt: skip
    told = hanging(holder, waiter).describe([waiter, holder, client], NOW)
    assert [(one.tid, one.where) for one in told] == [
        (600, "waiting for the monitor"), (WAITER, "waiting for the domain's job"),
    ]  # fmt: skip
    # of two that have sent the same, none is told from the other
    other = client._replace(tid=601)
    told = hanging(holder, waiter).describe([holder, client, other], NOW)
    assert {one.tid: one.where for one in told} == {
        HOLDER: "waiting for the monitor",
        600: "waiting for the daemon",
        601: "waiting for the daemon",
    }


def test_what_is_not_known_is_not_told():
    """No code proves anything, the job is nobody's, memory can't be read."""
    laid = Laid()
    holder, waiter = all_of(laid)
    (told,) = hanging().describe([holder._replace(given={}, places={}, layout={})], NOW)
    assert (told.object, told.connection, told.command, told.age_ns) == (None, None, None, None)
    assert told.client and told.client.pid is None
    (told,) = hanging().describe([waiter._replace(until=0)], NOW)  # nobody is in a public function
    assert told.age_ns is None and told.held_by == {
        "id": None, "function": "remoteDispatchDomainSuspend", "age_ns": 10 * 10**9,
    }  # fmt: skip
    free = waiter._replace(given={**waiter.given, BEGINS_JOB: {1: laid.jobs(active=0), 2: 4}})
    (told,) = hanging(holder).describe([free], NOW)
    assert told.held_by is None
    (told,) = hanging().describe([holder._replace(pid=0)], NOW)
    assert told.object is None
    own = holder._replace(tid=HOLDER + 1)  # another thread has the job
    (told,) = hanging().describe([own], NOW)
    assert told.age_ns is None


def test_witness_is_believed_as_long_as_nothing_changes():
    laid = Laid()
    holder, waiter = all_of(laid)
    seen = Witnesses(lambda: hanging(holder, waiter))
    assert seen.holder(ME, WAITER) is None
    seen.watch_now([(ME, WAITER), (ME, 9)])
    by = seen.holder(ME, WAITER)
    assert by and (by["function"], by["pid"]) == ("virDomainSuspend", 41)
    assert seen.holder(ME, 9) is None
    jobs = waiter.given[BEGINS_JOB][1]
    ctypes.memset(jobs + 56, 0, 4)
    assert seen.holder(ME, WAITER) is None


@given(st.integers(0, 2**64 - 1))
def test_any_address_may_be_read(at: int):
    with memory_of(ME) as memory:
        assert memory.text(at) is None or isinstance(memory.text(at), str)
        assert memories.identity(memory, at) is None or True
        assert memories.holder(memory, at, waiting.JOB) is None or True
        for kind in ("domain", "snapshot", "secret", "connect", "stream"):
            memories.handle(memory, kind, at, LAYOUT, redact=True)


@pytest.mark.parametrize(("length", "known"), [(255, True), (256, False)])
def test_string_that_is_too_long_is_not_told(length: int, *, known: bool):
    laid = Laid()
    with memory_of(ME) as memory:
        assert isinstance(memory, ProcessMemory)
        assert (memory.text(laid.at({0: b"x" * length})) is not None) == known
