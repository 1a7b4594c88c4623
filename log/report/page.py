# SPDX-License-Identifier: LGPL-2.1-or-later
"""A story and the tables of a report come in; one page of HTML goes out that needs nothing else.

Names are hostile. In the template they are escaped by Jinja2; to the script they go as JSON without
a character that HTML knows, and the script makes text of them and nothing else. All that a name
holds and that can't be seen is written as the log writes it. Should a name get through, the page's
own policy lets no script or style run but the two whose hashes it has, and nothing be fetched.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from log import VERSION
from log.errors import TraceError
from log.quote import name
from log.report.lines import Line, safe, short
from log.report.report import Report
from log.report.states import STATES
from log.report.story import GAP, KINDS, Domain, Happening, Story
from log.report.tables import heading, tables
from log.sinks.screen.summary import Counts
from log.sinks.screen.terminal import THEME

TOP = 100  # rows of a table
MOST_LATENCIES = 60  # functions with a plot
_MS = 1_000_000  # ns
_ROLES = {role: index for index, role in enumerate(["", *THEME])}
_TITLES = {"client": "Who called", "object": "On what", "ended": "How domains ended"}


class PageHead(NamedTuple):
    """What the page is about, in words for its head."""

    paths: list[str]
    filters: list[str]  # as they were written
    objects: list[str]


def page(story: Story, report: Report, asked: PageHead) -> Iterator[str]:
    """The page, in parts."""
    try:
        import jinja2
    except ModuleNotFoundError:
        raise TraceError(
            "Python's module jinja2 is missing: install the package python3-jinja2"
        ) from None
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(_file("page.html"))
    script, style = _file("page.js"), _file("page.css")
    yield from template.generate(
        script=script,
        style=style,
        data=as_json(data_of(story, report)),
        policy=policy(script, style),
        title=_title(asked),
        heading=heading(report),
        paths=safe(", ".join(map(name, asked.paths))),
        filters=safe(shlex.join(asked.filters)),
        counts=_tiles(story, report),
        tables=[
            (_TITLES[table.headings[0]], table)
            for table in tables(report, TOP)
            if table.rows and table.headings[0] in _TITLES
        ],
        left_out=left_out(story),
        short=short,
        version=VERSION,
        made=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )


@functools.cache
def _file(file: str) -> str:
    return Path(__file__).with_name(file).read_text(encoding="utf-8")


def policy(script: str, style: str) -> str:
    """The Content-Security-Policy: this script, this style, and nothing from anywhere."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


def as_json(data: object) -> str:
    """JSON in ASCII that can stand in a script element: nothing in it ends one or begins a
    comment.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def left_out(story: Story) -> list[str]:
    """What the page does not show, in words."""
    said = []
    words = {"denied": "denied calls", "failed": "failed calls", "write": "calls that changed"}
    for kind, calls in story.calls.items():
        if calls.left_out:
            shown = story.counts[kind] - calls.left_out
            said.append(
                f"Of {story.counts[kind]:,} {words[kind]}"
                f"{' something' if kind == 'write' else ''}, {shown:,} are in the list and the "
                "timeline: the last ones of each program."
            )
    if story.events.left_out:
        said.append(
            f"{story.events.left_out:,} changes of domains are not in it: the oldest of those "
            "with the most."
        )
    if story.domains_left_out:
        said.append(
            f"There were more than {len(story.domains)} domains: {story.domains_left_out:,} times "
            "the one of which nothing was heard for longest lost its place in the timeline."
        )
    if story.notes.left_out:
        said.append(f"{story.notes.left_out:,} notes about the record itself are not in it.")
    more = len(story.functions) - MOST_LATENCIES
    if more > 0:
        said.append(f"{more} functions, those with the shortest time in all, have no plot.")
    if said:
        said.append("All of it is in the record: libvirt-trace log shows it, --object one domain.")
    return said


def data_of(story: Story, report: Report) -> dict[str, Any]:
    """What the script draws; times are in ms since `base`, exact to a microsecond."""
    happenings = sorted(story.events, key=lambda one: one.time)
    calls = sorted(
        (done for kind in KINDS for done in story.calls[kind]), key=lambda done: done.time
    )
    notes = sorted(story.notes, key=lambda note: note.time)
    domains = [domain for _, domain in story.domains.items()]
    begin, end = _span(report, [one.time for one in happenings], [note.time for note in notes])
    clock = _Clock(begin // _MS)
    numbers = {id(domain): index for index, domain in enumerate(domains)}
    gaps = {
        domain.host: [note.time for note in notes if note.kind == GAP and note.host == domain.host]
        for domain in domains
    }
    by_domain: dict[int, list[Happening]] = {}
    for one in happenings:
        by_domain.setdefault(id(one.domain), []).append(one)
    return {
        "base": clock.base,
        "end": clock.of(end),
        "zones": _zones(begin, end),
        "roles": list(_ROLES),
        "kinds": KINDS,
        "states": STATES,
        "slot": story.scale.width / _MS,
        "all": _activity(story, story.all.cells(), clock),
        "notes": [[clock.of(note.time), clock.of(note.until), _pieces(note.line), note.kind]
                  for note in notes],
        "domains": [
            {
                **_named(domain),
                "counts": domain.counts,
                "calls": _activity(story, domain.calls.cells(), clock),
                "states": [
                    [clock.of(span.begin), span.end and clock.of(span.end),
                     STATES.index(span.state)]
                    for span in story.spans_of(domain, by_domain.get(id(domain), []),
                                               gaps[domain.host])
                ],
            }
            for domain in domains
        ],
        "changes": [
            [clock.of(one.time), numbers[id(one.domain)], safe(one.event), safe(one.detail),
             _pieces(_with_cause(one))]
            for one in happenings if id(one.domain) in numbers
        ],
        "calls": [
            [clock.of(done.time), done.duration_ns, KINDS.index(done.kind),
             numbers.get(id(done.domain), -1), _pieces(_with_host(done.host, done.line))]
            for done in calls
        ],
        "functions": _latencies(story, report, clock),
    }  # fmt: skip


class _Clock:
    """Times as the script has them."""

    def __init__(self, base: int) -> None:
        self.base = base  # ms since the epoch

    def of(self, ns: int) -> float:
        return round(ns / _MS - self.base, 3) if ns % _MS else ns // _MS - self.base


def _span(report: Report, *more: list[int]) -> tuple[int, int]:
    times = [time for found in more for time in found]
    if report.first is not None:
        times += report.first, report.last
    return (min(times), max(times)) if times else (0, 0)


def _zones(begin: int, end: int) -> list[tuple[int, int, str]]:
    """From when on (ms since the epoch) local time is how many seconds ahead of UTC, and what it
    is called.
    """
    found: list[tuple[int, int, str]] = []
    hour = 3600 * 10**9
    step = hour * max(1, (end - begin) // hour // 20_000)
    for ns in range(begin // hour * hour, end + step, step):
        local = time.localtime(min(ns // 10**9, 253_000_000_000))
        if not found or found[-1][1:] != (local.tm_gmtoff, local.tm_zone):
            found.append((ns // _MS, local.tm_gmtoff, local.tm_zone))
    return found


def _activity(story: Story, cells: list[tuple[int, int, int]], clock: _Clock) -> list[list[float]]:
    return [[clock.of(slot * story.scale.width), count] for slot, _, count in cells]


def _named(domain: Domain) -> dict[str, Any]:
    *former, last = [name(one) for one in domain.names] or ["?"]
    host = None if domain.host is None else safe(domain.host)
    uuid = None if domain.key.startswith("name ") else safe(domain.key)
    return {"name": last, "former": former, "host": host, "uuid": uuid}


def _with_cause(one: Happening) -> Line:
    if not one.cause:
        return one.line
    by = f", for {' '.join(one.by)}" if one.by else ""
    return (*one.line, ("notice", f", by {one.cause}{by}"))


def _with_host(host: str | None, line: Line) -> Line:
    return line if host is None else (("process", safe(host)), *line)


def _pieces(line: Line) -> list[int | str]:
    """Role, text, role, text, ..."""
    return [part for role, words in line for part in (_ROLES.get(role, 0), words)]


def _latencies(story: Story, report: Report, clock: _Clock) -> list[dict[str, Any]]:
    counts = report.tables["function"]
    longest = sorted(
        story.functions.items(),
        key=lambda item: (-_total(counts.get((item[0],))), item[0]),
    )
    return [
        {
            "name": safe(function) if function else "(others)",
            "numbers": [*found.numbers(), *found.times()]
            if (found := counts.get((function,)))
            else None,
            "cells": [
                [clock.of(slot * story.scale.width), step, count]
                for slot, step, count in grid.cells()
            ],
        }
        for function, grid in longest[:MOST_LATENCIES]
    ]


def _total(counts: Counts | None) -> int:
    return counts.durations.total if counts else 0


def _title(asked: PageHead) -> str:
    return safe(", ".join(asked.objects)) or "Calls of libvirt"


def _tiles(story: Story, report: Report) -> list[tuple[str, str, str]]:
    """The numbers in the head: what, how many, and its colour's class."""
    endings = len(report.endings) + report.endings_left_out
    crashed = sum(one.how == "stopped: crashed" for one in report.endings.values())
    return [
        ("calls", f"{report.all.calls:,}", ""),
        ("failed", f"{report.all.errors:,}", "failed" if report.all.errors else "none"),
        ("denied", f"{report.all.denied:,}", "denied" if report.all.denied else "none"),
        ("domains", f"{len(story.domains):,}{'+' if story.domains_left_out else ''}", ""),
        ("endings", f"{endings:,}", "none" if not endings else ""),
        ("crashes", f"{crashed:,}", "crashed" if crashed else "none"),
        ("lost", f"{report.lost:,}", "failed" if report.lost else "none"),
        ("gaps", f"{report.gaps:,}", "failed" if report.gaps else "none"),
    ]
