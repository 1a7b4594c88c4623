# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often each rule of the policies in force has decided, since they came into force: processes
come in; what the enforcer's library counted in them goes out.

A process says it of itself, and can say anything: it is read within limits, and is only shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from enforcer.compiled.files import COUNTS_FILE, MEMORY_FILE
from enforcer.compiled.layout import COUNTS, RULE, SIZE_MAX
from enforcer.compiled.summary import PolicySummary, rules_in, summary, without_time
from enforcer.coverage import MOST_MAPPINGS, SEALS, places_of
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.looking.opening import open_file

MOST_SHOWN = 256  # rules of a policy
_NUMBER = 8  # bytes
_FIXED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_MOST_BYTES = COUNTS.size + SIZE_MAX // RULE.size * _NUMBER
Key = tuple[str, str, str]  # digest of the policy, rule, action: "deny", "audit" or "allow"


class InForce(NamedTuple):
    """A policy in force in a process."""

    summary: PolicySummary
    digest: str  # of all but when it was compiled
    calls: Mapping[tuple[str, str], int] | None  # by rule and action; None: nothing was counted
    file: tuple[int, int] | None  # in which it is counted; what the process forks shares it


def in_force(pid: int, proc: Path = Path("/proc")) -> Iterator[InForce]:
    """The policies in force in the process, and what their rules have decided there."""
    text = maps.text(pid, proc, MOST_MAPPINGS)
    counted = {}
    for place in places_of(text, COUNTS_FILE):
        path = proc / str(pid) / "map_files" / place
        found = LOOKING.ask(pid, partial(_sealed, path, _FIXED, _MOST_BYTES), None, proc)
        if found is not None and len(found[1]) >= COUNTS.size:
            policy, _ = COUNTS.unpack_from(found[1])
            counted[policy] = found
    for place in places_of(text, MEMORY_FILE):
        path = proc / str(pid) / "map_files" / place
        found = LOOKING.ask(pid, partial(_sealed, path, SEALS, SIZE_MAX), None, proc)
        if found is None:
            continue
        status, data = found
        said = summary(lambda at, length, data=data: data[at : at + length], len(data))  # type: ignore[misc]
        if said is None:
            continue
        counts = counted.get(status.st_ino)
        yield InForce(
            said,
            digest(data),
            None if counts is None else _by_rule(data, said.mode, counts[1]),
            None if counts is None else (counts[0].st_dev, counts[0].st_ino),
        )


def digest(data: bytes) -> str:
    """Of a compiled policy: the same whenever it was compiled."""
    return hashlib.sha256(without_time(data)).hexdigest()[:32]


def rule_counts(pids: Iterable[int], proc: Path = Path("/proc")) -> dict[Key, int]:
    """Of all these processes together, as long as they live: for metrics."""
    found: Counter[Key] = Counter()
    seen = set()
    for pid in pids:
        for policy in in_force(pid, proc):
            if policy.calls is None or policy.file in seen:
                continue
            seen.add(policy.file)
            for (rule, action), calls in policy.calls.items():
                found[policy.digest, rule, action] += calls
    return dict(found)


def shown(pid: int, proc: Path = Path("/proc")) -> Iterator[Mapping[str, object]]:
    """What `ps` says of the policies in a process; rules that have decided most come first."""
    for policy in in_force(pid, proc):
        calls = sorted((policy.calls or {}).items(), key=lambda item: (-item[1], item[0]))
        yield {
            "origin": policy.summary.origin,
            "mode": policy.summary.mode,
            "age_s": max(0, int(time.time()) - policy.summary.made),
            "digest": policy.digest,
            "rules": None
            if policy.calls is None
            else tuple(
                {"rule": rule, "action": action, "calls": count}
                for (rule, action), count in calls[:MOST_SHOWN]
                if count
            ),
        }


def _by_rule(data: bytes, mode: str, counts: bytes) -> dict[tuple[str, str], int]:
    """A rule may stand there several times, once for each kind of function."""
    found: Counter[tuple[str, str]] = Counter()
    numbers = memoryview(counts)[COUNTS.size : len(counts) // _NUMBER * _NUMBER].cast("Q")
    for (rule, action), number in zip(rules_in(data), numbers, strict=False):
        done = "audit" if action == "deny" and mode == "audit" else action
        found[rule, done] += number
    return dict(found)


def _sealed(path: Path, seals: int, most: int) -> tuple[os.stat_result, bytes] | None:
    """A memory file with these seals, whole; None: it is none."""
    with contextlib.suppress(OSError):
        fd = open_file(str(path), follow=True)  # a link of the kernel's
        try:
            status = os.fstat(fd)
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & seals == seals and status.st_size <= most:
                return status, os.pread(fd, status.st_size, 0)
        finally:
            os.close(fd)
    return None
