# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of tracing and of `record`: words come in, checked options go out."""

from __future__ import annotations

import argparse
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from log import VERSION
from log.errors import TraceError
from log.verbs.usage import (
    STRING_MAX,
    STRING_USUAL,
    Parser,
    add_both,
    add_choice,
    add_debug,
    add_exports,
    add_form,
    add_outcomes,
    add_seconds,
    add_string,
    add_views,
    in_lines,
    number,
    split_command,
    whole,
)
from probes.tracing import AUTO, PROBE, RET

# what knows the kernel is imported where it is used: --help and --version are there at once
if TYPE_CHECKING:
    from probes.tracing.filters import Filters
EXAMPLES = """\
examples:
  libvirt-trace                             every libvirt call on this host
  libvirt-trace -w                          only calls that change something
  libvirt-trace -x -n virsh                 virsh's calls that failed
  libvirt-trace --object web1               what happens to domain web1
  libvirt-trace -f '*Set*' -f '!*Memory*'   some functions and not others
  libvirt-trace --slower 100 -c             calls over 100 ms, then a summary
  libvirt-trace -w -o changes.json          changes, in a file as JSON lines
  libvirt-trace -- virsh start web1         what one command does
  libvirt-trace list '*Migrate*'            functions and their arguments
  libvirt-trace ps                          processes that have libvirt loaded
  libvirt-trace stuck                       calls that hang, and why
  libvirt-trace open                        what was begun and never ended
  libvirt-trace top --sort queue            who waits the longest for a daemon
  libvirt-trace record                      write a record, for later
  libvirt-trace log -w --since yesterday    what was changed since yesterday
  libvirt-trace enforce --policy keep.toml -- virsh
                                            virsh, with some calls denied

exit status: COMMAND's, if there is one (125: it could not be started); else 0,
1 after a failure, 2 for wrong usage. Ctrl-C ends tracing with 0.
See also libvirt-trace(8).
"""
DAY_NS = 24 * 3600 * 10**9
SPANS = {"h": DAY_NS // 24, "d": DAY_NS, "w": 7 * DAY_NS}  # ns
SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}  # bytes
BUFFER_MAX = 1024
# MiB of each buffer; who records does so for days, and shows nothing that could hold it up
BUFFER, RECORDS_BUFFER = 8, 4
SPILL_MAX = 1 << 16
RECORDING = """\
examples:
  libvirt-trace record                      all calls on this host, in /var/log/libvirt-trace
  libvirt-trace record --reads none -w DIR  only changes, in DIR
  libvirt-trace log --object web1           what happened to web1
  libvirt-trace report --since yesterday    who did what, how often, how long it took
  libvirt-trace verify                      is the record intact, is it complete

A service runs it: systemctl enable --now libvirt-trace. See also libvirt-trace(8).
"""


def parse_tracing(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and COMMAND."""
    words, command = split_command(arguments)
    parser = tracing_parser(VERSION)
    options = parser.parse_args(words)
    if options.quiet and not (options.summary or options.output or options.exports):
        parser.error("-q shows no calls: it goes with -c, -o, --export or --metrics")
    if "--" in arguments and not command:
        parser.error("no COMMAND after --")
    if not options.redact and any(not to.startswith("prometheus=") for to in options.exports):
        parser.error("secrets are sent nowhere: --no-redact is for looking on only")
    return options, command


def parse_record(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Likewise, of `record`."""
    words, command = split_command(arguments)
    parser = record_parser(VERSION)
    options = parser.parse_args(words)
    if not options.redact:
        parser.error("a record holds no secrets: --no-redact is for looking on only")
    return options, command


def record_parser(version: str) -> Parser:
    """The options of `record`: those of tracing, and how the record is kept."""
    # only here: who traces to the screen need not wait for them
    from log.recording.counting import COUNTED, MODES
    from log.recording.folder import DEFAULT as FOLDER

    parser = tracing_parser(version, records=True)
    parser.prog = "libvirt-trace record"
    parser.usage = "libvirt-trace record [OPTIONS] [DIR] [-- COMMAND [ARG...]]"
    parser.description = (
        "Writes every libvirt call to a record, for libvirt-trace log; nothing is shown."
    )
    parser.epilog = RECORDING
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=FOLDER, help=f"where the record is ({FOLDER})"
    )
    kept = parser.add_argument_group("what is recorded, and how long it is kept")
    kept.add_argument(
        "--reads",
        metavar="HOW",
        choices=MODES,
        default=COUNTED,
        help="reads: full, counted or none (counted)",
    )
    kept.add_argument(
        "--keep",
        metavar="TIME",
        type=_span,
        default=30 * DAY_NS,
        help="remove segments that are older (30d)",
    )
    kept.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        default=2 << 30,
        help="remove the oldest when all are larger (2G)",
    )
    kept.add_argument(
        "--spare",
        metavar="PERCENT",
        type=_percent,
        default=0.1,
        help="remove the oldest when less of the disk is free (10)",
    )
    kept.add_argument("--show", action="store_true", help="show the calls, too")
    parser.set_defaults(string=STRING_MAX)
    return parser


def tracing_parser(version: str, *, records: bool = False) -> Parser:
    """The options of tracing; COMMAND is split off before. `records`: those of `record`, too."""
    parser = Parser(
        prog="libvirt-trace",
        usage=(
            "libvirt-trace [OPTIONS] [-- COMMAND [ARG...]]\n"
            "       libvirt-trace list [--json] [GLOB...]\n"
            "       libvirt-trace ps [--json] [-d SECONDS]\n"
            "       libvirt-trace stuck [--json] [-d SECONDS]\n"
            "       libvirt-trace open [--object GLOB] [--json] [-d SECONDS] [PATH...]\n"
            "       libvirt-trace top [-p PID] [-u USER] [-n COMM] [-f GLOB] [--object GLOB]\n"
            "                         [--sort BY] [--rows N] [--once] [--json] [-d SECONDS]\n"
            "       libvirt-trace record [OPTIONS] [DIR] [-- COMMAND [ARG...]]\n"
            "       libvirt-trace log [OPTIONS] [PATH...]\n"
            "       libvirt-trace report [OPTIONS] [PATH...]\n"
            "       libvirt-trace verify [--anchor [FILE]] [DIR]\n"
            "       libvirt-trace export --to NAME [OPTIONS] [PATH...]\n"
            "       libvirt-trace enforce [--policy FILE] -- COMMAND [ARG...]\n"
            "       libvirt-trace enforce --service UNIT [--policy FILE | --remove]\n"
            "       libvirt-trace policy check|explain|apply FILE"
        ),
        description=(
            "Shows every libvirt call of every process: arguments, result, error, duration.\n"
            "Needs root. Without options: all calls that programs make, save the plumbing."
        ),
        epilog=EXAMPLES,
        formatter_class=in_lines,
    )
    which = parser.add_argument_group("which calls")
    add_choice(which, uid_of)
    add_outcomes(which)
    add_both(which)
    which.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="the plumbing too: error, reference, event helpers",
    )
    which.add_argument(
        "--all-processes", action="store_true", help=("with COMMAND: all other processes too")
    )
    how = parser.add_argument_group("what is shown, and where")
    add_string(how, f"keep ({STRING_USUAL}; at most {STRING_MAX})")
    add_views(how)
    if not records:
        how.add_argument(
            "-q",
            "--quiet",
            action="store_true",
            help="show no calls: with -c, they are only counted",
        )
    add_form(how, None, "text; json in the -o file")
    how.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help=("write there too (SIGHUP: reopen it)")
    )
    add_exports(how)
    how.add_argument(
        "--shared-output",
        action="store_true",
        help="-o may be a file that others own, read or write",
    )
    how.add_argument(
        "--cmdline",
        metavar="HOW",
        choices=("known", "full"),
        default="known",
        help="words of command lines: known or full",
    )
    how.add_argument(
        "--no-redact",
        dest="redact",
        action="store_false",
        help="show passwords and other secrets",
    )
    when = parser.add_argument_group("when to stop")
    add_seconds(when, "stop after that long")
    when.add_argument("--max-events", metavar="N", type=_count, help="stop after that many calls")
    tuning = parser.add_argument_group("how it attaches")
    buffers = RECORDS_BUFFER if records else BUFFER
    tuning.add_argument(
        "--library",
        metavar="PATH",
        dest="libraries",
        action="append",
        default=[],
        type=Path,
        help="attach to this file as well (repeatable)",
    )
    tuning.add_argument(
        "--buffer-size",
        metavar="MIB",
        type=_buffer_size,
        default=buffers,
        help=f"size of each buffer ({buffers}; at most {BUFFER_MAX})",
    )
    tuning.add_argument(
        "--spill",
        metavar="MIB",
        type=_spill,
        default=0,
        help="more records that may wait, in a file (0: none; at most 65536)",
    )
    tuning.add_argument(
        "--pid-file", metavar="PATH", type=Path, help=("write the process id there (for kill -HUP)")
    )
    tuning.add_argument(
        "--returns",
        metavar="HOW",
        nargs="?",
        choices=(AUTO, PROBE, RET),
        default=AUTO,
        const=PROBE,
        help="how results are learnt: the safest way (auto), ret, or probe: even where it kills",
    )
    add_debug(tuning)
    parser.add_argument("--version", action="version", version=f"libvirt-trace {version}")
    return parser


def chosen(options: argparse.Namespace) -> Filters:
    """Whose calls, of which functions, on what. TraceError for a process that is not there."""
    from probes.tracing.filters import Filters

    for pid in options.pids:
        if not Path(f"/proc/{pid}").exists():
            raise TraceError(f"no process has the id {pid}")
    return Filters(
        pids=tuple(options.pids),
        uids=tuple(options.users),
        comms=tuple(options.comms),
        functions=tuple(options.functions),
        objects=tuple(options.objects),
    )


def filters_of(options: argparse.Namespace, *, tree: bool) -> Filters:
    """The filters that the options ask for. TraceError for a process that is not there."""
    import dataclasses  # long to import

    return dataclasses.replace(
        chosen(options),
        writes=options.writes,
        failed=options.failed,
        slower_ns=options.slower,
        nested=options.nested,
        plumbing=options.all,
        tree=tree,
    )


def only_counts(options: argparse.Namespace) -> bool:
    """Whether of calls that only read nothing is wanted but their numbers and how long they took,
    and the kernel knows which are wanted.
    """
    return (
        getattr(options, "quiet", False)
        and not (options.output or options.exports or options.max_events)
        and not options.nested
        and filters_of(options, tree=False).is_known_at_entry
    )


def _span(text: str) -> int:
    unit = SPANS.get(text[-1:])
    return whole(text[:-1] if unit else text, "a time such as 30d or 12h", 1, 10**6) * (
        unit or DAY_NS
    )


def _size(text: str) -> int:
    unit = SIZES.get(text[-1:].upper())
    return whole(text[:-1] if unit else text, "a size such as 2G or 500M", 1, 1 << 50) * (unit or 1)


def _percent(text: str) -> float:
    return number(text, "a part in percent", 0, 99) / 100


def uid_of(user: str) -> int:
    """The number of a user, by name or number."""
    if user.isdecimal() and int(user) < 1 << 32:
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"no user {user!r} on this host") from None


def _count(text: str) -> int:
    return whole(text, "a number of calls", 1, 1 << 62)


def _spill(text: str) -> int:
    return whole(text, f"a number of MiB up to {SPILL_MAX}", 0, SPILL_MAX)


def _buffer_size(text: str) -> int:
    size = whole(text, f"a number of MiB up to {BUFFER_MAX}", 1, BUFFER_MAX)
    return 1 << (size - 1).bit_length()  # the kernel wants a power of two
