# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace list, and libvirt-trace ps: words come in; lines are printed, and the exit status goes out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from log import VERSION
from log.errors import TraceError, say
from probes.api import listing
from probes.api.load import load_api
from probes.covering import Guard
from probes.filters import Filters
from probes.host.allowed import check_tracing, is_in_first_pid_namespace, unseen
from probes.options import list_parser, ps_parser
from probes.plans.plan import Limits
from probes.ps import Counts, count_calls, list_processes, render_json, render_table
from probes.session import Options, Session

LOOK = 0.05  # s between two looks at the rings


def show_functions(arguments: Sequence[str]) -> int:
    """libvirt-trace list"""
    options = list_parser().parse_args(arguments)
    lines = listing.functions(load_api(), options.globs, as_json=options.json)
    if not lines:
        raise TraceError(f"no function matches {' '.join(options.globs)}")
    print("\n".join(lines), flush=True)
    return 0


def _counted(seconds: float, guard: Guard) -> Counts:
    """The calls that daemons make within that time."""
    check_tracing()
    session = Session(Options(Filters(), Limits(0, True), 8 << 20, False, (), VERSION), guard)
    session.start()
    say(f"counting calls for {seconds:g} s")
    deadline, events = time.monotonic() + seconds, []
    while time.monotonic() < deadline:
        events += session.poll()
        time.sleep(LOOK)
    return count_calls(events + session.stop())


def show_processes(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace ps"""
    options = ps_parser().parse_args(arguments)
    if os.geteuid() != 0:
        raise TraceError("looking into other users' processes needs root: run it with sudo")
    rows = list_processes(guard, counts=None if options.seconds is None else _counted(options.seconds, guard))
    hidden = unseen()
    if hidden:
        say(hidden)
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
