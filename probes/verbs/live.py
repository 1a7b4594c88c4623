# SPDX-License-Identifier: LGPL-2.1-or-later
"""The live log: words come in, the session and the sinks are wired together, and their loop runs
here until it is time to stop; the exit status goes out.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from log import VERSION
from log.errors import in_words
from log.events import Call, Event
from log.exports.exporters import anchor_of, open_exporters
from log.sinks.exporter import Gauge
from log.sinks.fanout import Log
from log.sinks.screen.terminal import need_rich
from probes.host.allowed import unseen
from probes.host.command import Launched
from probes.host.keyboard import Keyboard, is_keyboard
from probes.host.pidfile import PidFile
from probes.plans.meaning.captured import Limits
from probes.tracing.covering import Guard
from probes.tracing.filters import Filters
from probes.tracing.loading import Loading
from probes.tracing.session import Options, Session
from probes.verbs.looks import ASLEEP, BEHIND, IDLE, SOON, Looks
from probes.verbs.options import filters_of
from probes.verbs.signals import Signals

LONG = 1_000_000_000  # ns that a call has to be under way to be told at the end
SWITCH = 0.001  # s: threads that write wait no longer for this one


def run(
    session: Session,
    log: Log,
    signals: Signals,
    options: argparse.Namespace,
    command: Launched | None,
) -> None:
    """The loop: moves events from the session to the log until it is time to stop."""
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    left = options.max_events
    pace = Looks(session, signals.waker, keys=signals.keys is not None)
    while True:
        if command:
            command.reap()
            if signals.terminate:
                command.terminate()
        # COMMAND shares the terminal's Ctrl-C: the log goes on until it has ended, unless asked
        # twice
        ending = (
            (command is not None and command.status is not None)
            or signals.stop > (1 if command and not signals.terminate else 0)
            or (deadline is not None and time.monotonic() >= deadline)
        )
        if ending:
            session.detach()
        shows = is_asked_to_show(signals)
        waiting = session.waiting_bytes()
        done = ending and waiting < BEHIND
        events = session.stop(LONG) if done else session.poll()
        if left is not None:
            events, left = first_calls(events, left)
        for warning in session.take_warnings():
            log.complain(warning)
        if events:
            log.write(events)
        do_what_was_asked(session, log, signals, shows=shows)
        if left == 0:
            session.stop()  # what was made since then was not asked for
        if done or left == 0:
            pace.close()
            return
        log.tick(session.open_calls(), waiting)
        if waiting < BEHIND:
            longest = IDLE if command else ASLEEP  # what becomes of COMMAND is not told
            if deadline is not None:
                longest = min(longest, deadline - time.monotonic())
            pace.rest(len(events), longest)


def is_asked_to_show(signals: Signals) -> bool:
    """Whether what is under way is to be shown, by a signal or by a key; what had begun by then
    can be read now.
    """
    asked, signals.show = signals.show, False
    if not asked and not (signals.keys and "s" in signals.keys.pressed().lower()):
        return False
    time.sleep(SOON)
    return True


def do_what_was_asked(session: Session, log: Log, signals: Signals, *, shows: bool) -> None:
    """By signals and keys that do not end anything."""
    if signals.reopen:
        signals.reopen = False
        log.reopen()
    if shows:
        log.write([*session.standing.under_way(), *session.standing.owed()])


def first_calls(events: Sequence[Event], left: int) -> tuple[list[Event], int]:
    """The events up to the `left`-th call, and how many are left then."""
    chosen: list[Event] = []
    for event in events:
        if type(event) is Call:
            if left == 0:
                break
            left -= 1
        chosen.append(event)
    return chosen, left


def trace(options: argparse.Namespace, argv: list[str], guard: Guard, loading: Loading) -> int:
    """Traces; the exit status is COMMAND's, if there is one."""
    filters = filters_of(options, tree=bool(argv) and not options.all_processes)
    signals = begin(options, argv)
    log = Log(options, signals, calls=not options.quiet)
    log.add(*open_exporters(options.exports, log.complain))
    return trace_to(log, options, filters, argv, signals, guard, loading)


def record(options: argparse.Namespace, argv: list[str], guard: Guard, loading: Loading) -> int:
    """libvirt-trace record: tracing whose log is a record; else as `trace`."""
    from probes.verbs.recorded import record_sinks  # what writes is no one else's

    slower, options.slower = options.slower, None  # no filter here
    filters = filters_of(options, tree=bool(argv) and not options.all_processes)
    signals = begin(options, argv, records=True)
    log = Log(options, signals, quiet=not options.show)
    exporters = open_exporters(options.exports, log.complain)
    log.add(*exporters)
    recorder, service = record_sinks(options, filters, slower, log.complain, anchor_of(exporters))
    log.add(recorder, service)
    log.know(*recorder.gauges())
    try:
        return trace_to(log, options, filters, argv, signals, guard, loading)
    except BaseException as error:
        recorder.fail(in_words(error))
        raise


def begin(options: argparse.Namespace, argv: list[str], *, records: bool = False) -> Signals:
    """What comes before anything is opened."""
    need_rich()
    Path("/proc/self/comm").write_text("libvirt-trace")  # for ps, top and pkill
    sys.setswitchinterval(SWITCH)
    return Signals(reopens=records or options.output is not None, patience=3 if argv else 2)


def trace_to(
    log: Log,
    options: argparse.Namespace,
    filters: Filters,
    argv: list[str],
    signals: Signals,
    guard: Guard,
    loading: Loading,
) -> int:
    """Traces into a log; the exit status is COMMAND's, if there is one."""
    pid_file = PidFile(options.pid_file) if options.pid_file else contextlib.nullcontext()
    with pid_file, contextlib.ExitStack() as stack:
        if log.shows and not argv and is_keyboard():  # COMMAND would share it
            signals.keys = stack.enter_context(Keyboard())
        return trace_until_end(options, filters, argv, log, signals, guard, loading)


def trace_until_end(
    options: argparse.Namespace,
    filters: Filters,
    argv: list[str],
    log: Log,
    signals: Signals,
    guard: Guard,
    loading: Loading,
) -> int:
    """The tracing itself."""
    command = Launched(argv) if argv else None
    limits = Limits(options.string, options.redact)
    full = options.cmdline == "full" or not options.redact
    session = Session(
        Options(
            filters,
            limits,
            tuple(options.libraries),
            VERSION,
            full,
        ),
        guard,
        loading,
    )
    log.know(
        Gauge(
            "open_call_age_seconds", "Of the oldest call under way.", session.standing.oldest_call
        )
    )
    if not options.redact:
        log.complain("secrets are shown, because of --no-redact")
    log.know(Gauge("owed", "What was begun and not ended.", session.standing.count_owed))
    with log.starting(status=command is None):
        attached = session.start(log.complain)
        for warning in (*session.take_warnings(), unseen()):
            if warning:
                log.complain(warning)
    signals.raises = False
    failure: Exception | None = None
    try:
        log.write(attached)
        if command:
            command.go()
        run(session, log, signals, options, command)
    except BrokenPipeError:
        pass  # nobody reads standard output any more
    except Exception as error:  # whatever it is, what was seen so far is told
        failure = error
    try:
        log.write(session.stop())
    except BrokenPipeError:
        pass
    except Exception as error:
        failure = failure or error
    log.count(session.counted)
    log.close()
    if failure:
        raise failure
    return wait(command, signals, log) if command else 0


def wait(command: Launched, signals: Signals, log: Log) -> int:
    """The exit status of COMMAND, which may outlive the tracing of it; 0 if the user does not
    want to wait.
    """
    if not command.started:
        command.go()  # nobody reads the log, but it was asked for
    command.reap()
    if command.status is None:
        log.complain(f"waiting for the command, process {command.pid}")
    asked = max(signals.stop, 1)
    while command.status is None and signals.stop <= asked:
        time.sleep(IDLE)
        command.reap()
    return command.status or 0
