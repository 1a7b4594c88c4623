# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that are like one before mean what they mean by themselves, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.events import Call, Reads
from log.parsing import alike
from log.parsing.alike import LineParser
from log.parsing.fields import ForeignLine
from log.parsing.parse import parse
from log.render import jsonl
from tests.unit.log.parsing.test_parse import any_event, as_made, comparable, moments
from tests.unit.log.render.siem.samples import READS
from tests.unit.log_samples import DESTROY

LINE = jsonl.line(DESTROY).encode()
COUNTED = jsonl.line(READS).encode()


def meaning(read: Any, line: bytes) -> Any:
    try:
        event = read(line)
        known = type(event) is Call or type(event) is Reads
        return comparable(event._replace(alike=None) if known else event)
    except ForeignLine:
        return "foreign"


@settings(max_examples=60)
@given(
    any_event(Call),
    st.lists(
        st.tuples(moments, st.none() | moments, st.none() | st.just("7-123") | st.text()),
        min_size=2,
        max_size=4,
    ),
)
def test_calls_that_are_alike_are_read_as_by_themselves(call: Call, more: list[Any]) -> None:
    parser = LineParser()
    for begun, took, parent in more:
        changed = as_made(call._replace(time=begun, duration_ns=took, parent=parent))
        line = jsonl.line(changed).encode()
        assert meaning(parser.parse, line) == meaning(parse, line)


numbers = st.integers(0, 1 << 64)


@settings(max_examples=60)
@given(
    any_event(Reads),
    st.lists(st.tuples(moments, moments, numbers, numbers), min_size=2, max_size=4),
)
def test_counts_that_are_alike_are_read_as_by_themselves(reads: Reads, more: list[Any]) -> None:
    parser = LineParser()
    for begun, until, calls, total in more:
        changed = reads._replace(time=begun, until=until, calls=calls, total_ns=total)
        line = jsonl.line(changed).encode()
        assert meaning(parser.parse, line) == meaning(parse, line)


@pytest.mark.parametrize(
    "again",
    [
        b'"time":"2001-01-01T00:00:00.000000000Z"',
        b'"unt\\u0069l":"2001-01-01T00:00:00.000000000Z"',
        b'"calls" :5',
        b'"max_ns":5',
        b'"failed":5',
        b'"type":"call"',
        b'"caller":{"calls":5}',
    ],
)
def test_key_that_counts_have_twice_is_obeyed_as_before(again: bytes) -> None:
    for place in (b',"client":', b"}\n"):
        line = COUNTED.replace(place, b"," + again + place, 1)
        assert line != COUNTED
        other = line.replace(b'"time":"2', b'"time":"3', 1).replace(b'"calls":', b'"calls":1', 1)
        parser = LineParser()
        for one in (line, other, line):
            assert meaning(parser.parse, one) == meaning(parse, one)


@pytest.mark.parametrize(
    "old, new",
    [
        (b'"time":"2', b'"time":"3'),
        (b'"time":"2023-11', b'"time":"2023-13'),
        (b'"time":"2023', b'"time":"0000'),
        (b'"duration_ns":', b'"duration_ns":0'),
        (b'"duration_ns":', b'"duration_ns":9'),
        (b'"parent":null', b'"parent":"9-9"'),
        (b'"pid":', b'"pid":9'),
        (b"}\n", b"}"),
        (b"}\n", b"}}"),
        (b"}\n", b"\n"),
        (b"{", b"\xff{"),
    ],
)
def test_line_that_is_like_another_has_its_own_values(old: bytes, new: bytes) -> None:
    parser = LineParser()
    assert meaning(parser.parse, LINE) == meaning(parser.parse, LINE) == comparable(DESTROY)
    assert old in LINE
    changed = LINE.replace(old, new, 1)
    assert meaning(parser.parse, changed) == meaning(parse, changed)


@pytest.mark.parametrize(
    "again",
    [
        b'"time":"2001-01-01T00:00:00.000000000Z"',
        b'"t\\u0069me":"2001-01-01T00:00:00.000000000Z"',
        b'"duration_ns" :5',
        b'"duration_ns":5',
        b'"parent":"5-5"',
        b'"type":"verdict","action":"deny","rule":"x"',
    ],
)
def test_key_that_is_there_twice_is_obeyed_as_before(again: bytes) -> None:
    for place in (b',"pid":', b"}\n"):
        line = LINE.replace(place, b"," + again + place, 1)
        assert line != LINE
        other = line.replace(b'"time":"2', b'"time":"3', 1).replace(
            b'"duration_ns":', b'"duration_ns":1', 1
        )
        parser = LineParser()
        for one in (line, other, line):
            assert meaning(parser.parse, one) == meaning(parse, one)


def test_what_is_known_has_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(alike, "MOST_KNOWN", 3)
    parser = LineParser()
    for number in range(10):
        parser.parse(jsonl.line(DESTROY._replace(tid=number)).encode())
    assert 0 < len(parser._known) <= 3
    parser.parse(jsonl.line(DESTROY._replace(comm="x" * alike.LONGEST)).encode())
    assert len(parser._known) <= 3
    assert parser.parse(LINE) is not None
    first, second = parser.parse(LINE), parser.parse(LINE)
    assert type(first) is Call and type(second) is Call and first.args is second.args
