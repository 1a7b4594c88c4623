# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of `list`, `ps`, `stuck`, `open` and `top`: parsers of words go out."""

from __future__ import annotations

from log.verbs.usage import Parser, add_choice, add_json, add_seconds, number, repeated, rows


def list_parser() -> Parser:
    """The options of `list`."""
    parser = Parser(
        prog="libvirt-trace list",
        description="Lists libvirt's public functions: class, arguments, result.",
    )
    parser.add_argument(
        "globs", metavar="GLOB", nargs="*", help=("only functions that match one of these")
    )
    add_json(parser, "as JSON lines")
    return parser


def ps_parser() -> Parser:
    """The options of `ps`."""
    parser = Parser(
        prog="libvirt-trace ps",
        description="Lists the processes that have libvirt loaded.",
    )
    add_seconds(parser, "count the calls of daemons' clients for so long")
    add_json(parser, "as JSON lines")
    return parser


def stuck_parser() -> Parser:
    """The options of `stuck`."""
    parser = Parser(
        prog="libvirt-trace stuck",
        description="Lists the calls that are under way, the oldest first, and what they wait for.",
    )
    add_seconds(parser, "how long a call has to last (1)", 1)
    add_json(parser, "as JSON lines")
    return parser


def open_parser() -> Parser:
    """The options of `open`."""
    from log.recording.folder import DEFAULT  # the other verbs read no record

    parser = Parser(
        prog="libvirt-trace open",
        usage="libvirt-trace open [OPTIONS] [PATH...]",
        description="Lists what was begun and not ended: guests frozen or paused, block jobs, "
        "streams, ... PATH: records, as of `log`.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", help=f"what is read ({DEFAULT})")
    add_seconds(parser, "instead, trace so long, and list what was begun and not ended since")
    repeated(parser.add_argument_group("which"), "--object", "GLOB", "objects", "only of these")
    add_json(parser, "as JSON lines")
    return parser


def top_parser() -> Parser:
    """The options of `top`."""
    # only here: the other verbs need not wait for it
    from log.report.busiest import SORTS
    from probes.verbs.options import uid_of

    parser = Parser(
        prog="libvirt-trace top",
        description="Shows which clients, functions and domains keep libvirt busy, and how long "
        "calls wait until a daemon begins.",
    )
    add_seconds(parser, "how long each look takes (2)", 2, kind=_look)
    parser.add_argument(
        "--sort",
        metavar="BY",
        choices=tuple(SORTS),
        default="calls",
        help=f"what is first: the most {', '.join(SORTS)} (calls)",
    )
    parser.add_argument(
        "--rows",
        metavar="N",
        type=rows,
        default=10,
        help="rows of a table, at most, where there is no screen to fill; 0: all (10)",
    )
    parser.add_argument("--once", action="store_true", help="one look")
    add_choice(parser.add_argument_group("which calls"), uid_of)
    add_json(parser, "as JSON lines, every row")
    return parser


def _look(text: str) -> float:
    return number(text, "a time in seconds, 0.1 or more", 0.1, 1e9)
