#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace, the command: options come in, the session and the sinks are wired together,
and their loop runs here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

if os.geteuid() == 0 and os.stat(__file__).st_uid != 0:
    sys.dont_write_bytecode = True  # root leaves nothing in a user's folder

try:
    import rich as _rich  # noqa: F401 - said here, since it is imported everywhere
except ModuleNotFoundError:
    sys.exit("libvirt-trace: Python's module rich is missing: install the package python3-rich")

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from enforcer.coverage import GUARD
from log import VERSION
from log.commands import export_record, show_log, show_report, verify_record
from log.errors import TraceError, UsageError, explain, say
from log.events import Call, Event
from log.sinks.exporter import Gauge
from log.sinks.exporters import anchor_of, open_exporters
from log.sinks.fanout import Log
from log.usage import split_command
from probes.commands import record_sinks, show_functions, show_processes, show_stuck
from probes.filters import Filters
from probes.host.allowed import check_tracing, unseen
from probes.host.command import CANNOT_START, Launched
from probes.host.pidfile import PidFile
from probes.options import filters_of, record_parser, tracing_parser
from probes.plans.plan import Limits
from probes.session import Options, Session

# s between two looks at the rings: short while much comes in, longer when nothing does
BUSY, IDLE = 0.005, 0.05
BUSY_EVENTS = 500  # of one look
BEHIND = 1 << 18  # bytes in the rings that leave no time to sleep
STDERR = 2
LONG = 1_000_000_000  # ns that a call has to be under way to be told at the end
SWITCH = 0.001  # s: threads that write wait no longer for this one


class Signals:
    """What was asked of us since the last look."""

    def __init__(self, *, reopens: bool, patience: int) -> None:
        """`reopens`: there is a file that SIGHUP reopens, or a record of which it ends the segment;
        else it means that the terminal is gone.

        `patience`: who asks that often does not want to wait any longer for anything.
        """
        self._reopens = reopens
        self._patience = patience
        self.raises = True  # nothing has been seen yet: who is impatient may have the end at once
        self.stop = 0
        self.terminate = False
        self.reopen = False
        self.show = False  # what is under way
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGUSR1, self._note)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGHUP, self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # writing says it

    def is_impatient(self) -> bool:
        """Whether readers are not to be waited for."""
        return self.stop >= self._patience

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.show = True
            return
        if number == signal.SIGHUP and self._reopens:
            self.reopen = True
            return
        self.stop += 1
        self.terminate |= number != signal.SIGINT
        if self.raises and self.is_impatient():
            raise KeyboardInterrupt


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
        waiting = session.waiting_bytes()
        done = ending and waiting < BEHIND
        events = session.stop(LONG) if done else session.poll()
        if left is not None:
            events, left = first_calls(events, left)
        for warning in session.take_warnings():
            log.complain(warning)
        if events:
            log.write(events)
        do_what_was_asked(session, log, signals)
        if left == 0:
            session.stop()  # what was made since then was not asked for
        if done or left == 0:
            return
        log.tick(session.open_calls())
        if waiting < BEHIND:
            time.sleep(BUSY if len(events) > BUSY_EVENTS else IDLE)


def do_what_was_asked(session: Session, log: Log, signals: Signals) -> None:
    """By signals that do not end anything."""
    if signals.reopen:
        signals.reopen = False
        log.reopen()
    if signals.show:
        signals.show = False
        log.write(session.under_way())


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


def trace(arguments: Sequence[str]) -> int:
    """Traces; the exit status is COMMAND's, if there is one."""
    words, argv = split_command(arguments)
    parser = tracing_parser(VERSION)
    options = parser.parse_args(words)
    if "--" in arguments and not argv:
        parser.error("no COMMAND after --")
    filters = filters_of(options, tree=bool(argv) and not options.all_processes)
    signals = begin(options, argv)
    log = Log(options, signals)
    log.add(*open_exporters(options.exports, log.complain))
    return trace_to(log, options, filters, argv, signals)


def record(arguments: Sequence[str]) -> int:
    """libvirt-trace record: tracing whose log is a record; else as `trace`."""
    words, argv = split_command(arguments)
    parser = record_parser(VERSION)
    options = parser.parse_args(words)
    if not options.redact:
        parser.error("a record holds no secrets: --no-redact is for looking on only")
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
        return trace_to(log, options, filters, argv, signals)
    except BaseException as error:
        recorder.fail(_in_words(error))
        raise


def begin(options: argparse.Namespace, argv: list[str], *, records: bool = False) -> Signals:
    """What comes before anything is opened."""
    check_tracing()
    Path("/proc/self/comm").write_text("libvirt-trace")  # for ps, top and pkill
    sys.setswitchinterval(SWITCH)
    return Signals(reopens=records or options.output is not None, patience=3 if argv else 2)


def trace_to(
    log: Log, options: argparse.Namespace, filters: Filters, argv: list[str], signals: Signals
) -> int:
    """Traces into a log; the exit status is COMMAND's, if there is one."""
    pid_file = PidFile(options.pid_file) if options.pid_file else contextlib.nullcontext()
    with pid_file:
        return trace_until_end(options, filters, argv, log, signals)


def trace_until_end(
    options: argparse.Namespace, filters: Filters, argv: list[str], log: Log, signals: Signals
) -> int:
    """The tracing itself."""
    command = Launched(argv) if argv else None
    limits = Limits(options.string, options.redact)
    full = options.cmdline == "full" or not options.redact
    session = Session(
        Options(
            filters,
            limits,
            options.buffer_size << 20,
            options.returns,
            tuple(options.libraries),
            VERSION,
            full,
        ),
        GUARD,
    )
    log.know(Gauge("open_call_age_seconds", "Of the oldest call under way.", session.oldest_call))
    if not options.redact:
        log.complain("secrets are shown, because of --no-redact")
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


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; exit status 0, 1 (failure), 2 (usage), 125 (COMMAND could not be
    started) or COMMAND's.
    """
    debug = "--debug" in split_command(arguments)[0]
    if not debug:
        threading.excepthook = lambda failed: say(
            _internal_error(failed.exc_type, failed.exc_traceback)
        )
    open_streams()
    try:
        return do(arguments)
    except BrokenPipeError:
        return 0  # nobody reads: that is no failure, and nothing is left to say
    except (TraceError, OSError) as error:
        if debug:
            raise
        # a policy may have several mistakes
        for line in error.args if isinstance(error, TraceError) else [explain(error)]:
            say(str(line))
        if isinstance(error, UsageError):
            return 2
        return CANNOT_START if str(error).startswith("can't start ") else 1
    except Exception as error:
        if debug:
            raise
        say(_internal_error(type(error), error.__traceback__))
        return 1
    except KeyboardInterrupt:
        return 130


def do(arguments: Sequence[str]) -> int:
    """What the first word says; the exit status."""
    if arguments[:1] == ["list"]:
        return show_functions(arguments[1:])
    if arguments[:1] == ["ps"]:
        return show_processes(arguments[1:], GUARD)
    if arguments[:1] == ["stuck"]:
        return show_stuck(arguments[1:], GUARD)
    if arguments[:1] in (["policy"], ["enforce"]):
        from enforcer.commands import run_enforce, run_policy  # only here: tracing needs no policy

        return (run_policy if arguments[0] == "policy" else run_enforce)(arguments[1:])
    if arguments[:1] == ["record"]:
        return record(arguments[1:])
    if arguments[:1] == ["log"]:
        return show_log(arguments[1:])
    if arguments[:1] == ["report"]:
        return show_report(arguments[1:])
    if arguments[:1] == ["verify"]:
        return verify_record(arguments[1:])
    if arguments[:1] == ["export"]:
        return export_record(arguments[1:])
    return trace(arguments)


def _in_words(error: BaseException) -> str:
    """Why it could not start."""
    if isinstance(error, TraceError):
        return "; ".join(map(str, error.args))
    if isinstance(error, OSError):
        return explain(error)
    if isinstance(error, Exception):
        return _internal_error(type(error), error.__traceback__).partition(";")[0]
    return "interrupted"


def _internal_error(kind: type[BaseException], trace: TracebackType | None) -> str:
    """A line about it: where it was raised, and not what it says, as there may be a secret in
    it.
    """
    frame = traceback.extract_tb(trace)[-1:]
    where = f" in {os.path.basename(frame[0].filename)}:{frame[0].lineno}" if frame else ""
    return (
        f"internal error: {kind.__name__}{where}; please report it (--debug shows how it came "
        "about)"
    )


def open_streams() -> None:
    """Has something behind the three standard descriptors: what is opened next would get the
    number of a closed one.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115


def close_streams(status: int) -> int:
    """The exit status; what can't be written any more is left out, or Python would complain of
    it and exit with 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError) and status == 0:
                say(f"standard output: {explain(error)}")
                status = 1
    return status


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # of the parser of arguments
        status = end.code if isinstance(end.code, int) else 0
    sys.exit(close_streams(status))
