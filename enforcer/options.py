# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of `policy` and `enforce`: parsers of words go out."""

from __future__ import annotations

import argparse
from pathlib import Path

from enforcer.compiled.files import SYSTEM_POLICY
from log.recording.folder import DEFAULT
from log.verbs.options import time_option
from log.verbs.usage import Parser, add_json, whole

FEW = 20  # functions of a rule that are all listed
_MOST = 1 << 40


def policy_parser() -> Parser:
    """The options of `policy`."""
    parser = Parser(
        prog="libvirt-trace policy",
        description="Says what a policy means, and puts it in force.",
    )
    actions = parser.add_subparsers(
        dest="action",
        metavar="check|explain|rehearse|learn|review|stale|apply|rollback",
        required=True,
        parser_class=Parser,
    )
    check = actions.add_parser(
        "check", help=("its mistakes, and the functions that each rule covers")
    )
    why = actions.add_parser("explain", help=("which rule decides about a call, and why"))
    rehearse = actions.add_parser(
        "rehearse",
        help="which recorded calls it would have denied",
        description=(
            "Judges recorded calls as if the policy had been in force, and says which would have "
            "ended otherwise. Exit status 1: one that had not failed would be denied."
        ),
    )
    _add_rehearse(rehearse)
    learn = actions.add_parser(
        "learn",
        help="a policy that allows what was recorded",
        description=(
            "Writes a policy that denies what changes something, but allows what was recorded, "
            "each rule below its evidence. It begins in audit mode."
        ),
    )
    _add_learn(learn)
    asks = actions.add_parser(
        "review",
        help="asks about what was recorded and no rule is about, and adds the rules",
    )
    _add_review(asks)
    unused = actions.add_parser("stale", help="which of its rules have decided no recorded call")
    _add_stale(unused)
    apply = actions.add_parser(
        "apply",
        help=f"put it in force in all enforced processes ({SYSTEM_POLICY})",
    )
    apply.add_argument(
        "--no-rehearsal",
        action="store_true",
        help="don't say what it changes in the calls of the last week",
    )
    actions.add_parser(
        "rollback",
        help="put the policy before the last apply in force again",
    )
    for sub in (check, why, apply):
        sub.add_argument("file", metavar="FILE", type=Path, help="the policy")
    for sub in (check, apply):
        _add_uncovered(sub)
    check.add_argument(
        "--all",
        action="store_true",
        help=f"list all functions of each rule, also where they are more than {FEW}",
    )
    why.add_argument(
        "--function", metavar="NAME", required=True, help=("the function that is called")
    )
    why.add_argument(
        "--object", metavar="NAME", help=("what it is called on; POOL/NAME for a volume")
    )
    why.add_argument(
        "--new-name", metavar="NAME", help="what a rename or a migration calls it; none: ''"
    )
    why.add_argument("--uuid", metavar="UUID", help="the object's UUID")
    why.add_argument(
        "--user", metavar="USER", help=("for whom: name, number, sasl:NAME or x509:NAME")
    )
    why.add_argument("--uri", metavar="URI", help="of the connection")
    why.add_argument(
        "--readonly",
        action=argparse.BooleanOptionalAction,
        help="whether the connection is read-only",
    )
    why.add_argument(
        "--daemon",
        action=argparse.BooleanOptionalAction,
        help="whether a daemon of root's judges the call, or the client",
    )
    why.add_argument("--exe", metavar="PATH", help="the program")
    why.add_argument("--xml", metavar="FILE", help="the document that is given to it; none: ''")
    why.add_argument("--flags", metavar="NAME[,NAME]", help="the call's flags; none: ''")
    return parser


def enforce_parser() -> Parser:
    """The options of `enforce`; COMMAND is split off before."""
    parser = Parser(
        prog="libvirt-trace enforce",
        usage=(
            "libvirt-trace enforce [--policy FILE] -- COMMAND [ARG...]\n"
            "       libvirt-trace enforce --service UNIT [--policy FILE | --remove]"
        ),
        description="Runs a command, or a daemon, so that calls that a policy forbids are denied.",
    )
    parser.add_argument(
        "--policy",
        metavar="FILE",
        type=Path,
        help=f"the policy, besides the system's ({SYSTEM_POLICY})",
    )
    parser.add_argument("--service", metavar="UNIT", help="a daemon: libvirtd, virtqemud, ...")
    parser.add_argument(
        "--remove", action="store_true", help=("take what --service has written away")
    )
    _add_uncovered(parser)
    return parser


def _add_uncovered(parser: Parser) -> None:
    parser.add_argument(
        "--ignore-uncovered",
        action="store_true",
        help="don't warn of rules that can't cover functions of a newer libvirt than is known",
    )


def _add_rehearse(parser: argparse.ArgumentParser) -> None:
    """The options of `policy rehearse`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy")
    _add_records(parser)
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
    add_json(parser, "one object of JSON")


def _add_records(parser: argparse.ArgumentParser) -> None:
    """What is read, and of which time."""
    parser.add_argument(
        "records", metavar="RECORD", nargs="*", default=[DEFAULT], help=f"what is read ({DEFAULT})"
    )
    time_option(parser, "--since", "only calls from then on: yesterday, -7d, 2026-11-25 21:30")
    time_option(parser, "--until", "only calls up to then")


def _add_stale(parser: argparse.ArgumentParser) -> None:
    """The options of `policy stale`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy")
    _add_records(parser)
    parser.add_argument(
        "--days",
        metavar="N",
        type=lambda text: whole(text, "a number of days", 1, 36500),
        default=30,
        help="rules that have decided no call for so long (30)",
    )
    parser.add_argument("--all", action="store_true", help="list the other rules, too")


def _add_learn(parser: argparse.ArgumentParser) -> None:
    """The options of `policy learn`."""
    _add_records(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="where the policy goes"
    )
    parser.add_argument(
        "--polkit",
        action="store_true",
        help="rules of polkit, for libvirt's own access driver, instead of a policy",
    )


def _add_review(parser: argparse.ArgumentParser) -> None:
    """The options of `policy review`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy, which is changed")
    _add_records(parser)
