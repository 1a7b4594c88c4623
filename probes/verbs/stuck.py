# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace stuck: words come in; calls under way are printed, and the exit status goes out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from log.errors import TraceError, say
from log.events import UnderWay
from log.render import jsonl, text
from probes.calls.serving.waits import FOR_DAEMON
from probes.hanging.limits import Full, explain, in_words, unknown
from probes.host.allowed import check_tracing
from probes.host.daemons.stacks import Stacks
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.internals.returns import PACKAGE as DISASSEMBLER
from probes.internals.returns import can_be_found as can_disassemble
from probes.internals.unwind import can_unwind
from probes.tracing.covering import Guard
from probes.verbs.looking_on import begin, look_on
from probes.verbs.parsers import stuck_parser


def show_stuck(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace stuck: of calls that began before tracing what their stacks tell."""
    options = stuck_parser().parse_args(arguments)
    check_tracing()
    if not can_unwind():
        raise TraceError(
            "Python's module elftools is missing: install the package python3-pyelftools"
        )
    session = begin(guard)
    stacks = Stacks()
    session.start()
    try:
        pids = sorted({mapping.pid for mapping in maps.scan()} - {os.getpid()})
        before = stacks.scan(pids)
        look_on(session, options.seconds)
        least = int(options.seconds * 1e9 / 2)
        session.standing.look_at_waiting()
        found = session.standing.begun_before([one for one in before if stacks.is_still(one)])
        found += session.standing.under_way(least)
        daemons = session.limits.look(session.daemons())
        _say_limits(found, daemons)
        # to end takes long where much is called
        _show(explain(found, daemons), as_json=options.json)
    finally:
        session.stop()
        stacks.close()
    return 0


def _say_limits(found: Sequence[UnderWay], daemons: Sequence[Full]) -> None:
    """Of daemons; that they are not known matters where a call waits for a daemon."""
    notes = [line for one in daemons for line in in_words(one)]
    if any(one.where == FOR_DAEMON for one in found):
        notes += unknown(daemons)
    for note in notes:
        say(note)


def _show(found: Sequence[UnderWay], *, as_json: bool) -> None:
    notes = LOOKING.take()
    if any(one.before for one in found) and not can_disassemble():
        notes.append(f"on what calls are that began before is not known: install {DISASSEMBLER}")
    for note in notes:
        say(note)
    render = jsonl.line if as_json else text.line
    print("".join(map(render, found)), end="", flush=True)
    if not found and not as_json:
        say("no call is under way for long")
