# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of `log`, `report`, `verify` and `export`: words come in, a question to a
record goes out.
"""

from __future__ import annotations

import argparse

from log.query.query import Query
from log.recording.folder import DEFAULT
from log.verbs.usage import (
    EXPORTS,
    STRING_USUAL,
    Parser,
    add_both,
    add_choice,
    add_debug,
    add_form,
    add_json,
    add_outcomes,
    add_string,
    add_views,
    in_lines,
    repeated,
    rows,
)
from log.verbs.when import EXAMPLES, parse_time

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

EXPORT_EPILOG = """\
examples:
  libvirt-trace export --to journal                   this host's record, to its journal
  libvirt-trace export --to journal -w --since -2h    changes of the last two hours

A second run goes on where the first one stopped. See also libvirt-trace(8).
"""


def log_parser() -> Parser:
    """The options of `log`."""
    parser = _reader(
        "log",
        "Shows what was recorded, as if one had looked on. PATH: folders of records, "
        "segments,\nfiles of JSON lines, or -.",
        EPILOG,
    )
    _add_filters(parser.add_argument_group("which calls"))
    how = parser.add_argument_group("what is shown")
    add_string(how, f"show ({STRING_USUAL})")
    add_both(how)
    add_views(how)
    add_form(how, "text", "text")
    how.add_argument("--follow", action="store_true", help="go on with what is being recorded")
    add_debug(how)
    return parser


def _reader(
    verb: str, description: str, epilog: str, *, needed: str = "", what: str = "what is read"
) -> Parser:
    """A parser of a verb that goes through records. `needed`: an option that there has to be;
    `what` its PATHs are.
    """
    parser = Parser(
        prog=f"libvirt-trace {verb}",
        usage=f"libvirt-trace {verb} {needed}[OPTIONS] [PATH...]",
        description=description,
        epilog=epilog,
        formatter_class=in_lines,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", default=[DEFAULT], help=f"{what} ({DEFAULT})"
    )
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
    parser = _reader(
        "report",
        "Tables of what was recorded: calls by client, by object and by function, and how "
        "domains have ended.\n"
        "PATH: folders of records, segments, files of JSON lines, or -.",
        REPORT_EPILOG,
    )
    _add_filters(parser.add_argument_group("which calls"))
    how = parser.add_argument_group("what is shown")
    how.add_argument(
        "--both", action="store_true", help=("what a daemon does for a call counts as a call, too")
    )
    how.add_argument(
        "--top",
        metavar="ROWS",
        type=rows,
        default=20,
        help="rows of a table, at most; 0: all (20)",
    )
    how.add_argument(
        "--diff",
        metavar="OTHER",
        help="only what differs from this record, which is the one before",
    )
    add_json(how, "one object of JSON, with every row")
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
    add_debug(how)
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
    add_debug(parser)
    return parser


def export_parser() -> Parser:
    """The options of `export`."""
    parser = _reader(
        "export",
        "Sends what was recorded elsewhere, from where the last run stopped. PATH: folders of "
        "records,\nor files of JSON lines or -, which are sent as a whole.",
        EXPORT_EPILOG,
        needed="--to NAME[=WHERE] ",
        what="what is sent",
    )
    where = parser.add_argument_group("where it goes")
    where.add_argument("--to", metavar="NAME", required=True, help=EXPORTS)
    where.add_argument(
        "--state",
        metavar="FILE",
        help="keep there how far it was sent (a file in the record's folder)",
    )
    where.add_argument("--follow", action="store_true", help="go on with what is being recorded")
    add_debug(where)
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
