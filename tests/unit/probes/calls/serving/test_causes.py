# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which call caused what a daemon does: found by message and process, through a proxy too, and
never guessed.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import Client
from log.events import Caller
from probes.calls.parts.open import Message, Open, OpenCalls, Sent
from probes.calls.serving.causes import MOST_ORIGINS, MOST_SENT, Causes, Origins
from probes.calls.serving.clients import Connection, Served
from probes.calls.serving.tasks import Choice, Task
from probes.kernel import records
from tests.unit.log_samples import DESTROY

CONNECTION = Connection(False, None)
MESSAGE = Message(0x20008086, 9, 7)


def sent(pid: int, tid: int, number: int = 1, client_pid: int | None = None) -> Sent:
    return Sent(pid, tid, number, f"{tid}-{number}", client_pid)


def served(pid: int | None, message: Message = MESSAGE) -> Served:
    return Served(message, CONNECTION, Client(pid))


def test_origin_is_the_clients_call_with_the_message():
    origins = Origins()
    origins.send(MESSAGE, sent(10, 11))
    origins.send(MESSAGE._replace(serial=8), sent(10, 12))
    origins.send(MESSAGE, sent(20, 21))
    assert [by.tid for by in origins.of(served(10), 0)] == [11]
    assert [by.tid for by in origins.of(served(10, MESSAGE._replace(serial=8)), 0)] == [12]
    assert origins.of(served(10, MESSAGE._replace(procedure=8)), 0) == []


def test_nothing_is_the_origin_for_a_client_without_a_process():
    origins = Origins()
    origins.send(MESSAGE, sent(10, 11))
    assert origins.of(served(None), 0) == []
    assert origins.of(Served(MESSAGE, CONNECTION, None), 0) == []


def test_proxy_sends_with_a_message_of_its_own_and_the_identity_of_its_client():
    """The client 10 asks the proxy 500, which asks the daemon: that sees 10, and the message of
    the proxy.
    """
    origins, onward = Origins(), MESSAGE._replace(serial=3000)
    origins.send(MESSAGE, sent(10, 11))
    origins.send(onward, sent(500, 501, client_pid=10))
    origins.send(onward, sent(500, 502, client_pid=77))
    assert [by.tid for by in origins.of(served(10), 0)] == [11]
    assert [by.tid for by in origins.of(served(10, onward), 0)] == [501]


def test_of_a_chain_of_daemons_the_one_at_the_other_end_has_sent_the_message():
    """Each sends the first message of a new connection for the client 10: they are alike."""
    origins, client = Origins(), Client(10)
    origins.send(MESSAGE, sent(10, 11))
    origins.send(MESSAGE, sent(500, 501, client_pid=10))
    origins.send(MESSAGE, sent(600, 601, client_pid=10))
    for peer, found in ((600, [601]), (500, [501]), (10, [11]), (None, [11, 501, 601])):
        last = Served(MESSAGE, CONNECTION, client._replace(peer=Client(peer)))
        assert [by.tid for by in origins.of(last, 0)] == found, peer


def test_two_connections_of_a_process_cant_be_told_apart():
    origins = Origins()
    origins.send(MESSAGE, sent(10, 11))
    origins.send(MESSAGE, sent(10, 12))
    assert [by.id for by in origins.of(served(10), 0)] == ["11-1", "12-1"]
    origins.ended(MESSAGE, 11, 1)
    assert [by.id for by in origins.of(served(10), 0)] == ["12-1"]


def test_too_many_that_cant_be_told_apart_are_none():
    origins = Origins()
    for tid in range(MOST_ORIGINS):
        origins.send(MESSAGE, sent(10, tid))
    assert len(origins.of(served(10), 0)) == MOST_ORIGINS
    origins.send(MESSAGE, sent(10, MOST_ORIGINS))
    assert origins.of(served(10), 0) == []


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.booleans())))
def test_only_calls_under_way_are_kept(steps):
    origins, open_calls = Origins(), set()
    for pid, number, serial, begins in steps:
        message, key = MESSAGE._replace(serial=serial), (pid, number, serial)
        if begins and key not in open_calls:
            open_calls.add(key)
            origins.send(message, sent(pid, pid, number))
        elif not begins:
            open_calls.discard(key)
            origins.ended(message, pid, number)
    for serial in range(3):
        for pid in range(1, 4):
            found = {
                by.number for by in origins.of(served(pid, MESSAGE._replace(serial=serial)), 0)
            }
            assert found == {number for who, number, of in open_calls if (who, of) == (pid, serial)}
    for pid, number, serial in open_calls:
        origins.ended(MESSAGE._replace(serial=serial), pid, number)
    assert not origins._sent


def test_what_a_users_program_says_that_it_serves_is_believed_of_that_users_calls_only() -> None:
    origins = Origins()
    origins.send(MESSAGE, sent(10, 11)._replace(uid=1001))
    assert [[by.tid for by in origins.of(served(10), daemon)] for daemon in (0, 1001, 1002)] == [
        [11],
        [11],
        [],
    ]


# calls of a client (thread 11 of process 10), and of a daemon of root's (thread 51 of 50), which
# serves it

CLIENT = Task(Caller(10, None, None, 1000, None, None, None, None), "virsh")
DAEMON = Task(Caller(50, None, None, 0, "root", None, None, None), "libvirtd", served(10))


class House:
    """Calls under way; `wanted`: whether the user asked for the client, as the kernel says of
    its threads.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.calls = OpenCalls(lambda when: when)
        passes = lambda is_wanted, task: is_wanted  # noqa: E731
        self.causes = Causes(
            self.calls, lambda task, pid, tid: CLIENT if pid == 10 else DAEMON, Choice(passes)
        )
        self.asked = self.begin(10, 11, wanted)

    def begin(self, pid: int, tid: int, wanted: bool = False) -> Open:
        stack = self.calls.stacks[tid]
        number = len(stack) + 1
        raw = records.HEAD.pack(
            records.REC_ENTRY, len(stack), 0, 0, 100 * tid + number, 0, tid, number, 0, pid
        )
        call = Open(raw, 0, number, len(stack), 0, pid, 0)
        self.calls.begin(call, tid, stack)
        self.causes.choose(call, records.REC_WANTED if wanted else 0, tid)
        return call

    def hidden(self, call: Open, tid: int) -> bool:
        return self.calls.is_hidden(tid, call.seq)


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_call_causes_is_as_wanted_as_it_is(wanted: bool) -> None:
    house = House(wanted)
    house.causes.sends(house.asked, 11, MESSAGE)
    caused = house.begin(50, 51)
    inside = house.begin(50, 51)
    assert [house.hidden(house.asked, 11), house.hidden(caused, 51), house.hidden(inside, 51)] == [
        not wanted
    ] * 3


def test_what_nobody_wanted_has_caused_is_wanted_for_who_does_it_only() -> None:
    house = House()
    assert house.hidden(house.begin(50, 51), 51)  # nothing was sent
    assert not house.hidden(house.begin(50, 52, wanted=True), 52)


def test_a_caused_call_is_a_child_and_names_its_parent() -> None:
    house = House()
    house.causes.sends(house.asked, 11, MESSAGE)
    caused = house.begin(50, 51)
    extra = house.calls.take_extra(51, caused.seq)
    assert extra
    built = house.causes.link(DESTROY, caused, 51, extra)
    assert (built.parent, built.one_of) == (house.calls.id(house.asked, 11), ())
    asked = house.calls.extra_of(11, house.asked.seq)
    assert asked
    assert asked.children == [built]
    assert house.causes.link(DESTROY, house.asked, 11, asked).children == (built,)
    assert house.causes.of(DAEMON) == []  # it is over


def test_one_of_two_callers_is_said_to_be_one_of_them() -> None:
    house = House()
    other = house.begin(10, 12, wanted=True)
    house.causes.sends(house.asked, 11, MESSAGE)
    house.causes.sends(other, 12, MESSAGE)
    caused = house.begin(50, 51)
    extra = house.calls.take_extra(51, caused.seq)
    assert extra
    built = house.causes.link(DESTROY, caused, 51, extra)
    assert (built.parent, built.one_of) == (
        None,
        (house.calls.id(house.asked, 11), house.calls.id(other, 12)),
    )


def test_of_too_many_messages_the_first_are_forgotten() -> None:
    house = House()
    for serial in range(MOST_SENT + 1):
        house.causes.sends(house.asked, 11, MESSAGE._replace(serial=serial))
        house.causes.sends(house.asked, 11, MESSAGE._replace(serial=serial))  # once is enough
    found = [
        house.causes.of(DAEMON._replace(served=served(10, MESSAGE._replace(serial=serial))))
        for serial in range(MOST_SENT + 1)
    ]
    assert [len(by) for by in found] == [0, *[1] * MOST_SENT]
    asked = house.calls.extra_of(11, house.asked.seq)
    assert asked
    assert [message.serial for message in asked.sent] == [*range(1, MOST_SENT + 1)]
    house.causes.ended(11, house.asked, asked)
    assert not house.causes._origins._sent
