# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a record is answered from some of its lines only: the answer is the same as if
each were looked at, with its index and without, for any question and any record.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from log.client import Client
from log.events import (
    BY_CALL,
    Call,
    Clock,
    Command,
    DomainEvent,
    Event,
    Lost,
    Reads,
    VerdictInfo,
    call_id,
)
from log.moments import rfc3339
from log.parsing.parse import parse
from log.query.linking import Linking
from log.query.query import Query
from log.recording.entry import Summing, entry_of
from log.recording.folder import segment_name
from log.recording.format import NO_CHAIN, compress, seal_line
from log.recording.index import Index, tail
from log.values import Handle, Values
from tests.unit.log_samples import CALLER, DESTROY, EXAMPLES, START
from tests.unit.recording_samples import replay, segments, without_index

NAMES = ("web1", "web2", "db")
FUNCTIONS = ("virDomainDestroy", "virDomainGetInfo", "virConnectClose")
names = st.sampled_from(NAMES)
CALLERS = tuple(
    CALLER._replace(pid=pid, uid=uid, user=user)
    for pid, uid, user in ((7, 0, "root"), (77, 1000, "alice"))
)


def on(name: str) -> Handle:
    return Handle("domain", {"name": name, "uuid": f"{NAMES.index(name):032x}"})


ARGS = {name: Values({"domain": on(name)}) for name in NAMES}
NO_OBJECT = Values({})


@dataclasses.dataclass
class Making:
    """Events as they come: what begins inside of a call ends before it, mostly."""

    draw: st.DrawFn
    now: int = START
    found: list[tuple[int, Event]] = dataclasses.field(default_factory=list)  # with their ends

    def tick(self) -> int:
        self.now += self.draw(st.sampled_from([1, 1000, 400_000_000]))
        return self.now

    def call(self, tid: int, parents: tuple[str, ...]) -> None:
        draw, begun = self.draw, self.tick()
        own = call_id(tid, begun)
        in_daemon = bool(parents)
        late = False
        for number in range(draw(st.integers(0, 2)) if tid < 40 else 0):
            kind = draw(st.sampled_from(["call", "command", "change", "late change"]))
            made_for = (own,) if draw(st.integers(0, 5)) else (own, call_id(9, START))
            if kind == "call":
                self.call(tid * 3 + number + 1, made_for)
            elif kind == "command":
                self.command(tid, own)
            elif kind == "change":
                self.change(made_for)
            else:
                late = True
        about = draw(st.sampled_from([*ARGS.values(), NO_OBJECT, None]))
        caller = draw(st.sampled_from(CALLERS))
        denied = draw(st.integers(0, 9)) == 0
        call = DESTROY._replace(
            time=begun,
            duration_ns=self.tick() - begun,
            tid=tid,
            caller=caller,
            function=draw(st.sampled_from(FUNCTIONS)),
            write=draw(st.booleans()),
            args=about,
            failed=draw(st.integers(0, 3)) == 0,
            depth=draw(st.sampled_from([0, 0, 0, 1])),
            client=Client(pid=7, user="root") if in_daemon else None,
            verdict=VerdictInfo("deny", "keep") if denied else None,
            parent=parents[0] if len(parents) == 1 else None,
            one_of=parents if len(parents) > 1 else (),
        )
        if draw(st.integers(0, 9)):  # else it was lost
            self.found.append((self.now, call))
        if late:
            self.tick()
            self.change((own,))

    def command(self, tid: int, parent: str | None) -> None:
        time = self.tick()
        event = Command(time, 5, tid, "rpc", CALLERS[0], '{"execute":"stop"}', parent)
        self.found.append((time, event))

    def change(self, parents: tuple[str, ...]) -> None:
        time = self.tick()
        about = on(self.draw(names))
        one = parents[0] if len(parents) == 1 else None
        some = parents if len(parents) > 1 else ()
        cause = BY_CALL if one else None
        event = DomainEvent(
            time, 5, "rpc", CALLERS[0], about, "stopped", "destroyed", one, some, cause
        )
        self.found.append((time, event))

    def other(self) -> None:
        time = self.tick()
        counted = (FUNCTIONS[1], on(self.draw(names)), 5, self.draw(st.integers(0, 1)), 9, 9)
        event = self.draw(
            st.sampled_from(
                [
                    Reads(time - 1000, time, CALLERS[1], "virsh", None, *counted),
                    Clock(time, 5),
                    Lost(time, 2, "read", "buffer full"),
                ]
            )
        )
        self.found.append((time, event))


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    making = Making(draw)
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["call", "call", "call", "other", "change", "command"]))
        if kind == "call":
            making.call(number + 1, ())
        elif kind == "other":
            making.other()
        elif kind == "change":
            making.change(())
        else:
            making.command(5, None)
    return [event for _, event in sorted(making.found, key=lambda item: item[0])]


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.just(()) | st.just(()) | strategy.map(lambda item: (item,))


times = st.none() | st.integers(0, 5).map(lambda part: START + part * 400_000_000)
queries = st.builds(
    Query,
    pids=maybe(st.sampled_from([7, 77])),
    users=maybe(st.just("alice")),
    functions=maybe(st.sampled_from(["virDomainDestroy", "virDomain*", "!virDomainGet*"])),
    objects=maybe(st.sampled_from(["web1", "web*", "db", "gone", "w[e\n]b1"])),
    uuids=maybe(st.sampled_from([f"{1:032x}"])),
    clients=maybe(st.just("root")),
    rules=maybe(st.just("keep")),
    grep=st.sampled_from([None, None, None, "GetInfo"]),
    writes=st.sampled_from([False, False, True]),
    failed=st.sampled_from([False, False, True]),
    slower_ns=st.sampled_from([None, None, None, 10**6]),
    nested=st.booleans(),
    since=st.none() | times,
    until=st.none() | times,
    alone=st.booleans(),
)


def write(folder: Path, frames: list[list[Event]], segment_of: list[int]) -> None:
    """A record of these frames; when they were written does not matter."""
    folder.mkdir(0o700, exist_ok=True)
    data, index, chain = b"", Index(), NO_CHAIN
    for number, events in enumerate(frames):
        summing = Summing()
        for event in events:
            summing.add(entry_of(event))
        content = "".join(entry_of(event).line for event in events).encode()
        seal, chain = seal_line(rfc3339(START), number, content, len(events), chain)
        raw = compress(content + seal)
        index.add(summing.row(len(raw), len(content) + len(seal)), summing.marks)
        data += raw
        if number + 1 == len(frames) or segment_of[number + 1] != segment_of[number]:
            name = segment_name("host", f"20260101T0000{segment_of[number]:02}Z")
            (folder / name).write_bytes(data + tail(index))
            data, index = b"", Index()


def look_at_each(events: list[Event], query: Query) -> list[Event]:
    """The answer, with every line read."""
    linking = Linking(query)
    found = []
    for event in events:
        again = parse(entry_of(event).line)
        assert again is not None
        found += linking.of(again)
    return found + linking.rest()


@settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,  # the same ones each time, unless more are asked for
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(histories(), queries, st.data())
def test_answer_is_that_of_a_look_at_each_line(events: list[Event], query: Query, data) -> None:
    cuts = (
        data.draw(st.lists(st.sampled_from(range(len(events) + 1)), max_size=5)) if events else []
    )
    places = sorted({0, len(events), *cuts})
    frames = [events[begin:end] for begin, end in itertools.pairwise(places)]
    segment_of = sorted(
        data.draw(st.lists(st.integers(0, 2), min_size=len(frames), max_size=len(frames)))
    )
    if frames:
        check(frames, segment_of, query, data.draw(st.integers(0, 2)))


def check(frames: list[list[Event]], segment_of: list[int], query: Query, first: int = 0) -> None:
    """With all indexes, without the `first` one, ..., without any."""
    expected = look_at_each([event for frame in frames for event in frame], query)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "record"
        write(folder, frames, segment_of)
        files = segments(folder)
        for file in (None, *files[first:], *files[:first]):
            if file:
                without_index(file)
            found, said = replay(folder, query=query)
            assert found == expected and not said


@pytest.mark.parametrize("cut", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize("since", [None, START + 3])
def test_call_has_what_was_done_for_it_on_lines_of_their_own_too(
    cut: bool, since: int | None
) -> None:
    """Where each call is shown by itself, its monitor's time is still a part of its own."""
    outer = DESTROY._replace(time=START, duration_ns=900_000_000, tid=1, failed=True)
    id = call_id(1, START)
    inner = outer._replace(time=START + 2, duration_ns=800_000_000, tid=2, failed=False, parent=id)
    id = call_id(2, START + 2)
    asked = Command(START + 4, 5, 2, "rpc", CALLERS[0], '{"execute":"stop"}', id)
    frames: list[list[Event]] = [[asked], [inner], [outer]] if cut else [[asked, inner, outer]]
    query = Query(failed=True, since=since, alone=True)
    check(frames, [0] * len(frames), query)
    (found,) = look_at_each([asked, inner, outer], query)
    assert isinstance(found, Call) and found.children == (inner._replace(children=(asked,)),)


@pytest.mark.parametrize("alone", [True, False])
def test_change_by_a_call_that_is_not_about_the_domain_is_told(tmp_path, alone: bool) -> None:
    """As when a connection is closed that was to take its domains along."""
    close = DESTROY._replace(function="virConnectClose", args=NO_OBJECT, tid=1)
    parent = call_id(1, close.time)
    change = DomainEvent(
        close.time + 1, 5, "rpc", CALLER, on("web1"), "stopped", "destroyed", parent, (), BY_CALL
    )
    write(tmp_path / "record", [[change], [close]], [0, 0])
    found, _ = replay(tmp_path / "record", query=Query(objects=("web1",), alone=alone))
    assert found == [change._replace(parent=None)]
    found, _ = replay(tmp_path / "record", query=Query(failed=True, alone=alone))
    assert not found


def test_calls_are_found_that_the_index_can_not_tell(tmp_path) -> None:
    lost = DESTROY._replace(args=None)
    write(tmp_path / "record", [[lost], [DESTROY], [lost]], [0, 0, 0])
    found, _ = replay(tmp_path / "record", query=Query(objects=("other",)))
    calls: list[Event] = [event for event in found if type(event) is Call]
    assert calls == [lost, lost]
