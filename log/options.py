# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of `log`, `report` and `verify`: words come in, a question to a record goes
out.
"""

from __future__ import annotations

import argparse

from log.recording.folder import DEFAULT
from log.recording.query import Query
from log.usage import (
    EXPORTS,
    FORMS,
    FORMS_HELP,
    Parser,
    add_choice,
    add_outcomes,
    add_views,
    in_lines,
    repeated,
    string_size,
    whole,
)
from log.when import EXAMPLES, parse_time

EPILOG = """\
examples:
  libvirt-trace log -w --since yesterday    what was changed since yesterday
  libvirt-trace log --object web1 --tree    what happened to web1, and what daemons did for it
  libvirt-trace log -x -c /srv/records      what failed, of several hosts
  zcat calls.json.gz | libvirt-trace log -  lines of --json, from anywhere
  libvirt-trace log -w --follow             what is changed, as it is recorded

See also libvirt-trace(8).
"""


REPORT_EPILOG = """\
examples:
  libvirt-trace report --since yesterday           who did what, how often, and how long it took
  libvirt-trace report --object web1 -w            who changed web1
  libvirt-trace report --diff /srv/old /srv/new    what is not as it was
  libvirt-trace report --html web1.html --object web1 --since yesterday    a page to look at

See also libvirt-trace(8).
"""


def log_parser() -> Parser:
    """The options of `log`."""
    parser = Parser(
        prog="libvirt-trace log",
        usage="libvirt-trace log [OPTIONS] [PATH...]",
        description=(
            "Shows what was recorded, as if one had looked on. PATH: folders of records, "
            "segments,\nfiles of JSON lines, or -."
        ),
        epilog=EPILOG,
        formatter_class=in_lines,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", default=[DEFAULT], help=f"what is read ({DEFAULT})"
    )
    _add_filters(parser.add_argument_group("which calls"))
    how = parser.add_argument_group("what is shown")
    how.add_argument(
        "-s",
        metavar="BYTES",
        dest="string",
        type=string_size,
        default=256,
        help="bytes of a string to show (256)",
    )
    how.add_argument(
        "--both",
        action="store_true",
        help="what a daemon does for a call on lines of its own, too",
    )
    add_views(how)
    how.add_argument(
        "--format",
        metavar="FORMAT",
        choices=FORMS,
        default="text",
        help=f"{FORMS_HELP} (text)",
    )
    how.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="the same as --format json",
    )
    how.add_argument("--follow", action="store_true", help="go on with what is being recorded")
    how.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


def _add_filters(which: argparse._ArgumentGroup) -> None:
    add_choice(which, str)
    repeated(which, "--uuid", "UUID", "uuids", "only on objects with this UUID")
    repeated(
        which,
        "--client",
        "GLOB",
        "clients",
        "only what daemons do for this client: process, user, program, address",
    )
    repeated(which, "--rule", "GLOB", "rules", "only what this rule of a policy has decided")
    which.add_argument("--grep", metavar="TEXT", help="only events whose line of JSON holds TEXT")
    add_outcomes(which)
    time_option(
        which, "--since", "only from then on: 2026-11-25 21:30, 21:30, yesterday, -2h, @EPOCH"
    )
    time_option(which, "--until", "only up to then")


def time_option(which: argparse._ActionsContainer, word: str, text: str) -> None:
    """An option that is a point in time, in ns."""
    which.add_argument(word, metavar="TIME", type=_time, help=text)


def report_parser() -> Parser:
    """The options of `report`."""
    parser = Parser(
        prog="libvirt-trace report",
        usage="libvirt-trace report [OPTIONS] [PATH...]",
        description=(
            "Tables of what was recorded: calls by client, by object and by function, and how "
            "domains have ended.\n"
            "PATH: folders of records, segments, files of JSON lines, or -."
        ),
        epilog=REPORT_EPILOG,
        formatter_class=in_lines,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", default=[DEFAULT], help=f"what is read ({DEFAULT})"
    )
    _add_filters(parser.add_argument_group("which calls"))
    how = parser.add_argument_group("what is shown")
    how.add_argument(
        "--both", action="store_true", help=("what a daemon does for a call counts as a call, too")
    )
    how.add_argument(
        "--top",
        metavar="ROWS",
        type=_rows,
        default=20,
        help="rows of a table, at most; 0: all (20)",
    )
    how.add_argument(
        "--diff",
        metavar="OTHER",
        help="only what differs from this record, which is the one before",
    )
    how.add_argument("--json", action="store_true", help="one object of JSON, with every row")
    how.add_argument(
        "--html",
        metavar="FILE",
        help="instead, a page to look at: domains over time, calls, how long they took",
    )
    how.add_argument(
        "--perfetto",
        metavar="FILE",
        help="instead, a trace for Perfetto: threads, domains, who caused what",
    )
    how.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    parser.set_defaults(format="text")
    return parser


def verify_parser() -> Parser:
    """The options of `verify`."""
    parser = Parser(
        prog="libvirt-trace verify",
        description=(
            "Says whether a record is intact (nothing was changed, cut or removed) and "
            "complete (if not, when, and why)."
        ),
    )
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=DEFAULT, help=f"where the record is ({DEFAULT})"
    )
    parser.add_argument(
        "--anchor",
        metavar="FILE",
        nargs="?",
        const="",
        help=(
            "check it against what the system's log says of it: the journal's, or lines in FILE "
            "(-: standard input)"
        ),
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


EXPORT_EPILOG = """\
examples:
  libvirt-trace export --to journal                   this host's record, to its journal
  libvirt-trace export --to journal -w --since -2h    changes of the last two hours

A second run goes on where the first one stopped. See also libvirt-trace(8).
"""


def export_parser() -> Parser:
    """The options of `export`."""
    parser = Parser(
        prog="libvirt-trace export",
        usage="libvirt-trace export --to NAME[=WHERE] [OPTIONS] [PATH...]",
        description=(
            "Sends what was recorded elsewhere, from where the last run stopped. PATH: folders of "
            "records,\nor files of JSON lines or -, which are sent as a whole."
        ),
        epilog=EXPORT_EPILOG,
        formatter_class=in_lines,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", default=[DEFAULT], help=f"what is sent ({DEFAULT})"
    )
    where = parser.add_argument_group("where it goes")
    where.add_argument("--to", metavar="NAME", required=True, help=EXPORTS)
    where.add_argument(
        "--state",
        metavar="FILE",
        help="keep there how far it was sent (a file in the record's folder)",
    )
    where.add_argument("--follow", action="store_true", help="go on with what is being recorded")
    where.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    _add_filters(parser.add_argument_group("which calls"))
    parser.set_defaults(format="json", both=True)
    return parser


def query_of(options: argparse.Namespace) -> Query:
    """What is asked."""
    return Query(
        pids=tuple(options.pids),
        users=tuple(options.users),
        comms=tuple(options.comms),
        functions=tuple(options.functions),
        objects=tuple(options.objects),
        uuids=tuple(options.uuids),
        clients=tuple(options.clients),
        rules=tuple(options.rules),
        grep=options.grep,
        writes=options.writes,
        failed=options.failed,
        slower_ns=options.slower,
        nested=options.nested,
        since=options.since,
        until=options.until,
        alone=options.both or options.format != "text",
    )


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; {EXAMPLES}") from None


def _rows(text: str) -> int:
    return whole(text, "a number of rows", 0, 1 << 20)
