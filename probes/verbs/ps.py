# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace ps: words come in; processes are printed, and the exit status goes out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from log.errors import TraceError, say
from probes.host.allowed import is_in_first_pid_namespace, unseen
from probes.host.looking.held import LOOKING
from probes.tracing.covering import Guard
from probes.verbs.looking_on import begin, look_on
from probes.verbs.parsers import ps_parser
from probes.verbs.processes import CountedCalls, Counts, list_processes, render_json, render_table


def _counted(seconds: float, guard: Guard) -> Counts:
    """The calls that daemons make within that time."""
    session, counted = begin(guard, string=0), CountedCalls()
    session.start()
    say(f"counting calls for {seconds:g} s")
    look_on(session, seconds, counted.add)
    counted.add(session.stop())
    for note in (*session.take_warnings(), *counted.notes()):
        say(note)
    return counted.counts


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
