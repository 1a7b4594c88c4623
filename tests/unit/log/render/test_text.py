# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which events have a line, and what is told on the line of a call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import CallError, Command, VerdictInfo
from log.render import text
from tests.unit.log.render.text_samples import ASKED, AT, FUNCTION, HEAD, MONITOR, SERVED, STOPPED
from tests.unit.log_samples import DESTROY, any_text, any_value, any_values

pytestmark = pytest.mark.usefixtures("utc")


@given(
    args=st.none() | any_values,
    out=any_values,
    ret=any_value,
    word=any_text,
    error=st.none()
    | st.builds(
        CallError,
        st.integers(0, 2**31 - 1),
        st.none() | any_text,
        st.none() | any_text,
        st.none() | any_text,
    ),
)
def test_any_call_is_one_visible_line_and_its_segments_are_the_same(args, out, ret, word, error):
    verdict = VerdictInfo("audit", word)
    call = DESTROY._replace(
        args=args, out=out, ret=ret, comm=word, function=word, error=error, verdict=verdict
    )
    line = text.line(call)
    assert line.endswith("\n") and line[:-1].isprintable()
    assert "".join(piece for _, piece in text.segments(call)) == line


def test_daemons_half_is_folded_into_its_origin():
    assert text.line(ASKED) == f"{HEAD}{FUNCTION} <4.1ms, libvirtd 3.9ms>\n"
    assert [text.line(event) for event in (SERVED, MONITOR, STOPPED)] == ["", "", ""]


def test_tree_shows_what_a_call_caused_in_the_order_of_its_begin():
    assert text.line(ASKED, text.View.TREE) == (
        f"{HEAD}{FUNCTION} <4.1ms>\n"
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root   {FUNCTION} <3.9ms>\n"
        f'{AT[2]} 812 rpc-libvirtd root     monitor {{"execute":"quit"}} <1.0us>\n'
        f"{AT[3]} 812 rpc-libvirtd root     domain web1 stopped: destroyed\n"
    )
    assert (
        text.line(ASKED._replace(more_children=7), text.View.TREE)
        == text.line(ASKED, text.View.TREE) + "  and 7 more\n"
    )
    assert [text.line(event, text.View.TREE) for event in (SERVED, MONITOR, STOPPED)] == [
        "",
        "",
        "",
    ]


def test_both_halves_have_a_line_each():
    assert text.line(ASKED, text.View.BOTH) == f"{HEAD}{FUNCTION} <4.1ms>\n"
    assert text.line(SERVED, text.View.BOTH) == (
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root {FUNCTION} <3.9ms>\n"
    )
    assert text.line(STOPPED, text.View.BOTH) == (
        f"{AT[3]} 812 rpc-libvirtd root domain web1 stopped: destroyed\n"
    )


def told(at: int, words: str, to_agent: bool = False) -> Command:
    return MONITOR._replace(
        time=DESTROY.time + 1000 * at, text=words, duration_ns=1_000_000, to_agent=to_agent
    )


QUESTIONS = [
    told(
        2 + n % 2,
        f'{{"execute":"qom-get","arguments":{{"path":"/machine/{n}"}},"id":"libvirt-{n}"}}',
    )
    for n in range(7)
]
QUIT = told(4, '{"execute":"quit"}')
PINGS = [told(5, "guest-ping", to_agent=True) for _ in range(2)]
STARTED = SERVED._replace(
    children=(*QUESTIONS, told(4, '{"execute":"query-cpus-fast"}'), QUIT, QUIT, *PINGS, STOPPED)
)


def test_a_question_that_is_asked_again_and_again_has_one_line():
    lines = text.line(ASKED._replace(children=(STARTED,)), text.View.TREE).split("\n")
    assert [line.partition(" root     ")[2] for line in lines[2:-1]] == [
        "monitor qom-get, 7 times <7.0ms>",
        "domain web1 stopped: destroyed",
        'monitor {"execute":"query-cpus-fast"} <1.0ms>',
        'monitor {"execute":"quit"} <1.0ms>',  # it changes something
        'monitor {"execute":"quit"} <1.0ms>',
        "agent guest-ping, 2 times <2.0ms>",
    ]
    assert lines[2].startswith(f"{AT[2]} 812 rpc-libvirtd root     ")
    full = text.line(ASKED._replace(children=(STARTED,)), text.View.FULL).split("\n")
    assert len(full) == 1 + 1 + len(STARTED.children) + 1
    assert not [line for line in full if "times" in line]
    assert full[:2] == lines[:2]


def test_questions_are_told_with_their_call_where_both_halves_are_shown():
    at_once = [text.line(child, text.View.BOTH) for child in STARTED.children]
    assert [bool(line) for line in at_once] == [False] * 8 + [True] * 2 + [False] * 2 + [True]
    lines = text.line(STARTED, text.View.BOTH).split("\n")
    assert [line.partition(" root ")[2] for line in lines[:3]] == [
        "monitor qom-get, 7 times <7.0ms>",
        'monitor {"execute":"query-cpus-fast"} <1.0ms>',
        "agent guest-ping, 2 times <2.0ms>",
    ]
    assert lines[3:] == text.line(SERVED, text.View.BOTH).split("\n")
