#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace, the command: words come in, and the verb that they name does the rest.

What a verb needs is imported when it is asked for: words like --help and list want an answer at
once.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Sequence

if os.geteuid() == 0 and os.stat(__file__).st_uid != 0:
    sys.dont_write_bytecode = True  # root leaves nothing in a user's folder

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from log.errors import TraceError, UsageError, explain, internal_error, say, short_of
from log.verbs.usage import split_command

STDERR = 2
RARELY = 20_000  # new objects between two looks for rings of them, as events are none


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; exit status 0, 1 (failure), 2 (usage), 125 (COMMAND could not be
    started) or COMMAND's.
    """
    debug = "--debug" in split_command(arguments)[0]
    if not debug:
        threading.excepthook = lambda failed: say(
            internal_error(failed.exc_type, failed.exc_traceback)
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
        return 125 if str(error).startswith("can't start ") else 1
    except Exception as error:
        if debug:
            raise
        say(short_of(error) or internal_error(type(error), error.__traceback__))
        return 1
    except KeyboardInterrupt:
        return 130


def do(arguments: Sequence[str]) -> int:
    """What the first word says; the exit status."""
    verb, words = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "list":
        from probes.verbs.functions import show_functions

        return show_functions(words)
    if verb in ("policy", "enforce"):
        from enforcer.commands import run_enforce, run_policy

        return (run_policy if verb == "policy" else run_enforce)(words)
    if verb in ("log", "report", "verify", "export"):
        from log.verbs import commands

        return {
            "log": commands.show_log,
            "report": commands.show_report,
            "verify": commands.verify_record,
            "export": commands.export_record,
        }[verb](words)
    if verb == "open":
        from enforcer.guard import GUARD
        from probes.verbs.open import show_open

        return show_open(words, GUARD)
    if verb == "top":
        from enforcer.guard import GUARD
        from probes.verbs.top import show_top

        return show_top(words, GUARD)
    if verb == "ps":
        from enforcer.guard import GUARD
        from probes.verbs.ps import show_processes

        return show_processes(words, GUARD)
    if verb == "stuck":
        from enforcer.guard import GUARD
        from probes.verbs.stuck import show_stuck

        return show_stuck(words, GUARD)
    return trace(arguments)


def trace(arguments: Sequence[str]) -> int:
    """Traces, to the screen or to a record; the exit status is COMMAND's, if there is one."""
    gc.set_threshold(RARELY)  # what is imported now stays, too
    from probes.verbs.options import only_counts, parse_record, parse_tracing

    if arguments[:1] == ["record"]:
        options, command = parse_record(arguments[1:])
    else:
        options, command = parse_tracing(arguments)
    from probes.tracing.loading import Loading

    loading = Loading(
        options.buffer_size << 20,
        options.returns,
        counts=only_counts(options),
        spill=options.spill << 20,
    )
    from enforcer.guard import GUARD
    from probes.verbs import live

    begin = live.record if arguments[:1] == ["record"] else live.trace
    return begin(options, command, GUARD, loading)


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
