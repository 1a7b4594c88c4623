# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts a policy in force for the host: its text comes in, what every enforced process obeys goes
out; the one before is kept, to go back to.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from pathlib import Path

from enforcer.compiled import files
from enforcer.compiled.files import write_whole
from enforcer.compiled.summary import read_summary
from enforcer.compiled.writer import compile_policy
from enforcer.judging.cases import failures
from enforcer.launch.library import table
from enforcer.policy.reading.loading import parse, read_text
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import Policy, PolicyError
from enforcer.rehearsal.recorded import pass_lines
from enforcer.rehearsal.rehearse import ALLOWED, DENIED, Rehearsal
from enforcer.rehearsal.span import Span
from log.errors import TraceError, say
from log.quote import name, quote
from log.recording.folder import DEFAULT

WEEK = 7 * 86400 * 10**9  # ns
FEW = 5  # lines about what changes


def source() -> Path:
    """Where the text of the policy in force is."""
    return files.SYSTEM_FOLDER / "policy.toml"


def previous() -> Path:
    """Where that of the one before is; beside it, that one compiled."""
    return files.SYSTEM_FOLDER / "previous.toml"


def apply(text: str, policy: Policy, *, compare: bool) -> None:
    """Put it in force; TraceError when one of its tests fails. `compare`: say what it changes in
    the calls of the last week.
    """
    _check_root()
    data = compile_policy(policy, table())
    if failed := len(failures(policy, table())):
        tests = f"{failed} of its tests fail" if failed > 1 else "one of its tests fails"
        raise TraceError(
            f"{policy.origin} is not put in force: {tests}; "
            f"libvirt-trace policy check {policy.origin} shows why"
        )
    for line in changes(policy, DEFAULT) if compare else []:
        say(line)
    _replace(text, data)


def roll_back() -> Policy:
    """Put the one before in force again; the one that was takes its place."""
    _check_root()
    if not previous().exists():
        raise TraceError("there is no earlier policy to go back to: apply has replaced none")
    text = read_text(previous())
    policy = parse(text, previous(), table())  # its users, groups and functions are those of now
    try:
        summary = read_summary(previous().with_suffix(".bin").read_bytes())
    except OSError:
        summary = None
    policy = dataclasses.replace(policy, origin=summary.origin if summary else policy.origin)
    _replace(text, compile_policy(policy, table()))
    return policy


def _replace(text: str, data: bytes) -> None:
    """What is in force becomes the one before."""
    for path, old in (
        (source(), previous()),
        (files.SYSTEM_POLICY, previous().with_suffix(".bin")),
    ):
        if path.exists():
            write_whole(old, path.read_bytes())
    write_whole(source(), text.encode())
    write_whole(files.SYSTEM_POLICY, data)


def _check_root() -> None:
    if os.geteuid() != 0:
        raise TraceError("putting a policy in force needs root: run it with sudo")


def _in_force() -> Policy | None:
    if not source().exists():
        return None
    try:
        return read_policy(read_text(source()), str(source()), table())
    except PolicyError:
        return None  # of another version, say; what happened tells as much


def changes(new: Policy, record: str) -> list[str]:
    """What it would have changed in the last week, against what is in force."""
    if not os.path.isdir(record):
        return ["nothing is recorded to compare it on: see libvirt-trace record"]
    now = time.time_ns()
    span = Span(now - WEEK, now)
    found = Rehearsal(new, table(), _in_force(), span)
    pass_lines([record], span, found.add)
    if not found.calls:
        return ["no call of the last week is recorded to compare it on"]
    counts: Counter[tuple[str, str, str]] = Counter()
    for key, row in found.rows.items():
        counts[key.kind, key.user, key.rule or ""] += row.calls
    lines = []
    for (kind, user, rule), calls in counts.most_common(FEW):
        verb = {DENIED: "denied", ALLOWED: "allowed"}[kind]
        by = f" by rule {quote(rule)}" if kind == DENIED else ""
        many = "s" if calls > 1 else ""
        lines.append(f"{calls:,} call{many} of user {name(user)} would now be {verb}{by}")
    if len(counts) > FEW:
        lines.append("... and more, which libvirt-trace policy rehearse lists")
    untold = found.untold.total()
    more = f", of {untold:,} it can't be told" if untold else ""
    lines.append(f"of {found.calls:,} calls of the last week, {found.same:,} end the same{more}")
    return lines
