# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a record is kept to be looked at again has a limit, and calls come with what was done for
them; that answers are those of a look at each line is tested in test_truth.
"""

from __future__ import annotations

from log.events import Command, call_id
from log.query import picking
from log.query.past import MOST_KEPT, Past, Window
from log.query.picking import Picker
from log.query.query import Query
from log.render import jsonl
from tests.unit.log_samples import CALLER, DESTROY, START, call_on


def test_window_forgets_the_oldest() -> None:
    window = Window()
    for number in range(40):
        window.add(bytes([number]) * (1 << 20))
    pieces = list(window.pieces())
    assert sum(map(len, pieces)) == MOST_KEPT and pieces[0][0] == 39
    window.add(b"x" * (2 * MOST_KEPT))
    assert [len(piece) for piece in window.pieces()] == [2 * MOST_KEPT], "the last one stays"


def test_of_two_segments_ago_only_what_has_an_index_is_known() -> None:
    past = Past()
    for number in range(3):
        window = Window()
        window.add(b"%d" % number)
        past.begin(window)
    assert list(past.all(0)) == [b"2", b"1"]


def line(event: object) -> bytes:
    return jsonl.line(event).encode()  # type: ignore[arg-type]


def test_a_call_that_is_meant_brings_what_was_done_for_it() -> None:
    parent = call_id(DESTROY.tid, START)
    told = Command(START + 1, 5, 9, "rpc", CALLER, '{"execute":"quit"}', parent)
    inner = call_on("web1")._replace(tid=8, time=START + 1, parent=parent)
    caller = CALLER._replace(cmdline=None)  # it names web1
    other = call_on("db")._replace(tid=9, time=START + 2, caller=caller)
    picker = Picker(Query(objects=("web1",)))
    early, late = line(told) + line(inner), line(other) + line(DESTROY)
    window = Window()
    picker.past.begin(window)
    given = [*picker.piece(early, window), *picker.piece(late, window)]
    assert [text + b"\n" for text in given] == [line(told), line(inner), line(DESTROY)]


def test_all_is_given_where_nothing_is_chosen() -> None:
    picker, window = Picker(Query(nested=True, alone=True)), Window()
    lines = line(DESTROY) + line(call_on("db"))
    assert b"\n".join(picker.piece(lines, window)) + b"\n" == lines


def test_so_many_calls_are_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(picking, "MOST_AWAITED", 2)
    picker, window = Picker(Query(objects=("web1",))), Window()
    for number in range(5):
        inner = call_on("web1")._replace(tid=9, time=START + 1, parent=call_id(number, START))
        assert len(list(picker.piece(line(inner), window))) == 1
    caller = CALLER._replace(cmdline=None)  # it names web1
    parents = [call_on("db")._replace(tid=tid, caller=caller) for tid in range(5)]
    found = [bool(list(picker.piece(line(parent), window))) for parent in parents]
    assert found == [True, True, False, False, False], "the others are not meant themselves"
