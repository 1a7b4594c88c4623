# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a page tells of domains: their states, what ended them, and what is not known."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import Client
from log.events import NO_CALL, DomainEvent, Gap, VerdictInfo, call_id
from log.report.states import spans
from log.report.story import Domain, Happening, Story, duration_step
from log.values import Handle
from tests.unit.log_samples import CALLER, DESTROY, NS, START, UUID, call_on
from tests.unit.recording_samples import READ

LIBVIRTD = CALLER._replace(pid=901, exe="/usr/sbin/libvirtd")


def change(second: int, event: str, detail: str, name: str = "web1", **more) -> DomainEvent:
    about = Handle("domain", {"name": name, "uuid": more.pop("uuid", UUID)})
    return DomainEvent(
        START + second * NS, 901, "rpc-libvirtd", LIBVIRTD, about, event, detail,
        more.pop("parent", None), **more,
    )  # fmt: skip


def told(*events, **options) -> tuple[Story, list[Domain], dict[str, list[Happening]]]:
    story = Story(**options)
    for event in events:
        story.add(None, event)
    happenings: dict[str, list[Happening]] = {}
    for one in sorted(story.events, key=lambda one: one.time):
        happenings.setdefault(one.domain.names[-1], []).append(one)
    return story, [domain for _, domain in story.domains.items()], happenings


def states(story: Story, domain: Domain, happenings: list[Happening], gaps=()) -> list[object]:
    return [
        (span.state, (span.begin - START) // NS, span.end and (span.end - START) // NS)
        for span in story.spans_of(domain, happenings, [START + gap * NS for gap in gaps])
    ]


def test_states_follow_each_other_and_are_unknown_behind_a_gap() -> None:
    story, (domain,), happenings = told(
        change(1, "started", "booted"),
        change(2, "defined", "updated"),
        change(3, "suspended", "paused"),
        change(5, "resumed", "unpaused"),
        change(9, "stopped", "crashed"),
    )
    mine = happenings["web1"]
    whole = [("running", 1, 3), ("paused", 3, 5), ("running", 5, 9), ("crashed", 9, None)]
    assert states(story, domain, mine) == whole
    cut = [("running", 1, 3), ("paused", 3, 5), ("running", 5, 6), ("crashed", 9, 10)]
    assert states(story, domain, mine, gaps=(6, 10)) == cut


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from("abc"))), st.lists(st.integers(0, 99))
)
def test_spans_do_not_overlap(changes, gaps) -> None:
    changes, gaps = sorted(changes), sorted(gaps)
    found = spans(changes, gaps)
    assert [(span.begin, span.state) for span in found] == changes
    for span, after in itertools.pairwise(found):
        assert span.end is not None and span.begin <= span.end <= after.begin
    for span in found:
        assert not any(span.begin < gap and (span.end is None or gap < span.end) for gap in gaps)


def test_domain_has_one_line_also_across_a_rename() -> None:
    _, domains, _ = told(
        call_on("web0"), change(1, "undefined", "renamed", "web0"), change(1, "defined", "renamed"),
        call_on("web1"),
    )  # fmt: skip
    assert [domain.names for domain in domains] == [["web0", "web1"]]


def test_ending_has_its_cause_and_for_whom() -> None:
    served = call_on("web1")._replace(
        tid=901, caller=LIBVIRTD, client=Client(pid=5, user="alice", exe="/usr/bin/virsh")
    )
    _, _, happenings = told(
        change(1, "stopped", "destroyed", parent=call_id(901, START), cause="call"),
        served,
        change(3, "stopped", "crashed", cause=NO_CALL),
    )
    by_call, by_none = happenings["web1"]
    assert (by_call.cause, by_call.by) == (DESTROY.function, ("virsh", "alice"))
    assert (by_none.cause, by_none.line[-1][1]) == ("", "crashed, by no call")


def test_what_matters_is_kept_by_kind_and_everything_is_counted() -> None:
    denied = DESTROY._replace(verdict=VerdictInfo("deny", "keep"), failed=True)
    failed = READ._replace(failed=True, ret=-1)
    served = DESTROY._replace(parent=call_id(1, 2))
    story, (domain,), _ = told(DESTROY, denied, failed, READ, served)
    assert story.counts == {"write": 1, "denied": 1, "failed": 1}
    assert domain.counts == {**story.counts, "endings": 0}
    assert [count for _, _, count in story.all.cells()] == [4]
    both, _, _ = told(DESTROY, denied, failed, READ, served, both=True)
    assert both.counts["write"] == 2


def test_domains_have_a_limit_and_those_last_heard_of_stay() -> None:
    small = Story(most=3)
    for number in range(5):
        small.add(None, change(number, "started", "booted", f"ci{number}", uuid=str(number)))
    assert [domain.names[0] for _, domain in small.domains.items()] == ["ci2", "ci3", "ci4"]
    assert small.domains_left_out == 2


@pytest.mark.parametrize("event", [change(0, "x" * (1 << 20), "y" * (1 << 20), "z" * (1 << 20)),
                                   call_on("z" * (1 << 20)),
                                   Gap(START, START + 5, "r" * (1 << 20))])  # fmt: skip
def test_long_names_take_no_room(event) -> None:
    story, _, _ = told(event)
    lines = [done.line for calls in story.calls.values() for done in calls]
    lines += [one.line for one in story.events] + [note.line for note in story.notes]
    assert len(lines) == 1 and sum(len(words) for _, words in lines[0]) < 2000


@given(st.integers(0, 2**63))
def test_duration_is_in_its_step(ns) -> None:
    def begin(step: int) -> float:
        bits = step >> 1
        return bits if bits < 2 else 2 ** (bits - 1) * (1.5 if step & 1 else 1)

    step = duration_step(ns)
    assert begin(step) <= ns < max(begin(step + 1), begin(step + 2))


def test_functions_have_a_limit_and_the_others_share_a_row(monkeypatch) -> None:
    monkeypatch.setattr("log.report.story.MOST_FUNCTIONS", 3)
    calls = [DESTROY._replace(function=f"virDomain{number}") for number in range(9)]
    story, _, _ = told(*calls, *calls)
    assert list(story.functions) == ["virDomain0", "virDomain1", "virDomain2", ""]
    counts = [sum(count for _, _, count in grid.cells()) for grid in story.functions.values()]
    assert counts == [2, 2, 2, 12]


def test_domain_has_so_many_names() -> None:
    _, (domain,), _ = told(*(call_on(f"web{number}") for number in range(50)))
    assert domain.names == [f"web{number}" for number in range(8)]


def test_what_is_kept_of_a_kind_has_a_limit_and_all_of_it_is_counted(monkeypatch) -> None:
    for name in ("MOST_CALLS", "MOST_EVENTS", "MOST_NOTES"):
        monkeypatch.setattr(f"log.report.story.{name}", 3)
    made = [DESTROY._replace(time=START + number) for number in range(9)]
    changes = [change(number, "started", "booted") for number in range(9)]
    gaps = [Gap(START + number, START + number + 5, "stopped") for number in range(9)]
    story, _, _ = told(*made, *changes, *gaps)
    kept = story.calls["write"], story.events, story.notes
    assert [len(list(each)) for each in kept] == [3, 3, 3]
    assert [each.left_out for each in kept] == [6, 6, 6]
    assert story.counts["write"] == 9
