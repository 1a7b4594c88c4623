# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace open: words come in; what was begun and not ended is printed, and the exit status
goes out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from log.errors import TraceError, say
from log.events import Owed, Recording
from log.filters.about import is_about, names_of
from log.owing.owing import Owing
from log.query.lines import Look
from log.query.linking import events_of
from log.query.query import Query
from log.query.reader import read
from log.recording.folder import DEFAULT
from log.recording.host import boot_id
from log.recording.index import Indexes
from log.render import jsonl, text
from probes.host.looking.proc import began
from probes.tracing.covering import Guard
from probes.tracing.filters import Filters
from probes.verbs.looking_on import begin, look_on
from probes.verbs.parsers import open_parser


def show_open(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace open: of a record, or of what is traced now for a while."""
    options = open_parser().parse_args(arguments)
    if options.seconds is not None and options.paths:
        raise TraceError("-d looks on now, a PATH is what was recorded: give one of them")
    if options.seconds is not None:
        found = _traced(options.seconds, guard)
    else:
        found = _recorded(options.paths or [DEFAULT])
    found = [one for one in found if is_about(names_of(one), options.objects)]
    render = jsonl.line if options.json else text.line
    print("".join(map(render, found)), end="", flush=True)
    if not found and not options.json:
        say("nothing was begun and not ended, as far as was looked on")
    return 0


def _traced(seconds: float, guard: Guard) -> list[Owed]:
    # what gives up references tells what still refers
    session = begin(guard, filters=Filters(plumbing=True))
    session.start()
    try:
        look_on(session, seconds)
        session.poll()
        found = session.standing.owed()
        for warning in session.take_warnings():
            say(warning)
        return found
    finally:
        session.stop()


def _recorded(paths: list[str]) -> list[Owed]:
    query = Query(writes=True, alone=True)
    look = Look(query, Indexes(), say)
    lines = read(paths, look)[0]
    owing: dict[str | None, Owing] = {}
    boots: dict[str | None, str | None] = {}
    for host, event, _ in events_of(lines, query):
        if type(event) is Recording:
            boots[host] = event.boot
        owing.setdefault(host, Owing()).of([event])
    now = time.time_ns()
    for kept in owing.values():
        if left_out := kept.left_out():
            say(left_out)
    found = [
        one
        for host, kept in owing.items()
        for one in _with_ends(kept.open(now), boots.get(host) == boot_id())
    ]
    return sorted(found, key=lambda one: one.since)


def _with_ends(found: Iterable[Owed], is_here: bool) -> Iterable[Owed]:
    """With which processes have ended, if they were of this host since it was started."""
    for one in found:
        pid = one.by.get("pid")
        if one.gone or not is_here or not isinstance(pid, int):
            yield one
        else:
            yield one._replace(gone=not _was_there(pid, one.since))


def _was_there(pid: int, since: int) -> bool:
    """Whether the process that has the number now had it then (ns since the epoch)."""
    start = began(pid)
    if start is None:
        return False
    booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return start + booted <= since + 1_000_000_000 and os.path.exists(f"/proc/{pid}")
