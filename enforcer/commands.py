# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command lines of `policy` and `enforce`: words come in, what to do and what to say go out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from enforcer import applying
from enforcer.compiled.conditions import covered_names
from enforcer.compiled.files import SYSTEM_POLICY
from enforcer.compiled.summary import read_summary
from enforcer.compiled.writer import compile_policy
from enforcer.judging.cases import failures
from enforcer.judging.explain import Supposed, explain
from enforcer.launch import command as launch
from enforcer.launch import service
from enforcer.launch.library import table, uncovered, uncovered_rules
from enforcer.policy.loading import load, parse, read_text
from enforcer.policy.notes import notes
from enforcer.policy.rules import Policy
from enforcer.rehearsal import commands as rehearsal
from log.errors import TraceError, say
from log.quote import escape, quote
from log.render.units import counted
from log.verbs.usage import Parser, split_command
from probes.host.looking import maps

FEW, SOME = 20, 5  # functions of a rule that are all listed; that stand for more


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
    rehearsal.add_rehearse(rehearse)
    learn = actions.add_parser(
        "learn",
        help="a policy that allows what was recorded",
        description=(
            "Writes a policy that denies what changes something, but allows what was recorded, "
            "each rule below its evidence. It begins in audit mode."
        ),
    )
    rehearsal.add_learn(learn)
    asks = actions.add_parser(
        "review",
        help="asks about what was recorded and no rule is about, and adds the rules",
    )
    rehearsal.add_review(asks)
    unused = actions.add_parser("stale", help="which of its rules have decided no recorded call")
    rehearsal.add_stale(unused)
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


def run_policy(arguments: Sequence[str]) -> int:
    """libvirt-trace policy"""
    options = policy_parser().parse_args(arguments)
    if options.action in rehearsal.RUN:
        return rehearsal.RUN[options.action](options)
    if options.action == "rollback":
        _say_in_force(applying.roll_back())
        return 0
    text = read_text(options.file)
    policy = parse(text, options.file, table())
    if options.action == "explain":
        flags = None if options.flags is None else frozenset(filter(None, options.flags.split(",")))
        xml = read_text(Path(options.xml)) if options.xml else options.xml
        question = Supposed(
            options.function,
            options.object,
            options.uuid,
            options.user,
            options.uri,
            options.readonly,
            options.exe,
            flags,
            xml,
            options.new_name,
            options.daemon,
        )
        print("\n".join(map(escape, explain(policy, table(), question))), flush=True)
        return 0
    warn_uncovered(policy, options.ignore_uncovered)
    if options.action == "check":
        compile_policy(policy, table())
        failed = failures(policy, table())
        print("\n".join(describe(policy, failed, everything=options.all)), flush=True)
        return 1 if failed else 0
    applying.apply(text, policy, compare=not options.no_rehearsal)
    _say_in_force(policy)
    return 0


def _say_in_force(policy: Policy) -> None:
    say(
        f"{policy.origin} is in force as {SYSTEM_POLICY}: {counted(len(policy.rules), 'rule')}, "
        f"mode {policy.mode}; {_enforced_now()}"
    )


def run_enforce(arguments: Sequence[str]) -> int:
    """libvirt-trace enforce"""
    words, argv = split_command(arguments)
    parser = enforce_parser()
    options = parser.parse_args(words)
    if bool(argv) == bool(options.service):
        parser.error("either -- COMMAND or --service UNIT")
    if options.remove and (not options.service or options.policy):
        parser.error("--remove goes with --service UNIT alone")
    if options.service and os.geteuid() != 0:
        raise TraceError("enforcing a service needs root: run it with sudo")
    if options.remove:
        lines = service.remove(options.service)
    else:
        data, on_error = None, "allow"
        if options.policy:
            policy = load(options.policy, table())
            warn_uncovered(policy, options.ignore_uncovered)
            data, on_error = compile_policy(policy, table()), policy.on_error
        elif SYSTEM_POLICY.exists():
            summary = read_summary(SYSTEM_POLICY.read_bytes())
            on_error = summary.on_error if summary else on_error
        else:
            parser.error(f"no --policy FILE, and there is no {SYSTEM_POLICY}")
        if argv:
            launch.run(argv, data, on_error)
        lines = service.enforce(options.service, data, on_error)
    for line in lines:
        say(line)
    return 0


def warn_uncovered(policy: Policy, ignore: bool) -> None:
    """Names functions of the installed libvirt that nobody can judge, and the rules that are
    meant to cover them.
    """
    missing = uncovered(table().by_name)
    for line in [] if ignore else uncovered_rules(policy, missing):
        say(f"{line} (warning)")
    if missing:
        say(
            "the installed libvirt is newer than libvirt-trace; never judged, by no rule: "
            f"{', '.join(missing)}; update libvirt-trace"
        )


def _enforced_now() -> str:
    count = len({mapping.pid for mapping in maps.scan() if maps.is_enforcer(mapping.path)})
    if not count:
        return (
            "no process is enforced yet: libvirt-trace enforce --service UNIT, or -- COMMAND, "
            "has one obey it"
        )
    return f"{counted(count, 'process')} {'obeys' if count == 1 else 'obey'} it"


def describe(
    policy: Policy, failed: Sequence[Sequence[str]] = (), *, everything: bool = True
) -> list[str]:
    """What `policy check` prints: each rule with its functions, tests that fail, and that there is
    no mistake.
    """
    lines = [
        (
            f"{policy.origin}: mode {policy.mode}, on_error {policy.on_error}, "
            f"{counted(len(policy.rules), 'rule')}"
        )
    ]
    for rule in policy.rules:
        names = covered_names(rule, table())
        lines.append(
            f"rule {quote(rule.name)} (line {rule.line}): {rule.action}, "
            f"{counted(len(names), 'function')}"
        )
        shown = names if everything or len(names) <= FEW else names[:SOME]
        lines += [f"  {name}" for name in shown]
        if shown is not names:
            lines.append(f"  ... {len(names)} in all; --all lists them")
    lines += [f"note: {note}" for note in notes(policy, table())]
    lines += [escape(line) for one in failed for line in one]
    if policy.cases:
        passed = len(policy.cases) - len(failed)
        lines.append(f"{passed} of {counted(len(policy.cases), 'test')} as expected")
    lines.append(
        f"no mistakes{', ' + counted(len(policy.warnings), 'warning') if policy.warnings else ''}"
    )
    return lines
