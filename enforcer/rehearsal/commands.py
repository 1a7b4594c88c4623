# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs of `policy` that look into records: words come in, what to do and to say go out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from enforcer.launch.library import table
from enforcer.policy.loading import load
from enforcer.policy.rules import Policy
from enforcer.rehearsal.rehearse import DENIED, Rehearsal, Span
from enforcer.rehearsal.shown import as_json, as_text
from log.errors import say
from log.options import time_option
from log.quote import name, quote
from log.recording.folder import DEFAULT
from log.recording.lines import Look
from log.recording.query import Query
from log.recording.reader import Line, read
from log.recording.writer import machine_id
from log.sinks.progress import Bar, open_bar
from log.usage import whole

_MOST = 1 << 40


def add_rehearse(parser: argparse.ArgumentParser) -> None:
    """The options of `policy rehearse`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy")
    add_records(parser)
    parser.add_argument(
        "--against",
        metavar="OLD",
        type=Path,
        help="compare with what this policy says, not with what happened",
    )
    parser.add_argument(
        "--clients",
        action="store_true",
        help="judge calls of a daemon's clients in these, too, as if each program were enforced",
    )
    parser.add_argument(
        "--allow-new-denials",
        metavar="N",
        type=lambda text: whole(text, "a number of calls", 0, _MOST),
        default=0,
        help="so many calls that had not failed may be denied; more are exit status 1 (0)",
    )
    parser.add_argument("--all", action="store_true", help="list all that changes, however much")
    parser.add_argument("--json", action="store_true", help="one object of JSON")


def add_records(parser: argparse.ArgumentParser) -> None:
    """What is read, and of which time."""
    parser.add_argument(
        "records", metavar="RECORD", nargs="*", default=[DEFAULT], help=f"what is read ({DEFAULT})"
    )
    time_option(parser, "--since", "only calls from then on: yesterday, -7d, 2026-11-25 21:30")
    time_option(parser, "--until", "only calls up to then")


def run_rehearse(options: argparse.Namespace) -> int:
    """libvirt-trace policy rehearse"""
    new = load(options.file, table())
    old = None if options.against is None else load(options.against, table())
    span = Span(options.since, options.until)
    found = Rehearsal(new, table(), old, span, clients=options.clients)
    pass_lines(options.records, span, found)
    say_doubts(found, [new])
    if options.json:
        print(as_json(found), end="", flush=True)
    else:
        print("\n".join(as_text(found, everything=options.all)), flush=True)
    return 1 if found.worked[DENIED] > options.allow_new_denials else 0


def pass_lines(paths: list[str], span: Span, found: Rehearsal) -> None:
    """Have what is recorded there pass, while a bar shows how much is left."""
    bar = open_bar()
    try:
        found.add(lines_of(paths, span, bar))
    finally:
        bar.hide()


def lines_of(paths: list[str], span: Span, bar: Bar) -> Iterator[Line]:
    """The lines that are recorded there."""

    def tell(line: str) -> None:
        bar.hide()
        say(line)

    query = Query(since=span.since, until=span.until, alone=True)
    return read(paths, Look(query, tell, None, bar.will, bar.seen))[0]


def say_doubts(found: Rehearsal, policies: list[Policy]) -> None:
    """Where the record and the policy are not of the same host or libvirt."""
    here = machine_id()
    others = sorted(
        {host for host, machine in found.hosts if machine is not None and machine != here}
    )
    if others:
        say(
            f"the record is of {', '.join(map(name, others))}: users and groups in the policy are "
            "those of this host (warning)"
        )
    newest = max(map(_version, found.versions), default=None)
    for policy in policies if newest is not None else []:
        for line in _too_new(policy, newest):
            say(f"{line} (warning)")


def _too_new(policy: Policy, newest: tuple[int, ...] | None) -> Iterator[str]:
    """Rules that name functions which no libvirt had that was recorded."""
    for rule in policy.rules:
        for glob in rule.globs:
            function = table().by_name.get(glob)
            if function is not None and newest is not None and _version(function.since) > newest:
                yield (
                    f"{policy.origin}:{rule.line}: rule {quote(rule.name)}: {glob} came with "
                    f"libvirt {function.since}, and the record is of "
                    f"{'.'.join(map(str, newest))}: no call of it can be there"
                )


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
