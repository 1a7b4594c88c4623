# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace policy and enforce: words come in; what a policy says is printed or done, and the
exit status goes out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from enforcer.compiled.conditions import covered_names
from enforcer.compiled.files import SYSTEM_POLICY
from enforcer.compiled.summary import read_summary
from enforcer.compiled.writer import compile_policy
from enforcer.judging.cases import failures
from enforcer.judging.explain import Supposed, explain
from enforcer.launch import command as launch
from enforcer.launch import service
from enforcer.launch.library import table, uncovered, uncovered_rules
from enforcer.options import FEW, enforce_parser, policy_parser
from enforcer.policy.notes import notes
from enforcer.policy.reading.loading import load, parse, read_text
from enforcer.policy.rules import Policy
from log.errors import TraceError, say
from log.quote import escape, quote
from log.render.units import counted
from log.verbs.usage import split_command
from probes.host.looking import maps

SOME = 5  # functions of a rule that stand for more than FEW
RECORDED = ("rehearse", "learn", "review", "stale")  # what looks into records


def run_policy(arguments: Sequence[str]) -> int:
    """libvirt-trace policy"""
    options = policy_parser().parse_args(arguments)
    if options.action in RECORDED:
        from enforcer.on_records import RUN  # the other verbs need nothing of it

        return RUN[options.action](options)
    if options.action == "rollback":
        from enforcer import applying

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
    from enforcer import applying

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
