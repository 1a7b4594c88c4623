# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace ps and stuck: words come in; lines are printed, and the exit status goes out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from log import VERSION
from log.errors import TraceError, say
from log.render import jsonl, text
from probes.covering import Guard
from probes.filters import Filters
from probes.host.allowed import check_tracing, is_in_first_pid_namespace, unseen
from probes.host.daemons.stacks import Stacks
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.internals.unwind import can_unwind
from probes.loading import Loading
from probes.plans.plan import Limits
from probes.ps import CountedCalls, Counts, list_processes, render_json, render_table
from probes.session import Options, Session
from probes.verbs import ps_parser, stuck_parser

LOOK = 0.05  # s between two looks at the rings


def _counted(seconds: float, guard: Guard) -> Counts:
    """The calls that daemons make within that time."""
    session = Session(Options(Filters(), Limits(0, True), (), VERSION), guard, Loading())
    session.start()
    say(f"counting calls for {seconds:g} s")
    deadline, counted = time.monotonic() + seconds, CountedCalls()
    while time.monotonic() < deadline:
        counted.add(session.poll())
        time.sleep(LOOK)
    counted.add(session.stop())
    for note in (*session.take_warnings(), *counted.notes()):
        say(note)
    return counted.counts


def show_stuck(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace stuck: of calls that began before tracing what their stacks tell."""
    options = stuck_parser().parse_args(arguments)
    check_tracing()
    if not can_unwind():
        raise TraceError(
            "Python's module elftools is missing: install the package python3-pyelftools"
        )
    session = Session(Options(Filters(), Limits(256, True), (), VERSION), guard, Loading())
    stacks = Stacks()
    session.start()
    try:
        pids = sorted({mapping.pid for mapping in maps.scan()} - {os.getpid()})
        before = stacks.scan(pids)
        deadline = time.monotonic() + options.seconds
        while time.monotonic() < deadline:
            session.poll()
            time.sleep(LOOK)
        least = int(options.seconds * 1e9 / 2)
        found = session.begun_before([one for one in before if stacks.is_still(one)])
        found += session.under_way(least)
    finally:
        session.stop()
        stacks.close()
    for note in LOOKING.take():
        say(note)
    render = jsonl.line if options.json else text.line
    print("".join(map(render, found)), end="", flush=True)
    if not found and not options.json:
        say("no call is under way for long")
    return 0


def show_processes(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace ps"""
    options = ps_parser().parse_args(arguments)
    if os.geteuid() != 0:
        raise TraceError("looking into other users' processes needs root: run it with sudo")
    rows = list_processes(
        guard, counts=None if options.seconds is None else _counted(options.seconds, guard)
    )
    hidden = unseen()
    for note in (*([hidden] if hidden else []), *LOOKING.take()):
        say(note)
    if not is_in_first_pid_namespace():
        say("in a pid namespace of its own, only its processes are seen")
    if not rows and not options.json:
        say(f"no {'other ' if hidden else ''}process has libvirt loaded")
        return 1 if hidden else 0
    print((render_json if options.json else render_table)(rows), end="", flush=True)
    for row in rows:
        if row.uncovered:
            say(f"the enforcer in process {row.pid} is too old for {', '.join(row.uncovered)}")
    return 0
