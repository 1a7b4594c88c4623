# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which calls wait for a daemon's limits: this process is the daemon and its client, by sockets
that it has.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from log.events import Caller, UnderWay
from probes.calls.serving.waits import DAEMON, FOR_DAEMON
from probes.hanging.hanging import Busy
from probes.hanging.limits import Full, Reached, explain, fields, in_words, unknown
from probes.host.daemons.admin import Server

ME = os.getpid()
IDLE = Server("libvirtd", 1, 4, 0, 4, 2, 3, 1, 0)
CALLER = Caller(ME, None, None, 0, "root", None, None, None)
ALL_BUSY = IDLE._replace(workers=3, free_workers=0, waiting_calls=2)


def under_way(function: str = "virDomainReset", where: str = FOR_DAEMON) -> UnderWay:
    return UnderWay(0, 1, ME, "x", CALLER, None, function, None, where)


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """A connection, and one that nobody has accepted."""
    ends = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    ends[0].bind(str(tmp_path / "socket"))
    ends[0].listen(2)
    ends[1].connect(str(tmp_path / "socket"))
    ends.append(ends[0].accept()[0])
    yield ends
    for one in ends:
        one.close()


def limit_of(one: UnderWay, daemon: Full, *others: UnderWay) -> object:
    found = explain([one, *others], [daemon])[0].limit
    assert found is None or found["pid"] == ME
    return found and (found["limit"], found["most"])


def full(server: Server | None, *busy: Busy) -> Full:
    return Full(ME, "libvirtd", server, busy)


def test_call_waits_for_a_worker_where_none_is_free(connected: object):
    assert limit_of(under_way(), full(ALL_BUSY)) == ("max_workers", 3)
    for server in (IDLE, None):
        assert limit_of(under_way(), full(server)) is None
    assert limit_of(under_way(where=DAEMON), full(ALL_BUSY)) is None


def test_call_waits_for_others_of_its_connection(connected: list[socket.socket]):
    works_on = under_way(where=DAEMON)
    # both ends are this process's: two connections, as far as it is asked
    busy = Busy(ME, True, 2, 2)
    daemon = full(ALL_BUSY, busy, busy)
    assert limit_of(under_way(), daemon, *[works_on] * 4) == ("max_client_requests", 2)
    # of two connections one is full: nobody knows on which one it waits
    assert limit_of(under_way(), full(ALL_BUSY, busy), *[works_on] * 2) is None
    # a call may be worked on that is not known to be
    assert limit_of(under_way(), daemon, *[works_on] * 3) is None
    assert limit_of(under_way(), full(ALL_BUSY, Busy(None, False, 1, 2))) is None
    others = full(ALL_BUSY, Busy(ME + 1, True, 2, 2))
    assert limit_of(under_way(), others) == ("max_workers", 3)


def test_connection_waits_to_be_accepted(connected: list[socket.socket]):
    opens = under_way("virConnectOpen")
    crowded = full(IDLE._replace(clients=4))
    assert limit_of(opens, crowded) is None  # it is not known to be there
    connected[2].connect(connected[0].getsockname())
    assert limit_of(opens, crowded) == ("max_clients", 4)
    unproved = full(IDLE._replace(anonymous_clients=4))
    assert limit_of(opens, unproved) == ("max_anonymous_clients", 4)
    assert limit_of(opens, full(ALL_BUSY)) is None


def test_nothing_is_named_of_daemons_that_do_not_say():
    daemon = full(None)
    assert daemon.reached() == [] and in_words(daemon) == []
    (said,) = unknown([daemon, full(IDLE)])
    assert f"libvirtd, process {ME}" in said and "not known" in said
    assert fields(daemon)["reached"] is None and fields(daemon)["max_workers"] is None


def test_limits_in_words():
    daemon = full(ALL_BUSY, Busy(77, True, 5, 5), Busy(78, True, 4, 5), Busy(79, True, 9, 0))
    assert daemon.reached() == [Reached("max_workers", 3), Reached("max_client_requests", 5, 77)]
    assert in_words(daemon) == [
        f"libvirtd, process {ME}: max_workers reached, all 3 workers busy, 2 calls wait",
        f"libvirtd, process {ME}: max_client_requests reached, process 77 has 5 calls under way on"
        " a connection",
    ]
