# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is begun and not ended: every pair of the table, whose it is, and what is not believed."""

from __future__ import annotations

import dataclasses

import pytest

from log.client import Client
from log.events import Call, Caller, DomainEvent, Event, Gap, Owed, Recording, call_id
from log.owing.owing import MOST_OF_A_USER, Owing
from log.owing.pairs import FUNCTIONS, PAIRS, Pair, followed
from log.owing.references import References
from log.render import text
from log.values import Flags, Handle, Value, Values
from probes.api.load import load_api
from tests.unit.log_samples import DESTROY, NS, START, UUID

DAEMON = Caller(7, "/usr/sbin/libvirtd", None, 0, "root", None, None, None)
ALICE = Client(pid=4711, exe="/usr/bin/backup", uid=1000, user="alice")
GUEST = Handle("domain", {"name": "web1", "uuid": UUID, "driver": "QEMU"}, 0x10, 0x20)
STREAM = Handle("stream", {"driver": "QEMU"}, 0x30, 0x20)
CONNECT = Handle("connect", {"uri": "qemu:///system", "driver": "QEMU"}, 0x20)
API = load_api().by_name


@dataclasses.dataclass
class Clock:
    now: int = START

    def call(self, function: str, *flags: str, **more: object) -> Call:
        """In root's daemon, for alice, on all that there is."""
        self.now += NS
        values: dict[str, Value] = {
            "dom": GUEST,
            "disk": "vda",
            "stream": STREAM,
            "flags": Flags(1, flags),
        }
        if function.startswith(("virConnect", "virInterface")):
            values = {"conn": CONNECT}
        made = DESTROY._replace(
            function=function, time=self.now, caller=DAEMON, client=ALICE, args=Values(values)
        )
        return made._replace(**more)  # type: ignore[arg-type]

    def change(self, event: str, uid: int = 0) -> DomainEvent:
        return DomainEvent(
            self.now, 7, "x", DAEMON._replace(uid=uid), GUEST, event, "destroyed", None
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


def owed(owing: Owing, clock: Clock) -> list[str]:
    return [one.what for one in owing.open(clock.now)]


def begin(pair: Pair, clock: Clock) -> Call:
    name, flags = next(iter(pair.begins.items()))
    return clock.call(name, *flags[:1], ret=1)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.what)
def test_each_pair_begins_and_ends(clock: Clock, pair: Pair):
    for end in (*pair.ends, *pair.changes):
        owing = Owing()
        owing.of([begin(pair, clock)])
        assert owed(owing, clock) == [pair.what]
        owing.of([clock.call(end, ret=0) if end in pair.ends else clock.change(end)])
        assert owed(owing, clock) == []


def test_functions_of_the_table_exist_and_take_these_flags():
    table = load_api()
    for name in FUNCTIONS:
        assert name in table.by_name, name
    constants = {name for enum in table.enums.values() for name in enum.constants}
    assert {flag for pair in PAIRS for flags in pair.begins.values() for flag in flags} <= constants


def test_flags_decide(clock: Clock):
    owing = Owing()
    owing.of([clock.call("virDomainCreateXML"), clock.call("virDomainBlockCommit")])
    assert owed(owing, clock) == []


def test_failed_and_unfinished_calls_begin_nothing(clock: Clock):
    owing = Owing()
    for more in ({"failed": True}, {"failed": None}, {"unfinished": "result lost"}, {"depth": 1}):
        owing.of([clock.call("virDomainFSFreeze", **more)])
    assert owed(owing, clock) == []


def test_end_of_its_process_is_told_once(clock: Clock):
    owing = Owing()
    call = clock.call("virDomainFSFreeze")
    owing.of([call])
    (told,) = owing.process_ended(4711, call.time + 41 * NS + 4_100_000)
    assert isinstance(told, Owed)
    assert text.line(told).endswith(
        " libvirt-trace: web1: frozen by 4711 backup alice for 41s, its process has ended\n"
    )
    assert owing.process_ended(4711, clock.now + 42 * NS) == []
    assert [one.gone for one in owing.open(clock.now)] == [True]


def test_process_that_had_ended_before_the_daemon_was_done(clock: Clock):
    owing = Owing()
    call = clock.call("virDomainFSFreeze", duration_ns=5 * NS)
    assert owing.process_ended(4711, call.time + NS) == []
    (again, told) = owing.of([call])
    assert again is call and isinstance(told, Owed) and told.gone


def test_number_of_a_process_that_is_anothers_by_now(clock: Clock):
    owing = Owing()
    owing.process_ended(4711, clock.now)
    call = clock.call("virDomainFSFreeze")
    assert owing.of([call]) == [call]
    assert [one.gone for one in owing.open(clock.now)] == [False]


def test_what_a_daemon_did_is_not_told_of_its_client_again(clock: Clock):
    remote = GUEST._replace(fields={**GUEST.fields, "driver": "remote"})
    client = clock.call("virDomainFSFreeze", client=None, args=Values({"dom": remote}))
    served = clock.call("virDomainFSFreeze", parent=call_id(client.tid, client.time))
    owing = Owing()
    owing.of([served, client])
    assert owed(owing, clock) == ["frozen"]
    other = Owing()  # of a daemon on another host
    other.of([client])
    assert owed(other, clock) == ["frozen"]


def test_nobody_ends_it_in_a_daemon_of_his_own(clock: Clock):
    own = {"caller": DAEMON._replace(pid=8, uid=1001)}
    owing = Owing()
    owing.of([clock.call("virDomainFSFreeze")])
    owing.of([clock.call("virDomainFSThaw", **own), clock.change("stopped", uid=1001)])
    assert owed(owing, clock) == ["frozen"]


def test_driver_in_the_process_goes_with_it(clock: Clock):
    owing = Owing()
    owing.of([clock.call("virDomainSuspend", client=None, caller=DAEMON)])
    assert owed(owing, clock) == ["paused"]
    assert owing.process_ended(DAEMON.pid, clock.now + NS) == [] and owed(owing, clock) == []


def test_disk_by_another_of_its_names(clock: Clock):
    owing = Owing()
    owing.of([clock.call("virDomainBlockCopy")])
    path = Values({"dom": GUEST, "disk": "/srv/web1.img"})
    owing.of([clock.call("virDomainBlockJobAbort", args=path)])
    assert owed(owing, clock) == []


def test_a_user_can_have_so_many_and_takes_no_room_from_others(clock: Clock):
    owing = Owing()
    for number in range(MOST_OF_A_USER + 3):
        guest = GUEST._replace(fields={**GUEST.fields, "uuid": str(number)})
        owing.of([clock.call("virDomainFSFreeze", args=Values({"dom": guest}))])
    assert len(owing.open(0)) == MOST_OF_A_USER
    assert owing.left_out() == (
        "3 more that were begun are not followed: 512 of a user are, and 8192 in all"
    )
    owing.of([clock.call("virDomainSuspend", client=ALICE._replace(uid=0))])
    assert owed(owing, clock)[-1] == "paused"


def test_what_may_have_been_ended_unseen_is_said(clock: Clock):
    owing = Owing()
    owing.of([clock.call("virDomainFSFreeze"), Gap(clock.now, clock.now, "not running")])
    (told,) = owing.open(clock.now)
    assert not told.sure and text.line(told).endswith(", unless that was ended unseen\n")
    partly = Owing(sure=False)
    partly.of([clock.call("virDomainFSFreeze")])
    assert [one.sure for one in partly.open(clock.now)] == [False]


def test_host_that_was_started_again_has_no_guests_of_before(clock: Clock):
    first = Recording(0, "1", "h", None, "a", "6.1", None, {}, {}, {}, None)
    events: list[Event] = [first, clock.call("virDomainFSFreeze")]
    owing = Owing()
    owing.of([*events, first])
    assert owed(owing, clock) == ["frozen"]
    owing.of([first._replace(boot="b")])
    assert owed(owing, clock) == []


def test_connection_is_owed_until_the_last_that_refers_to_it_is_freed(clock: Clock):
    owing, here = Owing(), {"client": None, "caller": DAEMON}
    looked = clock.call("virDomainLookupByName", **here, ret=GUEST, args=Values({"conn": CONNECT}))
    owing.of([looked, clock.call("virConnectDomainEventRegisterAny", **here, ret=5)])
    owing.of([clock.call("virConnectClose", **here, ret=3)])
    (told,) = owing.open(clock.now)
    assert told.refers == ("domain web1", "callback of events", "1 more")
    assert text.line(told).endswith("; domain web1, callback of events, 1 more refer to it yet\n")
    end = Values({"conn": CONNECT, "callbackID": 5})
    owing.of([clock.call("virConnectDomainEventDeregisterAny", **here, args=end)])
    owing.of([clock.call("virDomainFree", **here, args=Values({"dom": GUEST}))])
    assert [one.refers for one in owing.open(clock.now)] == [("1 more",)]
    owing.of([clock.call("virStreamFree", **here, args=Values({"stream": STREAM}))])
    assert owed(owing, clock) == []


def test_nothing_is_kept_of_processes_that_have_ended(clock: Clock):
    owing = Owing()
    for number in range(1, 101):
        caller = DAEMON._replace(pid=number)
        here = {"client": None, "caller": caller}
        conn = Values({"conn": CONNECT})
        owing.of([clock.call("virDomainLookupByName", **here, ret=GUEST, args=conn)])
        owing.of([clock.call("virConnectClose", **here, ret=1)])
        assert [one.refers for one in owing.open(clock.now)] == [("domain web1",)]
        owing.process_ended(number, clock.now)
        assert owed(owing, clock) == [] and not owing.debtors()
    refers = owing._references
    assert refers is not None
    assert not any((owing._debts, owing._of, owing._users, refers._kept, refers._of))


def test_pairs_of_which_an_end_is_not_traced_are_left_out():
    assert followed(lambda name: True, plumbing=True) == PAIRS
    some = followed(lambda name: name != "virDomainFSThaw", plumbing=False)
    assert {pair.what for pair in PAIRS} - {pair.what for pair in some} == {"frozen", "connection"}


def test_all_users_together_can_have_so_many(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("log.owing.owing.MOST", 5)
    owing = Owing()
    for number in range(9):
        guest = GUEST._replace(fields={**GUEST.fields, "uuid": str(number)})
        client = ALICE._replace(uid=number, user=None)
        owing.of([clock.call("virDomainFSFreeze", args=Values({"dom": guest}), client=client)])
    assert len(owing.open(0)) == 5 and owing.more == 4


def test_references_that_are_known_are_so_many(monkeypatch: pytest.MonkeyPatch, clock: Clock):
    monkeypatch.setattr("log.owing.references.MOST", 4)
    references = References()
    for number in range(1, 10):
        made = GUEST._replace(address=number << 8)
        references.learn(clock.call("virDomainLookupByName", ret=made))
    assert len(references._kept) == 4
    named = references.of(DAEMON.pid, 0x20, 20)
    assert len(named) == 5 and named[-1] == "16 more"
    references.forget(DAEMON.pid)
    assert not references._kept and not references._of
