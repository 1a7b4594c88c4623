# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which call caused what a daemon does: found by message and process, through a proxy too, and never guessed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probes.calls.causes import MOST_ORIGINS, Origins
from probes.calls.clients import FIELDS, Connection, Served
from probes.calls.open import Message, Sent

CONNECTION = Connection(False, None)
MESSAGE = Message(0x20008086, 9, 7)


def sent(pid: int, tid: int, number: int = 1, client_pid: int | None = None) -> Sent:
    return Sent(pid, tid, number, f"{tid}-{number}", client_pid)


def served(pid: int | None, message: Message = MESSAGE) -> Served:
    return Served(message, CONNECTION, {**dict.fromkeys(FIELDS), "pid": pid})


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
    """The client 10 asks the proxy 500, which asks the daemon: that sees 10, and the message of the proxy."""
    origins, onward = Origins(), MESSAGE._replace(serial=3000)
    origins.send(MESSAGE, sent(10, 11))
    origins.send(onward, sent(500, 501, client_pid=10))
    origins.send(onward, sent(500, 502, client_pid=77))
    assert [by.tid for by in origins.of(served(10), 0)] == [11]
    assert [by.tid for by in origins.of(served(10, onward), 0)] == [501]


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
            found = {by.number for by in origins.of(served(pid, MESSAGE._replace(serial=serial)), 0)}
            assert found == {number for who, number, of in open_calls if (who, of) == (pid, serial)}
    for pid, number, serial in open_calls:
        origins.ended(MESSAGE._replace(serial=serial), pid, number)
    assert not origins._sent


def test_what_a_users_program_says_that_it_serves_is_believed_of_that_users_calls_only() -> None:
    origins = Origins()
    origins.send(MESSAGE, sent(10, 11)._replace(uid=1001))
    assert [[by.tid for by in origins.of(served(10), daemon)] for daemon in (0, 1001, 1002)] == [[11], [11], []]
