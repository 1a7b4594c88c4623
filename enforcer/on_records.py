# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs of `policy` that look into records: words come in, what to do and to say go out."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from enforcer.compiled.files import write_whole
from enforcer.judging.judge import Judge
from enforcer.launch.library import table
from enforcer.learning.evidence import Measured, said
from enforcer.learning.learn import as_toml
from enforcer.learning.polkit import SeenByPolkit, as_rules, measure
from enforcer.learning.review import FINISH, Unruled, listed, review
from enforcer.learning.seen import Seen
from enforcer.policy.reading.loading import load, parse, read_text
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import Policy
from enforcer.rehearsal.recorded import pass_lines
from enforcer.rehearsal.rehearse import DENIED, Rehearsal
from enforcer.rehearsal.shown import as_json, as_text, stale
from enforcer.rehearsal.span import Span
from log.errors import TraceError, say
from log.query.reader import STDIN
from log.quote import name, quote
from log.recording.host import machine_id

_DAY = 86400 * 10**9  # ns


def run_rehearse(options: argparse.Namespace) -> int:
    """libvirt-trace policy rehearse"""
    new = load(options.file, table())
    old = None if options.against is None else load(options.against, table())
    span = Span(options.since, options.until)
    found = Rehearsal(new, table(), old, span, clients=options.clients)
    pass_lines(options.records, span, found.add)
    say_doubts(found, [new])
    if options.json:
        print(as_json(found), end="", flush=True)
    else:
        print("\n".join(as_text(found, everything=options.all)), flush=True)
    return 1 if found.worked[DENIED] > options.allow_new_denials else 0


def run_stale(options: argparse.Namespace) -> int:
    """libvirt-trace policy stale"""
    policy = load(options.file, table())
    until = time.time_ns() if options.until is None else options.until
    since = until - options.days * _DAY if options.since is None else options.since
    span = Span(since, options.until)
    found = Rehearsal(policy, table(), None, span)
    pass_lines(options.records, span, found.add)
    say_doubts(found, [policy])
    print("\n".join(stale(found, everything=options.all)), flush=True)
    return 0


def run_learn(options: argparse.Namespace) -> int:
    """libvirt-trace policy learn"""
    if options.output.exists():
        raise TraceError(f"{options.output} is there already: remove it, or name another file")
    span = Span(options.since, options.until)
    if options.polkit:
        return _learn_polkit(options, span)
    seen = _see(Seen(table(), span), options.records)
    measured = None if STDIN in options.records else _measure(options.records, seen, options.until)
    text = as_toml(seen, measured)
    policy = read_policy(text, str(options.output), table())  # it is one, whatever was learned
    write_whole(options.output, text.encode())
    rules = len(policy.rules) - 1
    say(f"{options.output}: {rules} rule{'' if rules == 1 else 's'} from {seen.calls:,} calls")
    if measured is not None:
        say(f"{said(measured)}")
    say(f"next: libvirt-trace policy rehearse {options.output}")
    return 0


def _learn_polkit(options: argparse.Namespace, span: Span) -> int:
    seen = _see(SeenByPolkit(table(), span), options.records)
    measured = None
    if STDIN not in options.records:
        middle = _middle(seen)
        before = SeenByPolkit(table(), Span(span.since, middle))
        rest = SeenByPolkit(table(), Span(middle + 1, span.until))
        for part in (before, rest):
            _see(part, options.records, must=False)
        if before.wanted and rest.wanted:
            measured = measure(before, rest, middle)
    write_whole(options.output, as_rules(seen, measured).encode())
    say(f"{options.output}: from {seen.calls:,} calls in daemons")
    if measured is not None:
        say(said(measured))
    say("next: read it, and put it into /etc/polkit-1/rules.d: it denies nothing, but logs")
    return 0


def run_review(options: argparse.Namespace) -> int:
    """libvirt-trace policy review"""
    text = read_text(options.file)
    policy = parse(text, options.file, table())
    span = Span(options.since, options.until)
    unruled = Unruled(Seen(table(), span), Judge(policy, table()))
    pass_lines(options.records, span, unruled.add, writes=True)
    questions = unruled.questions()
    if not questions:
        say("there is a rule for all that was recorded and changes something, and did not fail")
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("\n".join(listed(questions)), flush=True)
        return 0
    try:
        changed, added = review(text, policy, table(), questions, _ask)
    except KeyboardInterrupt:
        say("nothing was changed")
        return 1
    if added:
        write_whole(options.file, changed.encode(), os.stat(options.file).st_mode & 0o777)
    say(f"{options.file}: {added} rule{'' if added == 1 else 's'} more")
    return 0


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        print(flush=True)
        return FINISH


SeenKind = TypeVar("SeenKind", bound=Seen)


def _see(seen: SeenKind, paths: list[str], *, must: bool = True) -> SeenKind:
    """`must`: there has to be something to learn from."""
    pass_lines(paths, seen.span, seen.add, writes=seen.only_writes)
    if must and seen.first is None:
        raise TraceError(
            "nothing that changes something is recorded there: there is nothing to learn from"
        )
    return seen


def _middle(seen: Seen) -> int:
    """When 80 % of the time are over."""
    assert seen.first is not None
    return seen.first + (seen.last - seen.first) * 4 // 5


def _measure(paths: list[str], seen: Seen, until: int | None) -> Measured | None:
    """Learn again on the first 80 % of the time, and rehearse that on the rest."""
    since = _middle(seen)
    before = _see(Seen(table(), Span(seen.first, since)), paths, must=False)
    if before.first is None or since <= (seen.first or 0):
        return None
    policy = read_policy(as_toml(before, None), "learned", table())
    rest = Span(since + 1, until)
    found = Rehearsal(policy, table(), None, rest)
    pass_lines(paths, rest, found.add)
    return Measured(found.worked[DENIED], found.calls, since) if found.calls else None


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


RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "rehearse": run_rehearse,
    "learn": run_learn,
    "review": run_review,
    "stale": run_stale,
}
